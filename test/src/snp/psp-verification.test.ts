import { CertificateGuid } from '@vmplanes/abi-sev-snp';
import { SecurityProcessor, type SigningKeys } from '@vmplanes/personality-sev-snp-vmpl';
import { spawnSync } from 'node:child_process';
import { createPublicKey, verify, X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { npmPackage } from '../support/npm-package.ts';
import { systemTool } from '../support/system-tool.ts';
import { CPUID, PLATFORM, PspGuest, runningProcessor, SETTINGS } from './psp-guest.ts';

const openssl = systemTool('OpenSSL', { debianPackage: 'openssl', command: 'openssl' });
/** A maintained parser of reports that knows nothing of us. Its license (AGPL) keeps it out of our tree: tests run it from where it was unpacked. */
const parser = npmPackage('@tinfoilsh/verifier', '1.1.0', 'sha512-QQtCgZXL868MMnaDxh64NTfUi33/DXtJap343oeAWRCiu+D24fTbZHpZzj+fdcD0p8S41r3lo028sDwu71yZGQ==');
let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'vmplanes-psp-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const file = (name: string, content: Uint8Array | string): string => {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
};
const run = (...args: readonly string[]): { readonly ok: boolean; readonly text: string } => {
  const { status, stdout, stderr } = spawnSync(openssl.command, args, { encoding: 'utf8' });
  return { ok: status === 0, text: stdout + stderr };
};
const pem = (name: string, der: Uint8Array): string => file(`${name}.pem`, `-----BEGIN CERTIFICATE-----\n${Buffer.from(der).toString('base64').replace(/.{64}/g, '$&\n')}\n-----END CERTIFICATE-----\n`);

/** What a verifier takes out of the table of an extended request. */
function certificatesOf(table: Uint8Array): Readonly<Record<string, Uint8Array>> {
  const bytes = Buffer.from(table);
  const found: Record<string, Uint8Array> = {};
  for (let at = 0; bytes.subarray(at, at + 24).some((b) => b !== 0); at += 24) {
    const id = bytes.subarray(at, at + 16).toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
    const [offset, length] = [bytes.readUInt32LE(at + 16), bytes.readUInt32LE(at + 20)];
    found[id] = new Uint8Array(bytes.subarray(offset, offset + length));
  }
  return found;
}

/** The signature of a report as DER: two integers, big endian. */
function derSignature(report: Uint8Array): Uint8Array {
  const integer = (at: number): Buffer => {
    const digits = Buffer.from(report.slice(at, at + 72).reverse());
    const from = digits.findIndex((b) => b !== 0);
    const short = digits.subarray(from);
    const value = short[0]! >= 0x80 ? Buffer.concat([Buffer.of(0), short]) : short;
    return Buffer.concat([Buffer.of(2, value.length), value]);
  };
  const body = Buffer.concat([integer(0x2a0), integer(0x2a0 + 72)]);
  return Buffer.concat([Buffer.of(0x30, body.length), body]);
}

