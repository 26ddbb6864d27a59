import { Cr0, Cr4, Efer } from './bits.ts';

/** The paging modes. @spec SDM 3A §4.1.1 */
export const PagingMode = { Off: 0, Legacy32: 1, Pae: 2, Level4: 3, Level5: 4 } as const;
export type PagingMode = (typeof PagingMode)[keyof typeof PagingMode];

/**
 * The paging mode that the control registers select.
 * @param efer - low half of IA32_EFER.
 * @spec SDM 3A §4.1.1
 */
export function pagingMode(cr0: number, cr4: number, efer: number): PagingMode {
  if (!(cr0 & Cr0.PG)) return PagingMode.Off;
  if (!(cr4 & Cr4.PAE)) return PagingMode.Legacy32;
  if (!(efer & Efer.LME)) return PagingMode.Pae;
  return cr4 & Cr4.LA57 ? PagingMode.Level5 : PagingMode.Level4;
}

/**
 * Whether a 64-bit linear address is canonical: all bits above the translated ones equal the highest translated one.
 * Only bits 63:32 decide.
 * @param hi - high half of the linear address.
 * @param la57 - 57 instead of 48 translated bits.
 * @spec SDM 1 §3.3.7.1
 */
export function isCanonical(hi: number, la57: boolean): boolean {
  const shift = la57 ? 7 : 16;
  return (hi << shift) >> shift === (hi | 0);
}
