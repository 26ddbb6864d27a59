import type { Arena, PlaneContext } from '@vmplanes/engine';
import { X86 } from '@vmplanes/x86';

const EFER_LMA = 1 << 10;
const CS_LONG = 1 << 9;

/** Whether a VTL runs 64-bit code: decides which registers calls and switches use. @spec TLFS Hypercall Interface, hypercall register conventions */
export const runs64Bit = (arena: Arena, context: PlaneContext): boolean => {
  const word = context.base >>> 2;
  return (arena.u32[word + X86.efer / 4]! & EFER_LMA) !== 0 && (arena.u32[word + X86['cs.attributes'] / 4]! & CS_LONG) !== 0;
};
