import { guidBytes, SvsmAttestServices, SvsmAttestSingleService, SvsmResult as R, SvsmService } from '@vmplanes/abi-svsm';
import type { SnpOptions } from '@vmplanes/personality-sev-snp-vmpl';
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { At, type Answered, SvsmRig } from './svsm-rig.ts';

const page = 4096;
const NONCE = Uint8Array.from({ length: 64 }, (_, i) => i + 1);
/** Where the tests put report, nonce and manifest; certificates take four pages. */
const Out = { report: At.a, nonce: At.b, manifest: At.c, certificates: 0x80_5000 } as const;

type Services = Parameters<typeof SvsmAttestServices.write>[2];
const good: Services = {
  reportGpa: BigInt(Out.report), reportSize: page, nonceGpa: BigInt(Out.nonce), nonceSize: 64, manifestGpa: BigInt(Out.manifest), manifestSize: page, certificateGpa: 0n, certificateSize: 0,
};

interface Setup {
  readonly options?: Partial<SnpOptions>;
  readonly op?: Partial<Services>;
  /** GUID of a single service, and its manifest version. */
  readonly single?: { readonly guid?: string; readonly version?: number };
  readonly at?: number;
  /** Bytes that differ in the structure: offset and value. */
  readonly poke?: readonly [at: number, value: number];
  readonly before?: (rig: SvsmRig) => void;
  readonly rdx?: bigint;
  readonly r8?: bigint;
}
const attest = ({ options = {}, op = {}, single, at = At.list, poke, before, rdx = 0xffff_ffff_ffff_ffffn, r8 = 0xffff_ffff_ffff_ffffn }: Setup = {}): { readonly rig: SvsmRig; readonly out: Answered } => {
  const rig = new SvsmRig(options);
  const layout = single ? SvsmAttestSingleService : SvsmAttestServices;
  const bytes = new Uint8Array(layout.size);
  const fields = { ...good, ...op };
  if (single) SvsmAttestSingleService.write(new DataView(bytes.buffer), 0, { ...fields, service: guidBytes(single.guid ?? SvsmService.Vtpm), manifestVersion: single.version ?? 0 });
  else SvsmAttestServices.write(new DataView(bytes.buffer), 0, fields);
  if (poke) bytes[poke[0]] = poke[1];
  rig.write(at, bytes);
  rig.write(Out.nonce, NONCE);
  before?.(rig);
  return { rig, out: rig.call({ protocol: 1, call: single ? 1 : 0, rcx: at, rdx, r8 }) };
};
const hex = (n: number): string => `0x${n.toString(16)}`;
/** A table of certificates that is not empty. */
const table = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 7 + 1) & 0xff);
const withCertificates = (length: number) => (rig: SvsmRig): void => void (rig.requests.certificates = table(length));

// Response to TPM2_CreatePrimary with a public area of 314 bytes (TPMT_PUBLIC of an RSA 2048 key).
const PUBLIC = 'ab'.repeat(314);
const created = `80020000${(20 + 314 + 8).toString(16).padStart(4, '0')}00000000800000ff00000140013a${PUBLIC}${'00'.repeat(8)}`;
const tpmAnswers = (rig: SvsmRig): void => void rig.tpm.push('80010000000a00000100', '80010000000a00000000', created, '80010000000a00000000');

