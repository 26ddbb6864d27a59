import * as abi from '@vmplanes/abi-sev-snp';
import { hexBytes } from '@vmplanes/binary';
import { describe, expect, it } from 'vitest';

type Described = { readonly name: string; readonly size: number; readonly at: Readonly<Record<string, number>> };

/** Typed by hand from the tables of the specification: size, then offsets in order, reserved fields left out. */
const STRUCTS: readonly (readonly [layout: Described, size: number, at: Readonly<Record<string, number>>])[] = [
  [abi.AttestationReport, 0x4a0, {
    version: 0, guestSvn: 4, policy: 8, familyId: 0x10, imageId: 0x20, vmpl: 0x30, signatureAlgo: 0x34, currentTcb: 0x38, platformInfo: 0x40, keyInfo: 0x48, reportData: 0x50, measurement: 0x90, hostData: 0xc0,
    idKeyDigest: 0xe0, authorKeyDigest: 0x110, reportId: 0x140, reportIdMa: 0x160, reportedTcb: 0x180, cpuidFamily: 0x188, cpuidModel: 0x189, cpuidStepping: 0x18a, chipId: 0x1a0, committedTcb: 0x1e0,
    currentBuild: 0x1e8, currentMinor: 0x1e9, currentMajor: 0x1ea, committedBuild: 0x1ec, committedMinor: 0x1ed, committedMajor: 0x1ee, launchTcb: 0x1f0, launchMitVector: 0x1f8, currentMitVector: 0x200, signature: 0x2a0,
  }],
  [abi.EcdsaSignature, 512, { r: 0, s: 72 }],
  [abi.EcdsaPublicKey, 1028, { curve: 0, qx: 4, qy: 76 }],
  [abi.TcbVersion, 8, { bootLoader: 0, tee: 1, snp: 6, microcode: 7 }],
  [abi.TcbVersionTurin, 8, { fmc: 0, bootLoader: 1, tee: 2, snp: 3, microcode: 7 }],
  [abi.MessageHeader, 0x60, { authTag: 0, sequence: 0x20, algo: 0x30, headerVersion: 0x31, headerSize: 0x32, type: 0x34, version: 0x35, size: 0x36, vmpck: 0x3c }],
  [abi.ReportRequest, 96, { reportData: 0, vmpl: 64, flags: 68 }],
  [abi.ReportResponse, 32 + 0x4a0, { status: 0, size: 4, report: 32 }],
  [abi.KeyRequest, 32, { rootKeySelect: 0, guestFieldSelect: 8, vmpl: 16, guestSvn: 20, tcbVersion: 24 }],
  [abi.KeyRequestV2, 40, { rootKeySelect: 0, guestFieldSelect: 8, vmpl: 16, guestSvn: 20, tcbVersion: 24, launchMitVector: 32 }],
  [abi.KeyResponse, 64, { status: 0, key: 32 }],
  [abi.TscInfoRequest, 128, {}],
  [abi.TscInfoResponse, 128, { status: 0, scale: 8, offset: 16, factor: 24 }],
  [abi.CpuidFunction, 48, { eaxIn: 0, ecxIn: 4, xcr0In: 8, xssIn: 16, eax: 24, ebx: 28, ecx: 32, edx: 36 }],
  [abi.CpuidPage, 4096, { count: 0, functions: 16 }],
  [abi.SecretsPage, 4096, {
    version: 0, flags: 4, fms: 8, gosvw: 0x10, vmpck0: 0x20, vmpck1: 0x40, vmpck2: 0x60, vmpck3: 0x80, guestArea: 0xa0, vmsaTweakBitmap: 0x100, svsmBase: 0x140, svsmSize: 0x148, svsmCaa: 0x150,
    svsmMaxVersion: 0x158, svsmGuestVmpl: 0x15c, tscFactor: 0x160, launchMitVector: 0x168,
  }],
  // Within the page: A0, B0, B8, DE and E0.
  [abi.SecretsGuestArea, 96, { sequenceLow: 0, apJumpTable: 0x10, sequenceHigh: 0x18, layoutVersion: 0x3e, guestUsage: 0x40 }],
  [abi.PageInfo, 0x70, { digestCurrent: 0, contents: 0x30, length: 0x60, pageType: 0x62, imi: 0x63, vmpl3Perms: 0x64, vmpl2Perms: 0x65, vmpl1Perms: 0x66, gpa: 0x68 }],
  [abi.IdBlock, 96, { launchDigest: 0, familyId: 0x30, imageId: 0x40, version: 0x50, guestSvn: 0x54, policy: 0x58 }],
  [abi.IdAuth, 4096, { idKeyAlgo: 0, authorKeyAlgo: 4, idBlockSignature: 0x40, idKey: 0x240, idKeySignature: 0x680, authorKey: 0x880 }],
  [abi.CertificateTableEntry, 24, { guid: 0, offset: 16, length: 20 }],
];

describe('structures of the firmware interface', () => {
  it.each(STRUCTS.map((row) => [row[0].name, ...row] as const))('%s', (_name, layout, size, at) => {
    expect(layout.size).toBe(size);
    expect(Object.fromEntries(Object.entries(layout.at).filter(([name]) => !name.startsWith('reserved')))).toEqual(at);
  });
});

