import * as abi from '@vmplanes/abi-svsm';
import { personality } from '@vmplanes/personality-sev-snp-vmpl';
import { describe, expect, it } from 'vitest';

const { CoreCall, AttestationCall, VtpmCall, ApicCall, UefiMmCall } = abi;

describe('SVSM structures', () => {
  it.each([
    [abi.SvsmCallingArea, 4096, { callPending: 0, memAvailable: 1, noEoiRequired: 2, buffer: 8 }],
    [abi.SvsmPvalidateList, 8, { entries: 0, next: 2 }],
    [abi.SvsmAttestServices, 0x40, { reportGpa: 0, reportSize: 8, nonceGpa: 0x10, nonceSize: 0x18, manifestGpa: 0x20, manifestSize: 0x28, certificateGpa: 0x30, certificateSize: 0x38 }],
    [abi.SvsmAttestSingleService, 0x58, { reportGpa: 0, reportSize: 8, nonceGpa: 0x10, nonceSize: 0x18, manifestGpa: 0x20, manifestSize: 0x28, certificateGpa: 0x30, certificateSize: 0x38, service: 0x40, manifestVersion: 0x50 }],
    [abi.SvsmServicesManifest, 24, { guid: 0, size: 16, count: 20 }],
    [abi.SvsmManifestEntry, 24, { guid: 0, offset: 16, size: 20 }],
    [abi.SvsmVtpmCommand, 9, { command: 0, locality: 4, size: 5 }],
    [abi.SvsmVtpmResponse, 4, { size: 0 }],
    [abi.SvsmUefiMmBuffer, 24, { guid: 0, size: 16 }],
  ] as const)('$name', (layout, size, at) => {
    expect(layout.size).toBe(size);
    expect(Object.fromEntries(Object.entries(layout.at).filter(([name]) => !name.startsWith('reserved')))).toEqual(at);
  });

  // The examples of the PVALIDATE table.
  it.each([
    [0x0000_0000_0010_0004n, { pageSize: 0, validate: true, ignoreUnchanged: false, page: 0x100n }],
    [0x0000_0000_4000_0005n, { pageSize: 1, validate: true, ignoreUnchanged: false, page: 0x4_0000n }],
    [0x0000_0000_0800_0000n, { pageSize: 0, validate: false, ignoreUnchanged: false, page: 0x8000n }],
    [0x0000_0000_0010_000cn, { pageSize: 0, validate: true, ignoreUnchanged: true, page: 0x100n }],
  ] as const)('PVALIDATE entry %s', (raw, want) => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, raw, true);
    expect(abi.SvsmPvalidateEntry.read(new DataView(bytes.buffer), 0)).toMatchObject(want);
  });

  it('has the bytes of the vTPM service in memory order', () => {
    expect(Buffer.from(abi.guidBytes(abi.SvsmService.Vtpm)).toString('hex')).toBe('ebf176c42301a54596' + '41b4e7dde5bfe3');
    expect(abi.guidText(abi.guidBytes(abi.SvsmService.UefiMm))).toBe(abi.SvsmService.UefiMm);
    expect(() => abi.guidBytes('C476F1EB-0123-45a5-9641-b4e7dde5bfe3')).toThrow(RangeError);
  });
});

