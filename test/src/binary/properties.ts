import { type AnyLayout, array, ascii, bits, bytes, hex64, hexBytes, i16, i32, i64, i8, parseHex, parseHexBytes, struct, tail, tagged, u16, u16be, u32, u32be, u64, u64be, u8, union } from '@vmplanes/binary';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

const image = (size: number): fc.Arbitrary<Uint8Array<ArrayBuffer>> => fc.uint8Array({ minLength: size, maxLength: size }).map((x) => new Uint8Array(x));
const viewOf = (memory: Uint8Array<ArrayBuffer>): DataView => new DataView(memory.buffer, memory.byteOffset, memory.length);

const Flags = bits('Flags', 'test', 32, { a: 0, reserved: [1, 3], b: [4, 20], c: 24, d: [25, 7] });
const Wide = bits('Wide', 'test', 64, { a: [0, 33], b: 33, c: [34, 30] });
const Inner = struct('Inner', 'test', 12, { flags: [0, Flags], x: [4, i16], y: [6, u16be], z: [8, i32] });
const Outer = struct('Outer', 'test', 56, { wide: [0, Wide], list: [8, array(Inner, 3)], reserved: [44, bytes(4)], word: [48, u64] });
const Either = union('Either', 'test', 16, { inner: Inner, word: u64, raw: bytes(16) });
const Exit = tagged('Exit', 'test', 'largest', struct('Head', 'test', 1, { tag: [0, u8] }), 'tag', { inner: [0, Inner], raw: [1, bytes(12)] });
const Counted = tail('Counted', 'test', struct('Count', 'test', 2, { count: [0, u16] }), 'list', Inner, 'count');

/** Layouts in which every bit pattern is a value, so that writing what was read restores the bytes. */
const exact: readonly AnyLayout[] = [u8, u16, u32, u64, i8, i16, i32, i64, u16be, u32be, u64be, bytes(5), Flags, Wide, Inner, Outer, array(Outer, 2), Exit];

/** Declares the round-trip properties of every kind of layout. @param numRuns - random cases of each. */
export function layoutProperties(numRuns: number): void {
  const runs = { numRuns };
  describe('layouts, any bytes', () => {
    it.each(exact.map((layout) => [layout.name, layout] as const))('%s: writing what was read restores the bytes', (_name, layout) => {
      fc.assert(
        fc.property(image(layout.size), (memory) => {
          const copy = new Uint8Array(layout.size);
          layout.write(viewOf(copy), 0, layout.read(viewOf(memory), 0) as never);
          expect(hexBytes(copy)).toBe(hexBytes(memory));
        }),
        runs,
      );
    });

    it('a union restores the bytes through its full-size variant', () => {
      fc.assert(
        fc.property(image(16), (memory) => {
          const copy = new Uint8Array(16);
          Either.write(viewOf(copy), 0, { raw: Either.read(viewOf(memory), 0).raw });
          expect(copy).toEqual(memory);
        }),
        runs,
      );
    });

    it('fields are at the offsets that `at` says', () => {
      fc.assert(
        fc.property(image(Outer.size), (memory) => {
          const view = viewOf(memory);
          expect(Outer.read(view, 0).word).toBe(view.getBigUint64(Outer.at.word, true));
          expect(Outer.read(view, 0).list[2]?.z).toBe(view.getInt32(Outer.at.list + 2 * Inner.size + Inner.at.z, true));
        }),
        runs,
      );
    });

    it('bits without a name are lost and no others', () => {
      const Holes = bits('Holes', 'test', 64, { a: 3, b: [8, 8], c: [20, 40] });
      fc.assert(
        fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (raw) => {
          expect(Holes.pack(Holes.unpack(raw)) | (raw & Holes.reservedMask)).toBe(raw);
        }),
        runs,
      );
    });

    it('any truncation is a RangeError that says so', () => {
      fc.assert(
        fc.property(fc.constantFrom(...exact), fc.nat(), fc.nat(64), (layout, cut, at) => {
          const available = cut % layout.size;
          const view = new DataView(new ArrayBuffer(at + available));
          expect(() => layout.read(view, at)).toThrow(new RangeError(`${layout.name}: needs ${layout.size} bytes at 0x${at.toString(16)}, ${available} available`));
        }),
        runs,
      );
    });
  });

  describe('values', () => {
    const inner = fc.record({
      flags: fc.record({ a: fc.boolean(), reserved: fc.nat(7), b: fc.nat(0xf_ffff), c: fc.boolean(), d: fc.nat(127) }),
      x: fc.integer({ min: -0x8000, max: 0x7fff }),
      y: fc.nat(0xffff),
      z: fc.integer({ min: -0x8000_0000, max: 0x7fff_ffff }),
    }, { noNullPrototype: true });

    it('a tail gives back its elements, at any offset', () => {
      fc.assert(
        fc.property(fc.array(inner, { maxLength: 9 }), fc.nat(7), (list, at) => {
          const view = new DataView(new ArrayBuffer(at + Counted.sizeOf(list.length)));
          expect(Counted.write(view, at, { list })).toBe(Counted.sizeOf(list.length));
          expect(Counted.read(view, at, view.byteLength - at)).toEqual({ count: list.length, list });
        }),
        runs,
      );
    });

    it('any bytes are a tail or a RangeError', () => {
      fc.assert(
        fc.property(fc.uint8Array({ maxLength: 64 }).map((x) => new Uint8Array(x)), (memory) => {
          try {
            const { count, list } = Counted.read(viewOf(memory), 0, memory.length);
            expect(list.length).toBe(count);
          } catch (error) {
            expect(error).toBeInstanceOf(RangeError);
          }
        }),
        runs,
      );
    });

    it('text and hexadecimal forms come back', () => {
      const text = ascii(8);
      fc.assert(
        fc.property(fc.string({ maxLength: 8, unit: 'binary-ascii' }).filter((x) => !x.includes('\0')), (value) => {
          const view = new DataView(new ArrayBuffer(8));
          text.write(view, 0, value);
          expect(text.read(view, 0)).toBe(value);
        }),
        runs,
      );
      fc.assert(fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (value) => parseHex(hex64(value)) === value), runs);
      fc.assert(fc.property(fc.uint8Array(), (value) => hexBytes(parseHexBytes(hexBytes(value))) === hexBytes(value) && parseHexBytes(hexBytes(value)).length === value.length), runs);
    });
  });
}
