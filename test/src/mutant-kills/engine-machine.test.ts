import { Activity, type Answer, type Claim, type CpuExit, HostError, Outcome, type PlaneContext, PlaneId, plainPlanes, Schedule, type TracePort } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { oneRegister, spend, type Toy, type ToyConfig, toyOf } from './toy.ts';

const codeOf = (act: () => unknown): string => {
  try {
    act();
    return 'none';
  } catch (error) {
    return error instanceof HostError ? error.code : 'other';
  }
};
const halt = (vp: Toy['vps'][number]): CpuExit => spend(vp, 1, 'halt');
const claims: readonly Claim[] = [{ exit: 'call', from: 1, to: 9 }];
/** A machine whose calls are answered by a function. */
const answering = (config: ToyConfig, on: (context: PlaneContext, exit: CpuExit) => Answer | null, more: object = {}): Toy =>
  toyOf(config, (machine) => machine.addPersonality({ name: 'p', stateName: 'p', stateVersion: 1, claims, handle: on, save: () => null, restore() {}, ...more }));
const call = (key = 1) => (vp: Toy['vps'][number]): CpuExit => spend(vp, 0, 'call', key);
const arm = (toy: Toy, at: number, vp = 0, plane = 0): void => {
  toy.events(vp, plane).at = at;
  toy.machine.timersChanged(toy.vps[vp]!.plane(plane));
};
const expiries = (toy: Toy): string[] => toy.log.filter((line) => line.includes('expire'));

