import { type AnyLayout, ensure, type Infer, type InferInput, inside, type Layout } from './layout.ts';

/** A fixed number of equal elements without gaps. */
export interface ArrayLayout<L extends AnyLayout = AnyLayout> extends Layout<readonly Infer<L>[], readonly InferInput<L>[]> {
  readonly kind: 'array';
  readonly of: L;
  /** Elements. */
  readonly length: number;
}

/** Declares `length` elements of one layout. @throws {RangeError} at load when `length` is not a count. */
export function array<const L extends AnyLayout>(of: L, length: number): ArrayLayout<L> {
  const name = `${of.name}[${length}]`;
  if (!Number.isInteger(length) || length < 0) throw new RangeError(`${name}: not a count`);
  const size = of.size * length;
  return Object.freeze({
    kind: 'array',
    name,
    size,
    of,
    length,
    read(view: DataView, at: number): readonly Infer<L>[] {
      ensure(view, at, size, name);
      return readElements(of, view, at, length);
    },
    write(view: DataView, at: number, values: readonly InferInput<L>[]): void {
      ensure(view, at, size, name);
      if (values.length !== length) throw new RangeError(`${name}: got ${values.length} elements`);
      writeElements(of, view, at, values);
    },
  });
}

/** Reads `count` elements that follow each other; the caller has checked that the bytes are there. */
export function readElements<L extends AnyLayout>(of: L, view: DataView, at: number, count: number): readonly Infer<L>[] {
  return Array.from({ length: count }, (_, i) => of.read(view, at + i * of.size) as Infer<L>);
}

/** Writes elements one after the other. @throws {RangeError} `[2]: u8: 256 not in 0..255`. */
export function writeElements<L extends AnyLayout>(of: L, view: DataView, at: number, values: readonly InferInput<L>[]): void {
  for (const [i, value] of values.entries()) {
    try {
      of.write(view, at + i * of.size, value as never);
    } catch (error) {
      throw inside(`[${i}]`, error);
    }
  }
}