describe('SVSM_ATTEST_SERVICES', () => {
  it('gives a report over nonce and manifest, with the lengths', () => {
    const { rig, out } = attest();
    expect(out).toEqual({ result: 0, rcx: 24n, rdx: 0n, r8: 0x4a0n, pending: 0 });
    const manifest = rig.read(Out.manifest, 24);
    // No services: the GUID, the length of the head alone, no entries.
    expect(Buffer.from(manifest).toString('hex')).toBe('bb9e8463923d7046a1ff58f9c94b87bb' + '18000000' + '00000000');
    const data = createHash('sha512').update(NONCE).update(manifest).digest();
    expect(Buffer.from(rig.read(Out.report + 0x50, 64))).toEqual(data);
    expect(rig.requests.asked.map(({ sequence, vmpl }) => ({ sequence, vmpl }))).toEqual([{ sequence: 1n, vmpl: 0 }]);
  });
  it('the next request has the number 3', () => {
    const { rig } = attest();
    rig.call({ protocol: 1, call: 0, rcx: At.list });
    expect(rig.requests.asked.map((a) => a.sequence)).toEqual([1n, 3n]);
  });
  it('the structure may cross a page and lie in the calling area', () => {
    expect(attest({ at: At.list + page - 8, before: (rig) => rig.write(At.list + page - 8 + 0x40, new Uint8Array(0)) , op: { reportGpa: BigInt(At.d), } }).out.result).toBe(0);
    expect(attest({ at: At.caa + 8 }).out.result).toBe(0);
  });
  it('certificates are given where they are asked for', () => {
    const { rig, out } = attest({ op: { certificateGpa: BigInt(Out.certificates), certificateSize: 0x4000 }, before: withCertificates(600) });
    expect(out).toMatchObject({ result: 0, rdx: 600n });
    expect(rig.read(Out.certificates, 600)).toEqual(table(600));
  });
  it('a buffer as long as they are is enough', () => expect(attest({ op: { certificateGpa: BigInt(Out.certificates), certificateSize: 600 }, before: withCertificates(600) }).out.result).toBe(0));
  it('a host without certificates: length 0', () => expect(attest({ op: { certificateGpa: BigInt(Out.certificates), certificateSize: 0x4000 } }).out).toMatchObject({ result: 0, rdx: 0n }));
  it('not asked for, none are given', () => expect(attest({ before: withCertificates(600) }).out).toMatchObject({ result: 0, rdx: 0n }));

  it.each([
    ['structure beyond memory', { at: At.memory - 8, before: (rig: SvsmRig) => rig.rmp.launch(At.memory / page - 1, [0, 0xf, 0], false) }, R.InvalidParameter],
    ['structure in shared memory', { at: At.shared }, R.InvalidParameter],
    ['structure at the head of the calling area', { at: At.caa - 8 }, R.InvalidParameter],
    ['reserved word at 0x0c', { poke: [0x0c, 1] }, R.InvalidParameter],
    ['reserved bytes at 0x1a', { poke: [0x1f, 1] }, R.InvalidParameter],
    ['reserved word at 0x2c', { poke: [0x2f, 1] }, R.InvalidParameter],
    ['reserved word at 0x3c', { poke: [0x3c, 1] }, R.InvalidParameter],
    ['nonce of 63 bytes', { op: { nonceSize: 63 } }, R.InvalidParameter],
    ['nonce of 65 bytes', { op: { nonceSize: 65 } }, R.InvalidParameter],
    ['nonce of 0 bytes', { op: { nonceSize: 0 } }, R.InvalidParameter],
    ['nonce that crosses a page', { op: { nonceGpa: BigInt(Out.nonce + page - 63) } }, R.InvalidParameter],
    ['nonce beyond memory', { op: { nonceGpa: BigInt(At.memory) } }, R.InvalidParameter],
    ['nonce at an address of all ones', { op: { nonceGpa: 0xffff_ffff_ffff_ffc0n } }, R.InvalidParameter],
    ['manifest not page aligned', { op: { manifestGpa: BigInt(Out.manifest + 8) } }, R.InvalidParameter],
    ['report not page aligned', { op: { reportGpa: BigInt(Out.report + 8) } }, R.InvalidParameter],
    ['certificates not page aligned', { op: { certificateGpa: BigInt(Out.certificates + 8), certificateSize: 0x4000 } }, R.InvalidParameter],
    ['certificates not aligned, but none wanted', { op: { certificateGpa: BigInt(Out.certificates + 8) } }, 0],
    ['certificate buffer above 16 KiB', { op: { certificateGpa: BigInt(Out.certificates), certificateSize: 0x4001 } }, R.InvalidParameter],
    ['manifest region that wraps', { op: { manifestGpa: 0xffff_ffff_ffff_f000n, manifestSize: 0x1000 } }, R.InvalidAddress],
    ['report region that wraps', { op: { reportGpa: 0xffff_ffff_ffff_f000n, reportSize: 0x1000 } }, R.InvalidAddress],
    ['report buffer beyond memory', { op: { reportGpa: BigInt(At.memory) } }, R.InvalidAddress],
    ['manifest buffer beyond memory', { op: { manifestGpa: BigInt(At.memory) } }, R.InvalidAddress],
    ['report buffer in the memory of the SVSM', { op: { reportGpa: BigInt(At.svsm) } }, R.InvalidAddress],
    ['report buffer that is not valid', { op: { reportGpa: BigInt(At.fresh) } }, R.InvalidAddress],
    ['report buffer in the calling area', { op: { reportGpa: BigInt(At.caa) } }, R.InvalidAddress],
  ] as readonly (readonly [string, Setup, number])[])('%s', (_what, setup, result) => expect(hex(attest(setup).out.result)).toBe(hex(result)));

  it('buffers that are too small: the lengths say what is needed, and nobody is asked', () => {
    for (const op of [{ reportSize: 0x49f }, { manifestSize: 23 }]) {
      const { rig, out } = attest({ op });
      expect(out).toMatchObject({ result: R.InvalidParameter, rcx: 24n, rdx: 0n, r8: 0x4a0n });
      expect(rig.requests.asked).toEqual([]);
    }
  });
  it('a certificate buffer that is too small', () => {
    const { out } = attest({ op: { certificateGpa: BigInt(Out.certificates), certificateSize: 599 }, before: withCertificates(600) });
    expect(out).toMatchObject({ result: R.InvalidParameter, rdx: 600n, r8: 0x4a0n });
  });
  it('certificates of more than four pages: how many are needed, R8 as it was', () => {
    const { out } = attest({ op: { certificateGpa: BigInt(Out.certificates), certificateSize: 0x4000 }, before: withCertificates(0x4001), options: { svsmDeviations: ['attestationOrder'] } });
    expect(out).toMatchObject({ result: R.InvalidParameter, rcx: 24n, rdx: 0x5000n, r8: 0xffff_ffff_ffff_ffffn });
  });
  it('an error in the structure leaves the registers as they were', () => {
    expect(attest({ op: { nonceSize: 1 }, rdx: 5n, r8: 6n }).out).toEqual({ result: R.InvalidParameter, rcx: BigInt(At.list), rdx: 5n, r8: 6n, pending: 0 });
  });
  it('the report stays where the manifest cannot be stored: it is copied first', () => {
    const { rig, out } = attest({ op: { manifestGpa: BigInt(At.fresh) } });
    expect(out.result).toBe(R.InvalidAddress);
    expect(rig.word(Out.report)).toBe(2n);
  });
});

