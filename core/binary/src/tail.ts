import { readElements, writeElements } from './array.ts';
import { hex } from './hex.ts';
import { type AnyLayout, type ByteAccess, ensure, type Infer, type InferInput, inside, shortage } from './layout.ts';
import type { Fields, Inputs, Struct, Values } from './struct.ts';
import type { TagKey } from './union.ts';

/** What reading gives: the header's fields and the elements under their own name. */
export type TailValue<F extends Fields, K extends string, L extends AnyLayout> = Values<F> & { readonly [P in K]: readonly Infer<L>[] };
/** What writing asks for; a count field of the header is filled in. */
export type TailInput<F extends Fields, K extends string, L extends AnyLayout, N extends string> = Omit<Inputs<F>, N> & { readonly [P in K]: readonly InferInput<L>[] };

/** A structure that ends with a variable number of equal elements. */
export interface Tail<F extends Fields = Fields, K extends string = string, L extends AnyLayout = AnyLayout, N extends string = never> {
  readonly kind: 'tail';
  readonly name: string;
  readonly spec: string;
  readonly header: Struct<F>;
  /** Name of the element list. */
  readonly key: K;
  readonly of: L;
  /** Header field that holds the number of elements; without it they fill the bytes available. */
  readonly count: N | undefined;
  /** Bytes of the structure without elements, and the offset of the first one. */
  readonly minSize: number;
  /** Byte offset of every header field and of the elements. */
  readonly at: { readonly [P in keyof F | K]: number };
  /** Bytes of a structure with this many elements. */
  sizeOf(elements: number): number;
  /**
   * Reads it from at most `length` bytes at `at`.
   * @throws {RangeError} when the bytes do not suffice or, without a count field, leave part of an element.
   */
  read(view: DataView, at: number, length: number): TailValue<F, K, L>;
  /** Reads it through a port. Header and elements are each copied once, the count comes from the copy. @throws {RangeError} as `read`. */
  load(access: ByteAccess, at: number, length: number): TailValue<F, K, L>;
  /** Writes it and returns the bytes written. @throws {RangeError} when it does not fit. */
  write(view: DataView, at: number, value: TailInput<F, K, L, N>): number;
  /** Writes it through a port, by one store, and returns the bytes written. @throws {RangeError} when a value does not fit. */
  store(access: ByteAccess, at: number, value: TailInput<F, K, L, N>): number;
}

/**
 * Declares a header followed by elements up to the end of the bytes available, or as many as a header field says.
 * @param key - name of the element list; must not be a header field.
 * @param count - the header field that holds the number of elements.
 * @throws {RangeError} at load when `key` names a header field or an element has no size.
 */
export function tail<const F extends Fields, const K extends string, const L extends AnyLayout, const N extends TagKey<F> = never>(
  name: string, spec: string, header: Struct<F>, key: K, of: L, count?: N,
): Tail<F, K, L, N> {
  if (key in header.fields) throw new RangeError(`${name}.${key}: is a header field too`);
  if (of.size === 0) throw new RangeError(`${name}.${key}: elements of ${of.name} have no size`);
  const minSize = header.size;
  const sizeOf = (elements: number): number => minSize + elements * of.size;

  /** Elements to read, from a header that was read already. */
  const countOf = (head: Values<F>, at: number, length: number): number => {
    if (count === undefined) {
      const room = length - minSize;
      if (room % of.size !== 0) throw new RangeError(`${name}.${key}: ${room} bytes available at ${hex(at + minSize)} are not a whole number of ${of.size}-byte elements`);
      return room / of.size;
    }
    const n = head[count] as number;
    if (n < 0) throw new RangeError(`${name}.${count}: ${n} is not a count`);
    if (sizeOf(n) > length) throw shortage(name, at, sizeOf(n), length);
    return n;
  };
  const read = (view: DataView, at: number, length: number): TailValue<F, K, L> => {
    const available = Math.min(length, Math.max(0, view.byteLength - at));
    if (available < minSize) throw shortage(name, at, minSize, available);
    const head = header.read(view, at);
    return { ...head, [key]: readElements(of, view, at + minSize, countOf(head, at, available)) } as TailValue<F, K, L>;
  };
  const elementsOf = (value: TailInput<F, K, L, N>): readonly InferInput<L>[] => value[key] as readonly InferInput<L>[];
  const write = (view: DataView, at: number, value: TailInput<F, K, L, N>): number => {
    const elements = elementsOf(value);
    const size = sizeOf(elements.length);
    ensure(view, at, size, name);
    header.write(view, at, (count === undefined ? value : { ...value, [count]: elements.length }) as never);
    try {
      writeElements(of, view, at + minSize, elements);
    } catch (error) {
      throw inside(`${name}.${key}`, error);
    }
    return size;
  };
  return Object.freeze({
    kind: 'tail',
    name,
    spec,
    header,
    key,
    of,
    count,
    minSize,
    at: Object.freeze({ ...header.at, [key]: minSize }) as { [P in keyof F | K]: number },
    sizeOf,
    read,
    load(access: ByteAccess, at: number, length: number): TailValue<F, K, L> {
      if (length < minSize) throw shortage(name, at, minSize, length);
      const headBytes = new Uint8Array(minSize);
      access.readBytes(at, headBytes);
      const n = countOf(header.read(new DataView(headBytes.buffer), 0), at, length);
      const all = new Uint8Array(sizeOf(n));
      all.set(headBytes);
      if (n > 0) access.readBytes(at + minSize, all.subarray(minSize));
      return read(new DataView(all.buffer), 0, all.length);
    },
    write,
    store(access: ByteAccess, at: number, value: TailInput<F, K, L, N>): number {
      const copy = new Uint8Array(sizeOf(elementsOf(value).length));
      write(new DataView(copy.buffer), 0, value);
      access.writeBytes(at, copy);
      return copy.length;
    },
  });
}
