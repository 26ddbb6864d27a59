import type { ArrayLayout } from './array.ts';
import { type Bits, bitRows } from './bits.ts';
import { type AnyLayout, ensure, isReserved } from './layout.ts';
import type { Struct } from './struct.ts';
import type { Tagged, Union } from './union.ts';

/** Every declared layout, told apart by `kind`. */
export type DeclaredLayout = Struct | Bits | ArrayLayout | Union | Tagged;

/** Narrows a layout to its declaration; `undefined` for scalars. */
export const declarationOf = (layout: AnyLayout): DeclaredLayout | undefined => (layout.kind === 'scalar' ? undefined : (layout as DeclaredLayout));

/**
 * The bits of a layout that its specification reserves, as a mask over its bytes, little endian.
 * Variants of unions count as not reserved: which of them holds is not known here.
 */
export function reservedBytes(layout: AnyLayout): Uint8Array {
  const mask = new Uint8Array(layout.size);
  const declared = declarationOf(layout);
  switch (declared?.kind) {
    case 'struct':
      for (const [key, [offset, field]] of Object.entries(declared.fields)) {
        if (isReserved(key)) mask.fill(0xff, offset, offset + field.size);
        else mask.set(reservedBytes(field), offset);
      }
      break;
    case 'bits':
      for (let i = 0; i < layout.size; i++) mask[i] = Number((BigInt(declared.reservedMask) >> BigInt(8 * i)) & 0xffn);
      break;
    case 'array':
      for (let i = 0; i < declared.length; i++) mask.set(reservedBytes(declared.of), i * declared.of.size);
      break;
    case 'tagged':
      mask.set(reservedBytes(declared.header));
      break;
    default:
      break;
  }
  return mask;
}

/**
 * Offset of the first byte with a reserved bit set, or -1.
 * @param mask - of {@link reservedBytes}, computed once at load.
 * @throws {RangeError} when the view is shorter than the mask.
 */
export function findReserved(mask: Uint8Array, view: DataView, at: number): number {
  ensure(view, at, mask.length, 'reserved bytes');
  for (let i = 0; i < mask.length; i++) if ((view.getUint8(at + i) & mask[i]!) !== 0) return i;
  return -1;
}

/** The ranges of an integer that no field names, as rows named `reserved`. */
export function unnamedBits(bits: Pick<Bits, 'width' | 'fields'>): readonly (readonly [lo: number, width: number])[] {
  const taken = [...bitRows(bits.fields)].sort((a, b) => a.lo - b.lo);
  const holes: (readonly [number, number])[] = [];
  let end = 0;
  for (const row of taken) {
    if (row.lo > end) holes.push([end, row.lo - end]);
    end = row.lo + row.width;
  }
  if (end < bits.width) holes.push([end, bits.width - end]);
  return holes;
}
