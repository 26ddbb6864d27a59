import { AccessResult, Activity, type Answer, type CpuExit, HostError, type MemoryFaultExit, type PlaneContext, PlaneId, plainPlanes, type Vp } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { spend, type Toy, type ToyConfig, toyOf } from './toy.ts';

const codeOf = (act: () => unknown): string => {
  try {
    act();
    return 'none';
  } catch (error) {
    return error instanceof HostError ? error.code : 'other';
  }
};
const answering = (config: ToyConfig, on: (context: PlaneContext) => Answer | null, more: object = {}): Toy =>
  toyOf(config, (machine) => machine.addPersonality({ name: 'p', stateName: 'p', stateVersion: 1, claims: [{ exit: 'call', from: 1, to: 1 }], handle: on, save: () => null, restore() {}, ...more }));
const call = (vp: Vp): CpuExit => spend(vp, 1, 'call', 1);

describe('what a pending rule is told (ports: PendingRule)', () => {
  const told = (toy: Toy): string[] => {
    const log: string[] = [];
    const { rule } = toy.machine;
    for (const name of ['enter', 'leave', 'changed'] as const) rule[name] = (context) => void log.push(`${name} ${context.plane} ${context.vp.running}`);
    return log;
  };

  it('of a run: who is selected, after it is published, and who is left, after it is not', () => {
    const toy = toyOf({ planes: [[0, 1]] });
    const log = told(toy);
    toy.machine.run(1);
    expect(log).toEqual(['enter 0 0', 'leave 0 -1']);
  });

  it('of a switch within a run: both', () => {
    const toy = answering({ planes: [[0, 1]] }, (c) => c.vp.replies.switchTo(1 - c.plane, 'r'));
    const log = told(toy);
    toy.cpus[0]!.todo.push(call, call);
    toy.machine.run(1);
    expect(log).toEqual(['enter 0 0', 'leave 0 -1', 'enter 1 1', 'leave 1 -1', 'enter 0 0', 'leave 0 -1']);
    expect([toy.cpus[0]!.planes, toy.cpus[0]!.budgets]).toEqual([[0, 1, 0], [100, 99, 98]]);
  });

  it('of a halt, a wait and a wake', () => {
    const toy = answering({ planes: [[0]] }, (c) => c.vp.replies.wait({ kind: 'key', key: 'k' }, 'advanced'));
    const log = told(toy);
    toy.cpus[0]!.todo.push((vp) => spend(vp, 1, 'halt'), call);
    toy.machine.run(1);
    toy.events(0, 0).isWaking = true;
    toy.machine.run(1);
    expect(log).toEqual(['enter 0 0', 'changed 0 0', 'leave 0 -1', 'enter 0 0', 'changed 0 0', 'changed 0 0', 'leave 0 -1']);
    expect(toy.vps[0]!.statistics).toMatchObject({ halts: 1, wakes: 1 });
  });

  it('of a reset and of a new plane, whose timers count, too', () => {
    const toy = toyOf({ planes: [[0, 1]] });
    const log = told(toy);
    const vp = toy.vps[0]!;
    toy.events(0, 1).at = 44;
    toy.machine.resetPlane(vp.plane(1), 'fresh');
    expect([log, vp.deadline]).toEqual([['changed 1 -1'], 44]);
    toy.machine.restartVp(vp, 'fresh');
    expect(toy.log.slice(1)).toEqual(['0.1 destroy', '0.0 reset fresh']);
    expect([vp.existing, vp.runnable, vp.running, vp.current, vp.deadline]).toEqual([1, 1, -1, 0, Number.POSITIVE_INFINITY]);
  });
});

describe('plane events answered inside the machine', () => {
  it.each(['first', 'entry'] as const)('checked %s: a switch by the personality, in place of an exit', (eventCheck) => {
    const asked: number[][] = [];
    const toy = answering({ planes: [[0, 1]], policy: 'userspace', options: { eventCheck } }, () => null, {
      planeEvent: (vp: Vp, pending: number, target: number) => {
        asked.push([pending, target]);
        return asked.length === 1 ? vp.replies.switchTo(1, 'event', 'runnable') : null;
      },
    });
    const vp = toy.vps[0]!;
    vp.asked = 0b10;
    toy.events(0, 1).isDeliverable = true;
    toy.machine.eventsChanged(vp.plane(1));
    expect(toy.machine.run(1).kind).toBe('slices');
    expect([asked, toy.cpus[0]!.planes, vp.statistics.planeEvents, vp.statistics.vmExits]).toEqual([[[2, 2]], [1], 1, 0]);
    expect(toy.log).not.toContain('0.0 retire');
    vp.named = 0;
    expect(toy.machine.run().kind).toBe('exit');
    expect(asked).toHaveLength(2);
  });

  it.each(['first', 'entry'] as const)('checked %s: an answer without a switch lets the plane make a step', (eventCheck) => {
    const toy = answering({ planes: [[0, 1]], policy: 'userspace', options: { eventCheck } }, () => null, { planeEvent: (vp: Vp) => vp.replies.resume() });
    const vp = toy.vps[0]!;
    vp.asked = 0b10;
    toy.events(0, 1).isDeliverable = true;
    toy.machine.eventsChanged(vp.plane(1));
    toy.machine.run(1);
    expect([toy.cpus[0]!.planes, toy.cpus[0]!.budgets]).toEqual([[0], [100]]);
  });

  it.each(['first', 'entry'] as const)('checked %s: a wait holds the plane', (eventCheck) => {
    const toy = answering({ planes: [[0, 1]], policy: 'userspace', options: { eventCheck } }, () => null, { planeEvent: (vp: Vp) => vp.replies.wait({ kind: 'key', key: 'k' }) });
    const vp = toy.vps[0]!;
    vp.asked = 0b10;
    toy.events(0, 1).isDeliverable = true;
    toy.machine.eventsChanged(vp.plane(1));
    toy.machine.run(1);
    expect([toy.cpus[0]!.planes, vp.context.activity]).toEqual([[], Activity.Held]);
  });
});

