import { CertificateGuid } from '@vmplanes/abi-sev-snp';
import { hexBytes } from '@vmplanes/binary';
import { ALL_PLANES, Side, subject, SubjectKind } from '@vmplanes/engine';
import { type SecurityProcessor, SevSnpVmpl } from '@vmplanes/personality-sev-snp-vmpl';
import { parseTrace } from '@vmplanes/trace';
import { createVm, type GuestConfig, replayTrace, type Vm } from '@vmplanes/vmm';
import type { Script, Step } from '@vmplanes/x86';
import { verify, X509Certificate } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { type Message, seal, unseal } from './psp-guest.ts';

const GHCB_MSR = 0xc001_0130;
const GHCB = 0x1000;
const REQUEST = 0x2000;
const RESPONSE = 0x3000;
const CERTIFICATES = 0x8000;
const SHARED = subject(SubjectKind.Host, ALL_PLANES, Side.Shared);
const plugins = { 'sev-snp-vmpl': async () => import('@vmplanes/personality-sev-snp-vmpl') };
/** What the host makes up otherwise: a guest in a script must know its keys before it runs. */
const options = { platformSeed: '5eed'.repeat(24), signing: 'vcek' };
const config: GuestConfig = { type: 'sev-snp', memory: '1MiB', personalities: [{ use: 'sev-snp-vmpl', options }], scripts: { run: [{ vp: 0, script: 'guest' }] } };

/** A GHCB page with one event. Fields by offset; each has its valid bit. @spec GHCB 2.2 */
function ghcb(fields: Readonly<Record<number, bigint>>): string {
  const page = Buffer.alloc(4096);
  for (const [at, value] of Object.entries(fields)) {
    page.writeBigUInt64LE(value, Number(at));
    const bit = Number(at) / 8;
    page[0x3f0 + (bit >> 3)]! |= 1 << (bit & 7);
  }
  page.writeUInt16LE(2, 0xffa);
  return page.toString('hex');
}
const vmgexit = (msr: bigint): readonly Step[] => [{ op: 'wrmsr', index: GHCB_MSR, value: msr }, { op: 'call', via: 'vmgexit' }];
/** One guest request; extended with room for certificates. */
const ask = (message: Uint8Array, pages: number | null): readonly Step[] => [
  { op: 'fill', gpa: REQUEST, bytes: hexBytes(message) },
  { op: 'fill', gpa: GHCB, bytes: ghcb({ 0x390: pages === null ? 0x8000_0011n : 0x8000_0012n, 0x398: BigInt(REQUEST), 0x3a0: BigInt(RESPONSE), ...(pages === null ? {} : { 0x1f8: BigInt(CERTIFICATES), 0x318: BigInt(pages) }) }) },
  ...vmgexit(BigInt(GHCB)),
];
const reportOf = (vmpck: number, sequence: bigint, vmpl = vmpck): Message => {
  const payload = Buffer.alloc(96, 0x33);
  payload.writeUInt32LE(vmpl, 64);
  payload.fill(0, 68);
  return { type: 5, version: 1, vmpck, sequence, payload };
};

const snpOf = (vm: Vm): SevSnpVmpl => vm.machine.personalities.find((p) => p instanceof SevSnpVmpl)!;
function peek(vm: Vm, gpa: number, length = 4096): Buffer {
  const out = Buffer.alloc(length);
  expect(vm.machine.memory.access.read(SHARED, gpa, out, 0, length)).toBe(0);
  return out;
}
/** Keys of the guest of {@link config}: they follow from its seed. */
async function keysOf(): Promise<readonly Uint8Array[]> {
  const vm = await createVm({ ...config, scripts: { tables: { guest: { steps: [] } }, run: [{ vp: 0, script: 'guest' }] } }, { plugins });
  return snpOf(vm).chapters.requests.keys;
}
async function run(steps: readonly Step[], more: Partial<Parameters<typeof createVm>[1]> = {}): Promise<Vm> {
  const script: Script = { id: 'guest', steps: [...vmgexit((BigInt(GHCB) & ~0xfffn) | 0x012n), ...steps] };
  const vm = await createVm(config, { plugins, scripts: [script], ...more });
  expect(await vm.run()).toMatchObject({ reason: 'finished', failures: [] });
  return vm;
}

