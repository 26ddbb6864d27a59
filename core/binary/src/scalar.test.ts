import { describe, expect, expectTypeOf, it } from 'vitest';
import { hexBytes, parseHexBytes } from './hex.ts';
import type { Infer, Layout } from './layout.ts';
import { ascii, bytes, guid, i16, i32, i64, i8, u16, u16be, u32, u32be, u64, u64be, u8, uuid } from './scalar.ts';

/** Layout, value, its bytes in memory order. */
const numbers: readonly (readonly [Layout<number>, number, string])[] = [
  [u8, 0, '00'], [u8, 255, 'ff'],
  [u16, 0x1234, '3412'], [u16, 0xffff, 'ffff'],
  [u32, 0x1234_5678, '78563412'], [u32, 0xffff_ffff, 'ffffffff'],
  [i8, -1, 'ff'], [i8, -128, '80'], [i8, 127, '7f'],
  [i16, -2, 'feff'], [i16, -0x8000, '0080'],
  [i32, -0x8000_0000, '00000080'], [i32, 0x7fff_ffff, 'ffffff7f'],
  [u16be, 0x1234, '1234'], [u32be, 0x1234_5678, '12345678'],
];
const wides: readonly (readonly [Layout<bigint>, bigint, string])[] = [
  [u64, 0x0123_4567_89ab_cdefn, 'efcdab8967452301'], [u64, 2n ** 64n - 1n, 'ffffffffffffffff'],
  [i64, -1n, 'ffffffffffffffff'], [i64, -(2n ** 63n), '0000000000000080'],
  [u64be, 0x0123_4567_89ab_cdefn, '0123456789abcdef'],
];
const texts: readonly (readonly [Layout<string>, string, string])[] = [
  [ascii(4), 'ABCD', '41424344'], [ascii(4), 'AB', '41420000'], [ascii(4), '', '00000000'],
  [guid, '63da758d-e664-4564-adc5-f4b93be8accd', '8d75da6364e66445adc5f4b93be8accd'],
  [uuid, '63da758d-e664-4564-adc5-f4b93be8accd', '63da758de6644564adc5f4b93be8accd'],
];

function bothWays<T>(layout: Layout<T>, value: T, text: string): void {
  const memory = new Uint8Array(layout.size + 2).fill(0xcc);
  const view = new DataView(memory.buffer);
  layout.write(view, 1, value);
  expect(hexBytes(memory)).toBe(`cc${text}cc`);
  expect(layout.read(view, 1)).toEqual(value);
}

describe('scalars', () => {
  it.each(numbers.map(([l, v, t]) => [l.name, v, t, l] as const))('%s %d is %s', (_name, value, text, layout) => bothWays(layout, value, text));
  it.each(wides.map(([l, v, t]) => [l.name, v, t, l] as const))('%s %d is %s', (_name, value, text, layout) => bothWays(layout, value, text));
  it.each(texts.map(([l, v, t]) => [l.name, v, t, l] as const))('%s "%s" is %s', (_name, value, text, layout) => bothWays(layout, value, text));
  it('moves raw bytes by copy', () => {
    bothWays(bytes(3), Uint8Array.of(1, 2, 3), '010203');
    const memory = parseHexBytes('010203');
    const value = bytes(3).read(new DataView(memory.buffer), 0);
    memory[0] = 9;
    expect(value[0]).toBe(1);
  });

  it.each<[string, () => void, string]>([
    ['u8 too large', () => u8.write(view8(), 0, 256), 'u8: 256 not in 0..255'],
    ['u8 fraction', () => u8.write(view8(), 0, 1.5), 'u8: 1.5 not in 0..255'],
    ['u16 negative', () => u16.write(view8(), 0, -1), 'u16: -1 not in 0..65535'],
    ['u32 not a number', () => u32.write(view8(), 0, Number.NaN), 'u32: NaN not in 0..4294967295'],
    ['i8 too large', () => i8.write(view8(), 0, 128), 'i8: 128 not in -128..127'],
    ['u64 too large', () => u64.write(view8(), 0, 2n ** 64n), 'u64: 18446744073709551616 not in 0..18446744073709551615'],
    ['i64 too small', () => i64.write(view8(), 0, -(2n ** 63n) - 1n), 'i64: -9223372036854775809 not in -9223372036854775808..9223372036854775807'],
    ['bytes of another length', () => bytes(3).write(view8(), 0, new Uint8Array(2)), 'bytes(3): got 2 bytes'],
    ['text too long', () => ascii(2).write(view8(), 0, 'abc'), 'ascii(2): got 3 characters'],
    ['a GUID without hyphens', () => guid.write(new DataView(new ArrayBuffer(16)), 0, '63da758de6644564adc5f4b93be8accd'), "guid: '63da758de6644564adc5f4b93be8accd' has not the form of a GUID"],
    ['text with NUL', () => ascii(4).write(view8(), 0, 'a\0b'), 'ascii(4): character 1 is not ASCII'],
    ['text not ASCII', () => ascii(4).write(view8(), 0, 'aé'), 'ascii(4): character 1 is not ASCII'],
    ['bytes of no count', () => bytes(-1), 'bytes(-1): not a count'],
    ['read past the end', () => u32.read(view8(), 6), 'u32: needs 4 bytes at 0x6, 2 available'],
    ['write past the end', () => u64.write(view8(), 1, 0n), 'u64: needs 8 bytes at 0x1, 7 available'],
    ['read far past the end', () => u8.read(view8(), 100), 'u8: needs 1 bytes at 0x64, 0 available'],
    ['read before the start', () => u8.read(view8(), -1), 'u8: needs 1 bytes at -0x1, 0 available'],
  ])('refuses %s', (_name, act, message) => expect(act).toThrow(new RangeError(message)));

  it('reads bytes that are not ASCII without failing', () => {
    expect(ascii(3).read(new DataView(Uint8Array.of(0x41, 0x80, 0).buffer), 0)).toBe('A\ufffd');
  });

  it('infers value types', () => {
    expectTypeOf<Infer<typeof u32>>().toEqualTypeOf<number>();
    expectTypeOf<Infer<typeof i64>>().toEqualTypeOf<bigint>();
    const text = ascii(4);
    expectTypeOf<Infer<typeof text>>().toEqualTypeOf<string>();
  });
});

const view8 = (): DataView => new DataView(new ArrayBuffer(8));
