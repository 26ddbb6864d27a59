import { Activity, HostError, InvariantChecks, type MachineOptions, type Personality, type SchedulerStop } from '@vmplanes/engine';
import type { Step } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { calls, generator, type Rig, type RigConfig, rigOf, risingPlanes } from './rig.ts';

const hlt = { op: 'hlt' } as const;
const work = { op: 'work' } as const;
const timer = (vector: number, count: number, mode = 0): Step[] => [
  { op: 'apicWrite', register: 0x3e, value: 0xb },
  { op: 'apicWrite', register: 0x32, value: vector | (mode << 17) },
  { op: 'apicWrite', register: 0x38, value: count },
];

describe('machine time', () => {
  it('a VP sees the start of its slice and what it retired since; a step declares its cost', () => {
    const at: number[] = [];
    const rig = rigOf({ options: { ticksPerInstruction: 3 }, guests: [{ 0: generator('g', function* () {
      for (const cost of [1, 5, 2]) {
        yield { op: 'work', cost };
        at.push(rig.machine.timeOf(rig.vps[0]!));
      }
    }) }] });
    rig.run();
    expect(at).toEqual([3, 18, 24]);
  });

  it('TSC of every plane is machine time, scaled and offset by the plane alone (SDM 3B §18.17; LKML 20250401 00/29 on kvmclock)', () => {
    const seen: bigint[] = [];
    const guest = (id: string, offset: bigint) => generator(id, function* () {
      if (offset !== 0n) yield { op: 'work', regs: { tscOffset: offset } };
      seen.push((yield { op: 'rdmsr', index: 0x10 }).edxEax);
      yield { op: 'call' };
    });
    const rig = rigOf({ claims: calls, on: (c) => c.vp.replies.switchTo(1 - c.plane, 'x', 'stopped'), guests: [{ 0: guest('a', 0n), 1: guest('b', 1000n) }] });
    rig.run(1);
    expect(seen).toEqual([1n, 1004n]);
  });

  it('nanoseconds are exact however long the machine runs, and never run backwards', () => {
    for (const ticksPerSecond of [1_000_000_000, 2_500_000_000, 3, 24_000_000]) {
      const { machine } = rigOf({ options: { ticksPerSecond }, guests: [] });
      let before = -1;
      for (let ticks = 0, step = 1; ticks < 2 ** 52; ticks += step, step = Math.floor(step * 1.7) + 1) {
        const ns = machine.nanoseconds(ticks);
        const exact = (BigInt(ticks) * 1_000_000_000n) / BigInt(ticksPerSecond);
        if (exact < BigInt(Number.MAX_SAFE_INTEGER)) expect(BigInt(ns)).toBe(exact);
        expect(ns).toBeGreaterThanOrEqual(before);
        before = ns;
      }
    }
  });

  it('options out of range are refused by name', () => {
    const bad: Partial<MachineOptions>[] = [{ maxVps: 0 }, { maxVps: 65 }, { maxPlanes: 17 }, { quantum: 0 }, { quantum: 1.5 }, { ticksPerInstruction: 0 }, { seed: -1 }, { memoryBytes: 4097 }, { memoryBytes: 0 }, { ticksPerSecond: 0 }];
    for (const options of bad) expect(() => rigOf({ options, guests: [] }), JSON.stringify(options)).toThrow(expect.objectContaining({ code: 'BadConfig', message: expect.stringContaining(Object.keys(options)[0]!) }));
  });
});