describe('slices and budgets', () => {
  it.each([[100, 1, 100], [100, 3, 33], [99, 3, 33], [98, 3, 32], [5, 8, 1], [8, 8, 1], [16, 8, 2], [7, 0.5, 14]])('a quantum of %i at %d ticks an instruction is %i instructions', (quantum, ticksPerInstruction, budget) => {
    const toy = toyOf({ planes: [[0], [0]], options: { quantum, ticksPerInstruction } });
    expect(toy.machine.run(2)).toEqual({ kind: 'slices' });
    expect(toy.cpus.map((cpu) => cpu.budgets)).toEqual([[budget], [budget]]);
    // The round is over: T advances by the quantum.
    expect([toy.machine.scheduler.slices, toy.machine.time]).toEqual([2, quantum]);
    toy.machine.run(1);
    expect([toy.machine.scheduler.slices, toy.machine.time, toy.machine.timeOf(toy.vps[0]!)]).toEqual([3, quantum, quantum + budget * ticksPerInstruction]);
    expect([toy.vps[0]!.timeBase, toy.vps[0]!.timeRetired, toy.vps[0]!.sliceEnd, toy.vps[0]!.sliceExits]).toEqual([quantum, budget, 2 * budget, 1]);
  });

  it('an early return keeps what is left of the slice', () => {
    const toy = toyOf({ planes: [[0]] });
    toy.cpus[0]!.todo.push((vp) => spend(vp, 30), (vp) => spend(vp, 69), (vp) => spend(vp, 1));
    expect(toy.machine.run(1).kind).toBe('slices');
    expect(toy.cpus[0]!.budgets).toEqual([100, 70, 1]);
  });

  it.each<[at: number, ticks: number, budgets: number[], expiry: number[]]>([
    [-1, 1, [100, 100], [0]], [0, 1, [100, 100], [0]], [1, 1, [1, 99, 100], [1]], [40, 1, [40, 60, 100], [40]], [99, 1, [99, 1, 100], [99]], [100, 1, [100, 100], [100]], [101, 1, [100, 1, 99], [101]], [199, 1, [100, 99, 1], [199]],
    [200, 1, [100, 100], [200]], [201, 1, [100, 100], []], [10, 3, [4, 29, 33], [12]], [9, 3, [3, 30, 33], [9]], [1, 3, [1, 32, 33], [3]], [99, 3, [33, 33], [99]],
  ])('a timer at tick %i, %i ticks an instruction: budgets %j', (at, ticksPerInstruction, budgets, expiry) => {
    const toy = toyOf({ planes: [[0]], options: { ticksPerInstruction } });
    arm(toy, at);
    toy.machine.run(2);
    expect(toy.cpus[0]!.budgets).toEqual(budgets);
    expect(expiries(toy)).toEqual(expiry.map((tick) => `0.0 expire ${tick}`));
  });

  it.each<[at: number, budgets: number[]]>([
    [150, [100, 50]], [101, [100, 99]], [199, [100, 1]], [200, [100, 100]], [201, [100, 100]], [1234, [100, 100]], [50, [50, 50]],
  ])('a halted VP goes on at tick %i with the rest of its slice: budgets %j', (at, budgets) => {
    const toy = toyOf({ planes: [[0]] });
    toy.cpus[0]!.todo.push(halt);
    arm(toy, at);
    while (toy.cpus[0]!.budgets.length < 2) toy.machine.run(1);
    // The quantum in which it ran passes; then time goes to the next timer when that lies outside the round.
    expect(expiries(toy)).toEqual([`0.0 expire ${at}`]);
    expect(toy.machine.timeOf(toy.vps[0]!)).toBe(at + budgets[1]!);
    expect(toy.vps[0]!.statistics).toMatchObject({ halts: 1, wakes: 1, exits: 2 });
    expect(toy.cpus[0]!.budgets).toEqual(budgets);
  });

  it('time goes to the nearest timer of all VPs that wait, and stands still without one', () => {
    const toy = toyOf({ planes: [[0], [0]] });
    for (const cpu of toy.cpus) cpu.todo.push(halt, halt, halt);
    arm(toy, 5000, 0);
    arm(toy, 3000, 1);
    expect(toy.machine.run()).toEqual({ kind: 'idle' });
    expect(expiries(toy)).toEqual(['1.0 expire 3000', '0.0 expire 5000']);
    expect(toy.machine.time).toBe(5100);
    const { slices } = toy.machine.scheduler;
    expect(toy.machine.run()).toEqual({ kind: 'idle' });
    expect([toy.machine.time, toy.machine.scheduler.slices]).toEqual([5100, slices + 2]);
  });

  it('a timed wait ends at its tick, inside a slice and beyond', () => {
    for (const at of [60, 100, 130, 200, 2500]) {
      const toy = answering({ planes: [[0]] }, (c) => c.vp.replies.wait({ kind: 'time', at }, 'advanced'));
      const times: number[] = [];
      toy.cpus[0]!.todo.push((vp) => spend(vp, 1, 'call', 1), (vp, budget) => {
        times.push(toy.machine.timeOf(vp), budget);
        return spend(vp, budget);
      });
      while (times.length === 0) toy.machine.run(1);
      expect(times).toEqual([at, at === 2500 ? 100 : 100 - (at % 100)]);
    }
  });

  it('a seed cuts rounds at random lengths within the quantum, the same for every VP of a round', () => {
    const toy = toyOf({ planes: [[0], [0]], options: { seed: 9, quantum: 4 } });
    toy.machine.run(80);
    const [a, b] = toy.cpus.map((cpu) => cpu.budgets) as [number[], number[]];
    expect(a).toEqual(b);
    expect([...new Set(a)].sort()).toEqual([1, 2, 3, 4]);
    expect(toy.machine.time).toBe(a.reduce((sum, n) => sum + n, 0));
  });

  it('an interrupted run and an exit come back to the same slice', () => {
    const toy = toyOf({ planes: [[0], [0]] });
    toy.cpus[0]!.todo.push((vp) => spend(vp, 10, 'io', 7));
    const stop = toy.machine.run();
    expect([stop.kind, toy.vps[0]!.exit, toy.machine.scheduler.slices, toy.machine.activeVp]).toEqual(['exit', { kind: 'unclaimed io 7' }, 0, -1]);
    toy.vps[0]!.immediateExit = true;
    expect(toy.machine.run().kind).toBe('interrupted');
    toy.vps[0]!.immediateExit = false;
    expect(toy.machine.run(1).kind).toBe('slices');
    expect(toy.cpus[0]!.budgets).toEqual([100, 90]);
    expect(toy.vps[0]!.statistics).toMatchObject({ exits: 2, vmExits: 1 });
  });
});

