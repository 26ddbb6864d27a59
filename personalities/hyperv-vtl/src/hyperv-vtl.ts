import {
  type Answer,
  type Claim,
  type Completion,
  type ContextPort,
  type CpuExit,
  type ExitPayload,
  HostError,
  type MemoryFaultExit,
  type Machine,
  type Personality,
  plainPlanes,
  type PlaneContext,
  type PlaneMask,
  type PlainRecord,
  type PlainState,
  type TimerPort,
  type Vp,
} from '@vmplanes/engine';
import { CallKind, type CpuidExit, type X86Arch, type X86Exit } from '@vmplanes/x86';
import { composeChapters } from './compose.ts';
import { type ArchitecturalIntercepts, interceptedMsrs } from './cr-intercepts.ts';
import { brokenVsmRules } from './invariants.ts';
import type { HvOptions } from './options.ts';
import { resetPartition } from './reset.ts';
import { type Chapter, type HvChapters, type HvContext, SwitchReason } from './ports.ts';

/** First and last synthetic MSR. */
const SYNTHETIC_MSRS = { from: 0x4000_0000, to: 0x4000_01ff } as const;
/** CPUID leaves of the processor, whose results higher VTLs may change, and those of the interface; leaves of other interfaces lie between. */
const SYNTHETIC_LEAVES = { from: 0x4000_0000, to: 0x4000_00ff } as const;
const LEAVES = [{ from: 0, to: 0x3fff_ffff }, SYNTHETIC_LEAVES, { from: 0x8000_0000, to: 0xffff_ffff }] as const;

const NO_LEAF = { eax: 0, ebx: 0, ecx: 0, edx: 0 } as const;

/**
 * The Hyper-V hypervisor interface of one machine, with its virtual trust levels: VTL n is plane n. Exits are routed to
 * the chapters of the specification; each chapter owns its state.
 * @spec TLFS (Hypervisor Top Level Functional Specification)
 */
export class HypervVtl implements Personality, ContextPort, TimerPort, HvContext {
  readonly name = 'hyperv-vtl';
  readonly stateName = 'hyperv-vtl';
  readonly stateVersion = 2;
  readonly claims: readonly Claim[];
  readonly chapters: HvChapters;
  readonly #intercepts: ArchitecturalIntercepts;
  readonly #stateful: readonly Chapter[];
  /** Found at an entry, for the invariants. */
  #overtaken: string | null = null;

  constructor(
    readonly machine: Machine,
    readonly arch: X86Arch,
    readonly options: HvOptions,
  ) {
    if (machine.options.maxPlanes <= options.maximumVtl) {
      throw new HostError('BadConfig', `hyperv-vtl: maximumVtl ${options.maximumVtl} needs ${options.maximumVtl + 1} planes, the machine has ${machine.options.maxPlanes}`);
    }
    if (options.maximumVtl > 0 && machine.meaning !== plainPlanes && !machine.meaning.dominates(1, 0)) {
      throw new HostError('BadConfig', `hyperv-vtl: planes of this machine are ${machine.meaning.planeName(0)} and so on, not VTLs (set its option maximumVtl to 0)`);
    }
    const { chapters, intercepts, stateful } = composeChapters(this);
    this.chapters = chapters;
    this.#intercepts = intercepts;
    this.#stateful = stateful;
    this.claims = [
      { exit: 'call', from: CallKind.Vmcall, to: CallKind.Vmmcall },
      ...LEAVES.map((range) => ({ exit: 'cpuid', ...range })),
      { exit: 'msr', ...SYNTHETIC_MSRS },
      ...interceptedMsrs.map((index) => ({ exit: 'msr', from: index, to: index })),
      { exit: 'register', from: 0, to: 0xff },
      { exit: 'exception', from: 0, to: 31 },
      { exit: 'io', from: 0, to: 0xffff },
      { exit: 'memoryFault', from: 0, to: 0 },
      { exit: 'shutdown', from: 0, to: 0 },
    ];
    machine.contextPorts.push(this);
    machine.timerPorts.push(this);
  }

  // -- exits ---------------------------------------------------------------------------------------------------------

