import { ALL_VMPL_PERMISSIONS, PAGES_PER_2M, RmpPageSize, RmpStatus, SEV_INSTRUCTIONS, SnpLevel, VMPL_COUNT } from '@vmplanes/abi-sev-snp';
import { type CpuExit, PAGE_SIZE, type PlaneContext, Side } from '@vmplanes/engine';
import { Access, Privilege, WalkKind, X86 } from '@vmplanes/x86';
import { type Rmp, RmpCause, type SnpContext } from './ports.ts';
import type { RefusedAccesses } from './refused-access.ts';

const INVALID_OPCODE = 6;
const GENERAL_PROTECTION = 13;
const PAGE_FAULT = 14;

const LMA = 1 << 10;
const CS_LONG = 1 << 9;
const LARGE_SHIFT = 21;

/** Flags that a status in EAX writes, as adding zero to it would; PVALIDATE writes CF, too. @spec APM vol. 3, PVALIDATE */
const Flag = { Cf: 1, Pf: 4, Af: 0x10, Zf: 0x40, Sf: 0x80, Of: 0x800 } as const;
const STATUS_FLAGS = Flag.Of | Flag.Zf | Flag.Af | Flag.Pf | Flag.Sf;

const isEvenParity = (byte: number): boolean => {
  let b = byte & 0xff;
  b ^= b >> 4;
  b ^= b >> 2;
  b ^= b >> 1;
  return (b & 1) === 0;
};

/**
 * PVALIDATE, RMPADJUST and RMPQUERY of a guest, and those that are the host's. Faults come in this order: the instruction does not exist here, wrong mode,
 * wrong privilege level, wrong VMPL; then operands that need no look-up, the linear address as a read of one byte meets it, and last what the table says.
 * @spec APM vol. 3, PVALIDATE, RMPADJUST, RMPQUERY
 */
class RmpInstructions {
  // What the last translation found; valid until the next one.
  exit: CpuExit | null = null;
  gpa = 0;
  lo = 0;
  hi = 0;
  isPrivate = false;
  /** The guest maps less than 2 MiB there. */
  isSmall = false;

  constructor(
    readonly snp: SnpContext,
    readonly rmp: Rmp,
    readonly refused: RefusedAccesses,
  ) {}

