import { Vmsa, VmsaExitSentinel } from '@vmplanes/abi-sev-snp';
import type { Arena } from '@vmplanes/engine';
import { cr4Allowed, eferAllowed, isFpuAreaLegal, type X86Arch } from '@vmplanes/x86';

/** Why a VMPL may not be entered: the names that a VMM is told. @spec APM vol. 2, 15.5.1, 15.36.8 */
export const EntryRefusal = {
  NoVmsa: 'vmsa: none',
  NotAssigned: 'vmsa: page not assigned to the guest',
  NotValidated: 'vmsa: page not validated',
  LargePage: 'vmsa: page in a 2 MiB entry',
  NoVmsaBit: 'vmsa: page without the VMSA bit',
  NoMemory: 'vmsa: no memory behind the page',
  InUse: 'vmsa: another processor runs from it',
  VmplRange: 'VMPL above 3',
  VmplMismatch: 'VMPL differs from the plane',
  SvmeClear: 'EFER.SVME clear',
  Cr0: 'CR0',
  Cr3: 'CR3',
  Cr4: 'CR4',
  Efer: 'EFER',
  Paging: 'paging in long mode without PAE or PE',
  CodeSegment: 'CS.L with CS.D in long mode',
  Debug: 'DR6 or DR7',
  Xcr0: 'XCR0',
  Mxcsr: 'MXCSR',
  IdleRequired: 'VINTR_CTRL.BUSY under alternate injection',
} as const;
export type EntryRefusal = (typeof EntryRefusal)[keyof typeof EntryRefusal];

/** The exit code that hardware gives the host for a refusal: -1 but for the two below. @spec APM vol. 2, Appendix C */
export const sentinelOf = (refusal: string): VmsaExitSentinel =>
  refusal === EntryRefusal.InUse ? VmsaExitSentinel.Busy : refusal === EntryRefusal.IdleRequired ? VmsaExitSentinel.IdleRequired : VmsaExitSentinel.Invalid;

const word = (field: keyof typeof Vmsa.at): number => (Vmsa.at[field] & ~3) / 4;
const LEVELS = word('vmpl');
const EFER = word('efer');
const CR0 = word('cr0');
const CR3 = word('cr3');
const CR4 = word('cr4');
const DR6 = word('dr6');
const DR7 = word('dr7');
const CS = word('cs');
const XCR0 = word('xcr0');

const PG = 0x8000_0000;
const PE = 1;
const NW = 0x2000_0000;
const CD = 0x4000_0000;
const PAE = 0x20;
const LME = 0x100;
const SVME = 0x1000;
/** L and D of CS, with its attributes in the upper half of the word. */
const CS_L = 1 << 25;
const CS_D = 1 << 26;

/** The rules of an entry that the save area alone decides, for one processor model. */
export class ControlRules {
  readonly #cr4: number;
  readonly #efer: number;
  readonly #cr3High: number;
  readonly #xcr0: number;

  /** @param cBit - bit of CR3 that is no part of the address. */
  constructor(arch: X86Arch, cBit: number) {
    const { features } = arch.registers;
    this.#cr4 = Number(cr4Allowed(features));
    this.#efer = Number(eferAllowed(features)) | SVME;
    this.#xcr0 = features.xcr0;
    const address = features.physicalBits >= 64 ? 0xffff_ffff : 2 ** Math.max(0, features.physicalBits - 32) - 1;
    this.#cr3High = ~(address | (1 << (cBit - 32)));
  }

  /** VMPL and parking. @returns null when the area keeps these rules. */
  level(pages: Arena, page: number, vmpl: number): EntryRefusal | null {
    const { u32 } = pages;
    const p = page >>> 2;
    const stated = (u32[p + LEVELS]! >>> 16) & 0xff;
    if (stated > 3) return EntryRefusal.VmplRange;
    if (stated !== vmpl) return EntryRefusal.VmplMismatch;
    return (u32[p + EFER]! & SVME) === 0 ? EntryRefusal.SvmeClear : null;
  }

  /** Consistency of control registers. @returns null when the area keeps these rules. @spec APM vol. 2, 15.5.1 */
  control(arena: Arena, base: number, pages: Arena, page: number): EntryRefusal | null {
    const { u32 } = pages;
    const p = page >>> 2;
    const cr0 = u32[p + CR0]!;
    const cr4 = u32[p + CR4]!;
    const efer = u32[p + EFER]!;
    if (u32[p + CR0 + 1] !== 0 || (cr0 & (CD | NW)) === NW) return EntryRefusal.Cr0;
    if (u32[p + CR4 + 1] !== 0 || (cr4 & ~this.#cr4) !== 0) return EntryRefusal.Cr4;
    if (u32[p + EFER + 1] !== 0 || (efer & ~this.#efer) !== 0) return EntryRefusal.Efer;
    const isLong = (efer & LME) !== 0 && (cr0 & PG) !== 0;
    if (isLong && (u32[p + CR3 + 1]! & this.#cr3High) !== 0) return EntryRefusal.Cr3;
    if (isLong && ((cr4 & PAE) === 0 || (cr0 & PE) === 0)) return EntryRefusal.Paging;
    if (isLong && (u32[p + CS]! & (CS_L | CS_D)) === (CS_L | CS_D)) return EntryRefusal.CodeSegment;
    if (u32[p + DR6 + 1] !== 0 || u32[p + DR7 + 1] !== 0) return EntryRefusal.Debug;
    const xcr0 = u32[p + XCR0]!;
    if (u32[p + XCR0 + 1] !== 0 || (xcr0 & 1) === 0 || (xcr0 & ~this.#xcr0) !== 0 || (xcr0 & 6) === 4) return EntryRefusal.Xcr0;
    return isFpuAreaLegal(arena, base, page, pages) ? null : EntryRefusal.Mxcsr;
  }
}
