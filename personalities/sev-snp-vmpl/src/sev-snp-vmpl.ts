import { SevMsr, SnpLevel, SvmExit, VMPL_COUNT } from '@vmplanes/abi-sev-snp';
import { type Answer, type Claim, type Completion, type ContextPort, type CpuExit, HostError, type Machine, type MemoryFaultExit, type Personality, type PlainRecord, type PlainState, type PlaneContext, type PlaneMask, type SharedCalls, type Vp } from '@vmplanes/engine';
import { CallKind, type MsrExit, type X86Arch, type X86Exit } from '@vmplanes/x86';
import { makers } from './chapters.ts';
import { type ChapterMakers, composeChapters } from './compose.ts';
import { contributeIntercepted, INTERCEPTED } from './intercepted-instructions.ts';
import { Interception } from './interception.ts';
import { LaunchDirectives } from './launch/directives.ts';
import type { SnpOptions } from './options.ts';
import { startAsAfterReset } from './reset-start.ts';
import type { Chapter, SnpChapters, SnpContext, SnpPlane } from './ports.ts';
import { SecurityProcessor } from './psp/security-processor.ts';

const every = (exit: string, to = 0xffff_ffff): Claim => ({ exit, from: 0, to });
const LAST_GPA = 2 ** 52 - 1;
/** Reason that the engine gives a switch because something pends for the other plane. */
const EVENT = 'event';

/** What leaves a guest whose registers its host may see: nothing but what SEV itself adds. */
const openClaims: readonly Claim[] = [
  { exit: 'call', from: CallKind.Vmgexit, to: CallKind.Vmgexit },
  { exit: 'msr', from: SevMsr.Ghcb, to: SevMsr.SevStatus },
];
/** Everything that a guest with encrypted state may exit by. */
const encryptedClaims: readonly Claim[] = [
  { exit: 'call', from: CallKind.Vmmcall, to: CallKind.Vmgexit },
  { exit: 'call', from: INTERCEPTED, to: INTERCEPTED + 0xfff },
  every('msr'),
  every('cpuid'),
  every('io', 0xffff),
  every('mmio', LAST_GPA),
  every('register', 0xff),
  ...['halt', 'shutdown', 'busLock', 'debug', 'memoryFault'].map((exit) => every(exit, 0)),
];

/**
 * SEV, SEV-ES or SEV-SNP of one machine: VMPL n is plane n. Exits are routed to the chapters of the specifications; each chapter owns its state.
 * @spec APM vol. 2, 15.34 to 15.36; GHCB 2.03; SVSM 1.00
 */
export class SevSnpVmpl implements Personality, ContextPort, SnpContext {
  readonly name = 'sev-snp-vmpl';
  readonly stateName = 'sev-snp-vmpl';
  readonly stateVersion = 1;
  readonly level: SnpLevel;
  readonly claims: readonly Claim[];
  readonly chapters: SnpChapters;
  readonly interception: Interception;
  /** Absent where no firmware of ours launches guests: below SEV-SNP, and in tests of single chapters. */
  readonly launch?: LaunchDirectives;
  readonly #stateful: readonly Chapter[];
  // Chapters by what they want to be told: called on every turn, so no test of each one there.
  readonly #turning: readonly Required<Pick<Chapter, 'turn'>>[];
  readonly #admitting: readonly Required<Pick<Chapter, 'entering'>>[];
  readonly #leaving: readonly Required<Pick<Chapter, 'left'>>[];
  readonly #switching: readonly Required<Pick<Chapter, 'switched'>>[];
  readonly #pausing: readonly Required<Pick<Chapter, 'paused'>>[];

  /** @throws {HostError} BadConfig when the machine does not fit, or a chapter has no maker. */
  constructor(
    readonly machine: Machine,
    readonly arch: X86Arch,
    readonly options: SnpOptions,
    chapterMakers: Partial<ChapterMakers> = makers,
    readonly sharedCalls: SharedCalls | null = null,
  ) {
    this.level = options.level;
    checkPlanes(machine.options.maxPlanes, options);
    const { chapters, stateful } = composeChapters(this, chapterMakers);
    this.chapters = chapters;
    this.#stateful = stateful;
    this.interception = new Interception(this);
    contributeIntercepted(this);
    if (this.level === SnpLevel.SevSnp && chapters.requests instanceof SecurityProcessor) this.launch = new LaunchDirectives(this, chapters.requests);
    this.claims = this.level === SnpLevel.Sev ? openClaims : encryptedClaims;
    this.#turning = stateful.filter((c) => c.turn !== undefined) as Required<Chapter>[];
    this.#admitting = stateful.filter((c) => c.entering !== undefined) as Required<Chapter>[];
    this.#leaving = stateful.filter((c) => c.left !== undefined) as Required<Chapter>[];
    this.#switching = stateful.filter((c) => c.switched !== undefined) as Required<Chapter>[];
    this.#pausing = stateful.filter((c) => c.paused !== undefined) as Required<Chapter>[];
    machine.contextPorts.push(this);
  }

  refuse(plane: SnpPlane, code: number, info1 = 0, info2 = 0): Answer {
    return this.interception.refuse(plane, code, info1, info2);
  }

