import { type Scope, type Token, token } from '@vmplanes/di';
import type { LaunchSink } from './launch-sink.ts';
import type { Answer, Completion, ExitPayload, Fault } from './answers.ts';
import type { ContextLayout, SharingDeclaration } from './context-layout.ts';
import type { CpuExit } from './exits.ts';
import type { PlaneMask } from './ids.ts';
import type { Machine } from './machine.ts';
import type { PlainRecord, PlainState, Stateful } from './state.ts';
import type { PlaneContext, Vp } from './vp.ts';

/** Drives one virtual processor: runs its current plane until something happens and tells what happened. */
export interface Cpu {
  /**
   * Runs the current plane of `vp` for at most `budget` instructions and adds what it retired to `vp.retired`
   * and to the context's count.
   * @param budget - instructions, at least 1.
   * @returns the reason it stopped; borrowed until the next call.
   */
  run(vp: Vp, budget: number): CpuExit;
  save(): PlainState;
  restore(state: PlainState): void;
}

/** What happened to the events one plane accepted; the sum rule of the interrupt invariant is stated over it. */
export interface EventBalance {
  readonly accepted: number;
  readonly delivered: number;
  /** Accepted into a bit that was set already. */
  readonly merged: number;
  readonly pending: number;
  /** Dropped by a named reset. */
  readonly discarded: number;
}

/** The events of one plane context: its interrupt controller, its timers and its start signals. */
export interface EventSource {
  /** An interrupt request is stored, whether or not it may be taken (the rule `irr`). */
  requested(): boolean;
  /**
   * An event could be delivered if this plane ran now: a request above the plane's own processor priority, ignoring
   * the interrupt flag, or an unmaskable or start event, or an expired timer (the rule `deliverable`).
   */
  deliverable(): boolean;
  /** An event would end this plane's halt or its wait for a start signal. */
  wakes(): boolean;
  /** A stored event would reset this plane: it ends even a wait for a condition. Without it nothing does. */
  resets?(): boolean;
  /**
   * Takes what the plane may take now into its context. Called right before each guest entry.
   * @returns true when what was taken makes this another start: the entry begins anew, and context ports are asked again.
   */
  enter(): boolean | void;
  /** Machine time of the earliest timer, in ticks; Infinity without one. */
  deadline(): number;
  /** Turns every timer due at `now` into a stored event. */
  expire(now: number): void;
  /** Accepts an event coded by the architecture. @returns how many acceptances it made, 0 when it was dropped. */
  deliver(code: number, argument: number): number;
  balance(): EventBalance;
  save(): PlainState;
  restore(state: PlainState): void;
}

/** What an architecture gives the engine. The engine holds no register, vector or exit name of its own. */
export interface Arch {
  readonly name: string;
  readonly layout: ContextLayout;
  /** All exit kinds its processors return: claims are checked against it. */
  readonly exitKinds: readonly string[];
  /** Called once, before any VP exists. */
  attach(machine: Machine): void;
  /** Puts the block of a new context into its created state and returns its event source. May set schedule and activity. */
  createContext(context: PlaneContext): EventSource;
  /** Forgets a context that its VP no longer has; its block may be used again. */
  destroyContext?(context: PlaneContext): void;
  /** Name of the reset that gives the created state; the others keep a part of it. */
  readonly freshReset: string;
  /** Resets a context; `kind` is one of the architecture's reset names. */
  reset(context: PlaneContext, kind: string): void;
  /** Answers an exit before whoever claims it is asked, or leaves it to them with null. Absent while the VMM has nothing to say about exits: then it costs nothing. */
  readonly screen?: ((context: PlaneContext, exit: CpuExit) => Answer | null) | null;
  /** Answers an exit that nobody claims. */
  unclaimed(context: PlaneContext, exit: CpuExit): Answer;
  /** Writes a fault into the context so that the guest takes it next. */
  injectFault(context: PlaneContext, fault: Fault): void;
  /** The instruction that exited is done: moves the instruction pointer behind it, drops one-instruction shadows. */
  retire(context: PlaneContext): void;
  /** Finishes an exit after the VMM replied. */
  complete(context: PlaneContext, completion: Completion): void;
}
export const Arch: Token<Arch> = token<Arch>('Arch');

