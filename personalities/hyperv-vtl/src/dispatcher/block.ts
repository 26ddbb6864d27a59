import type { AnyLayout, Fields, Struct } from '@vmplanes/binary';

/** Bytes of a call, seen as bytes, half words and words of one buffer. */
export class BlockBytes {
  readonly bytes: Uint8Array;
  readonly halves: Uint16Array;
  readonly words: Uint32Array;
  /** The same bytes, for `read` and `write` of declared layouts. */
  readonly data: DataView;

  /** @param bytes - a whole buffer, a multiple of 8 bytes. */
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.halves = new Uint16Array(bytes.buffer);
    this.words = new Uint32Array(bytes.buffer);
    this.data = new DataView(bytes.buffer);
  }
}

/** A declared layout at some place of a block. Views derive from it; `at` moves a view from element to element. */
export class Block {
  readonly bytes: Uint8Array;
  readonly halves: Uint16Array;
  readonly words: Uint32Array;
  readonly data: DataView;
  /** First byte of the layout, a multiple of 4. */
  at = 0;

  constructor(of: BlockBytes) {
    this.bytes = of.bytes;
    this.halves = of.halves;
    this.words = of.words;
    this.data = of.data;
  }
}

/** How a field is seen: `narrow` as one number, `wide` as two words, `part` by its place. */
type Form<L> =
  L extends { readonly kind: 'bits'; readonly width: 64 } ? 'wide'
  : L extends { readonly kind: 'bits' } ? 'narrow'
  : L extends { readonly kind: 'scalar'; read(view: DataView, at: number): bigint } ? 'wide'
  : L extends { readonly kind: 'scalar'; read(view: DataView, at: number): number } ? 'narrow'
  : 'part';

type Names<F extends Fields, Is extends 'narrow' | 'wide' | 'part'> = { readonly [K in keyof F & string]: Form<F[K][1]> extends Is ? K : never }[keyof F & string];
type Seen<F extends Fields> = { [K in Names<F, 'narrow'>]: number } & { [K in Names<F, 'wide'> as `${K}Lo` | `${K}Hi`]: number } & { readonly [K in Names<F, 'part'> as `${K}At`]: number };

/**
 * A declared layout over a block, without copies or bigints: a field of up to 32 bits is a number under its own name, one of 64 bits
 * the unsigned words `nameLo` and `nameHi`, anything longer `nameAt`, the byte where it lies. A layout that is no structure is `value`, or
 * `lo` and `hi`.
 */
export type View<L extends AnyLayout> = Block & (L extends Struct<infer F> ? Seen<F> : Form<L> extends 'wide' ? { lo: number; hi: number } : Form<L> extends 'narrow' ? { value: number } : unknown);

type Accessor = PropertyDescriptor & ThisType<Block>;

const word = (offset: number): Accessor => ({
  get() {
    return this.words[(this.at + offset) >>> 2]!;
  },
  set(value: number) {
    this.words[(this.at + offset) >>> 2] = value;
  },
});
const half = (offset: number): Accessor => ({
  get() {
    return this.halves[(this.at + offset) >>> 1]!;
  },
  set(value: number) {
    this.halves[(this.at + offset) >>> 1] = value;
  },
});
const byte = (offset: number): Accessor => ({
  get() {
    return this.bytes[this.at + offset]!;
  },
  set(value: number) {
    this.bytes[this.at + offset] = value;
  },
});
const place = (offset: number): Accessor => ({
  get() {
    return this.at + offset;
  },
});
const bySize: Readonly<Record<number, (offset: number) => Accessor>> = { 1: byte, 2: half, 4: word };

/** Integers are scalars by name, or sets of bits; text and byte strings are not. */
const isInteger = (layout: AnyLayout): boolean => layout.kind === 'bits' || (layout.kind === 'scalar' && /^[ui](8|16|32|64)$/.test(layout.name));

const accessors = (name: string, offset: number, layout: AnyLayout): Record<string, Accessor> => {
  if (!isInteger(layout)) return { [`${name}At`]: place(offset) };
  const narrow = bySize[layout.size];
  return narrow ? { [name]: narrow(offset) } : { [`${name}Lo`]: word(offset), [`${name}Hi`]: word(offset + 4) };
};

const propertiesOf = (layout: AnyLayout): PropertyDescriptorMap => {
  if (layout.kind !== 'struct') {
    if (!isInteger(layout)) return {};
    return layout.size === 8 ? { lo: word(0), hi: word(4) } : accessors('value', 0, layout);
  }
  const { fields } = layout as Struct;
  return Object.assign({}, ...Object.entries(fields).map(([name, [offset, of]]) => accessors(name, offset, of))) as PropertyDescriptorMap;
};

/** The maker of the views of one layout: one class each, so that handlers read fields through code of fixed shape. */
export const viewMaker = <L extends AnyLayout>(layout: L): ((of: BlockBytes) => View<L>) => {
  class LayoutView extends Block {}
  Object.defineProperties(LayoutView.prototype, propertiesOf(layout));
  return (of) => new LayoutView(of) as View<L>;
};
