import { describe, expect, expectTypeOf, it } from 'vitest';
import { hexBytes } from './hex.ts';
import type { Infer, InferInput } from './layout.ts';
import { bytes, u16, u32, u64, u8 } from './scalar.ts';
import { struct } from './struct.ts';
import { tagged, union } from './union.ts';

const Io = struct('Io', 'test', 8, { port: [0, u16], size: [2, u8], reserved: [3, u8], value: [4, u32] });
const Any = union('Any', 'test', 16, { io: Io, word: u64 });
const Header = struct('Header', 'test', 8, { reason: [0, u32], reserved: [4, bytes(4)] });
const Exit = tagged('Exit', 'test', 'largest', Header, 'reason', { io: [2, Io, 'port access'], halt: [5, bytes(0)], word: [6, u64] });

describe('union', () => {
  it('reads every variant of the same bytes', () => {
    const memory = new Uint8Array(16).fill(0xcc);
    const view = new DataView(memory.buffer);
    Any.write(view, 0, { word: 0x0403_0201_0001_03f8n });
    expect(hexBytes(memory)).toBe('f8030100010203040000000000000000');
    expect(Any.read(view, 0)).toEqual({ word: 0x0403_0201_0001_03f8n, io: { port: 0x3f8, size: 1, reserved: 0, value: 0x0403_0201 } });
  });

  it('takes its size from the largest variant or from the declaration', () => {
    expect([Any.size, union('U', '', 'largest', { a: u8, b: u32 }).size]).toEqual([16, 4]);
  });

  it.each<[string, () => unknown, string]>([
    ['a variant too large', () => union('U', '', 4, { a: u64 }), 'U.u64: 0x8 bytes in a union of 0x4'],
    ['two variants', () => Any.write(view(), 0, JSON.parse('{"io":1,"word":2}')), 'Any: needs exactly one of io, word'],
    ['no variant', () => Any.write(view(), 0, JSON.parse('{}')), 'Any: needs exactly one of io, word'],
    ['an unknown variant', () => Any.write(view(), 0, JSON.parse('{"x":1}')), 'Any: needs exactly one of io, word'],
    ['a value that does not fit', () => Any.write(view(), 0, { word: -1n }), 'Any.word: u64: -1 not in 0..18446744073709551615'],
    ['truncated input', () => Any.read(view(), 20), 'Any: needs 16 bytes at 0x14, 12 available'],
  ])('refuses %s', (_name, act, message) => expect(act).toThrow(new RangeError(message)));

  it('infers value types', () => {
    expectTypeOf<Infer<typeof Any>['word']>().toEqualTypeOf<bigint>();
    expectTypeOf<{ word: bigint }>().toExtend<InferInput<typeof Any>>();
    expectTypeOf<{ word: string }>().not.toExtend<InferInput<typeof Any>>();
  });
});

describe('tagged union', () => {
  it.each<[string, InferInput<typeof Exit>, string]>([
    ['io', { header: {}, kind: 'io', value: { port: 0x3f8, size: 1, value: 0x41 } }, '0200000000000000f803010041000000'],
    ['halt', { header: {}, kind: 'halt', value: new Uint8Array(0) }, '05000000000000000000000000000000'],
    ['word', { header: {}, kind: 'word', value: 1n }, '06000000000000000100000000000000'],
    ['unknown', { header: { reason: 7 }, kind: 'unknown', value: new Uint8Array(8).fill(9) }, '07000000000000000909090909090909'],
  ])('writes and reads %s', (kind, value, text) => {
    const memory = new Uint8Array(16).fill(0xcc);
    Exit.write(new DataView(memory.buffer), 0, value);
    expect(hexBytes(memory)).toBe(text);
    const read = Exit.read(new DataView(memory.buffer), 0);
    expect(read.kind).toBe(kind);
    expect(read).toMatchObject(value);
    Exit.write(new DataView(memory.buffer), 0, read);
    expect(hexBytes(memory)).toBe(text);
  });

  it('refuses two cases with one tag and a payload that does not fit', () => {
    expect(() => tagged('T', '', 'largest', Header, 'reason', { a: [1, u8], b: [1, u8] })).toThrow(new RangeError('T.b: tag 0x1 belongs to a'));
    expect(() => tagged('T', '', 12, Header, 'reason', { a: [1, u64] })).toThrow(new RangeError('T.u64: 0x8 bytes in a union of 0x4'));
    expect(() => Exit.write(view(), 0, JSON.parse('{"header":{},"kind":"nothing"}'))).toThrow(new RangeError("Exit: no case 'nothing'"));
  });

  it('narrows the payload by its kind', () => {
    const read: Infer<typeof Exit> = Exit.read(view(), 0);
    if (read.kind === 'io') expectTypeOf(read.value.port).toEqualTypeOf<number>();
    else if (read.kind === 'word') expectTypeOf(read.value).toEqualTypeOf<bigint>();
    else expectTypeOf(read.value).toEqualTypeOf<Uint8Array>();
    expect(read.kind).toBe('unknown');
  });
});

const view = (): DataView => new DataView(new ArrayBuffer(32));
