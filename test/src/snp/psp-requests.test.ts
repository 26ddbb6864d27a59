import { FirmwareStatus } from '@vmplanes/abi-sev-snp';
import { hexBytes } from '@vmplanes/binary';
import { type FirmwareSettings, personality, type PlatformConfig } from '@vmplanes/personality-sev-snp-vmpl';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PLATFORM, PspGuest, readReport, runningProcessor } from './psp-guest.ts';

const guestOf = (platform: Partial<PlatformConfig> = {}, settings: Partial<FirmwareSettings> = {}): PspGuest => new PspGuest(runningProcessor(platform, settings));
const ZERO = (n: number): string => '00'.repeat(n);
const { InvalidParam, InvalidKey, Success } = FirmwareStatus;

describe('attestation report', () => {
  it('has every field at its place', () => {
    const guest = guestOf();
    const context = guest.psp.guest;
    Object.assign(context, {
      guestSvn: 0x01020304, familyId: new Uint8Array(16).fill(0xfa), imageId: new Uint8Array(16).fill(0x1a), hostData: new Uint8Array(32).fill(0xda), idKeyDigest: new Uint8Array(48).fill(0xd1),
      authorKeyDigest: new Uint8Array(48).fill(0xa1), hasAuthorKey: true, digest: new Uint8Array(48).fill(0x3e), policy: 0xb0000n,
    });
    const { status, size, report } = guest.report({ data: new Uint8Array(64).fill(0x5a), vmpl: 2 });
    expect([status, size, report.length]).toEqual([Success, 0x4a0, 0x4a0]);
    // Offsets and values from the table of the specification, not through the declared layout.
    const at = (offset: number, length: number): string => hexBytes(report.subarray(offset, offset + length));
    expect(at(0x000, 4)).toBe('03000000');
    expect(at(0x004, 4)).toBe('04030201');
    expect(at(0x008, 8)).toBe('00000b0000000000');
    expect(at(0x010, 32)).toBe('fa'.repeat(16) + '1a'.repeat(16));
    expect(at(0x030, 8)).toBe('0200000001000000');
    expect(at(0x038, 8)).toBe('0301000000000873');
    expect(at(0x040, 8)).toBe('0100000000000000');
    expect(at(0x048, 8)).toBe('0100000000000000');
    expect(at(0x050, 64)).toBe('5a'.repeat(64));
    expect(at(0x090, 48)).toBe('3e'.repeat(48));
    expect(at(0x0c0, 32)).toBe('da'.repeat(32));
    expect(at(0x0e0, 96)).toBe('d1'.repeat(48) + 'a1'.repeat(48));
    expect(at(0x140, 32)).toBe(hexBytes(context.reportId));
    expect(at(0x160, 32)).toBe('ff'.repeat(32));
    expect(at(0x180, 8)).toBe('0301000000000873');
    expect(at(0x188, 24)).toBe('191101' + ZERO(21));
    expect(at(0x1a0, 64)).toBe(hexBytes(guest.psp.platform.chipId));
    expect(at(0x1e0, 8)).toBe('0301000000000873');
    expect(at(0x1e8, 8)).toBe('0137010001370100');
    expect(at(0x1f0, 8)).toBe('0301000000000873');
    expect(at(0x1f8, 0xa8)).toBe(ZERO(0xa8));
    expect(at(0x2a0 + 144, 368)).toBe(ZERO(368));
  });

  it.each([
    [2, ZERO(24), ZERO(16)],
    [3, '191101' + ZERO(21), ZERO(16)],
    [4, '191101' + ZERO(21), ZERO(16)],
    [5, '191101' + ZERO(21), '0300000000000000'.repeat(2)],
  ] as const)('of version %i has the fields of that version alone', (reportVersion, cpuid, mitigations) => {
    const { report } = guestOf({}, { reportVersion, mitVector: 3n }).report();
    expect(report[0]).toBe(reportVersion);
    expect(hexBytes(report.subarray(0x188, 0x1a0))).toBe(cpuid);
    expect(hexBytes(report.subarray(0x1f8, 0x208))).toBe(mitigations);
    expect(hexBytes(report.subarray(0x208, 0x2a0))).toBe(ZERO(152));
  });

  it('has the later TCB form and eight bytes of chip id from family 1Ah on', () => {
    const { report } = guestOf({ family: 0x1a, model: 2, stepping: 1, tcb: { fmc: 7, bootLoader: 3, tee: 1, snp: 8, microcode: 115 } }).report();
    for (const at of [0x38, 0x180, 0x1e0, 0x1f0]) expect(hexBytes(report.subarray(at, at + 8))).toBe('0703010800000073');
    expect(report.subarray(0x1a0, 0x1a8).some((b) => b !== 0)).toBe(true);
    expect(hexBytes(report.subarray(0x1a8, 0x1e0))).toBe(ZERO(56));
  });

  it('is the same for the same question, and different for another one', () => {
    const [a, b] = [guestOf(), guestOf()];
    expect(a.report().report).toEqual(b.report().report);
    expect(a.report({ data: new Uint8Array(64).fill(1) }).report).not.toEqual(b.report().report);
  });

  it('differs between platforms in identity, keys and identifiers', () => {
    const a = guestOf();
    const b = guestOf({ seed: PLATFORM.seed.map((x) => x ^ 1) });
    const [ra, rb] = [readReport(a.report().report), readReport(b.report().report)];
    expect(ra.chipId).not.toEqual(rb.chipId);
    expect(ra.reportId).not.toEqual(rb.reportId);
    expect(a.psp.keys).not.toEqual(b.psp.keys);
    expect(new Set(a.psp.keys.map(hexBytes)).size).toBe(4);
  });

  it.each([0, 1, 2, 3].flatMap((vmpck) => [0, 1, 2, 3, 4, 0x8000_0000, 0xffff_ffff].map((vmpl) => [vmpck, vmpl] as const)))('under key %i for VMPL %i', (vmpck, vmpl) => {
    const { status, size, report } = guestOf({ signing: 'none' }).report({ vmpck, vmpl });
    const isAllowed = vmpl >= vmpck && vmpl <= 3;
    expect([status, size]).toEqual(isAllowed ? [Success, 0x4a0] : [InvalidParam, 0]);
    if (isAllowed) expect(readReport(report).vmpl).toBe(vmpl);
    else expect(report.every((b) => b === 0)).toBe(true);
  });

  it.each([
    ['none', false, 0, Success, 7], ['none', false, 1, InvalidKey, -1], ['none', false, 2, InvalidKey, -1], ['none', true, 0, Success, 7],
    ['vcek', false, 0, Success, 0], ['vcek', false, 1, Success, 0], ['vcek', false, 2, InvalidKey, -1],
    ['vcek', true, 0, InvalidKey, -1], ['vcek', true, 1, InvalidKey, -1],
    ['vlek', false, 0, Success, 1], ['vlek', false, 1, Success, 0], ['vlek', false, 2, Success, 1],
    ['vlek', true, 0, Success, 1], ['vlek', true, 1, InvalidKey, -1],
    ['vlek', false, 3, InvalidParam, -1],
  ] as const)('signing %s, VCEK disabled %s, KEY_SEL %i', (signing, isVcekDisabled, flags, status, signingKey) => {
    const guest = guestOf({ signing });
    guest.psp.guest.isVcekDisabled = isVcekDisabled;
    const answer = guest.report({ flags });
    expect(answer.status).toBe(status);
    if (status !== Success) return;
    expect((readReport(answer.report).keyInfo >> 2) & 7).toBe(signingKey);
    const isSigned = answer.report.subarray(0x2a0).some((b) => b !== 0);
    expect(isSigned).toBe(signingKey !== 7);
  });

  it.each([[4, 0], [8, 0], [0x8000_0000, 0], [0, 1]])('with reserved flags 0x%x or a reserved byte %i is refused', (flags, reserved) => {
    expect(guestOf().report({ flags: flags >>> 0, reserved }).status).toBe(InvalidParam);
  });

  it('a refusal is a response like another: the next number follows', () => {
    const guest = guestOf({ signing: 'none' });
    expect(guest.report({ vmpl: 4 }).status).toBe(InvalidParam);
    expect(guest.report().status).toBe(Success);
    expect(guest.psp.guest.sequences[0]).toBe(4n);
  });
});

