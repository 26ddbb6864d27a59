import type { Arena } from '@vmplanes/engine';
import { type RegisterName, type SegmentName, X86, X86Size } from './layout.ts';

/**
 * Reads a cell of a context block as one little-endian integer; for API edges, not for the step loop.
 *
 * @param base - byte offset of the context block in the arena
 */
export function readRegister(arena: Arena, base: number, name: RegisterName): bigint {
  const first = (base + X86[name]) >>> 2;
  let value = 0n;
  for (let word = X86Size[name] / 4 - 1; word >= 0; word--) value = (value << 32n) | BigInt(arena.u32[first + word]!);
  return value;
}

/**
 * Writes a cell of a context block; bits beyond its size are dropped. No check of meaning: see the legalize functions.
 *
 * @param base - byte offset of the context block in the arena
 * @param value - two's complement of a negative value is taken
 */
export function writeRegister(arena: Arena, base: number, name: RegisterName, value: bigint): void {
  const first = (base + X86[name]) >>> 2;
  const words = X86Size[name] / 4;
  for (let word = 0, rest = value; word < words; word++, rest >>= 32n) arena.u32[first + word] = Number(rest & 0xffff_ffffn);
}

/** Lower 32 bits at a byte offset taken from {@link X86}, unsigned. */
export const readLow = (arena: Arena, base: number, offset: number): number => arena.u32[(base + offset) >>> 2]!;

/** Upper 32 bits of the 64-bit cell at a byte offset taken from {@link X86}, unsigned. */
export const readHigh = (arena: Arena, base: number, offset: number): number => arena.u32[((base + offset) >>> 2) + 1]!;

/** Writes both halves of a 64-bit cell; each half may be given signed or unsigned. */
export function writePair(arena: Arena, base: number, offset: number, low: number, high: number): void {
  const word = (base + offset) >>> 2;
  arena.u32[word] = low;
  arena.u32[word + 1] = high;
}

/** The visible and hidden parts of a segment register. Limit in bytes, attributes in the 12-bit VMCB form. @spec APM2 §15.5.1 */
export interface Segment {
  readonly selector: number;
  readonly attributes: number;
  readonly limit: number;
  readonly base: bigint;
}



/** Reads a segment register with its hidden part. */
export function readSegment(arena: Arena, base: number, name: SegmentName): Segment {
  return {
    selector: readLow(arena, base, X86[`${name}.selector`]),
    attributes: readLow(arena, base, X86[`${name}.attributes`]),
    limit: readLow(arena, base, X86[`${name}.limit`]),
    base: readRegister(arena, base, `${name}.base`),
  };
}

/** Writes a segment register with its hidden part; selectors keep 16 bits, attributes 12. */
export function writeSegment(arena: Arena, base: number, name: SegmentName, segment: Segment): void {
  const word = base >>> 2;
  arena.u32[word + X86[`${name}.selector`] / 4] = segment.selector & 0xffff;
  arena.u32[word + X86[`${name}.attributes`] / 4] = segment.attributes & 0xfff;
  arena.u32[word + X86[`${name}.limit`] / 4] = segment.limit;
  writeRegister(arena, base, `${name}.base`, segment.base);
}
