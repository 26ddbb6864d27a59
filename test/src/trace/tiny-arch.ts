import { type Answer, type Arch, type Completion, ContextLayout, type Cpu, type CpuExit, type EventBalance, type EventSource, type Fault, type Machine, type PlainState, type PlaneContext, type Vp } from '@vmplanes/engine';

/** Registers of the toy architecture; `scratch` is not architectural and must stay out of traces. */
export const layout = new ContextLayout(128, [
  { name: 'ip', offset: 0, size: 8, groups: ['gpr'] },
  { name: 'acc', offset: 8, size: 8, groups: ['gpr'] },
  { name: 'idx', offset: 16, size: 8, groups: ['gpr'] },
  { name: 'wide', offset: 32, size: 32 },
  { name: 'taken', offset: 64, size: 4, groups: ['events'] },
  { name: 'fault', offset: 68, size: 4, groups: ['events'] },
  { name: 'scratch', offset: 72, size: 8, architectural: false },
]);

export const setRegister = (machine: Machine, context: PlaneContext, name: string, value: bigint | number): void => {
  machine.arena.u64[(context.base + layout.register(name).offset) / 8] = BigInt(value);
};
export const getRegister = (machine: Machine, context: PlaneContext, name: string): number => Number(machine.arena.u64[(context.base + layout.register(name).offset) / 8]);

/** Up to 32 events as a mask, one timer. An entry takes the lowest into `taken` when that is free. */
class TinyEvents implements EventSource {
  #pending = 0;
  #deadline = Number.POSITIVE_INFINITY;
  #balance = { accepted: 0, delivered: 0, merged: 0, pending: 0, discarded: 0 };
  constructor(
    readonly machine: Machine,
    readonly context: PlaneContext,
  ) {}