describe('numbers of the firmware interface', () => {
  it.each([
    [0, 'Success'], [1, 'InvalidPlatformState'], [2, 'InvalidGuestState'], [3, 'InvalidConfig'], [4, 'InvalidLength'], [5, 'AlreadyOwned'], [6, 'InvalidCertificate'], [7, 'PolicyFailure'], [8, 'Inactive'], [9, 'InvalidAddress'],
    [0xa, 'BadSignature'], [0xb, 'BadMeasurement'], [0xc, 'AsidOwned'], [0xd, 'InvalidAsid'], [0xe, 'WbinvdRequired'], [0xf, 'DfFlushRequired'], [0x10, 'InvalidGuest'], [0x11, 'InvalidCommand'], [0x12, 'Active'],
    [0x13, 'HardwarePlatform'], [0x14, 'HardwareUnsafe'], [0x15, 'Unsupported'], [0x16, 'InvalidParam'], [0x17, 'ResourceLimit'], [0x18, 'SecureDataInvalid'], [0x19, 'InvalidPageSize'], [0x1a, 'InvalidPageState'],
    [0x1b, 'InvalidMetadataEntry'], [0x1c, 'InvalidPageOwner'], [0x1d, 'AeadOverflow'], [0x1f, 'RingBufferExit'], [0x20, 'RmpInitRequired'], [0x21, 'BadSvn'], [0x22, 'BadVersion'], [0x23, 'ShutdownRequired'],
    [0x24, 'UpdateFailed'], [0x25, 'RestoreRequired'], [0x26, 'RmpInitFailed'], [0x27, 'InvalidKey'],
  ] as const)('status %i is %s', (number, name) => {
    expect(abi.FirmwareStatus[name]).toBe(number);
    expect(abi.firmwareStatusName(number)).toBe(name);
    expect(abi.firmwareStatusMeaning(number)).not.toBe('not a known status');
  });
  it('names a status that does not exist by its number', () => {
    expect([abi.firmwareStatusName(0x1e), abi.firmwareStatusMeaning(0x1e)]).toEqual(['status 0x1e', 'not a known status']);
    expect(Object.keys(abi.FirmwareStatus)).toHaveLength(39);
  });

  it.each(['Cpuid', 'Key', 'Report', 'Export', 'Import', 'Absorb', 'Vmrk', 'AbsorbNoma', 'TscInfo'].map((name, i) => [name, 2 * i + 1] as const))('message %s is %i and its answer the next', (name, type) => {
    const types: Readonly<Record<string, number>> = abi.MessageType;
    expect([types[`${name}Request`], types[`${name}Response`]]).toEqual([type, type + 1]);
    expect(abi.messageTypeName(type)).toBe(`${name}Request`);
  });
  it('has nine requests', () => expect(abi.requestTypes).toEqual([1, 3, 5, 7, 9, 11, 13, 15, 17]));

  it.each([['Normal', 1, true], ['Vmsa', 2, true], ['Zero', 3, false], ['Unmeasured', 4, false], ['Secrets', 5, false], ['Cpuid', 6, false]] as const)('page type %s is %i; contents measured: %s', (name, type, measured) => {
    expect(abi.LaunchPageType[name]).toBe(type);
    expect(abi.isContentMeasured(type)).toBe(measured);
  });

  it('packs policies bit by bit', () => {
    expect(abi.GuestPolicy.pack({ smt: true, mustBeOne: true, debug: true })).toBe(0xb0000n);
    expect(abi.GuestPolicy.pack({ abiMajor: 1, abiMinor: 0x37, singleSocket: true, pageSwapDisable: true })).toBe(0x2100137n);
    expect(abi.GuestPolicy.reservedMask).toBe(0xffff_ffff_fc00_0000n);
    expect(abi.SevPolicy.pack({ es: true, noDebug: true })).toBe(5);
    expect(abi.KeyInfo.pack({ signingKey: abi.SigningKey.None })).toBe(0x1c);
    expect(abi.KeyInfo.pack({ signingKey: abi.SigningKey.Vlek, authorKeyEn: true })).toBe(5);
    expect(abi.PlatformInfo.pack({ smtEnabled: true, aliasCheckComplete: true, tio: true })).toBe(0xa1n);
    expect(abi.RootKeySelect.pack({ vmrk: true, keySelect: abi.KeySelect.Vlek })).toBe(5);
  });
});

describe('certificate table', () => {
  it('lists each certificate and ends with a row of zeroes', () => {
    const table = abi.encodeCertificateTable([[abi.CertificateGuid.Vcek, Uint8Array.of(1, 2, 3)], [abi.CertificateGuid.Ark, Uint8Array.of(4)]]);
    // A verifier takes the bytes of the GUID in the order of its text.
    expect(hexBytes(table.subarray(0, 24))).toBe('63da758de6644564adc5f4b93be8accd4800000003000000');
    expect(hexBytes(table.subarray(24, 48))).toBe('c0b406a4a803495297433fb6014cd0ae4b00000001000000');
    expect(hexBytes(table.subarray(48, 72))).toBe('00'.repeat(24));
    expect([...table.subarray(72)]).toEqual([1, 2, 3, 4]);
  });
  it('is one row of zeroes without certificates', () => expect(hexBytes(abi.encodeCertificateTable([]))).toBe('00'.repeat(24)));
});