describe('answers', () => {
  const lines = (toy: Toy): string[] => toy.log.filter((line) => !line.includes('enter'));
  it.each<[string, (c: PlaneContext) => Answer, string[]]>([
    ['resume', (c) => c.vp.replies.resume(), ['0.0 retire']],
    ['retry', (c) => c.vp.replies.retry(), []],
    ['fault', (c) => c.vp.replies.fault(13), ['0.0 fault 13']],
    ['wait, advanced', (c) => c.vp.replies.wait({ kind: 'key', key: 'k' }, 'advanced'), ['0.0 retire']],
    ['wait, held', (c) => c.vp.replies.wait({ kind: 'key', key: 'k' }), []],
    ['switch, advanced', (c) => c.vp.replies.switchTo(1, 'r'), ['0.0 retire']],
    ['switch, held', (c) => c.vp.replies.switchTo(1, 'r', 'stopped', 'held'), []],
    ['exit that is done', (c) => c.vp.replies.exit({ kind: 'x' }), ['0.0 retire']],
    ['exit that waits for a reply', (c) => c.vp.replies.exit({ kind: 'x' }, { owner: 'arch', kind: 'later', data: {}, reply: null }), []],
  ])('%s: retires what is done', (title, on, log) => {
    const toy = answering({ planes: [[0, 1]] }, on);
    const vp = toy.vps[0]!;
    toy.cpus[0]!.todo.push(call());
    const stop = toy.machine.run(1).kind;
    expect(lines(toy)).toEqual(log);
    expect(stop).toBe(title.startsWith('exit') ? 'exit' : 'slices');
    expect(vp.current).toBe(title.startsWith('switch') ? 1 : 0);
    expect(vp.statistics).toEqual({ switches: vp.current, exits: title.startsWith('exit') || title.startsWith('wait') ? 1 : 2, halts: 0, wakes: 0, faults: title === 'fault' ? 1 : 0, vmExits: stop === 'exit' ? 1 : 0, planeEvents: 0 });
    expect([vp.plane(0).activity, vp.plane(0).wait]).toEqual(title.startsWith('wait') ? [Activity.Held, { kind: 'key', key: 'k' }] : [Activity.Running, null]);
    expect(vp.running).toBe(-1);
    if (title.startsWith('wait')) {
      toy.machine.release('k');
      toy.machine.run(1);
      expect([vp.statistics.wakes, vp.context.wait, vp.context.activity]).toEqual([1, null, Activity.Running]);
    }
  });

  it('an answered halt retires nothing: the instruction has retired; an unanswered one halts', () => {
    const toy = toyOf({ planes: [[0]] }, (machine) => machine.addPersonality({ name: 'h', stateName: 'h', stateVersion: 1, claims: [{ exit: 'halt', from: 0, to: 0 }], handle: (c) => (c.retired < 2 ? c.vp.replies.resume() : null), save: () => null, restore() {} }));
    toy.cpus[0]!.todo.push(halt, halt);
    expect(toy.machine.run().kind).toBe('idle');
    expect([lines(toy), toy.vps[0]!.context.activity, toy.vps[0]!.statistics.halts]).toEqual([[], Activity.Halted, 1]);
  });

  it('shutdown and exits outside every claim go to the VMM', () => {
    const toy = answering({ planes: [[0]] }, (c) => c.vp.replies.retry());
    toy.cpus[0]!.todo.push((vp) => spend(vp, 0, 'shutdown'), call(0), call(10), call(9));
    const kinds = [0, 1, 2].map(() => (toy.machine.run(), toy.vps[0]!.exit!.kind));
    expect(kinds).toEqual(['shutdown', 'unclaimed call 0', 'unclaimed call 10']);
    expect(toy.machine.run(1).kind).toBe('slices');
  });

  it('an unanswered exit must be answered before its plane goes on; the owner finishes it once', () => {
    for (const owner of ['arch', 'p']) {
      const done: unknown[] = [];
      const toy = answering({ planes: [[0]] }, (c) => c.vp.replies.exit({ kind: 'x' }, { owner, kind: 'later', data: {}, reply: null }), { complete: (c: PlaneContext) => void done.push(c.plane) });
      toy.cpus[0]!.todo.push(call());
      const context = toy.vps[0]!.plane(0);
      expect(codeOf(() => toy.machine.reply(context, {}))).toBe('BadState');
      toy.machine.run();
      expect(codeOf(() => toy.machine.run())).toBe('BadState');
      toy.machine.reply(context, { a: 1 });
      expect(context.completion).toMatchObject({ reply: { a: 1 } });
      toy.machine.run(1);
      expect([context.completion, done, lines(toy)]).toEqual([null, owner === 'p' ? [0] : [], owner === 'p' ? [] : ['0.0 complete later']]);
    }
  });

  it('the VMM runs a VP itself: slice, exit, blocked and interrupted, and no VP twice', () => {
    const toy = toyOf({ planes: [[0, 1]] });
    const vp = toy.vps[0]!;
    const inner: string[] = [];
    vp.sliceEnd = 7;
    toy.cpus[0]!.todo.push((v, budget) => {
      inner.push(codeOf(() => toy.machine.runVp(v)), codeOf(() => toy.machine.snapshot()), codeOf(() => toy.machine.resetPlane(v.plane(0), 'fresh')), codeOf(() => toy.machine.resetPlane(v.plane(1), 'fresh')), String(v.running), String(toy.machine.memory.dirty.currentVp));
      return spend(v, budget);
    });
    const before = toy.machine.memory.dirty.currentVp;
    expect(toy.machine.runVp(vp)).toBe(Outcome.Slice);
    expect([inner, toy.cpus[0]!.budgets]).toEqual([['BadState', 'BadState', 'BadState', 'none', '0', '0'], [7]]);
    expect(toy.machine.memory.dirty.currentVp).toBe(before);
    vp.suspended = true;
    expect(toy.machine.runVp(vp)).toBe(Outcome.Blocked);
    vp.immediateExit = true;
    expect(toy.machine.runVp(vp)).toBe(Outcome.Interrupted);
    vp.suspended = vp.immediateExit = false;
    vp.setSchedule(vp.plane(0), Schedule.Stopped);
    vp.exit = { kind: 'old' };
    expect([toy.machine.runVp(vp), vp.exit]).toEqual([Outcome.Blocked, null]);
    expect(Outcome).toEqual({ Slice: 0, Exit: 1, Blocked: 2, Interrupted: 3 });
  });

  it('context ports are asked before every entry and told of every end', () => {
    const toy = toyOf({ planes: [[0]] });
    const log: string[] = [];
    let refusal: string | null = 'busy';
    toy.machine.contextPorts.push({ turn: () => void log.push('turn'), entering: () => refusal, left: (_c, cause) => void log.push(cause) }, {});
    expect(toy.machine.run().kind).toBe('exit');
    expect([toy.vps[0]!.exit, log, toy.cpus[0]!.budgets]).toEqual([{ kind: 'entryRefused', plane: 0, reason: 'busy' }, ['turn'], []]);
    refusal = null;
    toy.events(0, 0).onEnter = () => {
      toy.vps[0]!.context.activity = Activity.WaitForSipi;
    };
    toy.machine.run(1);
    expect([log, toy.cpus[0]!.budgets]).toEqual([['turn', 'turn', 'event', 'turn'], []]);
    toy.events(0, 0).onEnter = null;
    toy.events(0, 0).isWaking = true;
    toy.machine.run(1);
    expect(log.slice(4)).toEqual(['turn', 'budget', 'turn']);
  });

  it('a held plane goes on by its condition or by a reset event, not by another event', () => {
    const toy = answering({ planes: [[0]] }, (c) => c.vp.replies.wait({ kind: 'key', key: 'k' }, 'advanced'));
    toy.cpus[0]!.todo.push(call());
    toy.machine.run(1);
    toy.events(0, 0).isWaking = true;
    expect(toy.machine.run().kind).toBe('idle');
    expect(toy.vps[0]!.context.activity).toBe(Activity.Held);
    toy.events(0, 0).isResetting = true;
    toy.machine.run(1);
    expect([toy.vps[0]!.context.activity, toy.vps[0]!.context.wait, toy.vps[0]!.statistics.wakes]).toEqual([Activity.Running, null, 1]);
  });
});