describe('timers', () => {
  it('a budget ends exactly at a deadline: the interrupt comes at that tick, wherever slices end', () => {
    for (const quantum of [7, 40, 41, 1000]) {
      const at: number[] = [];
      const rig = rigOf({ options: { quantum }, guests: [{ 0: { id: 't', steps: [...timer(0x40, 37), { op: 'sti' }, { op: 'work', cost: 1 }, { op: 'jump', to: 4 }], handlers: { default: [{ op: 'eoi' }] } } }] });
      rig.machine.hooks.trace = { ...quiet, entered: (c) => { if (rig.get(0, 0, 'interrupt.injected') === 1n) at.push(rig.machine.timeOf(c.vp)); } };
      rig.run(Math.ceil(200 / quantum));
      expect(at).toEqual([40]);
    }
  });

  it('all halted: time warps to the next timer, inside a slice and beyond it', () => {
    for (const count of [20, 12_345]) {
      const at: number[] = [];
      const rig = rigOf({ guests: [{ 0: generator('g', function* () {
        for (const step of timer(0x40, count)) yield step;
        yield { op: 'sti' };
        yield hlt;
        yield work;
        at.push(rig.machine.timeOf(rig.vps[0]!));
      }, function* () { yield { op: 'eoi' }; }) }, { 0: [hlt] }] });
      expect(rig.kind()).toBe('idle');
      // Armed by instruction 3; EOI, then the instruction behind the halt.
      expect(at).toEqual([3 + count + 2]);
    }
  });

  it('a periodic timer whose interrupts nobody may take gives one request and no end of time', () => {
    const rig = rigOf({ guests: [{ 0: [...timer(0x40, 10, 1), hlt] }] });
    expect(rig.kind(50)).toBe('slices');
    expect(rig.vps[0]!.context.events.balance()).toMatchObject({ pending: 1, delivered: 0 });
    expect(rig.vps[0]!.context.edges).toBe(1);
  });

  it('a wait with a deadline is over at its tick although another VP keeps the machine busy', () => {
    const at: number[] = [];
    const rig = rigOf({
      claims: calls,
      on: (c) => c.vp.replies.wait({ kind: 'time', at: 150 }, 'advanced'),
      guests: [{ 0: [{ op: 'jump', to: 0 }] }, { 0: generator('g', function* () { yield { op: 'call' }; yield work; at.push(rig.machine.timeOf(rig.vps[1]!)); }) }],
    });
    rig.run(8);
    expect(at).toEqual([151]);
  });
});

const quiet: NonNullable<Rig['machine']['hooks']['trace']> = { entered() {}, exit() {}, answer() {}, switched() {}, accepted() {}, vmExit() {}, input() {}, permission() {}, note() {} };

/** Two VPs that message each other, with timers: something for every rule of the scheduler. */
const busy = (options: Partial<MachineOptions> = {}): Rig => {
  const guest = (id: string, other: number): RigConfig['guests'][number] => ({
    0: {
      id,
      steps: [...timer(0x50, 33, 1), { op: 'work', regs: { rcx: 25 } }, { op: 'sti' }, { op: 'ipi', icr: 0x4040n | (BigInt(other) << 32n) }, { op: 'work', cost: 7 }, hlt, { op: 'call' }, { op: 'loop', register: 'rcx', to: 5 }, { op: 'cli' }, hlt],
      handlers: { default: [{ op: 'write', gpa: 0x100 + other * 8, value: 1 }, { op: 'eoi' }] },
    },
    1: { id: `${id} above`, steps: [{ op: 'work', cost: 3 }, { op: 'call' }, { op: 'jump', to: 0 }] },
  });
  const rig = rigOf({ options, meaning: risingPlanes, claims: calls, on: (c) => c.vp.replies.switchTo(1 - c.plane, 'call', 'stopped'), guests: [guest('a', 1), guest('b', 0)] });
  rig.machine.memory.addSlot({ id: 0, gpa: 0, size: 4096 });
  return rig;
};
const events = (rig: Rig): string[] => {
  const log: string[] = [];
  rig.machine.hooks.trace = {
    ...quiet,
    exit: (c, exit) => void (exit.kind !== 'budget' && log.push(`${c.vp.index}.${c.plane} ${exit.kind} @${rig.machine.timeOf(c.vp)}`)),
    switched: (vp, from, to, reason) => void log.push(`${vp.index} ${from}>${to} ${reason}`),
    accepted: (c) => void log.push(`${c.vp.index}.${c.plane} accepted`),
  };
  return log;
};