interface KeyArguments {
  readonly root?: number;
  readonly reserved?: number;
  readonly select?: bigint;
  readonly vmpl?: number;
  readonly svn?: number;
  readonly tcb?: string;
  readonly mit?: bigint;
  readonly version?: number;
  readonly vmpck?: number;
}
function keyOf(guest: PspGuest, { root = 0, reserved = 0, select = 0n, vmpl = 0, svn = 0, tcb = ZERO(8), mit = 0n, version = 1, vmpck = 0 }: KeyArguments = {}): { readonly status: number; readonly key: string } {
  const payload = Buffer.alloc(version === 1 ? 32 : 40);
  payload.writeUInt32LE(root, 0);
  payload.writeUInt32LE(reserved, 4);
  payload.writeBigUInt64LE(select, 8);
  payload.writeUInt32LE(vmpl, 16);
  payload.writeUInt32LE(svn, 20);
  payload.write(tcb, 24, 'hex');
  if (version > 1) payload.writeBigUInt64LE(mit, 32);
  const { response } = guest.send(3, payload, { version, vmpck });
  const out = Buffer.from(response!.payload);
  expect([response!.type, response!.version, out.length, hexBytes(out.subarray(4, 32))]).toEqual([4, version, 64, ZERO(28)]);
  return { status: out.readUInt32LE(0), key: hexBytes(out.subarray(32)) };
}