describe('SVSM calls', () => {
  it.each([
    [CoreCall.RemapCa, 0x0n], [CoreCall.Pvalidate, 0x1n], [CoreCall.CreateVcpu, 0x2n], [CoreCall.DeleteVcpu, 0x3n], [CoreCall.DepositMem, 0x4n], [CoreCall.WithdrawMem, 0x5n],
    [CoreCall.QueryProtocol, 0x6n], [CoreCall.ConfigureVtom, 0x7n],
    [AttestationCall.Services, 0x1_0000_0000n], [AttestationCall.SingleService, 0x1_0000_0001n],
    [VtpmCall.Query, 0x2_0000_0000n], [VtpmCall.Cmd, 0x2_0000_0001n],
    [ApicCall.QueryFeatures, 0x3_0000_0000n], [ApicCall.Configure, 0x3_0000_0001n], [ApicCall.ReadRegister, 0x3_0000_0002n], [ApicCall.WriteRegister, 0x3_0000_0003n], [ApicCall.ConfigureVector, 0x3_0000_0004n],
    [UefiMmCall.Call, 0x4_0000_0001n],
  ] as const)('%o has its RAX', (call, rax) => expect(abi.callRax(call)).toBe(rax));
  it('declares no other call', () => expect(abi.SVSM_CALLS).toHaveLength(18));
  it('names what it does not serve', () => {
    expect(abi.SVSM_CALLS.filter((c) => c.unsupported !== undefined).map((c) => c.name)).toEqual(['SVSM_CORE_DEPOSIT_MEM', 'SVSM_CORE_WITHDRAW_MEM', 'SVSM_UEFI_MM_CALL']);
  });
  it('every call is in the support matrix once: served, or refused with its reason', () => {
    const rows = personality.support.filter((r) => /^SVSM (core|attestation|vTPM|APIC|UEFI MM)$/.test(r.kind));
    expect(rows.map((r) => r.name).sort()).toEqual(abi.SVSM_CALLS.map((c) => c.name).sort());
    for (const r of rows) expect([r.name, r.support === 'yes' || (r.note ?? '') !== '']).toEqual([r.name, true]);
    expect(rows.filter((r) => r.support === 'no').map((r) => r.name)).toEqual(['SVSM_CORE_DEPOSIT_MEM', 'SVSM_CORE_WITHDRAW_MEM', 'SVSM_UEFI_MM_CALL']);
  });
  it('finds and names calls by number', () => {
    expect(abi.svsmCallOf(2, 1)).toBe(VtpmCall.Cmd);
    expect(abi.svsmCallOf(4, 0)).toBeUndefined();
    expect(abi.svsmCallName(0, 9)).toBe('SVSM call 9 of protocol 0 (core)');
    expect(abi.svsmCallName(99, 0)).toBe('SVSM call 0 of protocol 99');
  });
});

describe('SVSM results', () => {
  it.each([
    ['Success', 0], ['Incomplete', 0x8000_0000], ['UnsupportedProtocol', 0x8000_0001], ['UnsupportedCall', 0x8000_0002], ['InvalidAddress', 0x8000_0003],
    ['InvalidFormat', 0x8000_0004], ['InvalidParameter', 0x8000_0005], ['InvalidRequest', 0x8000_0006], ['Busy', 0x8000_0007],
  ] as const)('%s', (name, code) => {
    expect(abi.SvsmResult[name]).toBe(code);
    expect(abi.svsmResultName(code)).toBe(name);
  });
  it.each([['FailInput', 0x8000_1001], ['FailPermission', 0x8000_1002], ['FailInUse', 0x8000_1003], ['FailSizeMismatch', 0x8000_1006], ['Unchanged', 0x8000_1010]] as const)('%s', (name, code) => {
    expect(abi.SvsmCoreResult[name]).toBe(code);
    expect(abi.svsmResultName(code)).toBe(name);
  });
  it('numbers without a name', () => expect(abi.svsmResultName(0x8000_0fff)).toBe('0x80000fff'));
});

describe('SVSM numbers', () => {
  it.each([
    [abi.SVSM_VTPM_BUFFER, 4096], [abi.SVSM_VTPM_LONGEST_COMMAND, 4087], [abi.SVSM_VTPM_LONGEST_RESPONSE, 4092], [abi.SVSM_NONCE_BYTES, 64], [abi.SVSM_CERTIFICATE_BYTES, 0x4000],
    [abi.SVSM_PROTOCOL_VERSION, 1], [abi.TpmPlatformCommand.SendCommand, 8], [abi.TpmPlatformCommand.TestFailureMode, 30],
  ])('%i is %i', (is, want) => expect(is).toBe(want));
  it('offers the registers of the emulated APIC', () => {
    expect(abi.svsmApicRegisters.map(({ from, to, read, write }) => `${from.toString(16)}-${to.toString(16)} ${read ? 'r' : ''}${write ? 'w' : ''}`)).toEqual([
      '802-802 r', '808-808 rw', '80a-80a r', '80b-80b w', '80d-80d r', '810-817 r', '818-81f r', '820-827 r', '830-830 rw', '83f-83f w',
    ]);
  });
});