/** Chooses the plane to run. Sees schedules and masks, never activities. */
export interface SchedulerPolicy {
  readonly name: string;
  /** The plane to run next, or -1 when none may. May change schedules to make one runnable. */
  select(vp: Vp): number;
  /** Looks at the pending mask before a guest entry. @returns true when {@link select} must run again. */
  preempts(vp: Vp): boolean;
  /** Applies a switch that a handler asked for to the schedules, so that {@link select} names `to`. */
  switchTo(vp: Vp, to: PlaneContext, leave: 'runnable' | 'stopped'): void;
}
export const SchedulerPolicy: Token<SchedulerPolicy> = token<SchedulerPolicy>('SchedulerPolicy');

/** Defines `vp.pending`. Notified by the engine; steps that must not be torn are preemption points. */
export interface PendingRule {
  readonly name: string;
  /** An event was stored for `context`; `maskable` distinguishes interrupt requests from every other event. */
  accepted(context: PlaneContext, maskable: boolean): void;
  /** Priority, mask, activity or stored events of `context` changed by any other way. */
  changed(context: PlaneContext): void;
  /** `context` is selected by a run. */
  enter(context: PlaneContext): void;
  /** `context` is left by a run. */
  leave(context: PlaneContext): void;
  /** Planes for which the run of `context` must end now; 0 for none. */
  due(context: PlaneContext): PlaneMask;
}
export const PendingRule: Token<PendingRule> = token<PendingRule>('PendingRule');

/** A range of exits that a personality answers. `from` and `to` are keys, both included. */
export interface Claim {
  readonly exit: string;
  readonly from: number;
  readonly to: number;
}

/** The behaviour of one guest interface, installed in one machine. */
export interface Personality extends Stateful {
  readonly name: string;
  readonly claims: readonly Claim[];
  /**
   * Answers an exit it claimed. The record and the returned answer are borrowed.
   * @returns null to leave this one to whoever would answer without the claim.
   */
  handle(context: PlaneContext, exit: CpuExit): Answer | null;
  /** Answers events of other planes under a policy that leaves the choice outside; null leaves it to the VMM. */
  planeEvent?(vp: Vp, pending: PlaneMask, target: PlaneMask): Answer | null;
  /**
   * Finishes an exit after the VMM replied, or work that the personality left for the next run of a plane. The instruction is the personality's to retire.
   * @returns what else to do, such as another exit or a switch, or nothing.
   */
  complete?(context: PlaneContext, completion: Completion): Answer | null | void;
  /** A plane context was created on a VP. */
  contextCreated?(context: PlaneContext): void;
  /** A plane context was reset, by its owner or by a signal of the guest; `kind` is one of the architecture's reset names. */
  contextReset?(context: PlaneContext, kind: string): void;
  /** Whether a context may be put into a created state by its owner; `kind` is one of the architecture's reset names. @returns null, or why it may not. */
  refusesReset?(context: PlaneContext, kind: string): string | null;
  /** Extra checks run with the engine's invariants; returns a sentence for each one that does not hold. */
  checkInvariants?(): readonly string[];
  /** Where a boot image is placed, when this personality decides what its pages become. */
  readonly launch?: LaunchSink;
}

/** What planes mean for a guest; at most one personality of a machine gives it. */
export interface PlaneMeaning {
  readonly sharing: SharingDeclaration;
  /** True when plane `a` may read, write or restrict plane `b`. */
  dominates(a: number, b: number): boolean;
  planeName(plane: number): string;
}

/** The meaning of planes where no personality gives one: nothing shared, nobody above anybody. */
export const plainPlanes: PlaneMeaning = {
  sharing: { shared: [] },
  dominates: () => false,
  planeName: (plane) => `plane ${plane}`,
};

/** Version of the plug-in interface below; a plug-in names the one it was made for. */
export const PERSONALITY_API = 1;