describe('SVSM_ATTEST_SERVICES in the order of COCONUT', () => {
  const options = { svsmDeviations: ['attestationOrder'] } as const;
  it('the security processor is asked before the buffers are looked at: its number is used up', () => {
    const { rig, out } = attest({ options, op: { reportGpa: BigInt(Out.report + 8) } });
    expect(out.result).toBe(R.InvalidParameter);
    expect(rig.requests.asked).toHaveLength(1);
    expect(attest({ op: { reportGpa: BigInt(Out.report + 8) } }).rig.requests.asked).toHaveLength(0);
  });
  it('certificates have 16 KiB, whatever they hold', () => {
    const op = { certificateGpa: BigInt(Out.certificates), certificateSize: 0x4000 };
    expect(attest({ options, op: { ...op, certificateSize: 0x3fff }, before: withCertificates(600) }).out).toMatchObject({ result: R.InvalidParameter, rdx: 0x4000n });
    expect(attest({ options, op, before: withCertificates(600) }).out).toMatchObject({ result: 0, rdx: 0x4000n });
  });
});

describe('the security processor', () => {
  it('an error of it ends the talk: the key is used no more', () => {
    const { rig, out } = attest({ before: (r) => void (r.requests.status = 0x16) });
    expect(out.result).toBe(R.InvalidRequest);
    rig.requests.status = 0;
    expect(rig.call({ protocol: 1, call: 0, rcx: At.list }).result).toBe(R.InvalidRequest);
    expect(rig.requests.asked).toHaveLength(1);
  });
  it('a response that was changed on the way', () => {
    const { out } = attest({ before: (r) => void (r.requests.spoil = (p) => void (p[0x100]! ^= 1)) });
    expect(out.result).toBe(R.InvalidRequest);
  });
  it.each([['sequence', 0x20], ['algorithm', 0x30], ['type', 0x34], ['message version', 0x35], ['key', 0x3c]] as const)('a response whose %s is not that of the request', (_what, at) => {
    const { out } = attest({ before: (r) => void (r.requests.spoil = (p) => void (p[at]! ^= 1)) });
    expect(out.result).toBe(R.InvalidFormat);
  });
  it('a status in the message', () => {
    const { out } = attest({ before: (r) => void (r.requests.tamper = (p) => void (p[0] = 0x16)) });
    expect(out.result).toBe(R.InvalidRequest);
  });
});

