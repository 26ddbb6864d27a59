import type { Bits } from '@vmplanes/binary';
import { describe, expect, it } from 'vitest';
import { call } from './call.ts';
import * as abi from './index.ts';

// Numbers by hand, from SVSM 1.00, the TPM reference code and COCONUT-SVSM.

describe('numbers', () => {
  it('of platform commands of a TPM', () =>
    expect(abi.TpmPlatformCommand).toEqual({
      SignalPowerOn: 1, SignalPowerOff: 2, SignalPhysPresOn: 3, SignalPhysPresOff: 4, SignalHashStart: 5, SignalHashData: 6, SignalHashEnd: 7, SendCommand: 8, SignalCancelOn: 9, SignalCancelOff: 10, SignalNvOn: 11, SignalNvOff: 12,
      SignalKeyCacheOn: 13, SignalKeyCacheOff: 14, RemoteHandshake: 15, SetAlternativeResult: 16, SignalReset: 17, SignalRestart: 18, SessionEnd: 20, Stop: 21, GetCommandResponseSizes: 25, ActGetSignaled: 26, TestFailureMode: 30,
    }));
  it('of what the APIC protocol configures', () => expect(abi.ApicConfiguration).toEqual({ Follow: 0, Deregister: 1, Register: 2 }));
  it('of results', () => {
    expect(abi.SvsmResult).toEqual({
      Success: 0, Incomplete: 0x8000_0000, UnsupportedProtocol: 0x8000_0001, UnsupportedCall: 0x8000_0002, InvalidAddress: 0x8000_0003, InvalidFormat: 0x8000_0004, InvalidParameter: 0x8000_0005, InvalidRequest: 0x8000_0006,
      Busy: 0x8000_0007,
    });
    expect(abi.SvsmCoreResult).toEqual({ FailInput: 0x8000_1001, FailPermission: 0x8000_1002, FailInUse: 0x8000_1003, FailSizeMismatch: 0x8000_1006, Unchanged: 0x8000_1010 });
    expect([abi.SVSM_PROTOCOL_RESULT, abi.SvsmApicResult]).toEqual([0x8000_1000, { CannotRegister: 0x8000_1000 }]);
  });
  it('of bytes', () => expect([abi.SVSM_CALLING_AREA_HEAD, abi.SVSM_PVALIDATE_ENTRY]).toEqual([8, 8]));
  it('of bytes in a vTPM buffer behind its heads', () => expect([abi.SVSM_VTPM_LONGEST_COMMAND, abi.SVSM_VTPM_LONGEST_RESPONSE]).toEqual([4087, 4092]));
});

describe('words', () => {
  const words: readonly (readonly [Bits, number, Readonly<Record<string, bigint>>])[] = [
    [abi.SvsmApicVector, 64, { vector: 0xffn, enable: 0x100n, all: 0x200n, reserved10: 0xffff_ffff_ffff_fc00n }],
    [abi.SvsmProtocolQuery, 64, { version: 0xffff_ffffn, protocol: 0xffff_ffff_0000_0000n }],
    [abi.SvsmProtocolVersions, 64, { min: 0xffff_ffffn, max: 0xffff_ffff_0000_0000n }],
  ];
  it.each(words.map((row) => [row[0].name, ...row] as const))('%s', (_name, layout, width, mask) => expect([layout.width, layout.mask]).toEqual([width, mask]));
});

describe('a declaration of a call', () => {
  it.each([0, 1, 0xffff_ffff])('takes number %i', (number) => expect(call('C', 0, { number, spec: 'S' }).number).toBe(number));
  it.each([-1, 0x1_0000_0000, 0.5, Number.NaN])('refuses number %d', (number) => expect(() => call('C', 0, { number, spec: 'S' })).toThrow(RangeError));
  it('refuses no reason', () => expect(() => call('C', 0, { number: 0, spec: 'S', unsupported: '' })).toThrow(RangeError));
  it('stands in RAX with its protocol', () => expect(abi.callRax(call('C', abi.SvsmProtocol.Vtpm, { number: 0xffff_fffe, spec: 'S' }))).toBe(0x2_ffff_fffen));
});

it('a GUID with small bytes keeps its zeroes', () => {
  const text = '01020304-0506-0708-090a-0b0c0d0e0f00';
  expect([...abi.guidBytes(text)]).toEqual([4, 3, 2, 1, 6, 5, 8, 7, 9, 10, 11, 12, 13, 14, 15, 0]);
  expect(abi.guidText(abi.guidBytes(text))).toBe(text);
});