  #word(context: PlaneContext, offset: number): number {
    return this.snp.machine.arena.u32[(context.base + offset) >>> 2]!;
  }
  #setRegister(context: PlaneContext, offset: number, value: number): void {
    const { u32 } = this.snp.machine.arena;
    u32[(context.base + offset) >>> 2] = value;
    u32[(context.base + offset + 4) >>> 2] = 0;
  }
  #fault(context: PlaneContext, code: number, errorCode: number | null, addressLo = 0, addressHi = 0): null {
    this.snp.arch.injectFault(context, { code, errorCode, addressLo, addressHi });
    return null;
  }

  #is64(context: PlaneContext): boolean {
    return (this.#word(context, X86.efer) & LMA) !== 0 && (this.#word(context, X86['cs.attributes']) & CS_LONG) !== 0;
  }

  /** @returns whether the instruction may go on; otherwise a fault is due. */
  #admit(context: PlaneContext, needs64: boolean): boolean {
    if (this.snp.level !== SnpLevel.SevSnp || (needs64 && !this.#is64(context))) this.#fault(context, INVALID_OPCODE, null);
    else if (this.#word(context, X86.cpl) !== 0) this.#fault(context, GENERAL_PROTECTION, 0);
    else return true;
    return false;
  }

  /** Status in EAX and the flags it writes. */
  #done(context: PlaneContext, status: number, carry: boolean | null): null {
    this.#setRegister(context, X86.rax, status);
    const { u32 } = this.snp.machine.arena;
    const rflags = (context.base + X86.rflags) >>> 2;
    const cleared = u32[rflags]! & ~(STATUS_FLAGS | (carry === null ? 0 : Flag.Cf));
    u32[rflags] = cleared | (status === 0 ? Flag.Zf : 0) | (isEvenParity(status) ? Flag.Pf : 0) | (carry === true ? Flag.Cf : 0);
    return null;
  }

  /**
   * Translates the operand as a read of one byte would, without asking what the second stage grants there.
   * @returns whether it has a page; otherwise {@link RmpInstructions.exit} is what happened instead.
   */
  #translate(context: PlaneContext): boolean {
    this.exit = null;
    this.lo = this.#word(context, X86.rax);
    this.hi = this.#is64(context) ? this.#word(context, X86.rax + 4) : 0;
    const out = this.snp.arch.walk(context, this.lo, this.hi, Access.Read, Privilege.Supervisor);
    if (out.kind === WalkKind.Fault) this.#fault(context, PAGE_FAULT, out.errorCode, out.cr2Lo, out.cr2Hi);
    else if (out.kind === WalkKind.NotCanonical) this.#fault(context, GENERAL_PROTECTION, 0);
    else if (out.kind === WalkKind.Stage2 && out.isWalk) this.exit = this.#tableRefused(context);
    else {
      this.gpa = out.gpa;
      this.isPrivate = this.snp.arch.walkedAs(context).side === Side.Private;
      // Without paging there is no guest mapping that could be too small.
      this.isSmall = out.level !== 0 && out.pageShift < LARGE_SHIFT;
      return true;
    }
    return false;
  }

  #tableRefused(context: PlaneContext): CpuExit {
    const { table } = this.refused;
    this.snp.arch.describeWalkRefusal(context, table.info);
    table.info.gvaLo = this.lo;
    table.info.gvaHi = this.hi;
    table.info.hasGva = true;
    table.info.instructionLength = context.instructionLength;
    return table;
  }

  /** What the table refuses rather than answers with a status. */
  #refuse(context: PlaneContext, cause: number): CpuExit {
    return this.refused.instruction.at(context, this.gpa, this.lo, this.hi, this.isPrivate, cause as RmpCause);
  }

  /** Size and alignment: anything but 4 KiB or 2 MiB, or a 2 MiB operand off its border. */
  #isBadSize(context: PlaneContext, sizeHi: number): boolean {
    const size = this.#word(context, X86.rcx);
    return size > RmpPageSize.Page2M || sizeHi !== 0 || (size === RmpPageSize.Page2M && this.#word(context, X86.rax) % (PAGES_PER_2M * PAGE_SIZE) !== 0);
  }

  pvalidate(context: PlaneContext): CpuExit | null {
    if (!this.#admit(context, false)) return null;
    if (context.plane !== 0) return this.#fault(context, GENERAL_PROTECTION, 0);
    if (this.#isBadSize(context, 0)) return this.#done(context, RmpStatus.FailInput, false);
    const large = this.#word(context, X86.rcx) === RmpPageSize.Page2M;
    if (!this.#translate(context)) return this.exit;
    if (large && this.isSmall) return this.#done(context, RmpStatus.FailSizeMismatch, false);
    const validate = (this.#word(context, X86.rdx) & 1) !== 0;
    const result = this.isPrivate ? this.rmp.validate(this.#gpn, large, validate) : this.#sharedCause();
    return result < 0 ? this.#refuse(context, result) : this.#done(context, result & 0xff, (result & 0x100) !== 0);
  }

  rmpadjust(context: PlaneContext): CpuExit | null {
    if (!this.#admit(context, true)) return null;
    const operand = this.#word(context, X86.rdx);
    const target = operand & 0xff;
    if (target <= context.plane || target >= VMPL_COUNT) return this.#done(context, RmpStatus.FailPermission, null);
    const mask = (operand >>> 8) & 0xff;
    const isReserved = this.#hasReserved(context) || (mask & ~ALL_VMPL_PERMISSIONS) !== 0;
    if (isReserved || this.#isBadSize(context, this.#word(context, X86.rcx + 4))) return this.#done(context, RmpStatus.FailInput, null);
    const large = this.#word(context, X86.rcx) === RmpPageSize.Page2M;
    if (!this.#translate(context)) return this.exit;
    if (large && this.isSmall) return this.#done(context, RmpStatus.FailSizeMismatch, null);
    const result = this.isPrivate ? this.rmp.adjust(context.plane, this.#gpn, large, target, mask, (operand & 0x1_0000) !== 0) : this.#sharedCause();
    return result < 0 ? this.#refuse(context, result) : this.#done(context, result, null);
  }

  rmpquery(context: PlaneContext): CpuExit | null {
    if (!this.#admit(context, true)) return null;
    const target = this.#word(context, X86.rdx) & 0xff;
    if (target < context.plane || target >= VMPL_COUNT) return this.#done(context, RmpStatus.FailPermission, null);
    if (this.#hasReserved(context)) return this.#done(context, RmpStatus.FailInput, null);
    if (!this.#translate(context)) return this.exit;
    const result = this.isPrivate ? this.rmp.query(context.plane, this.#gpn, target) : this.#sharedCause();
    if (result < 0) return this.#refuse(context, result);
    this.#setRegister(context, X86.rdx, target | (result & 0x1_ff00));
    this.#setRegister(context, X86.rcx, (result & 0x2_0000) !== 0 ? RmpPageSize.Page2M : RmpPageSize.Page4K);
    return this.#done(context, result & 0xff, null);
  }

  get #gpn(): number {
    return Math.floor(this.gpa / PAGE_SIZE);
  }
  /** RDX beyond target, mask and VMSA bit. */
  #hasReserved(context: PlaneContext): boolean {
    return this.#word(context, X86.rdx) >>> 17 !== 0 || this.#word(context, X86.rdx + 4) !== 0;
  }

  /** An operand mapped with C=0: the host maps the other side there, or the entry is not assigned. */
  #sharedCause(): RmpCause {
    return this.snp.machine.memory.isPrivate(this.#gpn) ? RmpCause.NotMapped : RmpCause.Entry;
  }

  /** PSMASH, RMPUPDATE and RMPREAD do not exist in a guest. @spec APM vol. 3, PSMASH */
  hostOnly(context: PlaneContext): null {
    return this.#fault(context, INVALID_OPCODE, null);
  }
}

/** Rows of the table bound to what they do. */
export const contributeRmpInstructions = (snp: SnpContext, rmp: Rmp, refused: RefusedAccesses): void => {
  const handlers = new RmpInstructions(snp, rmp, refused);
  for (const { mnemonic, encoding, spec, by } of SEV_INSTRUCTIONS) {
    const handler = by === 'host' ? 'hostOnly' : (mnemonic as 'pvalidate' | 'rmpadjust' | 'rmpquery');
    snp.arch.contribute({ mnemonic, encoding, spec, run: (context) => handlers[handler](context) });
  }
};
