import { Entry } from './bits.ts';
import type { WalkInput } from './input.ts';
import { type PageTableMemory, TableStatus } from './memory.ts';

/** What loading the PDPTE registers came to. `Invalid` is #GP(0) of the instruction that loads. */
export const PdpteLoad = { Loaded: 0, Invalid: 1, Refused: 2 } as const;
export type PdpteLoad = (typeof PdpteLoad)[keyof typeof PdpteLoad];

/** Bits 2:1 and 8:5 of a present entry. */
const RESERVED_LO = 0x1e6;

/**
 * Loads the four PDPTE registers of PAE paging from the table at CR3, as MOV to CR0, CR3 or CR4 does. Leaves them alone unless all four are good.
 * @param scratch - where the entries are collected, 8 words.
 * @spec SDM 3A §4.4.1
 */
export function loadPdptes(memory: PageTableMemory, input: WalkInput, scratch: Uint32Array): PdpteLoad {
  const { maskHi, reservedHiPdpte } = input.model;
  const table = (input.cr3Lo & ~0x1f) >>> 0;
  for (let i = 0; i < 4; i++) {
    if (memory.read(table + i * 8, 8) !== TableStatus.Ok) return PdpteLoad.Refused;
    const lo = memory.lo;
    const hi = memory.hi;
    if (lo & Entry.P && (lo & RESERVED_LO || hi & ~maskHi & reservedHiPdpte)) return PdpteLoad.Invalid;
    scratch[i * 2] = lo;
    scratch[i * 2 + 1] = hi;
  }
  input.pdpte.set(scratch);
  return PdpteLoad.Loaded;
}
