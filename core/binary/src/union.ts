import { hex } from './hex.ts';
import { type AnyLayout, ensure, type Infer, type InferInput, inside, type Layout } from './layout.ts';
import { bytes } from './scalar.ts';
import { type Fields, type Inputs, type Struct, type Values, zero } from './struct.ts';

/** Layouts that share one offset, by name. */
export type Variants = Readonly<Record<string, AnyLayout>>;
/** What reading an untagged union gives: every reading of the same bytes. */
export type UnionValues<V extends Variants> = { readonly [K in keyof V]: Infer<V[K]> };
/** What writing an untagged union asks for: exactly one variant. */
export type UnionInput<V extends Variants> = {
  readonly [K in keyof V]: { readonly [P in K]: InferInput<V[P]> } & { readonly [P in Exclude<keyof V, K>]?: never };
}[keyof V];

/** Several layouts at one offset; something outside says which one counts. */
export interface Union<V extends Variants = Variants> extends Layout<UnionValues<V>, UnionInput<V>> {
  readonly kind: 'union';
  readonly spec: string;
  readonly variants: V;
}

const largest = (name: string, layouts: readonly AnyLayout[], size: number | 'largest'): number => {
  const max = Math.max(0, ...layouts.map((layout) => layout.size));
  if (size === 'largest') return max;
  const tooBig = layouts.find((layout) => layout.size > size);
  if (tooBig) throw new RangeError(`${name}.${tooBig.name}: ${hex(tooBig.size)} bytes in a union of ${hex(size)}`);
  return size;
};

/**
 * Declares layouts that share one offset. Reading gives every variant; writing takes one and clears the bytes it does not use.
 * @param size - bytes, or `largest` for the size of the largest variant.
 * @throws {RangeError} at load when a variant is larger than `size`.
 */
export function union<const V extends Variants>(name: string, spec: string, size: number | 'largest', variants: V): Union<V> {
  const rows = Object.entries<AnyLayout>(variants);
  const total = largest(name, rows.map(([, layout]) => layout), size);
  return Object.freeze({
    kind: 'union',
    name,
    spec,
    size: total,
    variants,
    read(view: DataView, at: number): UnionValues<V> {
      ensure(view, at, total, name);
      return Object.fromEntries(rows.map(([key, layout]) => [key, layout.read(view, at)])) as UnionValues<V>;
    },
    write(view: DataView, at: number, value: UnionInput<V>): void {
      ensure(view, at, total, name);
      const given = Object.entries(value).filter(([, part]) => part !== undefined);
      const [key, part] = given[0] ?? ['', undefined];
      const layout = variants[key];
      if (given.length !== 1 || !layout) throw new RangeError(`${name}: needs exactly one of ${Object.keys(variants).join(', ')}`);
      zero(view, at, total);
      try {
        layout.write(view, at, part as never);
      } catch (error) {
        throw inside(`${name}.${key}`, error);
      }
    },
  });
}

/** One row of a tagged union: value of the tag, layout of the payload, meaning. */
export type Case = readonly [tag: number, layout: AnyLayout, doc?: string];
/** Payload layouts of a tagged union by name. */
export type Cases = Readonly<Record<string, Case>>;
/** Names of the header fields that can be a tag. */
export type TagKey<F extends Fields> = { [K in keyof F]: Infer<F[K][1]> extends number ? K : never }[keyof F] & string;

/** What reading gives: the header, the name of the case and its payload; `unknown` with raw bytes for any other tag. */
export type TaggedValue<F extends Fields, C extends Cases> =
  | { readonly [K in keyof C]: { readonly header: Values<F>; readonly kind: K; readonly value: Infer<C[K][1]> } }[keyof C]
  | { readonly header: Values<F>; readonly kind: 'unknown'; readonly value: Uint8Array };
/** What writing asks for: the tag of a known case is filled in. */
export type TaggedInput<F extends Fields, T extends TagKey<F>, C extends Cases> =
  | { readonly [K in keyof C]: { readonly header: Omit<Inputs<F>, T>; readonly kind: K; readonly value: InferInput<C[K][1]> } }[keyof C]
  | { readonly header: Inputs<F>; readonly kind: 'unknown'; readonly value: Uint8Array };

/** A header whose tag field says which layout follows it. */
export interface Tagged<F extends Fields = Fields, T extends TagKey<F> = TagKey<F>, C extends Cases = Cases> extends Layout<TaggedValue<F, C>, TaggedInput<F, T, C>> {
  readonly kind: 'tagged';
  readonly spec: string;
  readonly header: Struct<F>;
  readonly tag: T;
  readonly cases: C;
  /** Offset of the payload. */
  readonly payloadAt: number;
}

/**
 * Declares a tagged union: a header, then one of several payloads, chosen by a number in the header.
 * @param size - bytes of header and payload area, or `largest`.
 * @throws {RangeError} at load when a payload does not fit or two cases have one tag.
 */
export function tagged<const F extends Fields, const T extends TagKey<F>, const C extends Cases>(
  name: string, spec: string, size: number | 'largest', header: Struct<F>, tag: T, cases: C,
): Tagged<F, T, C> {
  const rows = Object.entries<Case>(cases);
  const byTag = new Map<number, readonly [string, AnyLayout]>();
  for (const [key, [value, layout]] of rows) {
    const other = byTag.get(value);
    if (other) throw new RangeError(`${name}.${key}: tag ${hex(value)} belongs to ${other[0]}`);
    byTag.set(value, [key, layout]);
  }
  const room = largest(name, rows.map(([, row]) => row[1]), size === 'largest' ? size : size - header.size);
  const raw = bytes(room);
  const total = header.size + room;
  return Object.freeze({
    kind: 'tagged',
    name,
    spec,
    size: total,
    header,
    tag,
    cases,
    payloadAt: header.size,
    read(view: DataView, at: number): TaggedValue<F, C> {
      ensure(view, at, total, name);
      const head = header.read(view, at);
      const [kind, layout] = byTag.get(head[tag] as number) ?? ['unknown', raw];
      return { header: head, kind, value: layout.read(view, at + header.size) } as TaggedValue<F, C>;
    },
    write(view: DataView, at: number, { header: head, kind, value }: TaggedInput<F, T, C>): void {
      ensure(view, at, total, name);
      const known = cases[kind];
      if (!known && kind !== 'unknown') throw new RangeError(`${name}: no case '${String(kind)}'`);
      header.write(view, at, (known ? { ...head, [tag]: known[0] } : head) as Inputs<F>);
      zero(view, at + header.size, room);
      try {
        (known?.[1] ?? raw).write(view, at + header.size, value as never);
      } catch (error) {
        throw inside(`${name}.${String(kind)}`, error);
      }
    },
  });
}
