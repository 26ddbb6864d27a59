import { reservedAbove } from './control.ts';
import { gp0, type Legalized } from './fault.ts';
import type { CpuFeatures } from './features.ts';

/** Memory types by encoding. @spec SDM 3A Table 12-2 */
export const MemoryType = { uncacheable: 0, writeCombining: 1, writeThrough: 4, writeProtected: 5, writeBack: 6, uncached: 7 } as const;
export type MemoryType = (typeof MemoryType)[keyof typeof MemoryType];

/** Bit *n* is set when encoding *n* is legal in an MTRR; the PAT allows 7 (UC-) as well. */
const MTRR_TYPES = 0b0111_0011;
const PAT_TYPES = 0b1111_0011;

const legal = (type: number, types: number): boolean => type < 8 && ((types >>> type) & 1) === 1;
const everyByte = (value: bigint, types: number): boolean => {
  for (let i = 0n; i < 64n; i += 8n) if (!legal(Number((value >> i) & 0xffn), types)) return false;
  return true;
};

/** A write to IA32_PAT: each of the eight bytes is a memory type. @spec SDM 3A §12.12.2; APM2 §7.8.1 */
export const legalizePat = (written: bigint): Legalized => (everyByte(written, PAT_TYPES) ? { value: written } : gp0);

/** A write to IA32_MTRR_DEF_TYPE: type, FE (bit 10) and E (bit 11). @spec SDM 3A §12.11.2.1 */
export const legalizeMtrrDefType = (written: bigint): Legalized => (written & ~0xcffn || !legal(Number(written & 0xffn), MTRR_TYPES) ? gp0 : { value: written });

/** A write to a fixed-range MTRR. @spec SDM 3A §12.11.2.2 */
export const legalizeMtrrFixed = (written: bigint): Legalized => (everyByte(written, MTRR_TYPES) ? { value: written } : gp0);

/** A write to IA32_MTRR_PHYSBASEn. @spec SDM 3A §12.11.2.3 */
export const legalizeMtrrPhysBase = (written: bigint, features: CpuFeatures): Legalized =>
  written & (reservedAbove(features.physicalBits) | 0xf00n) || !legal(Number(written & 0xffn), MTRR_TYPES) ? gp0 : { value: written };

/** A write to IA32_MTRR_PHYSMASKn. @spec SDM 3A §12.11.2.3 */
export const legalizeMtrrPhysMask = (written: bigint, features: CpuFeatures): Legalized => (written & (reservedAbove(features.physicalBits) | 0x7ffn) ? gp0 : { value: written });