describe('SVSM_ATTEST_SINGLE_SERVICE', () => {
  const vtpm: Partial<SnpOptions> = { vtpm: true };
  it('the vTPM: its manifest is the public part of the endorsement key', () => {
    const { rig, out } = attest({ single: {}, options: vtpm, before: tpmAnswers });
    expect(out).toMatchObject({ result: 0, rcx: 314n, r8: 0x4a0n });
    expect(Buffer.from(rig.read(Out.manifest, 314)).toString('hex')).toBe(PUBLIC);
    // Not started, so it is; then the key is made, and its object dropped.
    expect(rig.commands.map((c) => c.slice(12, 20))).toEqual(['00000131', '00000144', '00000131', '00000165']);
    expect(rig.commands[3]).toBe('80010000000e00000165800000ff');
    const data = createHash('sha512').update(NONCE).update(Buffer.from(PUBLIC, 'hex')).digest();
    expect(Buffer.from(rig.read(Out.report + 0x50, 64))).toEqual(data);
  });
  it('the key is asked for once', () => {
    const { rig } = attest({ single: {}, options: vtpm, before: tpmAnswers });
    expect(rig.call({ protocol: 1, call: 1, rcx: At.list }).result).toBe(0);
    expect(rig.commands).toHaveLength(4);
  });
  it('a TPM that gives none: there is no such service', () => expect(attest({ single: {}, options: vtpm }).out.result).toBe(R.UnsupportedProtocol));
  it.each([
    ['no TPM: no such service', { single: {} }, R.UnsupportedProtocol],
    ['UEFI MM', { single: { guid: SvsmService.UefiMm } }, R.UnsupportedProtocol],
    ['an unknown GUID', { single: { guid: '00000000-0000-0000-0000-000000000000' } }, R.UnsupportedProtocol],
    ['manifest version 1', { single: { version: 1 } }, R.InvalidParameter],
    ['reserved word at 0x54', { single: {}, poke: [0x54, 1] }, R.InvalidParameter],
    ['the structure is judged before the service', { single: { guid: SvsmService.UefiMm, version: 1 } }, R.InvalidParameter],
  ] as readonly (readonly [string, Setup, number])[])('%s', (_what, setup, result) => expect(hex(attest(setup).out.result)).toBe(hex(result)));
  it('all services with a TPM: one entry, then its manifest', () => {
    const { rig, out } = attest({ options: vtpm, before: tpmAnswers });
    expect(out.rcx).toBe(BigInt(24 + 24 + 314));
    const bytes = Buffer.from(rig.read(Out.manifest, 48)).toString('hex');
    expect(bytes.slice(32)).toBe('6a010000' + '01000000' + 'ebf176c42301a5459641b4e7dde5bfe3' + '30000000' + '3a010000');
  });
});
