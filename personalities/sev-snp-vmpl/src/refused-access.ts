import { NPF_RMP, NpfErrorHigh, PAGES_PER_2M, SevFeature, SvmExit } from '@vmplanes/abi-sev-snp';
import { AccessResult, type Answer, EXEC_RIGHTS, type ExitPayload, type MemoryFaultExit, MemoryFaultInfo, PAGE_SIZE, type PlaneContext, Right } from '@vmplanes/engine';
import { type Rmp, RmpCause, type SnpContext, type SnpPlane } from './ports.ts';

/** Bits of the error code below 32: P, W, U, fetch, shadow stack. Nested tables see every access of a guest as one of user mode. @spec APM vol. 2, 15.25.6 */
const P = 1;
const W = 2;
const U = 4;
const FETCH = 16;
const SHADOW = 64;

/**
 * What the VMM is told of an access that the reverse map table refuses, or the permissions of the VMPL: `vmplFault`. The instruction has had no effect;
 * it runs again once the VMM replied.
 * @spec APM vol. 2, 15.36.10
 */
export interface RmpFaultPayload extends ExitPayload {
  readonly kind: 'rmpFault' | 'vmplFault';
  readonly vp: number;
  readonly plane: number;
  /** First byte that was refused. */
  readonly gpa: number;
  readonly access: 'read' | 'write' | 'execute';
  /** EXITINFO1 of the nested page fault, as (lo, hi) 32-bit halves. */
  readonly errorLo: number;
  readonly errorHi: number;
}

/** An RMP instruction met something that is not a status. */
export class RmpInstructionFault implements MemoryFaultExit {
  readonly kind = 'memoryFault';
  readonly key = 0;
  readonly info = new MemoryFaultInfo();
  cause: RmpCause = RmpCause.Entry;

  /** Fills the record for the operand of an instruction. */
  at(context: PlaneContext, gpa: number, lo: number, hi: number, isPrivate: boolean, cause: RmpCause): this {
    const { info } = this;
    info.clear();
    info.gpa = gpa;
    info.gvaLo = lo;
    info.gvaHi = hi;
    info.hasGva = true;
    info.access = Right.Read;
    info.plane = context.plane;
    info.isPrivate = isPrivate;
    info.result = cause === RmpCause.NotMapped ? AccessResult.Mismatch : AccessResult.Denied;
    info.instructionLength = context.instructionLength;
    this.cause = cause;
    return this;
  }
}

/** Answers accesses that the second stage refused: a nested page fault for the host, or #VC for the guest. */
export class RefusedAccesses {
  readonly instruction = new RmpInstructionFault();
  /** A table on the way to the operand of an RMP instruction was refused. */
  readonly table: MemoryFaultExit = { kind: 'memoryFault', key: 0, info: new MemoryFaultInfo() };

  constructor(
    readonly snp: SnpContext,
    readonly rmp: Rmp,
  ) {}

  /** @returns null for what has nothing to do with the reverse map table: the VMM is told of it as of any memory fault. */
  answer(plane: SnpPlane, exit: MemoryFaultExit): Answer | null {
    const { info } = exit;
    const cause = exit instanceof RmpInstructionFault ? exit.cause : this.#causeOf(info);
    switch (cause) {
      case null:
        return null;
      case RmpCause.NotMapped:
        // Asks the host to change the side of the page.
        this.#store(plane, info, 0);
        return null;
      case RmpCause.NotValidated:
        return this.snp.refuse(plane, SvmExit.NotValidated, 0, info.gpa);
      case RmpCause.SizeMismatch:
        // The host divides its large page, and the instruction runs again. @spec Linux arch/x86/kvm/svm/sev.c sev_handle_rmp_fault
        this.rmp.smash(Math.floor(info.gpa / PAGE_SIZE / PAGES_PER_2M) * PAGES_PER_2M);
        return plane.context.vp.replies.retry();
      case RmpCause.Entry:
        if (this.#isAssignedNow(info)) return plane.context.vp.replies.retry();
        return this.#exit(plane, info, 'rmpFault', 0);
      case RmpCause.Permission:
        return this.#exit(plane, info, 'vmplFault', NpfErrorHigh.Vmpl | (this.#isShadowStack(plane, info) ? NpfErrorHigh.Sss : 0));
    }
  }

  #causeOf(info: MemoryFaultInfo): RmpCause | null {
    if (info.result === AccessResult.Mismatch) return RmpCause.NotMapped;
    if (info.result !== AccessResult.Denied) return null;
    const { assigned, validated, immutable, foreign } = this.rmp.entry(Math.floor(info.gpa / PAGE_SIZE));
    if (!info.isPrivate) return assigned ? RmpCause.Entry : null;
    if (!assigned || immutable || foreign) return RmpCause.Entry;
    return validated ? RmpCause.Permission : RmpCause.NotValidated;
  }

  /** The VMM made a page private and left the rest to the host: it gets its entry with the first access. @spec Linux arch/x86/kvm/svm/sev.c sev_gmem_prepare */
  #isAssignedNow(info: MemoryFaultInfo): boolean {
    const gpn = Math.floor(info.gpa / PAGE_SIZE);
    const { assigned, immutable, foreign } = this.rmp.entry(gpn);
    if (!info.isPrivate || assigned || immutable || foreign) return false;
    this.rmp.assign(gpn, 1, true);
    return true;
  }

  #isShadowStack(plane: SnpPlane, info: MemoryFaultInfo): boolean {
    return (info.missing & Right.ShadowStack) !== 0 && this.snp.chapters.features.has(plane, SevFeature.VmplSss);
  }

  #errorLo(info: MemoryFaultInfo, present: number): number {
    const { access } = info;
    return present | U | (access & Right.Write ? W : 0) | (access & EXEC_RIGHTS ? FETCH : 0) | (access & Right.ShadowStack ? SHADOW : 0);
  }
  #errorHi(info: MemoryFaultInfo): number {
    return (info.isWalk ? NpfErrorHigh.GuestTable : NpfErrorHigh.FinalGpa) | (info.isPrivate ? NpfErrorHigh.Enc : 0);
  }

  #store(plane: SnpPlane, info: MemoryFaultInfo, present: number, extraLo = 0, extraHi = 0): void {
    this.snp.chapters.vmsas.store(plane, SvmExit.Npf, (this.#errorLo(info, present) | extraLo) >>> 0, this.#errorHi(info) | extraHi, info.gpa >>> 0, Math.floor(info.gpa / 2 ** 32));
  }

  /** A nested page fault that the host cannot resolve by itself: told, never silently tried again. */
  #exit(plane: SnpPlane, info: MemoryFaultInfo, kind: RmpFaultPayload['kind'], extraHi: number): Answer {
    const { context } = plane;
    const { replies } = context.vp;
    this.#store(plane, info, P, NPF_RMP, extraHi);
    if (kind === 'vmplFault' && this.snp.options.refusedAccess === 'vmpl0' && context.plane > 0) return replies.switchTo(0, 'vmpl-fault', 'stopped', 'held');
    const access = info.access & Right.Write ? 'write' : info.access & EXEC_RIGHTS ? 'execute' : 'read';
    const payload: RmpFaultPayload = { kind, vp: context.vp.index, plane: context.plane, gpa: info.gpa, access, errorLo: (this.#errorLo(info, P) | NPF_RMP) >>> 0, errorHi: this.#errorHi(info) | extraHi };
    return replies.exit(payload, { owner: 'sev-snp-vmpl', kind: 'refused', data: {}, reply: null });
  }
}
