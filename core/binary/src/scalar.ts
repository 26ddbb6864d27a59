import { ensure, type Layout } from './layout.ts';

/** A layout of one number, bigint, byte string or text. */
export interface Scalar<T> extends Layout<T> {
  readonly kind: 'scalar';
}

const scalar = <T>(name: string, size: number, get: (view: DataView, at: number) => T, set: (view: DataView, at: number, value: T) => void): Scalar<T> =>
  Object.freeze({
    kind: 'scalar',
    name,
    size,
    read(view: DataView, at: number): T {
      ensure(view, at, size, name);
      return get(view, at);
    },
    write(view: DataView, at: number, value: T): void {
      ensure(view, at, size, name);
      set(view, at, value);
    },
  });

/** Checks an integer against inclusive bounds. @throws {RangeError} `u8: 256 not in 0..255`. */
export function checkRange(name: string, value: number | bigint, min: number | bigint, max: number | bigint): void {
  if ((typeof value === 'number' && !Number.isInteger(value)) || value < min || value > max) throw new RangeError(`${name}: ${value} not in ${min}..${max}`);
}

const small = (name: string, size: number, min: number, max: number, get: (view: DataView, at: number) => number, set: (view: DataView, at: number, value: number) => void): Scalar<number> =>
  scalar(name, size, get, (view, at, value) => {
    checkRange(name, value, min, max);
    set(view, at, value);
  });

const large = (name: string, min: bigint, max: bigint, get: (view: DataView, at: number) => bigint, set: (view: DataView, at: number, value: bigint) => void): Scalar<bigint> =>
  scalar(name, 8, get, (view, at, value) => {
    checkRange(name, value, min, max);
    set(view, at, value);
  });

const U64_MAX = 2n ** 64n - 1n;
const I64_MIN = -(2n ** 63n);
const I64_MAX = 2n ** 63n - 1n;

/** Unsigned byte. */
export const u8 = small('u8', 1, 0, 0xff, (v, at) => v.getUint8(at), (v, at, x) => v.setUint8(at, x));
/** Unsigned 16 bits, little endian, as all without `be`. */
export const u16 = small('u16', 2, 0, 0xffff, (v, at) => v.getUint16(at, true), (v, at, x) => v.setUint16(at, x, true));
/** Unsigned 32 bits. */
export const u32 = small('u32', 4, 0, 0xffff_ffff, (v, at) => v.getUint32(at, true), (v, at, x) => v.setUint32(at, x, true));
/** Unsigned 64 bits, as a bigint. */
export const u64 = large('u64', 0n, U64_MAX, (v, at) => v.getBigUint64(at, true), (v, at, x) => v.setBigUint64(at, x, true));
/** Signed byte, two's complement as all signed scalars. */
export const i8 = small('i8', 1, -0x80, 0x7f, (v, at) => v.getInt8(at), (v, at, x) => v.setInt8(at, x));
/** Signed 16 bits. */
export const i16 = small('i16', 2, -0x8000, 0x7fff, (v, at) => v.getInt16(at, true), (v, at, x) => v.setInt16(at, x, true));
/** Signed 32 bits. */
export const i32 = small('i32', 4, -0x8000_0000, 0x7fff_ffff, (v, at) => v.getInt32(at, true), (v, at, x) => v.setInt32(at, x, true));
/** Signed 64 bits, as a bigint. */
export const i64 = large('i64', I64_MIN, I64_MAX, (v, at) => v.getBigInt64(at, true), (v, at, x) => v.setBigInt64(at, x, true));
/** Unsigned 16 bits, big endian. */
export const u16be = small('u16be', 2, 0, 0xffff, (v, at) => v.getUint16(at), (v, at, x) => v.setUint16(at, x));
/** Unsigned 32 bits, big endian. */
export const u32be = small('u32be', 4, 0, 0xffff_ffff, (v, at) => v.getUint32(at), (v, at, x) => v.setUint32(at, x));
/** Unsigned 64 bits, big endian. */
export const u64be = large('u64be', 0n, U64_MAX, (v, at) => v.getBigUint64(at), (v, at, x) => v.setBigUint64(at, x));

const checkCount = (what: string, n: number): void => {
  if (!Number.isInteger(n) || n < 0) throw new RangeError(`${what}(${n}): not a count`);
};

/** A fixed number of raw bytes; reading copies them. @throws {RangeError} when `n` is not a count. */
export const bytes = (n: number): Scalar<Uint8Array> => {
  checkCount('bytes', n);
  const name = `bytes(${n})`;
  return scalar<Uint8Array>(
    name,
    n,
    (view, at) => new Uint8Array(view.buffer, view.byteOffset + at, n).slice(),
    (view, at, value) => {
      if (value.length !== n) throw new RangeError(`${name}: got ${value.length} bytes`);
      new Uint8Array(view.buffer, view.byteOffset + at, n).set(value);
    },
  );
};

/**
 * ASCII text in `n` bytes, padded with NUL. Reading stops at the first NUL and shows a byte above 0x7f as U+FFFD.
 * @throws {RangeError} on writing text that is longer than `n`, holds NUL or is not ASCII.
 */
export const ascii = (n: number): Scalar<string> => {
  checkCount('ascii', n);
  const name = `ascii(${n})`;
  return scalar<string>(
    name,
    n,
    (view, at) => {
      let text = '';
      for (let i = 0; i < n; i++) {
        const code = view.getUint8(at + i);
        if (code === 0) break;
        text += code > 0x7f ? '\ufffd' : String.fromCharCode(code);
      }
      return text;
    },
    (view, at, text) => {
      if (text.length > n) throw new RangeError(`${name}: got ${text.length} characters`);
      for (let i = 0; i < text.length; i++) {
        const code = text.charCodeAt(i);
        if (code === 0 || code > 0x7f) throw new RangeError(`${name}: character ${i} is not ASCII`);
      }
      for (let i = 0; i < n; i++) view.setUint8(at + i, i < text.length ? text.charCodeAt(i) : 0);
    },
  );
};

const GUID_TEXT = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** @param order - offset in memory of each byte, in the order of the text. */
const identifier = (name: string, order: readonly number[]): Scalar<string> =>
  scalar<string>(
    name,
    16,
    (view, at) =>
      order
        .map((i) => view.getUint8(at + i).toString(16).padStart(2, '0'))
        .join('')
        .replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-'),
    (view, at, text) => {
      if (!GUID_TEXT.test(text)) throw new RangeError(`${name}: '${text}' has not the form of a GUID`);
      const digits = text.replaceAll('-', '');
      order.forEach((to, i) => view.setUint8(at + to, Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16)));
    },
  );

/**
 * A GUID in 16 bytes, its first three groups as little-endian numbers; its value is the text in lower case,
 * `63da758d-e664-4564-adc5-f4b93be8accd`.
 * @throws {RangeError} on writing another text.
 * @spec UEFI Appendix A
 */
export const guid = identifier('guid', [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15]);
/** The same value with its bytes in the order of the text. @spec RFC 4122, 4.1.2 */
export const uuid = identifier('uuid', [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
