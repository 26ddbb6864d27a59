import type { Layout } from '@vmplanes/binary';

/** The third parameter of an ioctl: an integer, or what a user pointer points to; null is the null pointer. */
export type KvmArgument = number | bigint | Uint8Array | null;

/** What a pointer argument reads as when a call takes it for an integer: a user address. */
const USER_ADDRESS = 0x7fff_ffff_f000n;

/**
 * The argument of one call. A user pointer inside a structure is a byte offset in the same buffer, so that a call's whole input and output is one
 * array; access past its end is a bad pointer.
 */
export class Argument {
  readonly #bytes: Uint8Array | null;
  readonly #value: bigint;

  constructor(value: KvmArgument) {
    this.#bytes = value instanceof Uint8Array ? value : null;
    this.#value = typeof value === 'bigint' ? value : typeof value === 'number' && Number.isFinite(value) ? BigInt(Math.trunc(value)) : value instanceof Uint8Array ? USER_ADDRESS : 0n;
  }

  /** The argument as an unsigned long. */
  get long(): bigint {
    return BigInt.asUintN(64, this.#value);
  }
  /** The argument as an unsigned int: higher bits are dropped. */
  get uint(): number {
    return Number(this.#value & 0xffff_ffffn);
  }
  /** The argument as a signed long. */
  get signed(): bigint {
    return BigInt.asIntN(64, this.#value);
  }
  get isNull(): boolean {
    return this.#bytes === null && this.#value === 0n;
  }
  /** Bytes that the pointer can reach; 0 for a bad pointer. */
  get reach(): number {
    return this.#bytes?.byteLength ?? 0;
  }

  /** A copy of bytes at an offset, or null for a bad pointer. */
  bytes(at: number, length: number): Uint8Array | null {
    const b = this.#bytes;
    if (b === null || !(at >= 0 && length >= 0 && at + length <= b.byteLength)) return null;
    return b.slice(at, at + length);
  }

  /** Stores bytes at an offset. @returns false, and nothing is stored, for a bad pointer. */
  store(at: number, from: Uint8Array): boolean {
    const b = this.#bytes;
    if (b === null || !(at >= 0 && at + from.byteLength <= b.byteLength)) return false;
    b.set(from, at);
    return true;
  }

  /** Decodes a structure, copied once; null for a bad pointer. */
  read<T>(layout: Layout<T, never>, at = 0): T | null {
    const copy = this.bytes(at, layout.size);
    return copy === null ? null : layout.read(new DataView(copy.buffer), 0);
  }

  /** Encodes a structure. @returns false for a bad pointer. */
  write<In>(layout: Layout<unknown, In>, value: In, at = 0): boolean {
    const copy = new Uint8Array(layout.size);
    layout.write(new DataView(copy.buffer), 0, value);
    return this.store(at, copy);
  }
}