describe('events of other planes', () => {
  it.each(['first', 'entry'] as const)('checked %s: the VMM is told of what it asked about, and what a running plane cannot see stays', (eventCheck) => {
    const toy = toyOf({ planes: [[0, 1, 2]], policy: 'userspace', options: { eventCheck } });
    const vp = toy.vps[0]!;
    vp.asked = 0b111;
    for (const p of [1, 2]) toy.events(0, p).isDeliverable = true;
    toy.machine.eventsChanged(vp.plane(1));
    toy.machine.accepted(vp.plane(2), true);
    expect(toy.machine.run().kind).toBe('exit');
    expect(vp.exit).toEqual({ kind: 'planeEvent', cause: 'interrupt', pending: 0b110, target: 0b110, flags: 0 });
    expect([vp.reqExit, vp.statistics.planeEvents, vp.statistics.vmExits, toy.cpus[0]!.budgets]).toEqual([0b110, 1, 1, []]);
    vp.named = 1;
    toy.machine.run();
    expect([vp.exit, vp.reqExit, vp.statistics.switches]).toMatchObject([{ pending: 0b110, target: 0b100 }, 0b101, 1]);
    vp.asked = 0b010;
    expect(toy.machine.run(1).kind).toBe('slices');
    expect(toy.cpus[0]!.planes).toEqual([1]);
  });

  it.each(['first', 'entry'] as const)('checked %s: a halted plane', (eventCheck) => {
    const toy = toyOf({ planes: [[0, 1]], policy: 'userspace', options: { eventCheck } });
    const vp = toy.vps[0]!;
    toy.cpus[0]!.todo.push(halt);
    toy.machine.run(1);
    vp.asked = 0b10;
    toy.events(0, 1).isDeliverable = true;
    toy.machine.eventsChanged(vp.plane(1));
    // A halted plane blocks before its way into the guest.
    expect(toy.machine.run().kind).toBe(eventCheck === 'first' ? 'exit' : 'idle');
    toy.events(0, 0).isWaking = true;
    expect(toy.machine.run().kind).toBe('exit');
    expect(vp.plane(0).activity).toBe(eventCheck === 'first' ? Activity.Halted : Activity.Running);
  });

  it('under highest-runnable a higher plane preempts, a lower one does not', () => {
    const toy = toyOf({ planes: [[0, 1, 2]] });
    const vp = toy.vps[0]!;
    toy.cpus[0]!.todo.push((v) => {
      for (const p of [0, 2]) {
        toy.events(0, p).isDeliverable = true;
        toy.machine.accepted(v.plane(p), true);
      }
      return spend(v, 10);
    });
    toy.machine.run(1);
    expect([toy.cpus[0]!.planes, toy.cpus[0]!.budgets, vp.statistics.switches]).toEqual([[0, 2], [100, 90], 1]);
    expect([vp.plane(0).retired, vp.plane(2).retired, vp.retired]).toEqual([10, 90, 100]);
  });

  it('edges count new events only', () => {
    const toy = toyOf({ planes: [[0, 1]] });
    const c = toy.vps[0]!.plane(1);
    toy.machine.accepted(c, true);
    toy.machine.accepted(c, false, true);
    toy.machine.accepted(c, true, false);
    expect([c.edges, toy.vps[0]!.plane(0).edges]).toEqual([2, 0]);
  });
});

