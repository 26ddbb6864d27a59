import { Activity, type Answer, type Claim, type CpuExit, HostError, type Machine, type PlaneContext, Schedule, type Snapshot } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { type Toy, type ToyConfig, toyOf } from './toy.ts';

const codeOf = (act: () => unknown): string => {
  try {
    act();
    return 'none';
  } catch (error) {
    return error instanceof HostError ? error.code : 'other';
  }
};
const claims: readonly Claim[] = [{ exit: 'call', from: 1, to: 9 }];
/** A machine whose calls are answered by a function. */
const answering = (config: ToyConfig, on: (context: PlaneContext, exit: CpuExit) => Answer | null, more: object = {}): Toy =>
  toyOf(config, (machine) => machine.addPersonality({ name: 'p', stateName: 'p', stateVersion: 1, claims, handle: on, save: () => null, restore() {}, ...more }));

describe('snapshots', () => {
  const filled = (): Toy => {
    const toy = toyOf({ planes: [[0, 1], [0]], options: { seed: 3 } });
    toy.machine.run(5);
    return toy;
  };
  const vpValues = { current: 1, named: 1, pending: 2, asked: 3, reqExit: 2, recheck: 1, immediateExit: true, suspended: true, retired: 1001, sliceEnd: 1002, sliceExits: 1003, timeBase: 1004, timeRetired: 1005, busLocks: 1006, busLockUntil: 1007 } as const;
  it.each(Object.entries(vpValues))('VP field %s is kept', (name, value) => {
    const toy = filled();
    toy.events(0, 1).isDeliverable = true;
    toy.machine.eventsChanged(toy.vps[0]!.plane(1));
    Object.assign(toy.vps[0]!, { [name]: value });
    const other = toyOf({ planes: [], options: { seed: 3 } });
    other.machine.restore(structuredClone(toy.machine.snapshot()));
    expect(Reflect.get(other.vps[0]!, name)).toBe(value);
    expect(other.machine.snapshot()).toEqual({ ...toy.machine.snapshot(), vps: other.machine.snapshot().vps });
  });

  const planeValues = { schedule: 1, activity: 1, edges: 11, retired: 12, clockOffset: -13, instructionLength: 14, completion: { owner: 'arch', kind: 'k', data: { a: 1 }, reply: { b: 2 } } } as const;
  it.each(Object.entries(planeValues))('plane field %s is kept', (name, value) => {
    const toy = filled();
    Object.assign(toy.vps[0]!.plane(1), { [name]: value });
    const other = filled();
    other.machine.restore(toy.machine.snapshot());
    expect(Reflect.get(other.vps[0]!.plane(1), name)).toEqual(value);
    expect(Reflect.get(other.vps[0]!.plane(0), name)).toEqual(Reflect.get(toy.vps[0]!.plane(0), name));
  });

  it('runnable, register blocks, events, waits, statistics, exit, processors, time, randomness and the round are kept; deadlines follow', () => {
    const toy = filled();
    const { machine, vps } = toy;
    const vp = vps[0]!;
    vp.setSchedule(vp.plane(1), Schedule.Runnable);
    vp.plane(1).activity = Activity.Held;
    vp.plane(1).wait = { kind: 'left', vp: 0, plane: 0 };
    machine.arena.i32[16] = 99;
    toy.events(0, 1).at = 4711;
    toy.events(1, 0).at = 4712;
    Object.assign(vp.statistics, { switches: 1, exits: 12, halts: 3, wakes: 4, faults: 5, vmExits: 6, planeEvents: 7 });
    vp.exit = { kind: 'told' };
    toy.cpus[1]!.value = 8;
    const saved = machine.snapshot();
    const other = toyOf({ planes: [], options: { seed: 3 } });
    other.machine.restore(saved);
    const [a, b] = other.vps;
    expect([a!.runnable, a!.plane(1).wait, a!.statistics, a!.exit, a!.deadline, b!.deadline, other.machine.arena.i32[16], other.machine.time, other.machine.scheduler.slices]).toEqual([3, { kind: 'left', vp: 0, plane: 0 }, vp.statistics, { kind: 'told' }, 4711, 4712, 99, machine.time, 5]);
    expect(machine.time).toBeGreaterThan(0);
    expect(other.machine.snapshot()).toEqual(saved);
    expect([other.machine.random.next(), other.machine.scheduler.save()]).toEqual([machine.random.next(), machine.scheduler.save()]);
    expect(Object.keys(saved.vps[0]!.planes[0]!)).not.toContain('scope');
  });

  type Deep = Record<string, unknown>;
  const spoiled = (change: (s: Deep & { vps: { planes: Deep[]; fields: Deep; statistics: Deep; exit: unknown }[]; components: Record<string, Deep>; options: Deep; machine: Deep }) => void): string => {
    const make = (): Machine => answering({ planes: [[0, 1]], options: { maxVps: 2 } }, () => null, { stateVersion: 3 }).machine;
    const saved = structuredClone(make().snapshot());
    change(saved as never);
    const machine = make();
    const code = codeOf(() => machine.restore(saved as Snapshot));
    expect(machine.isWhole).toBe(true);
    return code;
  };
  it('what fits is taken', () => {
    expect(spoiled(() => {})).toBe('none');
    expect(spoiled((s) => (s.components['p']!['version'] = 2))).toBe('none');
    expect(spoiled((s) => Object.assign(s.vps[0]!.planes[1]!, { activity: 3, wait: { kind: 'time', at: 0 } }))).toBe('none');
    expect(spoiled((s) => Object.assign(s.vps[0]!.planes[1]!, { activity: 3, wait: { kind: 'left', vp: 0, plane: 0 } }))).toBe('none');
    expect(spoiled((s) => Object.assign(s.vps[0]!.planes[1]!, { activity: 2, clockOffset: -5, edges: 0 }))).toBe('none');
    expect(spoiled((s) => (s.vps[0]!.exit = { kind: 'x' }))).toBe('none');
    expect(spoiled((s) => (s.vps[0]!.planes[1]!['completion'] = { owner: 'o', kind: 'k', data: {}, reply: null }))).toBe('none');
    expect(spoiled((s) => void s.vps.push(structuredClone(s.vps[0]!)))).toBe('none');
  });

  it.each<[string, Parameters<typeof spoiled>[0]]>([
    ...(['format', 'version', 'arch', 'policy', 'rule'] as const).map((name): [string, Parameters<typeof spoiled>[0]] => [`another ${name}`, (s) => (s[name] = name === 'version' ? 2 : 'other')]),
    ['another option', (s) => (s.options['quantum'] = 101)],
    ['fewer VPs', (s) => (s.vps = [])],
    ['too many VPs', (s) => void s.vps.push(structuredClone(s.vps[0]!), structuredClone(s.vps[0]!))],
    ['fewer planes', (s) => void s.vps[0]!.planes.pop()],
    ['a current plane that is not there', (s) => (s.vps[0]!.fields['current'] = 2)],
    ['a field of another type', (s) => (s.vps[0]!.fields['pending'] = '1')],
    ['a number for a switch', (s) => (s.vps[0]!.fields['suspended'] = 0)],
    ['a number for the immediate return', (s) => (s.vps[0]!.fields['immediateExit'] = 0)],
    ['no number', (s) => (s.vps[0]!.fields['retired'] = Number.NaN)],
    ['a field that is missing', (s) => delete s.vps[0]!.fields['busLocks']],
    ['a negative count', (s) => (s.vps[0]!.statistics['exits'] = -1)],
    ['an exit without a kind', (s) => (s.vps[0]!.exit = {})],
    ['an exit that is no record', (s) => (s.vps[0]!.exit = ['kind'])],
    ...([['schedule', 2], ['schedule', -1], ['activity', 4], ['activity', -1], ['activity', 0.5], ['wait', { kind: 'time', at: 1 }], ['completion', {}], ['completion', { owner: 1, kind: 'k', data: {}, reply: null }], ['completion', { owner: 'o', kind: 1, data: {}, reply: null }], ['completion', { owner: 'o', kind: 'k', data: 1, reply: null }], ['completion', { owner: 'o', kind: 'k', data: {}, reply: 1 }], ['completion', 5], ['edges', -1], ['edges', 'x'], ['retired', -1], ['clockOffset', 'x'], ['instructionLength', -1], ['plane', 4], ['plane', -1], ['plane', 0.5], ['block', new Uint8Array(63)], ['block', new Uint8Array(65)]] as const).map(([name, value]): [string, Parameters<typeof spoiled>[0]] => [`${name} ${JSON.stringify(value)}`, (s) => (s.vps[0]!.planes[1]![name] = value)]),
    ...([null, {}, { kind: 'time', at: 'x' }, { kind: 'key', key: 1 }, { kind: 'left', vp: -1, plane: 0 }, { kind: 'left', vp: 0, plane: -1 }, { kind: 'other' }, 5, []] as const).map((wait): [string, Parameters<typeof spoiled>[0]] => [`held for ${JSON.stringify(wait)}`, (s) => Object.assign(s.vps[0]!.planes[1]!, { activity: 3, wait })]),
    ['a component of a later version', (s) => (s.components['p']!['version'] = 4)],
    ['a component of a version too old', (s) => (s.components['p']!['version'] = 1)],
    ['no state of a component', (s) => delete s.components['p']],
    ['state of an unknown component', (s) => (s.components['q'] = { version: 1, state: null })],
  ])('refused before anything changed: %s', (_title, change) => {
    expect(spoiled(change)).toBe('BadSnapshot');
  });

  it('a restore that fails half-way leaves a machine that refuses to run until one succeeds', () => {
    let broken = true;
    const toy = answering({ planes: [[0]] }, () => null, { restore: () => { if (broken) throw new TypeError('shape'); } });
    const saved = toy.machine.snapshot();
    expect(codeOf(() => toy.machine.restore(saved))).toBe('BadSnapshot');
    expect([toy.machine.isWhole, codeOf(() => toy.machine.run(1)), codeOf(() => toy.machine.snapshot())]).toEqual([false, 'BadState', 'BadState']);
    broken = false;
    toy.machine.restore(saved);
    expect([toy.machine.isWhole, codeOf(() => toy.machine.run(1))]).toEqual([true, 'none']);
  });
});
