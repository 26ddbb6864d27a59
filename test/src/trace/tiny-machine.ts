import { createScope } from '@vmplanes/di';
import { type Answer, type Claim, type Completion, type CpuExit, installEngine, type Machine, type MachineOptions, type Personality, type PlainRecord, type PlainState, type PlaneContext, PlaneId, type Vp } from '@vmplanes/engine';
import { parseTrace, recordTrace, Replay, type ReplayOptions, type ReplayReport, type Trace } from '@vmplanes/trace';
import { eventsOf, getRegister, setRegister, type Step, TableCpu, TinyArch } from './tiny-arch.ts';

/** Calls of the toy interface. */
export const Call = { Switch: 1, Sum: 2, Send: 3, Protect: 4, Refuse: 5, Sleep: 6, Ask: 7, Vague: 8, Entropy: 9, Timer: 10, Gate: 11, Again: 12 } as const;

/** Outside sources of a machine: entropy is pulled inside a run, the rest is pushed between runs. */
export interface Outside {
  entropy(): number;
}

/** Every answer and every service of the engine behind one table of calls. */
class TinyPersonality implements Personality {
  readonly name = 'tiny';
  readonly stateName = 'tiny';
  readonly stateVersion = 1;
  readonly claims: readonly Claim[] = [
    { exit: 'call', from: 0, to: 20 },
    { exit: 'msr', from: 0, to: 0xffff },
  ];
  #calls = 0;
  #retried = false;

  constructor(
    readonly machine: Machine,
    readonly outside: Outside,
    readonly salt: number,
  ) {}