describe.each(['vcek', 'vlek'] as const)('a report signed with the %s', (signing: SigningKeys) => {
  const guest = new PspGuest(runningProcessor({ signing }));
  const { report } = guest.report({ data: Uint8Array.from({ length: 64 }, (_, i) => i) });
  const table = certificatesOf(guest.psp.certificates);
  const signer = table[signing === 'vlek' ? CertificateGuid.Vlek : CertificateGuid.Vcek]!;
  const [ask, ark] = [table[CertificateGuid.Ask]!, table[CertificateGuid.Ark]!];
  const chain = (changed: Uint8Array = signer): readonly string[] => ['verify', '-x509_strict', '-CAfile', pem(`${signing}-ark`, ark), '-untrusted', pem(`${signing}-ask`, ask), pem(`${signing}-signer`, changed)];
  const publicKey = (): string => file(`${signing}-key.pem`, createPublicKey({ key: Buffer.from(new X509Certificate(signer).publicKey.export({ type: 'spki', format: 'der' })), format: 'der', type: 'spki' }).export({ type: 'spki', format: 'pem' }));
  const check = (bytes: Uint8Array): readonly string[] => ['dgst', '-sha384', '-verify', publicKey(), '-signature', file(`${signing}.sig`, derSignature(bytes)), file(`${signing}.bin`, bytes.subarray(0, 0x2a0))];

  openssl.it('chains to its root under openssl verify', () => {
    expect(run(...chain())).toEqual({ ok: true, text: expect.stringContaining('OK') as string });
    expect(run('verify', '-x509_strict', '-CAfile', pem(`${signing}-ark`, ark), pem(`${signing}-ark2`, ark)).ok).toBe(true);
  });
  openssl.it('does not chain with a bit changed in the certificate', () => {
    const changed = signer.slice();
    changed[changed.length - 10] = changed[changed.length - 10]! ^ 1;
    expect(run(...chain(changed)).ok).toBe(false);
  });
  openssl.it('does not chain without the certificate between', () => expect(run('verify', '-CAfile', pem(`${signing}-ark`, ark), pem(`${signing}-signer`, signer)).ok).toBe(false));
  openssl.it('does not chain to the root of another platform', () => {
    const other = certificatesOf(runningProcessor({ seed: PLATFORM.seed.map((b) => b ^ 0xff) }).certificates)[CertificateGuid.Ark]!;
    expect(run('verify', '-CAfile', pem('other-ark', other), '-untrusted', pem(`${signing}-ask`, ask), pem(`${signing}-signer`, signer)).ok).toBe(false);
  });

  openssl.it('verifies under openssl dgst', () => expect(run(...check(report))).toEqual({ ok: true, text: 'Verified OK\n' }));
  openssl.it('does not verify with one bit changed in what is signed or in the signature', () => {
    for (const at of [0x00, 0x08, 0x50, 0x90, 0xc0, 0x1a0, 0x29f, 0x2a0, 0x2a0 + 72]) {
      const changed = report.slice();
      changed[at] = changed[at]! ^ 1;
      expect([at, run(...check(changed)).ok]).toEqual([at, false]);
    }
  });
  it('verifies with the library of the run time, and not with any byte changed', () => {
    const { publicKey: key } = new X509Certificate(signer);
    const holds = (bytes: Uint8Array): boolean => verify('sha384', bytes.subarray(0, 0x2a0), key, derSignature(bytes));
    expect(holds(report)).toBe(true);
    for (let at = 0; at < 0x2a0; at++) {
      const changed = report.slice();
      changed[at] = changed[at]! ^ (1 << (at & 7));
      expect([at, holds(changed)]).toEqual([at, false]);
    }
  });

  openssl.it('comes from a platform that names itself and nobody else', () => {
    const texts = [signer, ask, ark].map((der, i) => run('x509', '-noout', '-text', '-in', pem(`${signing}-text-${i}`, der)).text);
    for (const text of texts) {
      expect(text).toContain('O = vmplanes simulated platform');
      expect(text).not.toMatch(/advanced micro|\bamd\b/i);
      expect(text).toContain('ecdsa-with-SHA384');
      expect(text).toContain('ASN1 OID: secp384r1');
    }
    expect(texts[0]).toContain('CA:FALSE');
    expect([texts[1], texts[2]].every((t) => t!.includes('CA:TRUE'))).toBe(true);
    // What verifiers compare with the report: security versions and the chip.
    expect(texts[0]).toContain('1.3.6.1.4.1.3704.1.3.8');
    expect(texts[0]!.includes('1.3.6.1.4.1.3704.1.4:')).toBe(signing === 'vcek');
  });
});

describe('the chain of certificates', () => {
  it('follows from the seed alone, byte for byte', () => {
    const make = (): Uint8Array => new SecurityProcessor({ ...PLATFORM, signing: 'vlek' }, SETTINGS, CPUID).certificates;
    expect(make()).toEqual(make());
    expect(Object.keys(certificatesOf(make()))).toEqual([CertificateGuid.Vlek, CertificateGuid.Vcek, CertificateGuid.Ask, CertificateGuid.Ark]);
  });
  it('has another key for another TCB', () => {
    const keyOf = (microcode: number): string => new X509Certificate(runningProcessor({ tcb: { ...PLATFORM.tcb, microcode } }).platform.vcek!.certificate).publicKey.export({ type: 'spki', format: 'der' }).toString('hex');
    expect(keyOf(115)).not.toBe(keyOf(116));
  });
  it('is empty on a platform without keys', () => expect(runningProcessor({ signing: 'none' }).certificates).toEqual(new Uint8Array(24)));
  it('binds the chip of the report', () => {
    const { platform } = runningProcessor();
    expect(Buffer.from(platform.vcek!.certificate).includes(Buffer.from(platform.chipId))).toBe(true);
  });
});