describe('messages to other VPs', () => {
  it('wait for the end of the slice, in order, however many, and go at once otherwise', () => {
    for (const count of [1, 15, 16, 17, 33, 100]) {
      const toy = toyOf({ planes: [[0], [0, 1]] });
      toy.cpus[0]!.todo.push((vp, budget) => {
        for (let i = 0; i < count; i++) expect(toy.machine.send(1, i % 2, 1000 + i, 2000 + i)).toBe(0);
        expect(toy.machine.send(0, 0, 5, 6)).toBe(1);
        toy.log.push('end');
        return spend(vp, budget);
      });
      toy.machine.run(1);
      const log = toy.log.filter((line) => !line.includes('enter'));
      const expected = Array.from({ length: count }, (_, i) => `1.${i % 2} deliver ${1000 + i} ${2000 + i}`);
      expect(log).toEqual(['0.0 deliver 5 6', 'end', ...expected]);
      toy.machine.run(1);
      expect(toy.log.filter((line) => line.startsWith('1.') && line.includes('deliver'))).toEqual(expected);
      expect([toy.machine.send(1, 0, 7, 8), toy.machine.send(3, 0, 7, 8), toy.machine.send(1, 3, 7, 8)]).toEqual([1, 0, 0]);
    }
  });

  it('a restart drops what was on its way to its VP alone; a snapshot keeps all of it', () => {
    const toy = toyOf({ planes: [[0], [0, 1], [0]] });
    toy.cpus[0]!.todo.push((vp) => {
      for (let i = 0; i < 20; i++) toy.machine.send(1 + (i % 2), 0, i, 10 * i);
      return spend(vp, 1, 'io');
    });
    toy.machine.run();
    const saved = toy.machine.snapshot();
    expect([...saved.machine.outbox]).toEqual(Array.from({ length: 20 }, (_, i) => [1 + (i % 2), 0, i, 10 * i]).flat());
    toy.vps[1]!.suspended = true;
    toy.machine.restartVp(toy.vps[1]!, 'fresh');
    expect([toy.vps[1]!.existing, toy.vps[1]!.suspended, toy.vps[1]!.runnable]).toEqual([1, false, 1]);
    toy.log.length = 0;
    toy.machine.flushOutbox();
    const odd = Array.from({ length: 10 }, (_, i) => `2.0 deliver ${2 * i + 1} ${10 * (2 * i + 1)}`);
    expect(toy.log).toEqual(odd);
    const other = toyOf({ planes: [[0], [0, 1], [0]] });
    other.machine.restore(saved);
    other.machine.flushOutbox();
    expect(other.log).toEqual(Array.from({ length: 20 }, (_, i) => `${1 + (i % 2)}.0 deliver ${i} ${10 * i}`));
  });
});

