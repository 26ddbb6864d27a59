/** Register bits that decide how addresses are translated. @spec SDM 3A §2.5, §2.2.1 */
export const Cr0 = { WP: 1 << 16, PG: 1 << 31 } as const;
export const Cr4 = { PSE: 1 << 4, PAE: 1 << 5, PGE: 1 << 7, LA57: 1 << 12, SMEP: 1 << 20, SMAP: 1 << 21, PKE: 1 << 22, CET: 1 << 23, PKS: 1 << 24 } as const;
export const Efer = { LME: 1 << 8, NXE: 1 << 11 } as const;

/** Bits of the low half of a paging-structure entry. @spec SDM 3A §4.3 to §4.5 */
export const Entry = { P: 1, RW: 1 << 1, US: 1 << 2, A: 1 << 5, D: 1 << 6, PS: 1 << 7, PAT: 1 << 7, G: 1 << 8, LargePAT: 1 << 12 } as const;

/** 2^32: what the high half of a physical address counts. */
export const HIGH = 2 ** 32;
/** Bits 51:32 of a physical address, as bits of the high half. */
export const ADDRESS_HI = 0xfffff;
