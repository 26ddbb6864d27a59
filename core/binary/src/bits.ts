import { ensure, isReserved, type Layout } from './layout.ts';
import { checkRange, u16, u32, u64, u8 } from './scalar.ts';

/** Bits of the integer that holds the fields. */
export type BitsWidth = 8 | 16 | 32 | 64;
/** The integer itself: a bigint only where 64 bits need it. */
export type RawBits<W extends BitsWidth> = W extends 64 ? bigint : number;

/** One field: `n` or `[n, doc]` is a flag, `[lo, width, doc?]` a number, or a bigint when wider than 32 bits. */
export type BitField = number | readonly [bit: number, doc: string] | readonly [lo: number, width: number, doc?: string];
/** Fields by name. Bits that no field names, and fields named `reserved…`, are reserved. */
export type BitFields = Readonly<Record<string, BitField>>;

type WideWidth =
  | 33 | 34 | 35 | 36 | 37 | 38 | 39 | 40 | 41 | 42 | 43 | 44 | 45 | 46 | 47 | 48
  | 49 | 50 | 51 | 52 | 53 | 54 | 55 | 56 | 57 | 58 | 59 | 60 | 61 | 62 | 63 | 64;
type BitValue<S extends BitField> = S extends number | readonly [number, string] ? boolean : S extends readonly [number, WideWidth, string?] ? bigint : number;

/** What unpacking gives: every named field. */
export type BitValues<B extends BitFields> = { readonly [K in keyof B]: BitValue<B[K]> };

/** An integer made of named bits. Reading loses reserved bits that have no name; `reservedMask` finds them in the raw value. */
export interface Bits<W extends BitsWidth = BitsWidth, B extends BitFields = BitFields> extends Layout<BitValues<B>, Partial<BitValues<B>>> {
  readonly kind: 'bits';
  readonly spec: string;
  readonly width: W;
  readonly fields: B;
  /** The bits of every field, in place. */
  readonly mask: { readonly [K in keyof B]: RawBits<W> };
  /** The lowest bit number of every field. */
  readonly shift: { readonly [K in keyof B]: number };
  /** All bits that the specification reserves. */
  readonly reservedMask: RawBits<W>;
  /** Makes the integer; fields left out are zero. @throws {RangeError} when a value does not fit its field. */
  pack(value: Partial<BitValues<B>>): RawBits<W>;
  /** Takes the integer apart. @throws {RangeError} when it is wider than the declaration. */
  unpack(raw: RawBits<W>): BitValues<B>;
}

/** A field in one form: lowest bit, bits, whether its value is a boolean, meaning. */
export interface BitRow {
  readonly name: string;
  readonly lo: number;
  readonly width: number;
  readonly isFlag: boolean;
  readonly doc: string;
}

/** The declared fields in one form, in declaration order. */
export const bitRows = (fields: BitFields): readonly BitRow[] =>
  Object.entries(fields).map(([name, field]) => {
    if (typeof field === 'number') return { name, lo: field, width: 1, isFlag: true, doc: '' };
    const [lo, second, doc = ''] = field;
    return typeof second === 'string' ? { name, lo, width: 1, isFlag: true, doc: second } : { name, lo, width: second, isFlag: false, doc };
  });

const onesAt = (row: BitRow): bigint => ((1n << BigInt(row.width)) - 1n) << BigInt(row.lo);

/** Checks that fields lie inside the integer and do not overlap; returns the bits that none but `reserved…` fields name. */
function checkRows(name: string, width: BitsWidth, rows: readonly BitRow[]): bigint {
  const owner: (string | undefined)[] = [];
  let reserved = (1n << BigInt(width)) - 1n;
  for (const row of rows) {
    const { lo, width: count } = row;
    if (!Number.isInteger(lo) || !Number.isInteger(count) || lo < 0 || count < 1 || lo + count > width)
      throw new RangeError(`${name}.${row.name}: ${count} bits at ${lo} do not fit in ${width}`);
    for (let bit = lo; bit < lo + count; bit++) {
      if (owner[bit] !== undefined) throw new RangeError(`${name}.${row.name}: bit ${bit} belongs to ${owner[bit]}`);
      owner[bit] = row.name;
    }
    if (!isReserved(row.name)) reserved &= ~onesAt(row);
  }
  return reserved;
}

const backings = { 8: u8, 16: u16, 32: u32, 64: u64 } as const;

/**
 * Declares an integer made of named bits, once.
 * @param spec - document and section that define it.
 * @param width - bits of the integer: 8, 16, 32 or 64.
 * @throws {RangeError} when fields overlap or do not fit.
 */
export function bits<const W extends BitsWidth, const B extends BitFields>(name: string, spec: string, width: W, fields: B): Bits<W, B> {
  const rows = bitRows(fields);
  const reserved = checkRows(name, width, rows);
  const toRaw = (value: bigint): RawBits<W> => (width === 64 ? value : Number(value)) as RawBits<W>;
  const perField = <T>(of: (row: BitRow) => T): { readonly [K in keyof B]: T } =>
    Object.freeze(Object.fromEntries(rows.map((row) => [row.name, of(row)])) as { [K in keyof B]: T });

  const unpackBig = (raw: bigint): BitValues<B> => {
    const values: Record<string, boolean | number | bigint> = {};
    for (const row of rows) {
      const field = (raw & onesAt(row)) >> BigInt(row.lo);
      values[row.name] = row.isFlag ? field === 1n : row.width > 32 ? field : Number(field);
    }
    return values as BitValues<B>;
  };
  const packBig = (value: Partial<BitValues<B>>): bigint => {
    const given: Readonly<Record<string, unknown>> = value;
    let raw = 0n;
    for (const row of rows) {
      const part = given[row.name];
      if (part === undefined) continue;
      raw |= fieldBits(`${name}.${row.name}`, row, part) << BigInt(row.lo);
    }
    return raw;
  };
  const backing: Layout<number> | Layout<bigint> = backings[width];
  return Object.freeze({
    kind: 'bits',
    name,
    spec,
    size: width / 8,
    width,
    fields,
    mask: perField((row) => toRaw(onesAt(row))),
    shift: perField((row) => row.lo),
    reservedMask: toRaw(reserved),
    pack: (value: Partial<BitValues<B>>): RawBits<W> => toRaw(packBig(value)),
    unpack(raw: RawBits<W>): BitValues<B> {
      checkRange(name, raw, 0n, (1n << BigInt(width)) - 1n);
      return unpackBig(BigInt(raw));
    },
    read(view: DataView, at: number): BitValues<B> {
      ensure(view, at, width / 8, name);
      return unpackBig(BigInt(backing.read(view, at)));
    },
    write(view: DataView, at: number, value: Partial<BitValues<B>>): void {
      ensure(view, at, width / 8, name);
      backing.write(view, at, toRaw(packBig(value)) as never);
    },
  });
}

/** The value of one field as an integer at bit 0. */
function fieldBits(path: string, row: BitRow, value: unknown): bigint {
  if (row.isFlag) {
    if (typeof value !== 'boolean') throw new RangeError(`${path}: ${String(value)} is not a boolean`);
    return value ? 1n : 0n;
  }
  if (typeof value !== 'number' && typeof value !== 'bigint') throw new RangeError(`${path}: ${String(value)} is not a number`);
  checkRange(path, value, 0n, (1n << BigInt(row.width)) - 1n);
  return BigInt(value);
}
