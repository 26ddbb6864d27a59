import { describe, expect, expectTypeOf, it } from 'vitest';
import { hexBytes } from './hex.ts';
import { accessOf, type Infer } from './layout.ts';
import { bytes, u16, u32, u64, u8 } from './scalar.ts';
import { struct } from './struct.ts';
import { tail } from './tail.ts';

const Mask = struct('Mask', 'test', 8, { flags: [0, u32], level: [4, u8], reserved: [5, bytes(3)] });
const Rep = tail('Rep', 'test', Mask, 'pages', u64);
const Request = struct('Request', 'test', 8, { entries: [0, u16], next: [2, u16], reserved: [4, bytes(4)] });
const Counted = tail('Counted', 'test', Request, 'list', u64, 'entries');

const memoryOf = (...words: readonly bigint[]): Uint8Array => new Uint8Array(BigUint64Array.from(words).buffer);
const viewOf = (...words: readonly bigint[]): DataView => new DataView(memoryOf(...words).buffer);

describe('tail', () => {
  it('fills the bytes available without a count', () => {
    const view = viewOf(0x1_0000_0007n, 5n, 6n, 7n);
    expect(Rep.read(view, 0, 24)).toEqual({ flags: 7, level: 1, reserved: new Uint8Array(3), pages: [5n, 6n] });
    expect(Rep.read(view, 0, 32).pages).toEqual([5n, 6n, 7n]);
    expect(Rep.read(view, 0, 8).pages).toEqual([]);
    expect([Rep.minSize, Rep.sizeOf(3), Rep.at.pages, Rep.at.level]).toEqual([8, 32, 8, 4]);
  });

  it('takes the count from the header', () => {
    expect(Counted.read(viewOf(2n, 5n, 6n, 7n), 0, 32)).toEqual({ entries: 2, next: 0, reserved: new Uint8Array(4), list: [5n, 6n] });
  });

  it('writes the count and returns the size', () => {
    const memory = new Uint8Array(32);
    expect(Counted.write(new DataView(memory.buffer), 8, { next: 1, list: [5n] })).toBe(16);
    expect(hexBytes(memory)).toBe('0000000000000000010001000000000005000000000000000000000000000000');
  });

  it('loads through a port, reading each byte once and trusting only the copied count', () => {
    const memory = memoryOf(2n, 5n, 6n, 7n);
    const reads: (readonly [number, number])[] = [];
    const port = {
      ...accessOf(memory),
      readBytes(at: number, into: Uint8Array): void {
        reads.push([at, into.length]);
        accessOf(memory).readBytes(at, into);
        memory[0] = 3;
      },
    };
    expect(Counted.load(port, 0, 32).list).toEqual([5n, 6n]);
    expect(reads).toEqual([[0, 8], [8, 16]]);
  });

  it('stores through a port at once', () => {
    const memory = new Uint8Array(24);
    expect(Counted.store(accessOf(memory), 4, { next: 1, list: [5n] })).toBe(16);
    expect(hexBytes(memory)).toBe('000000000100010000000000050000000000000000000000');
    expect(() => Counted.store(accessOf(memory), 16, { next: 1, list: [5n] })).toThrow(new RangeError('memory: needs 16 bytes at 0x10, 8 available'));
  });

  it.each<[string, () => unknown, string]>([
    ['a truncated header', () => Rep.read(viewOf(1n), 0, 7), 'Rep: needs 8 bytes at 0x0, 7 available'],
    ['a view shorter than the length', () => Rep.read(viewOf(1n), 4, 16), 'Rep: needs 8 bytes at 0x4, 4 available'],
    ['part of an element', () => Rep.read(viewOf(1n, 2n), 0, 13), 'Rep.pages: 5 bytes available at 0x8 are not a whole number of 8-byte elements'],
    ['a count past the length', () => Counted.read(viewOf(4n, 5n), 0, 16), 'Counted: needs 40 bytes at 0x0, 16 available'],
    ['the largest count', () => Counted.read(viewOf(0xffffn), 0, 8), 'Counted: needs 524288 bytes at 0x0, 8 available'],
    ['a short port', () => Counted.load(accessOf(memoryOf(2n, 5n)), 0, 16), 'Counted: needs 24 bytes at 0x0, 16 available'],
    ['a header past the port length', () => Counted.load(accessOf(memoryOf(2n)), 0, 4), 'Counted: needs 8 bytes at 0x0, 4 available'],
    ['no room to write', () => Counted.write(viewOf(0n), 0, { next: 0, list: [1n] }), 'Counted: needs 16 bytes at 0x0, 8 available'],
    ['an element that does not fit', () => Counted.write(viewOf(0n, 0n), 0, { next: 0, list: [-1n] }), 'Counted.list: [0]: u64: -1 not in 0..18446744073709551615'],
    ['a key that the header has', () => tail('T', '', Mask, 'level', u8), 'T.level: is a header field too'],
    ['elements without size', () => tail('T', '', Mask, 'x', bytes(0)), 'T.x: elements of bytes(0) have no size'],
  ])('refuses %s', (_name, act, message) => expect(act).toThrow(new RangeError(message)));

  it('infers value types', () => {
    expectTypeOf<Infer<typeof Counted>['list']>().toEqualTypeOf<readonly bigint[]>();
    expectTypeOf<Infer<typeof Counted>['next']>().toEqualTypeOf<number>();
    expectTypeOf<Parameters<typeof Counted.write>[2]>().not.toHaveProperty('entries');
  });
});
