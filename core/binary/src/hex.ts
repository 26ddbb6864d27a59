/** Shortest hexadecimal form: `0x1f`, `-0x1`. */
export const hex = (value: number | bigint): string => (value < 0 ? `-0x${(-value).toString(16)}` : `0x${value.toString(16)}`);

/** The low 32 bits of a 64-bit value, unsigned. */
export const loWord = (value: bigint): number => Number(value & 0xffff_ffffn);
/** The high 32 bits of a 64-bit value, unsigned. */
export const hiWord = (value: bigint): number => Number((value >> 32n) & 0xffff_ffffn);
/** A 64-bit value from two 32-bit words; a word read as signed is accepted. */
export const fromWords = (lo: number, hi: number): bigint => (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);

const word = (n: number): string => (n >>> 0).toString(16).padStart(8, '0');

/** A 64-bit value as `0x` and 16 digits; negative values show their two's complement. */
export function hex64(value: bigint): string;
/** The same from two 32-bit words. */
export function hex64(lo: number, hi: number): string;
export function hex64(value: bigint | number, hi = 0): string {
  return typeof value === 'bigint' ? `0x${word(hiWord(value))}${word(loWord(value))}` : `0x${word(hi)}${word(value)}`;
}

/**
 * Reads `0x` followed by 1 to 16 hexadecimal digits of either case, nothing else.
 * @throws {RangeError} `'0xg': not 0x and 1 to 16 hexadecimal digits`.
 */
export function parseHex(text: string): bigint {
  if (!/^0x[0-9a-fA-F]{1,16}$/.test(text)) throw new RangeError(`'${text}': not 0x and 1 to 16 hexadecimal digits`);
  return BigInt(text);
}

/** Bytes as pairs of lower-case digits without separators: `0f05`. */
export function hexBytes(value: Uint8Array): string {
  let text = '';
  for (const byte of value) text += byte.toString(16).padStart(2, '0');
  return text;
}

/** Reads pairs of hexadecimal digits. @throws {RangeError} on an odd length or another character. */
export function parseHexBytes(text: string): Uint8Array {
  if (!/^(?:[0-9a-fA-F]{2})*$/.test(text)) throw new RangeError(`'${text}': not pairs of hexadecimal digits`);
  return Uint8Array.from({ length: text.length / 2 }, (_, i) => Number.parseInt(text.slice(2 * i, 2 * i + 2), 16));
}
