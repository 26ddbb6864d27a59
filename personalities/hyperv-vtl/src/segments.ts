import type { HvX64SegmentRegister, HvX64TableRegister } from '@vmplanes/abi-hyperv';
import type { Infer } from '@vmplanes/binary';
import type { Arena } from '@vmplanes/engine';
import { readSegment, type SegmentName, writeRegister, writeSegment } from '@vmplanes/x86';

// Segment attributes have 16 bits in the interface, with a hole at 11:8, and 12 in a context block.

/** Bits that no attribute has. @spec TLFS HV_X64_SEGMENT_REGISTER */
export const SEGMENT_HOLE = 0x0f00;

/** Attributes as a context block has them. */
export const toBlockAttributes = (attributes: number): number => (attributes & 0xff) | ((attributes >>> 4) & 0xf00);
/** Attributes as the interface has them. */
export const toHvAttributes = (attributes: number): number => (attributes & 0xff) | ((attributes & 0xf00) << 4);

type HvSegment = Infer<typeof HvX64SegmentRegister>;
type HvTable = Infer<typeof HvX64TableRegister>;
export type TableName = 'gdtr' | 'idtr';

export const loadSegment = (arena: Arena, base: number, name: SegmentName, { base: address, limit, selector, attributes }: HvSegment): void =>
  writeSegment(arena, base, name, { base: address, limit, selector, attributes: toBlockAttributes(attributes) });

export const readHvSegment = (arena: Arena, base: number, name: SegmentName): HvSegment => {
  const { base: address, limit, selector, attributes } = readSegment(arena, base, name);
  return { base: address, limit, selector, attributes: toHvAttributes(attributes) };
};

export const loadTable = (arena: Arena, base: number, name: TableName, table: Pick<HvTable, 'base' | 'limit'>): void => {
  writeRegister(arena, base, `${name}.base`, table.base);
  writeRegister(arena, base, `${name}.limit`, BigInt(table.limit));
};
