import { describe, expect, expectTypeOf, it } from 'vitest';
import { bits } from './bits.ts';
import { hexBytes } from './hex.ts';
import type { Infer } from './layout.ts';

const HypercallInput = bits('HypercallInput', 'TLFS hypercall input value', 64, {
  code: [0, 16],
  fast: 16,
  variableHeaderSize: [17, 10],
  nested: [31, 'to the nested hypervisor'],
  repCount: [32, 12, 'elements in all'],
  repStart: [48, 12],
});
const Entry = bits('Entry', 'test', 64, { assigned: 0, reserved: [1, 11], page: [12, 40] });
const Flags = bits('Flags', 'test', 8, { present: 0, writable: 1, plane: [4, 4] });

describe('bits', () => {
  it.each<[string, bigint, Infer<typeof HypercallInput>]>([
    ['nothing', 0n, { code: 0, fast: false, variableHeaderSize: 0, nested: false, repCount: 0, repStart: 0 }],
    ['a rep call', 0x0002_0003_0000_000cn, { code: 0xc, fast: false, variableHeaderSize: 0, nested: false, repCount: 3, repStart: 2 }],
    ['a fast call', 0x1_005dn, { code: 0x5d, fast: true, variableHeaderSize: 0, nested: false, repCount: 0, repStart: 0 }],
    ['every field full', 0x0fff_0fff_87ff_ffffn, { code: 0xffff, fast: true, variableHeaderSize: 0x3ff, nested: true, repCount: 0xfff, repStart: 0xfff }],
  ])('packs and unpacks %s', (_name, raw, value) => {
    expect(HypercallInput.pack(value)).toBe(raw);
    expect(HypercallInput.unpack(raw)).toEqual(value);
  });

  it('finds reserved bits, named or not', () => {
    expect(HypercallInput.reservedMask).toBe(0xf000_f000_7800_0000n);
    expect(Entry.reservedMask).toBe(0xfff0_0000_0000_0ffen);
    expect(Flags.reservedMask).toBe(0b1100);
    expect(HypercallInput.pack(HypercallInput.unpack(2n ** 64n - 1n))).toBe(2n ** 64n - 1n - HypercallInput.reservedMask);
    expect(Entry.unpack(0xffen).reserved).toBe(0x7ff);
  });

  it('offers masks and shifts for hot paths', () => {
    expect(HypercallInput.mask.repCount).toBe(0xfff_0000_0000n);
    expect(Flags.mask).toEqual({ present: 1, writable: 2, plane: 0xf0 });
    expect(Flags.shift.plane).toBe(4);
  });

  it.each([8, 16, 32, 64] as const)('moves %d bits', (width) => {
    const Top = bits('Top', 'test', width, { low: 0, top: width - 1 });
    const memory = new Uint8Array(width / 8);
    Top.write(new DataView(memory.buffer), 0, { low: true, top: true });
    expect(hexBytes(memory)).toBe(width === 8 ? '81' : `01${'00'.repeat(width / 8 - 2)}80`);
    expect(Top.read(new DataView(memory.buffer), 0)).toEqual({ low: true, top: true });
    expect(Top.size).toBe(width / 8);
  });

  it.each<[string, () => unknown, string]>([
    ['an overlap', () => bits('x', '', 8, { a: [0, 4], b: 3 }), 'x.b: bit 3 belongs to a'],
    ['a field past the end', () => bits('x', '', 8, { a: [6, 3] }), 'x.a: 3 bits at 6 do not fit in 8'],
    ['a field of no bits', () => bits('x', '', 8, { a: [0, 0] }), 'x.a: 0 bits at 0 do not fit in 8'],
    ['a negative bit', () => bits('x', '', 8, { a: -1 }), 'x.a: 1 bits at -1 do not fit in 8'],
    ['a value too wide', () => Flags.pack({ plane: 16 }), 'Flags.plane: 16 not in 0..15'],
    ['a flag that is a number', () => Flags.pack(JSON.parse('{"present":1}')), 'Flags.present: 1 is not a boolean'],
    ['a number that is a flag', () => Flags.pack(JSON.parse('{"plane":true}')), 'Flags.plane: true is not a number'],
    ['a raw value too wide', () => Flags.unpack(256), 'Flags: 256 not in 0..255'],
    ['truncated input', () => Entry.read(new DataView(new ArrayBuffer(7)), 0), 'Entry: needs 8 bytes at 0x0, 7 available'],
  ])('refuses %s', (_name, act, message) => expect(act).toThrow(new RangeError(message)));

  it('infers value types: flags, numbers, and bigint above 32 bits', () => {
    expectTypeOf<Infer<typeof HypercallInput>['fast']>().toEqualTypeOf<boolean>();
    expectTypeOf<Infer<typeof HypercallInput>['nested']>().toEqualTypeOf<boolean>();
    expectTypeOf<Infer<typeof HypercallInput>['repCount']>().toEqualTypeOf<number>();
    expectTypeOf<Infer<typeof Entry>['page']>().toEqualTypeOf<bigint>();
    expectTypeOf(HypercallInput.reservedMask).toEqualTypeOf<bigint>();
    expectTypeOf(Flags.reservedMask).toEqualTypeOf<number>();
    expect(Entry.unpack(0xff_ffff_ffff_f001n)).toEqual({ assigned: true, reserved: 0, page: 0xff_ffff_ffffn });
  });
});
