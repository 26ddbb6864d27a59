import { describe, expect, it } from 'vitest';
import { fromWords, hex, hex64, hexBytes, hiWord, loWord, parseHex, parseHexBytes } from './hex.ts';

describe('hex', () => {
  it.each([
    [0n, '0x0000000000000000'],
    [0x1000n, '0x0000000000001000'],
    [0xffff_8000_0000_0000n, '0xffff800000000000'],
    [-1n, '0xffffffffffffffff'],
  ])('prints %d as %s', (value, text) => {
    expect(hex64(value)).toBe(text);
    expect(hex64(loWord(value), hiWord(value))).toBe(text);
    expect(fromWords(loWord(value), hiWord(value))).toBe(BigInt.asUintN(64, value));
    expect(parseHex(text)).toBe(BigInt.asUintN(64, value));
  });

  it('accepts signed words', () => {
    expect(hex64(-1, 0)).toBe('0x00000000ffffffff');
    expect(fromWords(0, -1)).toBe(0xffff_ffff_0000_0000n);
  });

  it('prints the shortest form', () => expect([hex(0), hex(255), hex(-16), hex(2n ** 40n)]).toEqual(['0x0', '0xff', '-0x10', '0x10000000000']));

  it.each(['', '0x', '12', '0xg', ' 0x1', '0x1 ', '-0x1', '0X1', '0x1_0', '0x10000000000000000'])("refuses '%s'", (text) =>
    expect(() => parseHex(text)).toThrow(new RangeError(`'${text}': not 0x and 1 to 16 hexadecimal digits`)));
  it('accepts either case', () => expect(parseHex('0xaBc')).toBe(0xabcn));

  it('prints and reads bytes', () => {
    expect(hexBytes(parseHexBytes('0F05ff'))).toBe('0f05ff');
    expect(parseHexBytes('')).toEqual(new Uint8Array(0));
    for (const text of ['0', '0x00', '0g']) expect(() => parseHexBytes(text)).toThrow(new RangeError(`'${text}': not pairs of hexadecimal digits`));
  });
});