describe('derived keys', () => {
  const settings: Partial<FirmwareSettings> = { mitVector: 5n };
  const withSvn = (): PspGuest => {
    const guest = guestOf({ signing: 'vlek' }, settings);
    guest.psp.guest.guestSvn = 5;
    return guest;
  };

  it.each<[string, KeyArguments, number]>([
    ['nothing selected', {}, Success],
    ['all of version 1', { select: 0x3fn, svn: 5, tcb: '0301000000000873' }, Success],
    ['all of version 2', { version: 2, select: 0x7fn, svn: 5, mit: 5n }, Success],
    ['the key that is loaded', { root: 2 << 1 }, Success],
    ['the key of the chip', { root: 1 << 1 }, Success],
    ['the root key of the VM', { root: 1 }, InvalidKey],
    ['no such key', { root: 3 << 1 }, InvalidParam],
    ['a reserved bit of the root', { root: 8 }, InvalidParam],
    ['the highest reserved bit of the root', { root: 0x8000_0000 }, InvalidParam],
    ['a reserved word', { reserved: 1 }, InvalidParam],
    ['the mitigation vector in version 1', { select: 0x40n }, InvalidParam],
    ['a reserved field', { version: 2, select: 0x80n }, InvalidParam],
    ['the highest reserved field', { version: 2, select: 1n << 63n }, InvalidParam],
    ['a more privileged VMPL', { vmpck: 2, vmpl: 1 }, InvalidParam],
    ['the own VMPL', { vmpck: 2, vmpl: 2 }, Success],
    ['a less privileged VMPL', { vmpck: 2, vmpl: 3 }, Success],
    ['VMPL 4', { vmpl: 4 }, InvalidParam],
    ['the SVN of the guest', { svn: 5 }, Success],
    ['an SVN above that of the guest', { svn: 6 }, InvalidParam],
    ['an older TCB', { tcb: '0200000000000772' }, Success],
    ['a boot loader not yet there', { tcb: '0400000000000000' }, InvalidParam],
    ['a TEE not yet there', { tcb: '0002000000000000' }, InvalidParam],
    ['a reserved part of the TCB', { tcb: '0000010000000000' }, InvalidParam],
    ['an SNP firmware not yet there', { tcb: '0000000000000900' }, InvalidParam],
    ['a microcode not yet there', { tcb: '0000000000000074' }, InvalidParam],
    ['a part of the mitigations', { version: 2, mit: 4n }, Success],
    ['a mitigation that was not there', { version: 2, mit: 2n }, InvalidParam],
  ])('%s', (_what, given, status) => {
    const answer = keyOf(withSvn(), given);
    expect(answer.status).toBe(status);
    expect(answer.key === ZERO(32)).toBe(status !== Success);
  });

  it('without a signing key there is no root', () => {
    for (const root of [0, 2, 4]) expect(keyOf(guestOf({ signing: 'none' }), { root }).status).toBe(InvalidKey);
  });

  it('is equal for equal fields and differs by every field that is selected', () => {
    const base: KeyArguments = { version: 2, select: 0x7fn, svn: 2, tcb: '0100000000000101', mit: 1n };
    const key = (given: KeyArguments, change: (guest: PspGuest) => void = () => undefined): string => {
      const guest = withSvn();
      change(guest);
      return keyOf(guest, given).key;
    };
    const variants = [
      key(base), key({ ...base, root: 2 }), key({ ...base, vmpl: 1 }), key({ ...base, svn: 3 }), key({ ...base, tcb: '0200000000000101' }), key({ ...base, mit: 4n }), key({ ...base, select: 0x3fn }),
      ...['policy', 'imageId', 'familyId', 'digest'].map((name) => key(base, (guest) => Object.assign(guest.psp.guest, { [name]: name === 'policy' ? 0xb0000n : new Uint8Array(name === 'digest' ? 48 : 16).fill(9) }))),
    ];
    expect(new Set(variants).size).toBe(variants.length);
    expect(key(base)).toBe(variants[0]);
  });

  it('does not depend on fields that are not selected', () => {
    const plain = keyOf(withSvn(), { version: 2 }).key;
    const guest = withSvn();
    Object.assign(guest.psp.guest, { policy: 0xb0000n, imageId: new Uint8Array(16).fill(1), familyId: new Uint8Array(16).fill(1), digest: new Uint8Array(48).fill(1) });
    expect(keyOf(guest, { version: 2, svn: 4, tcb: '0100000000000000', mit: 1n }).key).toBe(plain);
  });
});

