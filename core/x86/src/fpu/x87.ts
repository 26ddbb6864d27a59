import type { Arena } from '@vmplanes/engine';
import { X86 } from '../state/layout.ts';

/** Byte offsets inside the context block of the fields of `x87.environment`: FCW u16, FSW u16, abridged tags u8, FOP u16. @spec SDM 1 Table 10-2 */
export const X87 = {
  fcw: X86['x87.environment'],
  fsw: X86['x87.environment'] + 2,
  tags: X86['x87.environment'] + 4,
  fop: X86['x87.environment'] + 6,
} as const;

/** Control word after FNINIT, and the value that XSAVE takes for the initial configuration. @spec SDM 1 §13.6 */
export const initialFcw = 0x37f;

/** MXCSR after reset and in the initial configuration. @spec SDM 1 §10.2.3 */
export const initialMxcsr = 0x1f80;

/**
 * The control word that a processor keeps when `value` is loaded: bit 6 reads as one, the other reserved bits as zero.
 * @spec SDM 1 §8.1.5 Figure 8-6
 */
export const legalizeFcw = (value: number): number => (value & 0x1f3f) | 0x40;

/**
 * The status word that a processor keeps when `value` is loaded beside control word `fcw`: the error summary and busy bits follow
 * from the exception flags that are not masked.
 * @spec SDM 1 §8.1.3.3
 */
export const legalizeFsw = (value: number, fcw: number): number => (value & 0x7f7f) | ((value & ~fcw & 0x3f) !== 0 ? 0x8080 : 0);

/** Bits of MXCSR that may be set; a stored mask of zero stands for 0xffbf. @spec SDM 1 §11.6.6 */
export function mxcsrMask(arena: Arena, base: number): number {
  return arena.u32[(base + X86.mxcsrMask) >>> 2]! || 0xffbf;
}

/** @returns whether loading `value` into MXCSR sets no reserved bit; otherwise the load raises #GP. */
export const isLegalMxcsr = (arena: Arena, base: number, value: number): boolean => (value & ~mxcsrMask(arena, base)) === 0;

/**
 * The abridged tag byte of a full tag word: bit *n* says that physical register *n* is not empty.
 * @spec SDM 1 §10.5.1.1
 */
export function abridgeTags(full: number): number {
  let tags = 0;
  for (let i = 0; i < 8; i++) if (((full >>> (2 * i)) & 3) !== 3) tags |= 1 << i;
  return tags;
}

/** Class of an 80-bit value as a two-bit tag: 0 valid, 1 zero, 2 special (denormal, infinity, not a number, unsupported). */
function tagOf(low: number, high: number, signExponent: number): number {
  const exponent = signExponent & 0x7fff;
  if (exponent === 0) return low === 0 && high === 0 ? 1 : 2;
  return exponent === 0x7fff || high >>> 31 === 0 ? 2 : 0;
}

/**
 * The full tag word of the block's x87 state, derived from the abridged byte, TOP and the contents of the registers.
 * @spec SDM 1 Table 10-3; APM2 §11.4.4
 */
export function fullTags(arena: Arena, base: number): number {
  const tags = arena.u8[base + X87.tags]!;
  const top = (arena.u16[(base + X87.fsw) >>> 1]! >>> 11) & 7;
  let full = 0;
  for (let physical = 0; physical < 8; physical++) {
    let tag = 3;
    if (tags & (1 << physical)) {
      const word = (base + X86.st0 + 16 * ((physical - top) & 7)) >>> 2;
      tag = tagOf(arena.u32[word]!, arena.u32[word + 1]!, arena.u32[word + 2]!);
    }
    full |= tag << (2 * physical);
  }
  return full;
}

/** Puts the x87 part of the block into the state that XRSTOR gives for a component in its initial configuration. @spec SDM 1 §13.6 */
export function initX87(arena: Arena, base: number): void {
  arena.u8.fill(0, base + X86['x87.cs'], base + X86.mxcsr);
  arena.u8.fill(0, base + X86.st0, base + X86.xmm0);
  arena.u16[(base + X87.fcw) >>> 1] = initialFcw;
}

/** @returns whether the x87 part of the block is in its initial configuration. @spec SDM 1 §13.6 */
export function isX87Initial(arena: Arena, base: number): boolean {
  return (
    arena.u32[(base + X87.fcw) >>> 2] === initialFcw &&
    isZero(arena.u8, base + X86['x87.cs'], base + X87.fcw) &&
    isZero(arena.u8, base + X87.tags, base + X86.mxcsr) &&
    isZero(arena.u8, base + X86.st0, base + X86.xmm0)
  );
}

/** @returns whether all bytes from `start` to before `end` are zero. */
export function isZero(bytes: Uint8Array, start: number, end: number): boolean {
  for (let i = start; i < end; i++) if (bytes[i] !== 0) return false;
  return true;
}