describe('timers of planes', () => {
  it.each(['all', 'running'] as const)('of %s planes: those at or before now expire, the nearest of the rest is the deadline', (timers) => {
    const toy = toyOf({ planes: [[0, 1, 3]], options: { timers } });
    const vp = toy.vps[0]!;
    vp.timeBase = 50;
    toy.events(0, 0).at = 51;
    toy.events(0, 1).at = 50;
    toy.events(0, 3).at = 49;
    const ports = [{ at: 50, log: [] as string[] }, { at: 52, log: [] as string[] }];
    for (const port of ports)
      toy.machine.timerPorts.push({ deadline: (c) => (c.plane === 0 || c.plane === 3 ? port.at : Number.POSITIVE_INFINITY), expire: (c, now) => void port.log.push(`${c.plane} ${now}`) });
    toy.machine.timersChanged(vp.plane(1));
    expect(vp.deadline).toBe(timers === 'all' ? 49 : 50);
    toy.machine.expireTimers(vp);
    expect(expiries(toy)).toEqual(timers === 'all' ? ['0.1 expire 50', '0.3 expire 50'] : []);
    expect(ports.map((port) => port.log)).toEqual([timers === 'all' ? ['0 50', '3 50'] : ['0 50'], []]);
    ports[0]!.at = 60;
    toy.machine.timersChanged(vp.plane(0));
    expect(vp.deadline).toBe(51);
    toy.events(0, 0).at = Number.POSITIVE_INFINITY;
    toy.machine.switchPlane(vp, vp.plane(1), 'test');
    if (timers === 'running') expect(vp.deadline).toBe(50);
    else toy.machine.timersChanged(vp.plane(1));
    expect(vp.deadline).toBe(timers === 'all' ? 52 : 50);
    toy.machine.switchPlane(vp, vp.plane(0), 'test');
    ports[1]!.at = 55;
    toy.machine.timersChanged(vp.plane(0));
    expect(vp.deadline).toBe(55);
  });

  it('nanoseconds: whole seconds and the part below, rounded down', () => {
    const { machine } = toyOf({ planes: [], options: { ticksPerSecond: 3 } });
    expect([0, 1, 2, 3, 4, 3e9 + 2].map((ticks) => machine.nanoseconds(ticks))).toEqual([0, 333333333, 666666666, 1e9, 1333333333, 1e18 + 666666666]);
  });
});

describe('conditions of waits', () => {
  it('a time is met from its tick on', () => {
    const toy = toyOf({ planes: [[0], [0]] });
    const c = toy.vps[0]!.plane(0);
    toy.vps[0]!.timeBase = 10;
    expect([9, 10, 11].map((at) => toy.machine.isMet(c, { kind: 'time', at }))).toEqual([true, true, false]);
    expect(toy.machine.isMet(c, null)).toBe(true);
  });

  it('a key is met from its release until it is held', () => {
    const { machine, vps } = toyOf({ planes: [[0]] });
    const met = () => ['a', 'b'].map((key) => machine.isMet(vps[0]!.plane(0), { kind: 'key', key }));
    const seen = [met()];
    for (const act of [() => machine.release('a'), () => machine.release('b'), () => machine.hold('a')]) {
      act();
      seen.push(met());
    }
    expect(seen).toEqual([[false, false], [true, false], [true, true], [false, true]]);
    const other = toyOf({ planes: [[0]] });
    other.machine.release('a');
    other.machine.restore(machine.snapshot());
    expect(['a', 'b'].map((key) => other.machine.isMet(other.vps[0]!.plane(0), { kind: 'key', key }))).toEqual([false, true]);
  });

  it('a plane has left when it does not run, or its VP is none', () => {
    const { machine, vps } = toyOf({ planes: [[0], [0, 1]] });
    const left = (vp: number, plane: number): boolean => machine.isMet(vps[0]!.plane(0), { kind: 'left', vp, plane });
    vps[1]!.running = 1;
    expect([left(1, 1), left(1, 0), left(0, 1), left(2, 1)]).toEqual([false, true, true, true]);
    vps[1]!.running = -1;
    expect(left(1, 1)).toBe(true);
  });

  it('only a held current plane with a time has a deadline', () => {
    const { machine, vps } = toyOf({ planes: [[0]] });
    const c = vps[0]!.plane(0);
    const deadline = (activity: Activity, wait: PlaneContext['wait']): number => {
      c.activity = activity;
      c.wait = wait;
      return machine.waitDeadline(vps[0]!);
    };
    const never = Number.POSITIVE_INFINITY;
    expect([deadline(Activity.Held, { kind: 'time', at: 7 }), deadline(Activity.Held, { kind: 'key', key: 'k' }), deadline(Activity.Halted, { kind: 'time', at: 7 }), deadline(Activity.Held, null)]).toEqual([7, never, never, never]);
  });
});

