import { hex } from './hex.ts';
import { type AnyLayout, ensure, type Infer, type InferInput, inside, isReserved, type Layout, type ReservedName } from './layout.ts';

/** One row of a specification's table: offset in bytes, layout, meaning. */
export type Field = readonly [offset: number, layout: AnyLayout, doc?: string];
/** The rows of a structure in rising offset order. A name that starts with `reserved` marks a hole. */
export type Fields = Readonly<Record<string, Field>>;

/** What reading a structure gives: every field, holes included. */
export type Values<F extends Fields> = { readonly [K in keyof F]: Infer<F[K][1]> };
/** What writing a structure asks for: every field; a hole may be left out and is then written as zero. */
export type Inputs<F extends Fields> = {
  readonly [K in keyof F as K extends ReservedName ? never : K]: InferInput<F[K][1]>;
} & {
  readonly [K in keyof F as K extends ReservedName ? K : never]?: InferInput<F[K][1]>;
};

/** A structure of named fields at declared offsets. */
export interface Struct<F extends Fields = Fields> extends Layout<Values<F>, Inputs<F>> {
  readonly kind: 'struct';
  readonly fields: F;
  /** Byte offset of every field, for hot paths. */
  readonly at: { readonly [K in keyof F]: number };
  /** Document and section that define it. */
  readonly spec: string;
}

/**
 * Declares a structure once; its offsets are written out and checked at load.
 * @param spec - document and section that define it.
 * @param size - bytes, as the document says.
 * @throws {RangeError} On a hole or an overlap `x.b: declared at 0x8, previous field ends at 0x4`, and on a wrong total.
 */
export function struct<const F extends Fields>(name: string, spec: string, size: number, fields: F): Struct<F> {
  const rows = Object.entries<Field>(fields);
  let end = 0;
  for (const [key, [offset, layout]] of rows) {
    if (offset !== end) throw new RangeError(`${name}.${key}: declared at ${hex(offset)}, previous field ends at ${hex(end)}`);
    end = offset + layout.size;
  }
  if (end !== size) throw new RangeError(`${name}: declared size ${hex(size)}, last field ends at ${hex(end)}`);
  return Object.freeze({
    kind: 'struct',
    name,
    spec,
    size,
    fields,
    at: Object.freeze(Object.fromEntries(rows.map(([key, field]) => [key, field[0]])) as { [K in keyof F]: number }),
    read(view: DataView, at: number): Values<F> {
      ensure(view, at, size, name);
      const values: Record<string, unknown> = {};
      for (const [key, [offset, layout]] of rows) values[key] = layout.read(view, at + offset);
      return values as Values<F>;
    },
    write(view: DataView, at: number, value: Inputs<F>): void {
      ensure(view, at, size, name);
      const given: Readonly<Record<string, unknown>> = value;
      for (const [key, [offset, layout]] of rows) {
        const part = given[key];
        if (part === undefined && isReserved(key)) {
          zero(view, at + offset, layout.size);
          continue;
        }
        if (part === undefined) throw new RangeError(`${name}.${key}: no value`);
        try {
          layout.write(view, at + offset, part as never);
        } catch (error) {
          throw inside(`${name}.${key}`, error);
        }
      }
    },
  });
}

/** Clears bytes of a view. */
export const zero = (view: DataView, at: number, size: number): void => {
  new Uint8Array(view.buffer, view.byteOffset + at, size).fill(0);
};