describe('scheduler of VPs', () => {
  it('messages to other VPs take effect at the end of the sender\'s slice, in VP order', () => {
    const rig = rigOf({ guests: [0, 1, 2].map((i) => ({ 0: [{ op: 'ipi', icr: 0xc0040 + i }, work, { op: 'jump', to: 1 }] as Step[] })) });
    const seen: string[] = [];
    rig.machine.on('event-accepted', (e) => seen.push(`${rig.machine.activeVp} -> ${e.vp}`));
    const pending = () => rig.vps.map((vp) => rig.arch.apicOf(vp.context).block.count(0x200));
    rig.run(1);
    expect(pending()).toEqual([0, 1, 1]);
    rig.run(1);
    expect(pending()).toEqual([1, 1, 2]);
    rig.run(1);
    expect(pending()).toEqual([2, 2, 2]);
    // All between slices.
    expect(seen).toEqual(['-1 -> 1', '-1 -> 2', '-1 -> 0', '-1 -> 2', '-1 -> 0', '-1 -> 1']);
  });

  it('a VP\'s message to itself takes effect at once, also in another plane\'s name', () => {
    const taken: number[] = [];
    const rig = rigOf({ guests: [{ 0: generator('g', function* () { yield { op: 'sti' }; yield work; yield { op: 'ipi', icr: 0x40041 }; yield work; }, function* (v) { taken.push(rig.vps[0]!.retired, v); yield { op: 'eoi' }; }) }] });
    rig.run(1);
    expect(taken).toEqual([3, 0x41]);
  });

  it('idle: everybody waits and no timer is set; outside input goes on from there', () => {
    const rig = rigOf({ guests: [{ 0: [{ op: 'sti' }, hlt, work] }, { 0: [hlt] }] });
    expect(rig.run()).toEqual({ kind: 'idle' });
    const { time } = rig.machine;
    expect(rig.run()).toEqual({ kind: 'idle' });
    expect(rig.machine.time).toBe(time);
    rig.msi(0, 0, 0x55);
    expect(rig.run()).toEqual({ kind: 'idle' });
    expect(rig.vps[0]!.statistics).toMatchObject({ wakes: 1, halts: 2 });
  });

  it('a machine without VPs is idle; a VP without a processor is an error by name', () => {
    const rig = rigOf({ guests: [] });
    expect(rig.run()).toEqual({ kind: 'idle' });
    rig.machine.createVp();
    expect(() => rig.run()).toThrow(expect.objectContaining({ code: 'BadState' }));
    expect(() => rig.run()).toThrow(HostError);
  });

  it('interrupted: before the next guest instruction, and for as long as the VMM wants it', () => {
    const rig = rigOf({ guests: [{ 0: [{ op: 'jump', to: 0 }] }] });
    rig.run(2);
    const { retired } = rig.vps[0]!;
    rig.vps[0]!.immediateExit = true;
    for (let i = 0; i < 3; i++) expect(rig.run(5)).toEqual({ kind: 'interrupted', vp: rig.vps[0]! } satisfies SchedulerStop);
    expect(rig.vps[0]!.retired).toBe(retired);
    rig.vps[0]!.immediateExit = false;
    expect(rig.kind(1)).toBe('slices');
  });

  it.each([0, 1, 77])('seed %i: a run in pieces of one slice equals the whole run, event by event', (seed) => {
    const whole = busy({ seed });
    const wholeLog = events(whole);
    const pieces = busy({ seed });
    const piecesLog = events(pieces);
    whole.run(60);
    for (let i = 0; i < 60; i++) pieces.run(1);
    expect(piecesLog).toEqual(wholeLog);
    expect(pieces.machine.snapshot()).toEqual(whole.machine.snapshot());
    expect(wholeLog.length).toBeGreaterThan(200);
  });

  it('an immediate return at any time changes nothing in the guest', () => {
    const whole = busy();
    const cut = busy();
    const wholeLog = events(whole);
    const cutLog = events(cut);
    whole.run(40);
    for (let slices = 0; slices < 40; ) {
      cut.vps[slices % 2]!.immediateExit = true;
      if (cut.run(1).kind === 'slices') slices++;
      cut.vps[0]!.immediateExit = cut.vps[1]!.immediateExit = false;
      if (cut.run(1).kind === 'slices') slices++;
    }
    expect(cutLog.slice(0, wholeLog.length)).toEqual(wholeLog.slice(0, cutLog.length));
  });

  it('the same seed runs the same; another seed interleaves otherwise', () => {
    const logs = [5, 5, 6].map((seed) => {
      const rig = busy({ seed });
      const log = events(rig);
      rig.run(100);
      return log;
    });
    expect(logs[1]).toEqual(logs[0]);
    expect(logs[2]).not.toEqual(logs[0]);
    const plain = busy();
    const log = events(plain);
    plain.run(100);
    expect(log).not.toEqual(logs[0]);
  });

  it('with a seed no VP is left behind: each gets every slice of every round', () => {
    const rig = rigOf({ options: { seed: 9 }, guests: [{ 0: [{ op: 'jump', to: 0 }] }, { 0: [{ op: 'jump', to: 0 }] }, { 0: [{ op: 'jump', to: 0 }] }] });
    rig.run(300);
    expect(new Set(rig.vps.map((vp) => vp.retired)).size).toBe(1);
    expect(rig.vps[0]!.retired).toBeLessThan(100 * 100);
  });
});