  #taken(): number {
    return (this.context.base + layout.register('taken').offset) / 4;
  }
  requested(): boolean {
    return this.#pending !== 0;
  }
  deliverable(): boolean {
    return this.#pending !== 0;
  }
  wakes(): boolean {
    return this.#pending !== 0 && this.machine.arena.u32[this.#taken()] === 0;
  }
  enter(): void {
    if (this.#pending === 0 || this.machine.arena.u32[this.#taken()] !== 0) return;
    const bit = this.#pending & -this.#pending;
    this.machine.arena.u32[this.#taken()] = 32 - Math.clz32(bit);
    this.#pending &= ~bit;
    this.#balance.delivered++;
    this.machine.eventsChanged(this.context);
  }
  deadline(): number {
    return this.#deadline;
  }
  expire(): void {
    this.#deadline = Number.POSITIVE_INFINITY;
    this.deliver(7, 0);
  }
  arm(at: number): void {
    this.#deadline = at;
    this.machine.timersChanged(this.context);
  }
  /** Stores without telling the machine: what a guest does to its own controller inside a run. */
  store(code: number): void {
    this.#balance.accepted++;
    if ((this.#pending & (1 << code)) !== 0) this.#balance.merged++;
    this.#pending |= 1 << code;
  }
  deliver(code: number, argument: number): number {
    this.store(code);
    this.machine.accepted(this.context, argument === 0);
    return 1;
  }
  balance(): EventBalance {
    let pending = 0;
    for (let i = 0; i < 32; i++) pending += (this.#pending >>> i) & 1;
    return { ...this.#balance, pending };
  }
  save(): PlainState {
    return { pending: this.#pending, deadline: this.#deadline, balance: { ...this.#balance } };
  }
  restore(state: PlainState): void {
    const s = state as { pending: number; deadline: number; balance: EventBalance };
    this.#pending = s.pending;
    this.#deadline = s.deadline;
    this.#balance = { ...s.balance };
  }
}

export const eventsOf = (context: PlaneContext): TinyEvents => context.events as TinyEvents;

/** An architecture without any meaning, for tests of what is generic. */
export class TinyArch implements Arch {
  readonly freshReset = 'powerOn';
  readonly name = 'tiny';
  readonly layout = layout;
  readonly exitKinds = ['call', 'msr', 'halt', 'budget', 'shutdown', 'memoryFault'];
  #machine: Machine | null = null;

  attach(machine: Machine): void {
    this.#machine = machine;
  }
  get #m(): Machine {
    return this.#machine as Machine;
  }
  createContext(context: PlaneContext): EventSource {
    return new TinyEvents(this.#m, context);
  }
  reset(): void {
    // No reset names.
  }
  unclaimed(context: PlaneContext): Answer {
    return context.vp.replies.fault(6);
  }
  injectFault(context: PlaneContext, fault: Fault): void {
    this.#m.arena.u32[(context.base + layout.register('fault').offset) / 4] = fault.code + 1;
    this.retire(context);
  }
  retire(context: PlaneContext): void {
    setRegister(this.#m, context, 'ip', getRegister(this.#m, context, 'ip') + context.instructionLength);
  }
  complete(context: PlaneContext, completion: Completion): void {
    setRegister(this.#m, context, 'acc', (completion.reply as { value: number }).value);
    this.retire(context);
  }
}

/** One step of a guest of the toy architecture. */
export type Step =
  | { readonly do: 'work'; readonly cost: number; readonly set?: Readonly<Record<string, bigint | number>> }
  | { readonly do: 'exit'; readonly kind: string; readonly key: number; readonly set?: Readonly<Record<string, bigint | number>>; readonly fields?: object }
  /** The guest writes its memory: what a replay cannot see but through the reads of calls. */
  | { readonly do: 'poke'; readonly gpa: number; readonly bytes: readonly number[] }
  /** The guest stores an event for itself without an exit. */
  | { readonly do: 'self'; readonly code: number }
  /** The guest is done with the event it took. */
  | { readonly do: 'done' };

/** Runs step tables, one per plane; each ends in a halt and stays there. */
export class TableCpu implements Cpu {
  #pc: number[] = [];
  #left = 0;
  constructor(
    readonly machine: Machine,
    readonly programs: readonly (readonly Step[])[],
  ) {}

  run(vp: Vp, budget: number): CpuExit {
    const { context } = vp;
    const { plane } = context;
    const program = this.programs[plane] ?? [];
    let left = budget;
    const spend = (n: number): void => {
      vp.retired += n;
      context.retired += n;
      left -= n;
    };
    context.instructionLength = 0;
    for (;;) {
      const step = program[this.#pc[plane] ?? 0];
      if (step === undefined) {
        spend(1);
        return { kind: 'halt', key: 0 } as CpuExit;
      }
      switch (step.do) {
        case 'work': {
          const cost = this.#left > 0 ? this.#left : step.cost;
          const now = Math.min(cost, left);
          spend(now);
          this.#left = cost - now;
          if (this.#left > 0) return { kind: 'budget', key: 0 };
          break;
        }
        case 'poke':
          this.machine.memory.access.write(this.machine.memory.subjects[plane]!.host, step.gpa, Uint8Array.from(step.bytes), 0, step.bytes.length);
          spend(1);
          break;
        case 'self':
          eventsOf(context).store(step.code);
          this.machine.accepted(context, true);
          spend(1);
          break;
        case 'done':
          this.machine.arena.u32[(context.base + layout.register('taken').offset) / 4] = 0;
          spend(1);
          break;
        case 'exit':
          spend(1);
          break;
      }
      this.#pc[plane] = (this.#pc[plane] ?? 0) + 1;
      if ('set' in step) for (const [name, value] of Object.entries(step.set ?? {})) setRegister(this.machine, context, name, value);
      setRegister(this.machine, context, 'scratch', vp.retired);
      if (step.do === 'exit') {
        context.instructionLength = 3;
        return { ...step.fields, kind: step.kind, key: step.key };
      }
      if (left <= 0) return { kind: 'budget', key: 0 };
    }
  }
  save(): PlainState {
    return { pc: [...this.#pc], left: this.#left };
  }
  restore(state: PlainState): void {
    const s = state as { pc: number[]; left: number };
    this.#pc = [...s.pc];
    this.#left = s.left;
  }
}