  handle(context: PlaneContext, exit: CpuExit): Answer {
    const { machine: m } = this;
    const { vp } = context;
    const r = vp.replies;
    this.#calls++;
    if (exit.kind === 'msr') {
      const { write, lo } = exit as CpuExit & { write: boolean; lo: number };
      if (!write) setRegister(m, context, 'acc', exit.key * 2);
      else this.#calls += lo;
      return r.resume();
    }
    m.hooks.trace?.note(context, 'call', { number: exit.key, spec: `Toy manual ${exit.key}` });
    const acc = getRegister(m, context, 'acc');
    const idx = getRegister(m, context, 'idx');
    switch (exit.key) {
      case Call.Switch:
        return r.switchTo(acc, 'call');
      case Call.Sum: {
        const bytes = new Uint8Array(8);
        const { access, subjects } = m.memory;
        const who = subjects[context.plane]!.call;
        access.read(who, idx, bytes, 0, 8);
        setRegister(m, context, 'acc', bytes.reduce((a, b) => a + b, 0));
        access.write(who, idx + 16, bytes, 0, 4);
        access.readU8(who, idx + 16);
        m.hooks.trace?.note(context, 'status', { status: 0, sum: bytes.reduce((a, b) => a + b, 0), big: 1n << 40n });
        return r.resume();
      }
      case Call.Send:
        m.send(acc, idx, 3, 0);
        return r.resume();
      case Call.Protect:
        m.memory.permissions[idx]?.set(acc, 4, 1);
        return r.resume();
      case Call.Refuse:
        return r.fault(13, 0, 0x1234, 1);
      case Call.Sleep:
        return r.wait({ kind: 'time', at: m.timeOf(vp) + acc }, 'advanced');
      case Call.Ask:
        return r.exit({ kind: 'ask' }, { owner: 'tiny', kind: 'ask', data: { acc }, reply: null });
      case Call.Vague:
        m.hooks.trace?.note(context, 'undefined', { registers: ['idx'] });
        setRegister(m, context, 'idx', this.salt);
        return r.resume();
      case Call.Entropy:
        setRegister(m, context, 'acc', this.outside.entropy());
        return r.resume();
      case Call.Timer:
        eventsOf(context).arm(m.timeOf(vp) + acc);
        return r.resume();
      case Call.Gate:
        return r.wait({ kind: 'key', key: 'gate' }, 'advanced');
      case Call.Again:
        this.#retried = !this.#retried;
        return this.#retried ? r.retry() : r.resume();
      default:
        return r.fault(6);
    }
  }
  complete(context: PlaneContext, completion: Completion): void {
    setRegister(this.machine, context, 'acc', (completion.reply as { value: number }).value);
    this.machine.arch.retire(context);
  }
  save(): PlainState {
    return { calls: this.#calls, retried: this.#retried };
  }
  restore(state: PlainState): void {
    const s = state as { calls: number; retried: boolean };
    this.#calls = s.calls;
    this.#retried = s.retried;
  }
}

/** A guest: programs by VP and plane. */
export type Guest = readonly (readonly (readonly Step[])[])[];

export const build = (guest: Guest, outside: Outside, options: Partial<MachineOptions> = {}, salt = 0): Machine => {
  const m = installEngine(createScope(), { arch: new TinyArch(), policy: 'highest-runnable', rule: 'deliverable', options: { maxVps: 3, maxPlanes: 3, memoryBytes: 64 * 4096, quantum: 50, ...options } });
  m.setMeaning({ sharing: { shared: ['gpr'], except: ['ip'] }, dominates: (a, b) => a > b, planeName: (p) => `level ${p}` });
  m.addPersonality(new TinyPersonality(m, outside, salt));
  m.memory.addSlot({ id: 0, gpa: 0, size: 32 * 4096 });
  for (const planes of guest) {
    const vp = m.createVp();
    planes.forEach((_, p) => {
      if (p > 0) m.createPlane(vp, PlaneId(p));
    });
    m.setCpu(vp, new TableCpu(m, planes));
  }
  return m;
};

/** How the toy VMM lets something from outside in: the one way for recording and replay. */
export const applyInput = (m: Machine, name: string, data: PlainState, vp: Vp | null): void => {
  m.hooks.trace?.input(vp, name, data);
  const d = data as PlainRecord;
  if (name === 'reply' && vp?.context.completion) vp.context.completion.reply = { value: Number.isInteger(d['value']) ? (d['value'] as number) : 0 };
  if (name === 'irq') m.send(vp?.index ?? 0, d['plane'] as number, d['code'] as number, d['argument'] as number);
  if (name === 'release') m.release(d['key'] as string);
};

/** A source of entropy outside of the machine, here a counter; what it gives is recorded input. */
const recordedEntropy = (seed: number, machine: () => Machine): Outside => {
  let n = seed;
  return {
    entropy: () => {
      n = (n * 7 + 3) % 1009;
      machine().hooks.trace?.input(null, 'entropy', n);
      return n;
    },
  };
};

export interface Recorded {
  readonly lines: readonly string[];
  readonly machine: Machine;
}

/** Cuts of a recorded run, from a list of small numbers: how many slices each call of `run` gets. */
export const record = (guest: Guest, options: Partial<MachineOptions> = {}, cuts: readonly number[] = [], salt = 0, seed = 5): Recorded => {
  let m: Machine | null = null;
  m = build(guest, recordedEntropy(seed, () => m as Machine), options, salt);
  const lines: string[] = [];
  const recorder = recordTrace(m, { configHash: 'c0ffee', cpuModel: 'toy', guest: { guest } }, (line) => lines.push(line));
  let asked = 0;
  let idle = 0;
  for (let turn = 0; turn < 60 && idle < 4; turn++) {
    const stop = m.run(cuts.length === 0 ? 20 : cuts[turn % cuts.length]);
    if (stop.kind === 'exit' && stop.vp.context.completion) applyInput(m, 'reply', { value: 100 + asked++ }, stop.vp);
    if (stop.kind !== 'idle') continue;
    idle++;
    if (idle === 1) applyInput(m, 'release', { key: 'gate' }, null);
    else if (idle < 4) applyInput(m, 'irq', { plane: 0, code: 1 + idle, argument: idle % 2 }, m.vp(turn % m.vps.length));
  }
  recorder.finish('idle');
  return { lines, machine: m };
};

/** Replays lines or a trace on a machine built from the guest in the same way. */
export const replay = (trace: Trace | readonly string[], guest: Guest, options: Partial<MachineOptions> = {}, more: ReplayOptions = {}, salt = 0): ReplayReport => {
  let m: Machine | null = null;
  let r: Replay | null = null;
  const outside: Outside = {
    entropy: () => {
      const value = (r as Replay).pullInput('entropy');
      (m as Machine).hooks.trace?.input(null, 'entropy', value);
      return value as number;
    },
  };
  const machine = build(guest, outside, options, salt);
  m = machine;
  r = new Replay(machine, 'header' in trace ? trace : parseTrace(trace), { applyInput: (name, data, vp) => applyInput(machine, name, data, vp), ...more });
  return r.run();
};

/** A guest that uses every call on two VPs and three planes, shares registers, sends, sleeps, asks, faults and waits. */
export const richGuest: Guest = [
  [
    [
      { do: 'work', cost: 7, set: { wide: 0x1122334455667788n } },
      { do: 'exit', kind: 'msr', key: 0x10, set: { idx: 5 }, fields: { write: false, lo: 0, hi: 0 } },
      { do: 'exit', kind: 'msr', key: 0x11, fields: { write: true, lo: 9, hi: 0 } },
      { do: 'poke', gpa: 0x100, bytes: [1, 2, 3, 4, 5, 6, 7, 8] },
      { do: 'exit', kind: 'call', key: Call.Sum, set: { idx: 0x100 } },
      { do: 'poke', gpa: 0x100, bytes: [9, 9] },
      { do: 'exit', kind: 'call', key: Call.Sum, set: { idx: 0x100 } },
      { do: 'exit', kind: 'call', key: Call.Switch, set: { acc: 1 } },
      { do: 'exit', kind: 'call', key: Call.Protect, set: { acc: 3, idx: 0 } },
      { do: 'exit', kind: 'call', key: Call.Ask, set: { acc: 77 } },
      { do: 'exit', kind: 'call', key: Call.Send, set: { acc: 1, idx: 0 } },
      { do: 'exit', kind: 'call', key: Call.Refuse },
      { do: 'exit', kind: 'call', key: Call.Entropy },
      { do: 'exit', kind: 'call', key: Call.Again },
      { do: 'exit', kind: 'call', key: Call.Again },
      { do: 'exit', kind: 'call', key: Call.Vague },
      { do: 'work', cost: 3, set: { idx: 0 } },
      { do: 'self', code: 4 },
      { do: 'work', cost: 90 },
      { do: 'done' },
      { do: 'exit', kind: 'msr', key: 0x1_0000, fields: { write: false, lo: 0, hi: 0 } },
      { do: 'exit', kind: 'halt', key: 0 },
      { do: 'done' },
      { do: 'work', cost: 5 },
    ],
    [
      { do: 'exit', kind: 'call', key: Call.Switch, set: { acc: 0 } },
      { do: 'exit', kind: 'call', key: Call.Switch, set: { acc: 0 } },
    ],
  ],
  [
    [
      { do: 'work', cost: 120, set: { acc: 200 } },
      { do: 'exit', kind: 'call', key: Call.Timer },
      { do: 'exit', kind: 'call', key: Call.Sleep, set: { acc: 300 } },
      { do: 'done' },
      { do: 'exit', kind: 'call', key: Call.Gate },
      { do: 'work', cost: 2 },
      { do: 'done' },
      { do: 'exit', kind: 'call', key: Call.Entropy },
    ],
  ],
];