describe('ports and observers', () => {
  it('context ports see every entry and leave, in pairs; a refusal leaves to the VMM by name until it ends', () => {
    const rig = busy();
    let inside: string | null = null;
    let refusal: string | null = null;
    const refused: string[] = [];
    rig.machine.contextPorts.push({
      entering: (c) => {
        if (refusal !== null) return refusal;
        expect(inside).toBeNull();
        inside = `${c.vp.index}.${c.plane}`;
        return null;
      },
      left: (c, cause) => {
        expect(inside).toBe(`${c.vp.index}.${c.plane}`);
        expect(cause).not.toBe('');
        inside = null;
      },
    });
    rig.run(3);
    refusal = 'save area busy';
    for (let i = 0; i < 2; i++) {
      expect(rig.kind(50)).toBe('exit');
      refused.push(JSON.stringify(rig.vps.find((vp) => vp.exit !== null)!.exit));
    }
    expect(refused[0]).toMatch(/^\{"kind":"entryRefused","plane":[01],"reason":"save area busy"\}$/);
    refusal = null;
    rig.run(20);
    expect(inside).toBeNull();
  });

  it('a plane that starts or resets by an event is left in a pair, too', () => {
    const rig = rigOf({ options: { maxVps: 2 }, guests: [{ 0: [hlt] }, { 0: [hlt] }] });
    const log: string[] = [];
    rig.machine.contextPorts.push({ entering: (c) => { if (c.vp.index === 1) log.push('in'); return null; }, left: (c) => { if (c.vp.index === 1) log.push('out'); } });
    rig.run();
    log.length = 0;
    rig.arch.fabric.deliver(1, 0, 5, 0, true, false);
    rig.run();
    expect(rig.vps[1]!.context.activity).toBe(Activity.WaitForSipi);
    expect(log).toEqual(['in', 'out']);
  });

  it('machine events name VP, plane and reason; nothing is emitted while nobody listens', () => {
    const rig = rigOf({ claims: calls, on: (c) => c.vp.replies.switchTo(1, 'call', 'runnable'), guests: [{ 0: [{ op: 'call' }, hlt], 1: [{ op: 'out', port: 1, value: 2 }] }] });
    const { machine } = rig;
    machine.removeAllListeners();
    let emitted = 0;
    const emit = machine.emit.bind(machine);
    machine.emit = (...args) => {
      emitted++;
      return emit(...args);
    };
    const seen: unknown[] = [];
    const note = (event: unknown): void => void seen.push(event);
    machine.on('vm-exit', note);
    machine.off('vm-exit', note);
    rig.msi(0, 1, 0x40);
    expect(emitted).toBe(0);
    machine.on('plane-switch', note);
    machine.on('event-accepted', note);
    machine.on('vm-exit', note);
    rig.msi(0, 1, 0x41);
    expect(rig.kind()).toBe('exit');
    expect(seen).toMatchObject([
      { vp: 0, plane: 1, pending: 0b10 },
      { vp: 0, from: 0, to: 1, reason: 'event' },
      { vp: 0, plane: 1, kind: 'io' },
    ]);
  });

  it('statistics count what happened', () => {
    const rig = rigOf({ claims: calls, on: (c) => (c.plane === 0 ? c.vp.replies.switchTo(1, 'call', 'runnable') : c.vp.replies.switchTo(0, 'return', 'stopped')), guests: [{ 0: [{ op: 'call' }, { op: 'rdmsr', index: 0x999 }, { op: 'out', port: 1, value: 1 }, hlt], 1: [{ op: 'call' }] }] });
    rig.kind();
    rig.kind();
    expect(rig.vps[0]!.statistics).toEqual({ switches: 2, exits: expect.any(Number), halts: 1, wakes: 0, faults: 1, vmExits: 1, planeEvents: 0 });
  });

  it('extra checks of a personality run with the engine\'s and name it', () => {
    const rig = rigOf({ guests: [{ 0: [work] }] });
    const checker: Personality = { name: 'picky', stateName: 'picky', stateVersion: 1, claims: [], handle: (c) => c.vp.replies.resume(), save: () => null, restore: () => {}, checkInvariants: () => ['the moon is not full'] };
    rig.machine.addPersonality(checker);
    rig.machine.checks = new InvariantChecks(rig.machine);
    expect(() => rig.run()).toThrow('picky: the moon is not full');
  });
});