describe('TSC information', () => {
  it('is scale, offset and factor of the guest', () => {
    const guest = guestOf();
    Object.assign(guest.psp.guest, { tscScale: 0x1_8000_0000n, tscOffset: 0xffff_ffff_ffff_fff0n, tscFactor: 200 });
    const { response } = guest.send(17, new Uint8Array(128));
    expect([response!.type, response!.payload.length]).toEqual([18, 128]);
    expect(hexBytes(response!.payload)).toBe(ZERO(8) + '0000008001000000' + 'f0ffffffffffffff' + 'c8000000' + ZERO(100));
  });
  it.each([0, 64, 127])('with byte %i set is refused', (at) => {
    const { response } = guestOf().send(17, new Uint8Array(128).fill(1, at, at + 1));
    expect(hexBytes(response!.payload)).toBe('16000000' + ZERO(124));
  });
});

describe('CPUID table check', () => {
  type Row = readonly [leaf: number, subleaf: number, eax: number, ebx: number, ecx: number, edx: number];
  function check(rows: readonly Row[], reserved = 0): { readonly status: number; readonly rows: readonly (readonly number[])[] } {
    const payload = Buffer.alloc(16 + rows.length * 48);
    payload.writeUInt32LE(rows.length, 0);
    payload.writeUInt32LE(reserved, 4);
    rows.forEach(([leaf, subleaf, ...out], i) => {
      payload.writeUInt32LE(leaf, 16 + i * 48);
      payload.writeUInt32LE(subleaf, 20 + i * 48);
      out.forEach((value, r) => payload.writeUInt32LE(value, 16 + i * 48 + 24 + 4 * r));
    });
    const out = Buffer.from(guestOf().send(1, payload).response!.payload);
    expect(out.readUInt32LE(4)).toBe(rows.length);
    return { status: out.readUInt32LE(0), rows: rows.map((_row, i) => [0, 4, 24, 28, 32, 36].map((at) => out.readUInt32LE(16 + i * 48 + at))) };
  }

  it.each<[string, Row, readonly number[] | null]>([
    ['features as they are', [7, 0, 0, 0xff, 0xff, 0xff], null],
    ['fewer features', [7, 0, 0, 0x0f, 0, 0x80], null],
    ['a feature too many', [7, 0, 0, 0x100, 0, 0], [7, 0, 0, 0, 0, 0]],
    ['features too many in two registers', [1, 0, 0, 0, 0x1ff, 0x8000_0001], [1, 0, 0, 0, 0xff, 1]],
    ['OSXSAVE, which the guest turns on itself', [1, 0, 0, 0, 1 << 27, 0], null],
    ['OSPKE, which the guest turns on itself', [7, 0, 0, 0, 1 << 4, 0], null],
    ['fewer leaves', [0, 0, 1, 0, 0, 0], null],
    ['more leaves', [0, 0, 3, 0, 0, 0], [0, 0, 2, 0, 0, 0]],
    ['more extended leaves', [0x8000_0000, 0, 0x8000_0003, 0, 0, 0], [0x8000_0000, 0, 0x8000_0002, 0, 0, 0]],
    ['topology, which is no feature', [0xb, 0, 0xffff, 0xffff, 0, 0], null],
    ['a processor id, which is no feature', [1, 0, 0xffff_ffff, 0xff00_0000, 0, 0], null],
  ])('%s', (_what, row, corrected) => {
    const answer = check([row, [0xd, 1, 0x3, 0, 0, 0]]);
    expect(answer).toEqual({ status: corrected === null ? Success : InvalidParam, rows: [corrected ?? [...row], [0xd, 1, 3, 0, 0, 0]] });
  });
  it('takes none and 64 functions, not 65', () => {
    const row: Row = [0xb, 0, 0, 0, 0, 0];
    expect(check([]).status).toBe(Success);
    expect(check(Array.from({ length: 64 }, () => row)).status).toBe(Success);
    const tooMany = Buffer.alloc(16 + 65 * 48);
    tooMany.writeUInt32LE(65, 0);
    expect(guestOf().send(1, tooMany).error).toBe(InvalidParam);
  });
  it('refuses reserved bytes', () => expect(check([], 1).status).toBe(InvalidParam));
  it('what it returns passes as it is', () => {
    const word = fc.nat(0xffff_ffff);
    const row = fc.tuple(fc.constantFrom(0, 1, 7, 0xd, 0x8000_0001, 0x8000_0008), fc.nat(1), word, word, word, word);
    fc.assert(
      fc.property(fc.array(row, { maxLength: 8 }), (rows) => {
        const first = check(rows);
        expect(check(first.rows as readonly Row[])).toEqual({ status: Success, rows: first.rows });
      }),
      { numRuns: 50 },
    );
  });
});

describe('the support matrix', () => {
  const rows = personality.support.filter((r) => ['guest-message', 'launch-page', 'report', 'signing-key'].includes(r.kind));
  it('lists every message, page type, report version and key; unsupported are those that need a migration agent or a root key of the VM', () => {
    expect(rows.filter((r) => r.support === 'no').map((r) => r.name)).toEqual(['ExportRequest', 'ImportRequest', 'AbsorbRequest', 'VmrkRequest', 'AbsorbNomaRequest']);
    expect(rows.filter((r) => r.support === 'yes').map((r) => r.name)).toEqual([
      'CpuidRequest', 'KeyRequest', 'ReportRequest', 'TscInfoRequest', 'Normal', 'Vmsa', 'Zero', 'Unmeasured', 'Secrets', 'Cpuid', 'version 2', 'version 3', 'version 4', 'version 5', 'Vcek', 'Vlek', 'None',
    ]);
  });
});
