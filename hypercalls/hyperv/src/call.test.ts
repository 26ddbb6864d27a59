import { bytes, struct, u32, u64 } from '@vmplanes/binary';
import { describe, expect, expectTypeOf, test } from 'vitest';
import { type CallArguments, type CallOutput, hasFastOutput, inputBytes, None, opaque, outputBytes, rep, simple, variable, variableRep, vtlSwitch } from './call.ts';
import { HvCall } from './calls.ts';
import { VtlReturnInput } from './hypercall.ts';

const header = struct('Header', 'none', 16, { id: [0, u64], flags: [8, u32], reserved: [12, u32] });
const spec = 'none';

describe('declarations', () => {
  test('know their shape and leave out what there is not', () => {
    expect(simple('A', { code: 0x1001, spec, header })).toMatchObject({ name: 'A', shape: 'simple', fast: 'never', variable: None, element: None, output: None, outputElement: None });
    expect(variable('B', { code: 0x1002, spec, header })).toMatchObject({ shape: 'variable', variable: u64 });
    expect(rep('C', { code: 0x1003, spec, header, element: u32, outputElement: u64, fast: 'xmm' })).toMatchObject({ shape: 'rep', fast: 'xmm', element: u32, outputElement: u64 });
    expect(variableRep('D', { code: 0x1004, spec, header, element: u64 })).toMatchObject({ shape: 'variableRep', variable: u64, element: u64 });
    expect(vtlSwitch('E', { code: 0x1005, spec, input: VtlReturnInput })).toMatchObject({ shape: 'vtlSwitch', fast: 'never' });
    expect(opaque('F', { code: 0x1006, spec, unsupported: 'unknown' })).toMatchObject({ shape: 'opaque', unsupported: 'unknown' });
    expect(Object.isFrozen(simple('A', { code: 0x1001, spec }))).toBe(true);
  });
  test('give block sizes by their layouts', () => {
    const call = variableRep('D', { code: 0x1004, spec, header, element: u64, outputElement: u32 });
    expect([inputBytes(call, 0, 0), inputBytes(call, 2, 3), outputBytes(call, 3)]).toEqual([16, 16 + 16 + 24, 12]);
    expect([hasFastOutput(call), hasFastOutput(rep('G', { code: 1, spec, header, element: u64, outputElement: u32, fast: 'xmm' })), hasFastOutput(simple('H', { code: 1, spec, header, fast: 'xmm' }))]).toEqual([false, true, false]);
  });
  test.each([
    ['a code of 17 bits', () => simple('A', { code: 0x1_0000, spec }), 'A: code 65536 is not in 1..0xffff'],
    ['code 0', () => simple('A', { code: 0, spec }), 'A: code 0 is not in 1..0xffff'],
    ['an empty reason', () => simple('A', { code: 1, spec, unsupported: '' }), 'A: an unsupported call needs a reason'],
    ['a header without padding', () => simple('A', { code: 1, spec, header: bytes(12) }), 'A: a header of 12 bytes is not padded'],
    ['an output without padding', () => simple('A', { code: 1, spec, output: bytes(1) }), 'A: an output of 1 bytes is not padded'],
    ['24 bytes in two registers', () => simple('A', { code: 1, spec, header: bytes(24), fast: 'registers' }), 'A: 24 bytes do not fit two registers'],
    ['a header and an element in two registers', () => rep('A', { code: 1, spec, header: bytes(16), element: u64, fast: 'registers' }), 'A: 24 bytes do not fit two registers'],
    ['120 bytes in XMM registers', () => simple('A', { code: 1, spec, header: bytes(120), fast: 'xmm' }), 'A: 120 bytes do not fit the XMM registers'],
    ['a block larger than a page', () => simple('A', { code: 1, spec, header: bytes(4104) }), 'A: does not fit a page'],
    ['an output larger than a page', () => simple('A', { code: 1, spec, output: bytes(4104) }), 'A: does not fit a page'],
  ])('refuse %s', (_what, declare, message) => expect(declare).toThrow(new RangeError(message)));
});

test('handlers get what the declaration says', () => {
  expectTypeOf<CallArguments<typeof HvCall.SignalEvent>[0]>().toHaveProperty('flagNumber').toEqualTypeOf<number>();
  expectTypeOf<CallArguments<typeof HvCall.SignalEvent>['length']>().toEqualTypeOf<1>();
  expectTypeOf<CallArguments<typeof HvCall.ModifyVtlProtectionMask>[1]>().toEqualTypeOf<readonly bigint[]>();
  expectTypeOf<CallArguments<typeof HvCall.GetVpRegisters>[1]>().toEqualTypeOf<readonly number[]>();
  expectTypeOf<CallArguments<typeof HvCall.SetVpRegisters>[1][number]>().toHaveProperty('name').toEqualTypeOf<number>();
  expectTypeOf<CallArguments<typeof HvCall.SendSyntheticClusterIpiEx>[1]>().toEqualTypeOf<readonly bigint[]>();
  expectTypeOf<CallArguments<typeof HvCall.FlushVirtualAddressListEx>['length']>().toEqualTypeOf<3>();
  expectTypeOf<CallArguments<typeof HvCall.VtlReturn>[0]>().toHaveProperty('isFast').toEqualTypeOf<boolean>();
  expectTypeOf<CallArguments<typeof HvCall.DisableVpVtl>>().toBeNever();
  expectTypeOf<CallOutput<typeof HvCall.SignalEvent>>().toEqualTypeOf<undefined>();
  expectTypeOf<CallOutput<typeof HvCall.GetVpIndexFromApicId>>().toEqualTypeOf<readonly number[]>();
  expectTypeOf<CallOutput<typeof HvCall.TranslateVirtualAddress>>().toHaveProperty('gpaPage').toEqualTypeOf<bigint>();
  expect(HvCall.ModifyVtlProtectionMask.header.at.mapFlags).toBe(8);
});
