import { HostError } from '@vmplanes/engine';
import { Access, Privilege } from './access.ts';

/** What the CPU model says about physical addresses and page sizes; made once per CPU model. */
export class AddressModel {
  /** Bits 51:M of an entry, as bits of its high half. */
  readonly reservedHi: number;
  /** Bits 62:M, which PAE paging reserves. */
  readonly reservedHiPae: number;
  /** Bits 63:M, which a PDPTE of PAE paging reserves. */
  readonly reservedHiPdpte: number;
  /** Reserved low bits of a 4-MByte page entry: 21:(min(M,40)-19), or 21:13 without PSE-36. */
  readonly reserved4M: number;
  /** The bit taken out of every entry before use, as a bit of the high half; 0 without one. */
  readonly maskHi: number;

  /**
   * @param maxPhyAddr - MAXPHYADDR, 32 to 52 bits.
   * @param gbPages - 1-GByte pages exist.
   * @param pse36 - 4-MByte pages carry physical address bits 39:32.
   * @param physicalMaskBit - position 32..51 of an attribute bit inside the physical address (an encryption bit): removed from CR3 and
   *   all entries before reserved bits are checked and the address is used; the walk reports the leaf's.
   * @throws {HostError} BadConfig when a number is out of range.
   * @spec SDM 3A §4.1.4, §4.3 Table 4-4
   */
  constructor(
    readonly maxPhyAddr: number,
    readonly gbPages = true,
    readonly pse36 = true,
    readonly physicalMaskBit: number | undefined = undefined,
  ) {
    if (!Number.isInteger(maxPhyAddr) || maxPhyAddr < 32 || maxPhyAddr > 52) throw new HostError('BadConfig', `MAXPHYADDR ${maxPhyAddr}: not in 32..52`);
    if (physicalMaskBit !== undefined && !(Number.isInteger(physicalMaskBit) && physicalMaskBit >= 32 && physicalMaskBit <= 51))
      throw new HostError('BadConfig', `physical mask bit ${physicalMaskBit}: not in 32..51`);
    const from = (bit: number): number => -(1 << (bit & 31));
    this.reservedHi = from(maxPhyAddr) & 0xfffff;
    this.reservedHiPae = from(maxPhyAddr) & 0x7fffffff;
    this.reservedHiPdpte = from(maxPhyAddr);
    this.reserved4M = (1 << 22) - (1 << (pse36 ? Math.min(maxPhyAddr, 40) - 19 : 13));
    this.maskHi = physicalMaskBit === undefined ? 0 : 1 << (physicalMaskBit & 31);
  }
}

/**
 * Everything a translation depends on: registers of the context and the access. One per (VP, plane), filled in place, never allocated in a walk.
 * Numbers are 32-bit halves; sign does not matter.
 */
export class WalkInput {
  cr0 = 0;
  cr3Lo = 0;
  cr3Hi = 0;
  cr4 = 0;
  /** Low half of IA32_EFER. */
  efer = 0;
  pkru = 0;
  /** Low half of IA32_PKRS. */
  pkrs = 0;
  /** RFLAGS.AC. */
  ac = false;
  /** The four PDPTE registers of PAE paging as (lo, hi) pairs, filled by {@link loadPdptes}. */
  readonly pdpte = new Uint32Array(8);

  /** The linear address. Modes other than 4- and 5-level use the low half only. */
  laLo = 0;
  laHi = 0;
  access: Access = Access.Read;
  privilege: Privilege = Privilege.Supervisor;
  /** Set accessed and dirty flags in the tables; false for lookups on behalf of the host. */
  setFlags = true;
  /**
   * Which of two execute rights the second stage is asked for: that of the page (a user-mode address) or, when true, that of the mode
   * (a fetch in user mode). By mode, the supervisor's right counts for all fetches while the processor has SMEP and CR4.SMEP is off.
   * @spec SDM 3C §29.3.3.2; TLFS, Virtual Secure Mode: Mode Based Execution Control
   */
  fetchByMode = false;
  /** The processor has SMEP; only {@link fetchByMode} asks. */
  hasSmep = false;

  constructor(readonly model: AddressModel) {}
}
