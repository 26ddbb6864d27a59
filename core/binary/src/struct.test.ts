import { describe, expect, expectTypeOf, it } from 'vitest';
import { array } from './array.ts';
import { hexBytes } from './hex.ts';
import { accessOf, type Infer, type InferInput, load, store } from './layout.ts';
import { bytes, u16, u32, u64, u8 } from './scalar.ts';
import { struct } from './struct.ts';

const Segment = struct('Segment', 'APM2 appendix B', 16, {
  selector: [0x0, u16],
  attributes: [0x2, u16],
  limit: [0x4, u32],
  base: [0x8, u64],
});
const Pair = struct('Pair', 'test', 0x28, {
  tag: [0x0, u8, 'what it is'],
  reserved: [0x1, bytes(7)],
  cs: [0x8, Segment],
  list: [0x18, array(u32, 4)],
});
const value = { tag: 1, cs: { selector: 8, attributes: 0x29b, limit: 0xffff, base: 0x1000n }, list: [1, 2, 3, 4] } as const;
const image = `01${'00'.repeat(7)}08009b02ffff00000010000000000000${'01000000020000000300000004000000'}`;

describe('struct', () => {
  it('gives offsets, also through nested structures', () => {
    expect(Pair.at).toEqual({ tag: 0, reserved: 1, cs: 8, list: 0x18 });
    expect(Pair.at.cs + Pair.fields.cs[1].at.base).toBe(0x10);
    expect(Object.isFrozen(Pair) && Object.isFrozen(Pair.at)).toBe(true);
  });

  it('writes and reads its bytes; holes left out are cleared', () => {
    const memory = new Uint8Array(0x28).fill(0xcc);
    const view = new DataView(memory.buffer);
    Pair.write(view, 0, value);
    expect(hexBytes(memory)).toBe(image);
    expect(Pair.read(view, 0)).toEqual({ ...value, reserved: new Uint8Array(7) });
  });

  it('writes holes that are given', () => {
    const view = new DataView(new ArrayBuffer(0x28));
    Pair.write(view, 0, { ...value, reserved: new Uint8Array(7).fill(9) });
    expect(Pair.read(view, 0).reserved).toEqual(new Uint8Array(7).fill(9));
  });

  it('respects the offset of the view', () => {
    const memory = new Uint8Array(64);
    Segment.write(new DataView(memory.buffer, 8), 8, value.cs);
    expect(Segment.read(new DataView(memory.buffer), 16)).toEqual(value.cs);
  });

  it.each<[string, () => unknown, string]>([
    ['a hole', () => struct('x', '', 12, { a: [0, u32], b: [8, u32] }), 'x.b: declared at 0x8, previous field ends at 0x4'],
    ['an overlap', () => struct('x', '', 12, { a: [0, u64], b: [4, u32] }), 'x.b: declared at 0x4, previous field ends at 0x8'],
    ['a first field that is not at 0', () => struct('x', '', 8, { a: [4, u32] }), 'x.a: declared at 0x4, previous field ends at 0x0'],
    ['a total too large', () => struct('x', '', 8, { a: [0, u32] }), 'x: declared size 0x8, last field ends at 0x4'],
    ['a total too small', () => struct('x', '', 2, { a: [0, u32] }), 'x: declared size 0x2, last field ends at 0x4'],
    ['an array of no count', () => array(u8, 1.5), 'u8[1.5]: not a count'],
  ])('refuses %s at load', (_name, declare, message) => expect(declare).toThrow(new RangeError(message)));

  it.each<[string, () => unknown, string]>([
    ['truncated input', () => Pair.read(new DataView(new ArrayBuffer(0x2f)), 8), 'Pair: needs 40 bytes at 0x8, 39 available'],
    ['truncated output', () => Pair.write(new DataView(new ArrayBuffer(8)), 0, value), 'Pair: needs 40 bytes at 0x0, 8 available'],
    ['a nested value', () => Pair.write(new DataView(new ArrayBuffer(64)), 0, { ...value, cs: { ...value.cs, limit: -1 } }), 'Pair.cs: Segment.limit: u32: -1 not in 0..4294967295'],
    ['an element', () => Pair.write(new DataView(new ArrayBuffer(64)), 0, { ...value, list: [1, 2, -3, 4] }), 'Pair.list: [2]: u32: -3 not in 0..4294967295'],
    ['a wrong number of elements', () => Pair.write(new DataView(new ArrayBuffer(64)), 0, { ...value, list: [1] }), 'Pair.list: u32[4]: got 1 elements'],
    ['a missing value', () => Segment.write(new DataView(new ArrayBuffer(64)), 0, JSON.parse('{"selector":1}')), 'Segment.attributes: no value'],
  ])('names %s', (_name, act, message) => expect(act).toThrow(new RangeError(message)));

  it('loads and stores through a port, all bytes at once', () => {
    const memory = new Uint8Array(64);
    const calls: string[] = [];
    const inner = accessOf(memory);
    const port = {
      readBytes: (at: number, into: Uint8Array) => { calls.push(`read ${at} ${into.length}`); inner.readBytes(at, into); },
      writeBytes: (at: number, from: Uint8Array) => { calls.push(`write ${at} ${from.length}`); inner.writeBytes(at, from); },
    };
    store(Pair, port, 3, value);
    expect(load(Pair, port, 3)).toEqual({ ...value, reserved: new Uint8Array(7) });
    expect(calls).toEqual(['write 3 40', 'read 3 40']);
    expect(() => store(Pair, port, 3, { ...value, tag: 300 })).toThrow('Pair.tag: u8: 300 not in 0..255');
    expect(calls).toHaveLength(2);
    expect(() => load(Pair, port, 60)).toThrow(new RangeError('memory: needs 40 bytes at 0x3c, 4 available'));
  });

  it('infers value types', () => {
    expectTypeOf<Infer<typeof Segment>>().toEqualTypeOf<{ readonly selector: number; readonly attributes: number; readonly limit: number; readonly base: bigint }>();
    expectTypeOf<Infer<typeof Pair>['list']>().toEqualTypeOf<readonly number[]>();
    expectTypeOf<Infer<typeof Pair>['reserved']>().toEqualTypeOf<Uint8Array>();
    expectTypeOf<InferInput<typeof Pair>['reserved']>().toEqualTypeOf<Uint8Array | undefined>();
    expectTypeOf<InferInput<typeof Pair>['cs']['base']>().toEqualTypeOf<bigint>();
    expectTypeOf(Pair.at.cs).toEqualTypeOf<number>();
    expectTypeOf(Pair.at).not.toHaveProperty('nothing');
  });
});