describe('refused accesses', () => {
  const faulting = (result: AccessResult) => (vp: Vp): CpuExit => {
    const exit = { kind: 'memoryFault', key: 0, info: { result } as MemoryFaultExit['info'] } satisfies MemoryFaultExit;
    return { ...spend(vp, 1), ...exit };
  };
  it('one that a watcher holds waits for its key, and the instruction runs again', () => {
    const toy = toyOf({ planes: [[0]] });
    toy.machine.release('watch:');
    toy.cpus[0]!.todo.push(faulting(AccessResult.Held));
    expect(toy.machine.run(1).kind).toBe('slices');
    expect([toy.vps[0]!.context.activity, toy.vps[0]!.context.wait, toy.log.includes('0.0 retire')]).toEqual([Activity.Held, { kind: 'key', key: 'watch:' }, false]);
    toy.machine.release('watch:');
    toy.machine.run(1);
    expect(toy.cpus[0]!.budgets).toHaveLength(2);
  });
  it('any other goes to the VMM', () => {
    const toy = toyOf({ planes: [[0]] });
    toy.cpus[0]!.todo.push(faulting(AccessResult.Denied));
    expect([toy.machine.run(1).kind, toy.vps[0]!.exit]).toEqual(['exit', { kind: 'memoryFault', info: { result: AccessResult.Denied } }]);
  });
});

describe('composition and restore', () => {
  it('options out of range make no machine; ports see switches', () => {
    expect(codeOf(() => toyOf({ planes: [], options: { quantum: 0 } }))).toBe('BadConfig');
    const toy = toyOf({ planes: [[0, 2]] });
    const seen: unknown[] = [];
    toy.machine.contextPorts.push({ switched: (from, to, reason) => void seen.push([from.plane, to.plane, reason]) });
    toy.machine.switchPlane(toy.vps[0]!, toy.vps[0]!.plane(2), 'why');
    expect([seen, toy.machine.activeVp]).toEqual([[[0, 2, 'why']], -1]);
  });

  it.each([4, -1, 0.5])('a further plane %d is refused before anything changed', (plane) => {
    const saved = structuredClone(toyOf({ planes: [[0]] }).machine.snapshot());
    const vps = saved.vps.map((vp) => ({ ...vp, planes: [...vp.planes, { ...vp.planes[0]!, plane }] }));
    const { machine } = toyOf({ planes: [[0]] });
    expect([codeOf(() => machine.restore({ ...saved, vps })), machine.isWhole]).toEqual(['BadSnapshot', true]);
  });

  it('what cannot be cloned is an error of the snapshot, an error of a part is its own', () => {
    const toy = answering({ planes: [[0]] }, () => null, { restore: () => { throw new Error('of its own'); } });
    expect(() => toy.machine.restore(toy.machine.snapshot())).toThrow('of its own');
    expect(codeOf(() => toyOf({ planes: [[0]] }).machine.restore({ ...toyOf({ planes: [[0]] }).machine.snapshot(), memory: null as never }))).toBe('BadSnapshot');
    const other = toyOf({ planes: [[0]] });
    const saved = other.machine.snapshot();
    const completion = { owner: 'o', kind: 'k', data: { f: () => 1 }, reply: null };
    const vps = saved.vps.map((vp) => ({ ...vp, planes: vp.planes.map((p) => ({ ...p, completion })) }));
    expect(codeOf(() => other.machine.restore({ ...saved, vps }))).toBe('BadSnapshot');
  });

  it('a new plane counts with the events and timers it begins with; one VP fixes the meaning', () => {
    const toy = answering({ planes: [[0]] }, () => null, { contextCreated: (c: PlaneContext) => Object.assign(c.events, c.plane === 1 ? { at: 44, isDeliverable: true } : {}) });
    const vp = toy.vps[0]!;
    toy.machine.createPlane(vp, PlaneId(1));
    expect([vp.deadline, vp.pending]).toEqual([44, 0b10]);
    expect(codeOf(() => toy.machine.setMeaning(plainPlanes))).toBe('BadState');
  });

  it('what a rule derives is derived again', () => {
    const toy = toyOf({ planes: [[0, 1]] });
    toy.events(0, 1).isDeliverable = true;
    const saved = toy.machine.snapshot();
    toy.machine.restore(saved);
    expect(toy.vps[0]!.pending).toBe(0b10);
  });
});