  // -- exits ---------------------------------------------------------------------------------------------------------

  handle(context: PlaneContext, exit: CpuExit): Answer | null {
    const { chapters } = this;
    const plane = chapters.switching.planeOf(context);
    if (exit.kind === 'call' && exit.key === CallKind.Vmgexit) {
      if (this.level === SnpLevel.Sev) return this.#vmmcall(context, exit);
      this.interception.retire(plane);
      chapters.vmsas.store(plane, SvmExit.Vmgexit, 0, 0, 0, 0);
      return chapters.ghcb.exit(plane);
    }
    if (exit.kind === 'memoryFault') return this.level === SnpLevel.SevSnp ? chapters.rmp.refused(plane, exit as MemoryFaultExit) : null;
    if (this.level === SnpLevel.Sev) return chapters.features.msr(plane, exit as X86Exit as MsrExit);
    return this.interception.handle(plane, exit);
  }

  /** Without encrypted state the prefix of VMGEXIT means nothing: it is VMMCALL. @spec APM vol. 3, VMGEXIT */
  #vmmcall(context: PlaneContext, exit: CpuExit): Answer | null {
    const owner = this.machine.claims.find(exit.kind, CallKind.Vmmcall);
    return owner === null ? null : owner.handle(context, { ...exit, key: CallKind.Vmmcall });
  }

  complete(context: PlaneContext, completion: Completion): Answer | null {
    const { ghcb, svsm, switching } = this.chapters;
    switch (completion.kind.split('.')[0]) {
      // A refused access or instruction had no effect: it runs again.
      case 'refused':
        return null;
      case 'ghcb':
        return ghcb.complete(switching.planeOf(context), completion);
      case 'svsm':
        if (svsm !== null) return svsm.complete(context, completion);
    }
    throw new HostError('Internal', `sev-snp-vmpl: nobody finishes '${completion.kind}'`);
  }

  // -- around the runs of a VMPL -------------------------------------------------------------------------------------

  contextCreated(context: PlaneContext): void {
    for (const chapter of this.#stateful) chapter.planeCreated?.(context);
    startAsAfterReset(this, context);
    this.#ask(context.vp);
  }
  contextReset(context: PlaneContext, kind: string): void {
    for (const chapter of this.#stateful) chapter.planeReset?.(context, kind);
  }
  /** The registers lie in a save area that no host can fill: only INIT, which leaves them there, is left. @spec APM vol. 2, 15.35 */
  refusesReset(_context: PlaneContext, kind: string): string | null {
    return this.level === SnpLevel.Sev || kind === 'init' ? null : 'the state of an encrypted guest cannot be made anew';
  }
  turn(context: PlaneContext): void {
    for (let i = 0; i < this.#turning.length; i++) this.#turning[i]!.turn(context);
  }
  entering(context: PlaneContext): string | null {
    for (let i = 0; i < this.#admitting.length; i++) {
      const refusal = this.#admitting[i]!.entering(context);
      if (refusal !== null) return refusal;
    }
    return null;
  }
  left(context: PlaneContext, cause: string): void {
    for (let i = 0; i < this.#leaving.length; i++) this.#leaving[i]!.left(context, cause);
  }
  switched(from: PlaneContext, to: PlaneContext, reason: string): void {
    for (let i = 0; i < this.#switching.length; i++) this.#switching[i]!.switched(from, to, reason);
    this.#ask(to.vp);
  }
  paused(context: PlaneContext): void {
    for (let i = 0; i < this.#pausing.length; i++) this.#pausing[i]!.paused(context);
  }

  /** Under a policy that leaves the choice outside: what pends for VMPL0 makes it run, as under the one that this personality asks for. */
  planeEvent(vp: Vp, _pending: PlaneMask, target: PlaneMask): Answer | null {
    return (target & 1) !== 0 && vp.current !== 0 ? vp.replies.switchTo(0, EVENT, 'stopped', 'held') : null;
  }
  #ask(vp: Vp): void {
    vp.asked = vp.current === 0 ? 0 : vp.existing & 1;
  }

  checkInvariants(): readonly string[] {
    return this.#stateful.flatMap((c) => c.broken?.() ?? []);
  }

  // -- state -----------------------------------------------------------------------------------------------------------

  save(): PlainState {
    return Object.fromEntries(this.#stateful.map((c) => [c.stateName, c.save()]));
  }
  restore(state: PlainState): void {
    const parts = state as PlainRecord;
    for (const chapter of this.#stateful) {
      const part = parts[chapter.stateName];
      if (part === undefined) throw new HostError('BadSnapshot', `sev-snp-vmpl: no state of ${chapter.stateName}`);
      chapter.restore(part);
    }
  }
}

const checkPlanes = (planes: number, { level, svsm }: SnpOptions): void => {
  const most = level === SnpLevel.SevSnp ? VMPL_COUNT : 1;
  if (planes > most) throw new HostError('BadConfig', `sev-snp-vmpl: ${level} has ${most} VMPLs, the machine has ${planes} planes`);
  if (svsm !== 'none' && planes < 2) throw new HostError('BadConfig', `sev-snp-vmpl: svsm '${svsm}' needs a VMPL below its own, the machine has one plane`);
};
