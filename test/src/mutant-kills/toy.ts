import { createScope } from '@vmplanes/di';
import {
  type Answer, type Arch, type Completion, ContextLayout, type Cpu, type CpuExit, type EventBalance, type EventSource, type Fault, installEngine, type Machine, type MachineOptions, type PendingRuleName,
  PlaneContext, PlaneId, type PlainState, type RegisterDef, type SchedulerPolicyName, Vp, VpIndex,
} from '@vmplanes/engine';

/** Events of a plane, each fact set by the test. */
export class ToyEvents implements EventSource {
  isRequested = false;
  isDeliverable = false;
  isWaking = false;
  isResetting = false;
  at = Number.POSITIVE_INFINITY;
  /** What `deliver` accepts; 0 drops. */
  accepts = 1;
  onEnter: (() => void) | null = null;
  readonly log: string[];
  readonly #name: string;
  constructor(name: string, log: string[]) {
    this.#name = name;
    this.log = log;
  }
  requested(): boolean {
    return this.isRequested;
  }
  deliverable(): boolean {
    return this.isDeliverable;
  }
  wakes(): boolean {
    return this.isWaking;
  }
  resets(): boolean {
    return this.isResetting;
  }
  enter(): void {
    this.log.push(`${this.#name} enter`);
    this.isWaking = false;
    this.onEnter?.();
  }
  deadline(): number {
    return this.at;
  }
  expire(now: number): void {
    this.log.push(`${this.#name} expire ${now}`);
    this.at = Number.POSITIVE_INFINITY;
    this.isWaking = true;
  }
  deliver(code: number, argument: number): number {
    this.log.push(`${this.#name} deliver ${code} ${argument}`);
    return this.accepts;
  }
  balance(): EventBalance {
    return { accepted: 0, delivered: 0, merged: 0, pending: 0, discarded: 0 };
  }
  save(): PlainState {
    return { isRequested: this.isRequested, isDeliverable: this.isDeliverable, isWaking: this.isWaking, at: this.at };
  }
  restore(state: PlainState): void {
    Object.assign(this, state);
  }
}

/** An architecture without instructions: the test plays the guest. */
export class ToyArch implements Arch {
  readonly name = 'toy';
  readonly exitKinds: readonly string[] = ['halt', 'budget', 'shutdown', 'memoryFault', 'call', 'io'];
  readonly freshReset = 'fresh';
  readonly log: string[] = [];
  readonly layout: ContextLayout;
  constructor(layout: ContextLayout) {
    this.layout = layout;
  }
  attach(): void {}
  createContext(context: PlaneContext): EventSource {
    return new ToyEvents(`${context.vp.index}.${context.plane}`, this.log);
  }
  destroyContext(context: PlaneContext): void {
    this.log.push(`${context.vp.index}.${context.plane} destroy`);
  }
  reset(context: PlaneContext, kind: string): void {
    this.log.push(`${context.vp.index}.${context.plane} reset ${kind}`);
    context.activity = 0;
  }
  unclaimed(context: PlaneContext, exit: CpuExit): Answer {
    return context.vp.replies.exit({ kind: `unclaimed ${exit.kind} ${exit.key}` });
  }
  injectFault(context: PlaneContext, fault: Fault): void {
    this.log.push(`${context.vp.index}.${context.plane} fault ${fault.code}`);
  }
  retire(context: PlaneContext): void {
    this.log.push(`${context.vp.index}.${context.plane} retire`);
  }
  complete(context: PlaneContext, completion: Completion): void {
    this.log.push(`${context.vp.index}.${context.plane} complete ${completion.kind}`);
  }
}

/** Plays the guests of one VP: a list of what its next runs do; afterwards it uses up every budget. */
export class ToyCpu implements Cpu {
  readonly budgets: number[] = [];
  readonly planes: number[] = [];
  readonly todo: ((vp: Vp, budget: number) => CpuExit)[] = [];
  value = 0;
  run(vp: Vp, budget: number): CpuExit {
    this.budgets.push(budget);
    this.planes.push(vp.current);
    const next = this.todo.shift();
    return next ? next(vp, budget) : spend(vp, budget);
  }
  save(): PlainState {
    return { value: this.value };
  }
  restore(state: PlainState): void {
    Object.assign(this, state);
  }
}

/** Retires `count` instructions. @returns an exit, by default that of a used budget. */
export const spend = (vp: Vp, count: number, kind = 'budget', key = 0): CpuExit => {
  vp.retired += count;
  vp.context.retired += count;
  return { kind, key };
};

export interface ToyConfig {
  readonly policy?: SchedulerPolicyName;
  readonly rule?: PendingRuleName;
  readonly options?: Partial<MachineOptions>;
  readonly registers?: readonly RegisterDef[];
  readonly size?: number;
  /** Planes of each VP; plane 0 always is there. */
  readonly planes: readonly (readonly number[])[];
}

export interface Toy {
  readonly machine: Machine;
  readonly arch: ToyArch;
  readonly log: string[];
  readonly cpus: readonly ToyCpu[];
  readonly vps: readonly Vp[];
  events(vp: number, plane: number): ToyEvents;
}

export const oneRegister: readonly RegisterDef[] = [{ name: 'a', offset: 0, size: 4 }];

export const toyOf = (config: ToyConfig, prepare?: (machine: Machine) => void): Toy => {
  const arch = new ToyArch(new ContextLayout(config.size ?? 64, config.registers ?? oneRegister));
  const machine = installEngine(createScope(), {
    arch,
    policy: config.policy ?? 'highest-runnable',
    rule: config.rule ?? 'deliverable',
    options: { maxVps: 4, maxPlanes: 4, memoryBytes: 4096, quantum: 100, ...config.options },
  });
  prepare?.(machine);
  const cpus = config.planes.map((planes) => {
    const vp = machine.createVp();
    for (const p of planes) if (p !== 0) machine.createPlane(vp, PlaneId(p));
    const cpu = new ToyCpu();
    machine.setCpu(vp, cpu);
    return cpu;
  });
  const events = (vp: number, plane: number): ToyEvents => {
    const source = machine.vp(vp).plane(plane).events;
    if (!(source instanceof ToyEvents)) throw new TypeError('not a toy');
    return source;
  };
  return { machine, arch, log: arch.log, cpus, vps: machine.vps, events };
};

/** A VP without a machine, with the planes that are named. */
export const bareVp = (...planes: readonly number[]): { readonly vp: Vp; readonly events: ToyEvents[]; readonly log: string[] } => {
  const vp = new Vp(VpIndex(0));
  const log: string[] = [];
  const events: ToyEvents[] = [];
  for (const p of planes) {
    const context = new PlaneContext(vp, PlaneId(p), 0);
    events[p] = new ToyEvents(`${p}`, log);
    context.events = events[p]!;
    vp.planes[p] = context;
    vp.existing |= context.mask;
  }
  return { vp, events, log };
};