  handle(context: PlaneContext, exit: CpuExit): Answer | null {
    const e = exit as X86Exit;
    const { chapters } = this;
    switch (e.kind) {
      case 'call':
        return chapters.hypercalls.call(context);
      case 'cpuid':
        return this.#intercepts.leaf(context, e) ?? this.#unimplementedLeaf(context, e) ?? chapters.cpuid.answer(context, e);
      case 'msr':
        if (e.key >= SYNTHETIC_MSRS.from && e.key <= SYNTHETIC_MSRS.to) return chapters.msrs.access(context, e);
        return this.#intercepts.msr(context, e);
      case 'exception':
        return this.#intercepts.exception(context, e.key);
      case 'register':
        return this.#intercepts.register(context, e);
      case 'io':
        return this.#intercepts.io(context, e);
      case 'memoryFault':
        return this.#intercepts.memory(context, e);
      case 'shutdown':
        return this.#intercepts.shutdown(context);
      default:
        throw new HostError('Internal', `hyperv-vtl: '${e.kind}' was not claimed`);
    }
  }

  /** A leaf of the interface beyond the highest one may be what a higher VTL waits for. */
  #unimplementedLeaf(context: PlaneContext, exit: CpuidExit): Answer | null {
    const { cpuid } = this.chapters;
    const isBeyond = exit.key >= SYNTHETIC_LEAVES.from && exit.key <= SYNTHETIC_LEAVES.to && exit.key > cpuid.leaf(SYNTHETIC_LEAVES.from)[0]!;
    return isBeyond ? this.#intercepts.cpuid(context, exit, NO_LEAF) : null;
  }

  resetPartition(context: PlaneContext): Answer {
    return resetPartition(this, this.#stateful, context);
  }

  complete(context: PlaneContext, completion: Completion): void {
    this.chapters.hypercalls.complete(context, completion);
  }

  memoryRefused(context: PlaneContext, exit: MemoryFaultExit): Answer {
    const told = this.#intercepts.memory(context, exit);
    if (told !== null) return told;
    // The call is not made: it is issued again once the VMM has dealt with the access.
    context.instructionLength = 0;
    return context.vp.replies.exit({ kind: 'memoryFault', info: exit.info } as ExitPayload);
  }

  /** Under a policy that leaves the choice outside: the highest VTL with something deliverable preempts. */
  planeEvent(vp: Vp, _pending: PlaneMask, target: PlaneMask): Answer | null {
    const highest = 31 - Math.clz32(target);
    return highest > vp.current ? vp.replies.switchTo(highest, SwitchReason.Interrupt, 'runnable') : null;
  }

  // -- around the runs of a VTL --------------------------------------------------------------------------------------

  contextCreated(context: PlaneContext): void {
    for (const chapter of this.#stateful) chapter.vtlEnabled?.(context);
    this.#ask(context.vp);
  }
  turn(context: PlaneContext): void {
    this.chapters.vsm.locks.turn(context);
    this.chapters.events.evaluate(context);
    this.chapters.vina.evaluate(context);
    // After that: a notification is an interrupt that ends idling, too.
    this.chapters.clocks.turn(context);
  }
  entering(context: PlaneContext): null {
    this.chapters.assist.entering(context);
    this.chapters.events.entering(context);
    // No instruction of a VTL runs while a higher one has something to take.
    if (this.machine.checks !== null && (context.vp.pending & ~((2 << context.plane) - 1)) !== 0) this.#overtaken = `VP ${context.vp.index}: VTL${context.plane} runs before pending VTLs 0b${context.vp.pending.toString(2)}`;
    return null;
  }
  left(context: PlaneContext): void {
    this.chapters.assist.left(context);
  }
  switched(from: PlaneContext, to: PlaneContext, reason: string): void {
    this.chapters.switching.switched(from, to, reason);
    this.#ask(to.vp);
  }
  deadline(context: PlaneContext): number {
    return this.chapters.timers.deadline(context);
  }
  expire(context: PlaneContext, now: number): void {
    this.chapters.timers.expire(context, now);
  }

  /** Names the VTLs above the current one for policies that end a run on their events. */
  #ask(vp: Vp): void {
    vp.asked = vp.existing & ~((2 << vp.current) - 1) & ((2 << this.options.maximumVtl) - 1);
  }

  checkInvariants(): readonly string[] {
    const overtaken = this.#overtaken;
    this.#overtaken = null;
    return overtaken === null ? brokenVsmRules(this) : [overtaken, ...brokenVsmRules(this)];
  }

  // -- state -----------------------------------------------------------------------------------------------------------

  save(): PlainState {
    return Object.fromEntries(this.#stateful.map((c) => [c.stateName, c.save()]));
  }
  restore(state: PlainState): void {
    const parts = state as PlainRecord;
    for (const chapter of this.#stateful) {
      const part = parts[chapter.stateName];
      if (part === undefined) throw new HostError('BadSnapshot', `hyperv-vtl: no state of ${chapter.stateName}`);
      chapter.restore(part);
    }
  }
}