describe('a VP that may not run', () => {
  it.each(['suspended', 'without a runnable plane'])('%s: its timed wait keeps nobody busy, and is over when it goes on', (how) => {
    const toy = toyOf({ planes: [[0]] });
    const vp = toy.vps[0]!;
    const c = vp.plane(0);
    c.activity = Activity.Held;
    c.wait = { kind: 'time', at: 50 };
    if (how === 'suspended') vp.suspended = true;
    else vp.setSchedule(c, Schedule.Stopped);
    expect(toy.machine.waitDeadline(vp)).toBe(Number.POSITIVE_INFINITY);
    expect(toy.machine.run()).toEqual({ kind: 'idle' });
    vp.suspended = false;
    vp.setSchedule(c, Schedule.Runnable);
    expect(toy.machine.run(1).kind).toBe('slices');
    expect([toy.cpus[0]!.budgets, c.activity, vp.statistics.wakes]).toEqual([[50], Activity.Running, 1]);
  });
});

describe('the switch', () => {
  it.each([1, 47, 48, 49, 60])('moves exactly the shared words: a range of %i', (words) => {
    const registers = [{ name: 'x', offset: 0, size: 8 }, { name: 's', offset: 8, size: 4 * words }, { name: 'y', offset: 8 + 4 * words, size: 8 }, { name: 'z', offset: 16 + 4 * words, size: 4 }, { name: 't', offset: 20 + 4 * words, size: 4 }];
    const toy = toyOf({ planes: [[0, 1, 2]], size: 320, registers }, (machine) => machine.setMeaning({ ...plainPlanes, sharing: { shared: ['s', 'z'] } }));
    const { machine } = toy;
    const vp = toy.vps[0]!;
    const block = (p: number): number[] => [...machine.arena.i32.subarray(vp.plane(p).base >> 2, (vp.plane(p).base >> 2) + 80)];
    for (const p of [0, 1, 2]) for (let w = 0; w < 80; w++) machine.arena.i32[(vp.plane(p).base >> 2) + w] = 1000 * (p + 1) + w;
    const [before, other] = [block(1), block(2)];
    machine.switchPlane(vp, vp.plane(1), 'test');
    const isShared = (w: number): boolean => (w >= 2 && w < 2 + words) || w === 4 + words;
    expect(block(1)).toEqual(before.map((value, w) => (isShared(w) ? 1000 + w : value)));
    expect(block(2)).toEqual(other);
    expect([vp.current, vp.statistics.switches]).toEqual([1, 1]);
    expect([machine.blockOf(vp.plane(0), 's'), machine.blockOf(vp.plane(0), 'x')]).toEqual([vp.plane(1).base, vp.plane(0).base]);
  });

  it('blocks of all VPs and planes lie apart; a new plane gets the shared registers of the current one', () => {
    const toy = toyOf({ planes: [[0, 1], [0, 3]], registers: oneRegister }, (machine) => machine.setMeaning({ ...plainPlanes, sharing: { shared: ['a'] } }));
    expect(toy.vps.flatMap((vp) => vp.planes.flatMap((c) => (c ? [c.base] : [])))).toEqual([0, 64, 256, 448]);
    const vp = toy.vps[0]!;
    toy.machine.switchPlane(vp, vp.plane(1), 'test');
    toy.machine.arena.i32[16] = 77;
    expect(toy.machine.arena.i32[toy.machine.createPlane(vp, PlaneId(2)).base >> 2]).toBe(77);
    expect(codeOf(() => toy.machine.setMeaning(plainPlanes))).toBe('BadState');
  });
});