describe('guest requests of a running guest', () => {
  it('bring a report that verifies under the certificates that come with it', async () => {
    const keys = await keysOf();
    const vm = await run(ask(seal(keys[0]!, reportOf(0, 1n)), 4));
    const { sequence, type, payload } = unseal(keys[0]!, peek(vm, RESPONSE));
    expect([sequence, type, Buffer.from(payload).readUInt32LE(0), peek(vm, GHCB).readBigUInt64LE(0x3a0)]).toEqual([2n, 6, 0, 0n]);
    const report = Buffer.from(payload.subarray(32));
    const { digest } = (snpOf(vm).chapters.requests as SecurityProcessor).guest;
    expect(hexBytes(report.subarray(0x90, 0xc0))).toBe(hexBytes(digest));
    expect(hexBytes(digest)).not.toBe('00'.repeat(48));
    const table = peek(vm, CERTIFICATES, 4 * 4096);
    expect(table.subarray(0, 16).toString('hex')).toBe(CertificateGuid.Vcek.replaceAll('-', ''));
    const vcek = new X509Certificate(table.subarray(table.readUInt32LE(16), table.readUInt32LE(16) + table.readUInt32LE(20)));
    const number = (at: number): Buffer => Buffer.from(Uint8Array.from(report.subarray(at, at + 48)).reverse());
    expect(verify('sha384', report.subarray(0, 0x2a0), { key: vcek.publicKey, dsaEncoding: 'ieee-p1363' }, Buffer.concat([number(0x2a0), number(0x2a0 + 72)]))).toBe(true);
  });

  it('count by key, and an answer that says no is one, too', async () => {
    const keys = await keysOf();
    const vm = await run([...ask(seal(keys[0]!, reportOf(0, 1n)), null), ...ask(seal(keys[2]!, reportOf(2, 1n, 1)), null), ...ask(seal(keys[2]!, reportOf(2, 3n)), null)]);
    const { payload, sequence } = unseal(keys[2]!, peek(vm, RESPONSE));
    expect([sequence, Buffer.from(payload).readUInt32LE(0)]).toEqual([4n, 0]);
    expect(snpOf(vm).chapters.requests.save()).toMatchObject({ sequences: [2n, 0n, 4n, 0n] });
  });

  it.each<[string, (keys: readonly Uint8Array[]) => Uint8Array, bigint]>([
    ['under another key', (keys) => seal(keys[1]!, reportOf(0, 1n)), 0x27n],
    ['with another number', (keys) => seal(keys[0]!, reportOf(0, 3n)), 0x16n],
    ['of a migration agent', (keys) => seal(keys[0]!, { ...reportOf(0, 1n), type: 7 }), 0x15n],
    ['that is none', () => new Uint8Array(4096).fill(0x5a), 0x16n],
  ])('%s end with the error of the firmware and use no number', async (_what, message, error) => {
    const vm = await run(ask(message(await keysOf()), null));
    const page = peek(vm, GHCB);
    expect([page.readBigUInt64LE(0x398), page.readBigUInt64LE(0x3a0)]).toEqual([0n, error]);
    expect(snpOf(vm).chapters.requests.save()).toMatchObject({ sequences: [0n, 0n, 0n, 0n] });
  });

  it('with too little room for certificates say how many pages they take, and use no number', async () => {
    const keys = await keysOf();
    const vm = await run(ask(seal(keys[0]!, reportOf(0, 1n)), 0));
    const page = peek(vm, GHCB);
    expect([page.readBigUInt64LE(0x3a0), page.readBigUInt64LE(0x318)]).toEqual([1n << 32n, BigInt(Math.ceil(snpOf(vm).chapters.requests.certificates.length / 4096))]);
    expect(snpOf(vm).chapters.requests.save()).toMatchObject({ sequences: [0n, 0n, 0n, 0n] });
  });

  it('replay from their trace', async () => {
    const lines: string[] = [];
    const vm = await run(ask(seal((await keysOf())[0]!, reportOf(0, 1n)), 4), { trace: (line) => lines.push(line) });
    vm.close();
    expect((await replayTrace(parseTrace(lines), { plugins })).divergences).toEqual([]);
  });

  it('go on from a snapshot between two of them', async () => {
    const keys = await keysOf();
    const first = await run(ask(seal(keys[0]!, reportOf(0, 1n)), null));
    const second: Script = { id: 'guest', steps: [...vmgexit(BigInt(GHCB) | 0x012n), ...ask(seal(keys[0]!, reportOf(0, 1n)), null), ...ask(seal(keys[0]!, reportOf(0, 3n)), null)] };
    const whole = await createVm(config, { plugins, scripts: [second] });
    await whole.run({ maxSlices: 1 });
    const other = await createVm(config, { plugins, scripts: [second] });
    other.restore(structuredClone(whole.snapshot()));
    await whole.run();
    await other.run();
    expect(other.snapshot().machine).toEqual(whole.snapshot().machine);
    expect(unseal(keys[0]!, peek(other, RESPONSE)).sequence).toBe(4n);
    expect(unseal(keys[0]!, peek(first, RESPONSE)).sequence).toBe(2n);
  });
});