/** What the parser gives of a report, as far as tests compare it. */
interface ForeignReport {
  readonly version: number;
  readonly guestSvn: number;
  readonly policy: bigint;
  readonly policyParsed: Readonly<Record<string, unknown>>;
  readonly platformInfoParsed: Readonly<Record<string, unknown>>;
  readonly signerInfoParsed: Readonly<Record<string, unknown>>;
  readonly vmpl: number;
  readonly productName: string;
  readonly reportData: Uint8Array;
  readonly measurement: Uint8Array;
  readonly hostData: Uint8Array;
  readonly idKeyDigest: Uint8Array;
  readonly authorKeyDigest: Uint8Array;
  readonly reportId: Uint8Array;
  readonly reportIdMa: Uint8Array;
  readonly chipId: Uint8Array;
  readonly familyId: Uint8Array;
  readonly imageId: Uint8Array;
  readonly currentTcb: bigint;
  readonly reportedTcb: bigint;
  readonly committedTcb: bigint;
  readonly launchTcb: bigint;
  readonly currentMajor: number;
  readonly currentMinor: number;
  readonly currentBuild: number;
}

describe('a report under a parser of other people', () => {
  const parse = async (bytes: Uint8Array): Promise<ForeignReport> => {
    const module = (await import(/* @vite-ignore */ pathToFileURL(join(parser.folder, 'dist/sev/report.js')).href)) as { readonly Report: new (data: Uint8Array) => ForeignReport };
    return new module.Report(bytes);
  };
  const fill = (length: number, value: number): Uint8Array => new Uint8Array(length).fill(value);
  function asked(reportVersion: 2 | 3 | 5): Uint8Array {
    const guest = new PspGuest(runningProcessor({}, { reportVersion, platformInfo: 0x25n }));
    Object.assign(guest.psp.guest, {
      policy: 0x2b0000n, guestSvn: 7, digest: fill(48, 1), hostData: fill(32, 2), familyId: fill(16, 3), imageId: fill(16, 4), idKeyDigest: fill(48, 5), authorKeyDigest: fill(48, 6), hasAuthorKey: true,
    });
    return guest.report({ data: fill(64, 8), vmpl: 1, flags: 1 }).report;
  }

  for (const version of [2, 3, 5] as const) parser.it(`of version ${version} has the same fields there`, async () => {
    const bytes = asked(version);
    const { platform, guest } = runningProcessor();
    const tcb = 0x7308_0000_0000_0103n;
    expect(await parse(bytes)).toMatchObject({
      version, guestSvn: 7, policy: 0x2b0000n, vmpl: 1, productName: 'Genoa', reportData: fill(64, 8), measurement: fill(48, 1), hostData: fill(32, 2), familyId: fill(16, 3), imageId: fill(16, 4), idKeyDigest: fill(48, 5),
      authorKeyDigest: fill(48, 6), reportId: guest.reportId, reportIdMa: fill(32, 0xff), chipId: platform.chipId, currentTcb: tcb, reportedTcb: tcb, committedTcb: tcb, launchTcb: tcb, currentMajor: 1, currentMinor: 55, currentBuild: 1,
      policyParsed: { smt: true, migrateMa: false, debug: true, singleSocket: false, cxlAllowed: true },
      platformInfoParsed: { smtEnabled: true, tsmeEnabled: false, eccEnabled: true, aliasCheckComplete: true, tioEnabled: false },
      signerInfoParsed: { signingKey: 0, maskChipKey: false, authorKeyEn: true },
    });
  });
  parser.it('with a bit where nothing may be is refused there', async () => {
    for (const at of [0x0a, 0x4c, 0x18b, 0x1eb, 0x1ef, 0x208, 0x2a0 + 144]) {
      const changed = asked(3);
      changed[at] = changed[at]! ^ (at === 0x0a ? 2 : 1);
      await expect(parse(changed), `byte 0x${at.toString(16)}`).rejects.toThrow('Invalid attestation report');
    }
  });
});