describe('VPs and planes of a machine', () => {
  it('limits: VPs, plane ids, plane 0 and the current plane', () => {
    const { machine, vps } = toyOf({ planes: [[0, 1, 2]], options: { maxVps: 2, maxPlanes: 3 } });
    const vp = vps[0]!;
    expect([3, 2].map((p) => codeOf(() => machine.createPlane(vp, PlaneId(p))))).toEqual(['NoSuchPlane', 'ExistsAlready']);
    expect([codeOf(() => machine.createVp()), codeOf(() => machine.createVp()), codeOf(() => machine.vp(1)), codeOf(() => machine.vp(2))]).toEqual(['none', 'BadState', 'none', 'NoSuchVp']);
    machine.switchPlane(vp, vp.plane(1), 'test');
    expect([0, 1, 2, 2].map((p) => codeOf(() => machine.removePlane(vp, PlaneId(p))))).toEqual(['BadState', 'BadState', 'none', 'NoSuchPlane']);
  });

  it('a plane that is taken away leaves no bit behind, and can be made again', () => {
    const toy = toyOf({ planes: [[0, 1, 2]] });
    const vp = toy.vps[0]!;
    const events: unknown[] = [];
    toy.machine.on('plane-removed', (e) => events.push(e));
    toy.machine.on('plane-created', (e) => events.push(e));
    vp.setSchedule(vp.plane(2), Schedule.Runnable);
    vp.pending = vp.asked = vp.reqExit = vp.recheck = 0b111;
    vp.named = 2;
    arm(toy, 5, 0, 2);
    arm(toy, 9, 0, 1);
    toy.machine.removePlane(vp, PlaneId(2));
    expect([vp.existing, vp.pending, vp.asked, vp.reqExit, vp.recheck, vp.runnable, vp.named, vp.deadline, vp.planes[2]]).toEqual([3, 3, 3, 3, 3, 1, 0, 9, null]);
    expect(toy.log).toEqual(['0.2 destroy']);
    toy.machine.createPlane(vp, PlaneId(2));
    expect([vp.existing, vp.building, vp.runnable]).toEqual([7, 0, 1]);
    expect(events).toEqual([{ vp: 0, plane: 2 }, { vp: 0, plane: 2 }]);
    vp.named = 1;
    toy.machine.removePlane(vp, PlaneId(2));
    expect(vp.named).toBe(1);
  });

  it('a reset drops completion and wait; personalities are told of resets and new planes', () => {
    const told: string[] = [];
    const toy = answering({ planes: [[0, 1]] }, () => null, { contextCreated: (c: PlaneContext) => void told.push(`new ${c.plane}`), contextReset: (c: PlaneContext, kind: string) => void told.push(`${kind} ${c.plane}`) });
    const c = toy.vps[0]!.plane(1);
    c.completion = { owner: 'arch', kind: 'k', data: {}, reply: null };
    c.wait = { kind: 'time', at: 3 };
    toy.machine.resetPlane(c, 'fresh');
    expect([c.completion, c.wait, told, toy.log]).toEqual([null, null, ['new 0', 'new 1', 'fresh 1'], ['0.1 reset fresh']]);
  });

  it('names are taken once', () => {
    const { machine } = answering({ planes: [] }, () => null);
    const named = (name: string, stateName: string) => ({ name, stateName, stateVersion: 1, claims: [], handle: () => null, save: () => null, restore() {} });
    expect([named('p', 'q'), named('q', 'p'), named('q', 'q')].map((p) => codeOf(() => machine.addPersonality(p)))).toEqual(['ExistsAlready', 'ExistsAlready', 'none']);
    expect([codeOf(() => machine.personality('q')), codeOf(() => machine.personality('r')), codeOf(() => machine.addComponent(named('x', 'q')))]).toEqual(['none', 'UnknownPersonality', 'ExistsAlready']);
  });

  it('the trace sees every arrow of one exit, in order', () => {
    const toy = answering({ planes: [[0, 1]] }, (c) => (c.plane === 0 ? c.vp.replies.switchTo(1, 'why') : c.vp.replies.exit({ kind: 'x' })));
    const log: string[] = [];
    const trace: TracePort = {
      entered: (c) => void log.push(`in ${c.plane}`), exit: (_c, e) => void log.push(`exit ${e.kind}`), answer: (_c, a) => void log.push(`answer ${a.kind}`), switched: (_vp, from, to, reason) => void log.push(`${from}>${to} ${reason}`),
      accepted: (c, maskable) => void log.push(`accepted ${c.plane} ${maskable}`), vmExit: (_vp, payload) => void log.push(`vm ${payload.kind}`), input: (vp, name) => void log.push(`input ${vp?.index} ${name}`), permission: (...args) => void log.push(`permission ${args.join(' ')}`), note() {},
    };
    toy.machine.hooks.trace = trace;
    const emitted: unknown[] = [];
    toy.machine.on('vm-exit', (e) => emitted.push(e));
    toy.cpus[0]!.todo.push((vp) => spend(vp, 5, 'call', 1), call());
    toy.machine.on('plane-switch', (e) => emitted.push(e));
    toy.machine.on('event-accepted', (e) => emitted.push(e));
    toy.machine.run();
    toy.machine.accepted(toy.vps[0]!.plane(1), false);
    expect(log).toEqual(['in 0', 'exit call', 'answer switch', '0>1 why', 'in 1', 'exit call', 'answer exit', 'vm x', 'accepted 1 false']);
    expect(emitted).toEqual([{ vp: 0, from: 0, to: 1, reason: 'why', time: 5 }, { vp: 0, plane: 1, kind: 'x' }, { vp: 0, plane: 1, pending: 0 }]);
  });
});