/** What a personality package exports: everything the VMM must know before it installs one. */
export interface PersonalityPlugin {
  /** Name used in configurations and listings. */
  readonly name: string;
  readonly version: string;
  /** {@link PERSONALITY_API} of the engine it was made for. */
  readonly api: number;
  /** One sentence for listings. */
  readonly summary: string;
  /** JSON Schema of its options; an object schema with a default for every property. */
  readonly options: PlainRecord;
  /** Names of personalities whose claims it may take over. */
  readonly extends?: readonly string[];
  /** Names of personalities whose claims it takes over where they are configured, too, before it. What it leaves is theirs; what planes mean is its to say. */
  readonly over?: readonly string[];
  /** Given by the one personality of a machine that says what planes mean. */
  readonly meaning?: (options: PlainRecord) => PlaneMeaning;
  /** Scheduler policy and pending rule used unless the configuration names others. */
  readonly policy?: string;
  readonly rule?: string;
  /** Names of services of the host that a machine with these options may ask, by exits of kind `service`. */
  readonly services?: (options: PlainRecord) => readonly string[];
  /**
   * Options that the host makes up where the configuration leaves them open, such as secrets. They count as if the configuration had given them: traces and the hash of the
   * configuration have them, so that a replay gets the same.
   * @param options - checked, with defaults.
   * @param random - gives so many bytes that nobody can foresee.
   * @returns plain data that fits the schema; empty when nothing is open.
   */
  readonly hostInputs?: (options: PlainRecord, random: (bytes: number) => Uint8Array) => PlainRecord;
  /** What of its interface is served, for the support matrix: rows in the order of the specification. */
  readonly support: readonly SupportRow[];
  /**
   * Creates the personality of one machine. All services are resolved here, none later.
   * @param scope - the machine's container; it provides `Machine.token`.
   */
  install(scope: Scope, options: PlainRecord): Personality;
}

/** One row of a support matrix. */
export interface SupportRow {
  readonly kind: string;
  readonly name: string;
  /** Number as the specification writes it, such as `0x4b564d00`. */
  readonly code: string;
  readonly spec: string;
  readonly support: 'yes' | 'no';
  /** Why not, or what is left out. */
  readonly note?: string;
}

/** Called around the runs of contexts. Guarded by a length test: no port, no cost. */
export interface ContextPort {
  /** On every turn of the run loop, after timers and before anything blocks: whatever must be looked at while the plane waits, too. */
  turn?(context: PlaneContext): void;
  /** The VP went from one plane to another: shared registers have moved, `to` is the current plane. */
  switched?(from: PlaneContext, to: PlaneContext, reason: string): void;
  /** @param cause - kind of the exit that ended the run of this context, or the reason of the switch. */
  left?(context: PlaneContext, cause: string): void;
  /** @returns null to let it enter, or the name of the refusal. */
  entering?(context: PlaneContext): string | null;
  /** A run of the VP ends, whatever ended it: this plane is current and will not go on before the next run. */
  paused?(context: PlaneContext): void;
}

/** Timers of a plane beside those of its event source: due times count for the VP's next deadline. */
export interface TimerPort {
  /** Machine time of the earliest timer of this plane, in ticks; Infinity without one. */
  deadline(context: PlaneContext): number;
  /** Acts on every timer due at `now`, whether or not the plane runs. */
  expire(context: PlaneContext, now: number): void;
}

/** Sees every arrow of the flow of one event. All arguments are borrowed. */
export interface TracePort {
  entered(context: PlaneContext): void;
  exit(context: PlaneContext, exit: CpuExit): void;
  answer(context: PlaneContext, answer: Answer): void;
  switched(vp: Vp, from: number, to: number, reason: string): void;
  accepted(context: PlaneContext, maskable: boolean): void;
  vmExit(vp: Vp, payload: ExitPayload): void;
  /** Something from outside the machine: VMM calls, replies, device and user input. */
  input(vp: Vp | null, name: string, data: PlainState): void;
  /** A permission of a plane changed. */
  permission(plane: number, gpn: number, count: number, rights: number): void;
  /** Call, status or message as a personality names it. */
  note(context: PlaneContext, name: string, data: PlainState): void;
}

/** In tests another VP runs, or a write happens, at the named points; in products the port is null. */
export interface PreemptionPort {
  at(point: string, vp: Vp | null): void;
}
