import { buildVmsa, CpuidPage, kvmVmsa, LAUNCH_VMSA_GPA, SecretsPage, Vmsa } from '@vmplanes/abi-sev-snp';
import { type IgvmHeaderInput, IgvmPlatform, writeIgvm } from '@vmplanes/boot';
import { hexBytes } from '@vmplanes/binary';
import { ALL_PLANES, HostError, type Machine, Side, subject, SubjectKind } from '@vmplanes/engine';
import { type GuestContext, type SecurityProcessor, SevSnpVmpl } from '@vmplanes/personality-sev-snp-vmpl';
import { parseTrace } from '@vmplanes/trace';
import { createVm, type GuestConfig, replayTrace, type Vm } from '@vmplanes/vmm';
import type { Step } from '@vmplanes/x86';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const SNP = 1;
const PRIVATE = subject(SubjectKind.Host, ALL_PLANES, Side.Private);
const page = (fill: number): Uint8Array => new Uint8Array(4096).fill(fill);
const plugins = { 'sev-snp-vmpl': async () => import('@vmplanes/personality-sev-snp-vmpl') };
let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'vmplanes-image-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const start = (vmpl = 0): Uint8Array => buildVmsa(kvmVmsa({ eip: 0x1000, vmpl, sevFeatures: 1n }, 0));
const platform: IgvmHeaderInput = { kind: 'supportedPlatform', mask: SNP, highestLevel: 2, platform: IgvmPlatform.SevSnp, platformVersion: 1, sharedBoundary: 0n };
const policy: IgvmHeaderInput = { kind: 'guestPolicy', policy: 0xb0000n, mask: SNP };
const data = (gpa: number, contents: Uint8Array, more: Partial<Extract<IgvmHeaderInput, { kind: 'pageData' }>> = {}): IgvmHeaderInput => ({ kind: 'pageData', gpa: BigInt(gpa), mask: SNP, flags: 0, pageType: 0, contents, ...more });
const vmsa = (gpa: number, contents = start(), vp = 0): IgvmHeaderInput => ({ kind: 'vpContext', gpa: BigInt(gpa), mask: SNP, vp, contents });

/** Memory map, secrets, CPUID results and one processor: what an SVSM image brings. */
const whole: readonly IgvmHeaderInput[] = [
  platform, policy, { kind: 'parameterArea', bytes: 4096n, area: 0 }, { kind: 'vpCount', area: 0, offset: 0 }, { kind: 'madt', area: 0, offset: 64 }, { kind: 'parameterInsert', gpa: 0x5000n, mask: SNP, area: 0 },
  data(0x2000, page(0x22)), data(0x1000, page(0x11), { flags: 2 }), data(0x3000, page(0), { pageType: 1 }), data(0x4000, page(0), { pageType: 2 }),
];
const run: readonly Step[] = [{ op: 'work' }];

async function launched(headers: readonly IgvmHeaderInput[], more: Partial<GuestConfig> = {}, options: Readonly<Record<string, string>> = {}, trace?: (line: string) => void): Promise<Vm> {
  const file = join(folder, `${createHash('sha1').update(JSON.stringify(headers, (_k, v: unknown) => (typeof v === 'bigint' ? String(v) : v))).digest('hex')}.igvm`);
  writeFileSync(file, writeIgvm({ headers }));
  const config: GuestConfig = {
    type: 'sev-snp', memory: '1MiB', boot: { igvm: file }, personalities: [{ use: 'sev-snp-vmpl', options: { start: 'image', ...options } }], scripts: { tables: { guest: { steps: run as never } }, run: [{ vp: 0, script: 'guest' }] }, ...more,
  };
  return createVm(config, { plugins, ...(trace ? { trace } : {}) });
}
const snpOf = (machine: Machine): SevSnpVmpl => machine.personalities.find((p) => p instanceof SevSnpVmpl)!;
const guestOf = (vm: Vm): GuestContext => (snpOf(vm.machine).chapters.requests as SecurityProcessor).guest;
function peek(vm: Vm, gpa: number): Uint8Array {
  const out = new Uint8Array(4096);
  expect(vm.machine.memory.access.read(PRIVATE, gpa, out, 0, 4096)).toBe(0);
  return out;
}
/** The launch digest as the specification defines it, over (type, address, measured contents). */
function digestOf(pages: readonly (readonly [type: number, gpa: number, contents: Uint8Array | null])[]): string {
  let digest = Buffer.alloc(48);
  for (const [type, gpa, contents] of pages) {
    const info = Buffer.alloc(0x70);
    info.set(digest, 0);
    if (contents) info.set(createHash('sha384').update(contents).digest(), 0x30);
    info.writeUInt16LE(0x70, 0x60);
    info[0x62] = type;
    info.writeBigUInt64LE(BigInt(gpa), 0x68);
    digest = Buffer.from(createHash('sha384').update(info).digest());
  }
  return digest.toString('hex');
}
const failure = async (action: () => Promise<unknown>): Promise<unknown> => action().then(() => null, (error: unknown) => (error instanceof HostError ? [error.code, error.message] : error));

describe('an IGVM image of a SEV-SNP guest', () => {
  it('is placed, measured in file order, and starts its processor from its VMSA', async () => {
    const vm = await launched([...whole, vmsa(0x6000)]);
    const guest = guestOf(vm);
    expect([guest.state, guest.policy]).toEqual(['running', 0xb0000n]);
    expect(hexBytes(guest.digest)).toBe(digestOf([[4, 0x5000, null], [1, 0x2000, page(0x22)], [4, 0x1000, null], [5, 0x3000, null], [6, 0x4000, null], [2, 0x6000, start()]]));
    const { chapters } = snpOf(vm.machine);
    const entryOf = (gpn: number): readonly boolean[] => (({ assigned, validated, vmsa: isVmsa }) => [assigned, validated, isVmsa])(chapters.rmp.entry(gpn));
    expect([1, 2, 3, 4, 5, 6, 7].map(entryOf)).toEqual([...Array.from({ length: 5 }, () => [true, true, false]), [true, true, true], [false, false, false]]);
    expect([peek(vm, 0x1000), peek(vm, 0x2000)]).toEqual([page(0x11), page(0x22)]);
    expect((await vm.run()).reason).toBe('finished');
    expect(chapters.switching.plane(vm.machine.vp(0), 0)!.vmsa).toBe(0x6000);
    vm.close();
  });

  it('gets the secrets of this machine, the results of its CPU model and the parameters of its host', async () => {
    const vm = await launched([...whole, vmsa(LAUNCH_VMSA_GPA)], { vps: 2 });
    const view = (gpa: number): DataView => new DataView(peek(vm, gpa).buffer);
    const secrets = SecretsPage.read(view(0x3000), 0);
    expect(hexBytes(secrets.vmpck0)).toBe(hexBytes(snpOf(vm.machine).chapters.requests.keys[0]!));
    expect(secrets.fms).toBe(0x00a0_0f11);
    const { count, functions } = CpuidPage.read(view(0x4000), 0);
    expect(count).toBe(34);
    const leaf = (n: number, sub = 0) => functions.find((f) => f.eaxIn === n && f.ecxIn === sub)!;
    expect(leaf(1).eax).toBe(0x00a0_0f11);
    expect(leaf(0xd)).toMatchObject({ xcr0In: 1n, ebx: 0x240 });
    // Where the C-bit is: the guest looks here before it can ask anybody.
    expect(leaf(0x8000_001f).ebx & 0x3f).toBe(51);
    const parameters = Buffer.from(peek(vm, 0x5000));
    expect([parameters.readUInt32LE(0), parameters.toString('latin1', 64, 68), parameters.readUInt32LE(68)]).toEqual([2, 'APIC', 44 + 2 * 8]);
    expect(parameters.subarray(64, 64 + 60).reduce((a, b) => a + b, 0) & 0xff).toBe(0);
    expect(hexBytes(guestOf(vm).digest)).toBe(digestOf([[4, 0x5000, null], [1, 0x2000, page(0x22)], [4, 0x1000, null], [5, 0x3000, null], [6, 0x4000, null], [2, LAUNCH_VMSA_GPA, start()]]));
    expect((await vm.run()).reason).toBe('finished');
  });

  it('may leave pages to the host', async () => {
    const vm = await launched([platform, policy, data(0x1000, page(0x77), { flags: 4 }), { kind: 'errorRange', gpa: 0x8000n, mask: SNP, bytes: 0x1000 }, vmsa(0x6000)]);
    const shared = new Uint8Array(4096);
    expect(vm.machine.memory.access.read(subject(SubjectKind.Host, ALL_PLANES, Side.Shared), 0x1000, shared, 0, 4096)).toBe(0);
    expect(shared).toEqual(page(0x77));
    expect(hexBytes(guestOf(vm).digest)).toBe(digestOf([[2, 0x6000, start()]]));
  });

  it('without a policy has that of the configuration', async () => {
    const vm = await launched([platform, vmsa(0x6000)], {}, { policy: '0x2b0000', hostData: 'ab'.repeat(32) });
    expect([guestOf(vm).policy, hexBytes(guestOf(vm).hostData)]).toEqual([0x2b0000n, 'ab'.repeat(32)]);
  });

  it('counts in the hash of the configuration by what it holds', async () => {
    const options = { platformSeed: '11'.repeat(48) };
    const hashes = await Promise.all([[...whole, vmsa(0x6000)], [...whole, vmsa(0x6000)], [...whole, vmsa(0x7000)]].map(async (headers) => (await launched(headers, {}, options)).configHash));
    expect([hashes[0] === hashes[1], hashes[0] === hashes[2]]).toEqual([true, false]);
  });

  it('replays from a trace with the same secrets', async () => {
    const lines: string[] = [];
    const vm = await launched([...whole, vmsa(0x6000)], {}, {}, (line) => lines.push(line));
    await vm.run();
    vm.close();
    const trace = parseTrace(lines);
    expect(trace.header.personalities[0]!.options['platformSeed']).toMatch(/^[0-9a-f]{96}$/);
    expect((await replayTrace(trace, { plugins })).divergences).toEqual([]);
  });

  it('goes on from a snapshot', async () => {
    const vm = await launched([...whole, vmsa(0x6000)]);
    const snapshot = structuredClone(vm.snapshot());
    const { inputs } = snapshot;
    const other = await createVm({ ...(await configOf([...whole, vmsa(0x6000)])) }, { plugins, inputs: inputs! });
    other.restore(snapshot);
    expect(guestOf(other)).toEqual(guestOf(vm));
    expect((await other.run()).reason).toBe('finished');
  });
  const configOf = async (headers: readonly IgvmHeaderInput[]): Promise<GuestConfig> => {
    const file = join(folder, 'again.igvm');
    writeFileSync(file, writeIgvm({ headers }));
    return { type: 'sev-snp', memory: '1MiB', boot: { igvm: file }, personalities: [{ use: 'sev-snp-vmpl', options: { start: 'image' } }], scripts: { tables: { guest: { steps: run as never } }, run: [{ vp: 0, script: 'guest' }] } };
  };

  const identity = (digest: string): IgvmHeaderInput => {
    const none = { r: new Uint8Array(72), s: new Uint8Array(72) };
    const key = { curve: 2, reserved04: 0, x: new Uint8Array(72), y: new Uint8Array(72) };
    return {
      kind: 'idBlock', mask: SNP, authorKeyEnabled: 0, digest: new Uint8Array(Buffer.from(digest, 'hex')), familyId: new Uint8Array(16), imageId: new Uint8Array(16), version: 1, guestSvn: 0, idKeyAlgorithm: 1, authorKeyAlgorithm: 0,
      idKeySignature: none, idKey: key, authorKeySignature: none, authorKey: key,
    };
  };
  it.each<[string, readonly IgvmHeaderInput[], string, string]>([
    ['of another platform', [{ ...platform, platform: IgvmPlatform.Tdx } as IgvmHeaderInput], 'BadConfig', 'it is for Tdx, the machine is SevSnp'],
    ['with a policy that is none', [platform, { ...policy, policy: 0n } as IgvmHeaderInput], 'BadConfig', 'launch: policy 0x0: PolicyFailure'],
    ['with a page outside of memory', [platform, data(0x10_0000, page(0))], 'BadConfig', 'launch: normal page at 0x100000: InvalidAddress'],
    ['with two pages at one place', [platform, data(0x1000, page(0)), data(0x1000, page(1))], 'BadConfig', 'launch: normal page at 0x1000: InvalidPageState'],
    ['with a shared page where a private one is', [platform, data(0x1000, page(0)), data(0x1000, page(1), { flags: 4 })], 'BadConfig', 'launch: normal page at 0x1000: there is no shared memory of the guest there'],
    ['with a CPUID table that is none', [platform, data(0x1000, page(0xff), { pageType: 2 })], 'BadConfig', 'launch: cpuid page at 0x1000: InvalidParam'],
    ['for more processors', [platform, vmsa(0x6000, start(), 1)], 'BadConfig', 'launch: first state of VP 1: the machine has 1 VPs'],
    ['for a VMPL that there is not', [platform, vmsa(0x6000, start(4))], 'BadConfig', 'launch: first state of VP 0: VMPL 4 of a machine with 4 planes'],
    ['with a VMSA where nothing is', [platform, vmsa(0x10_0000)], 'BadConfig', 'launch: first state of VP 0: InvalidAddress'],
    ['with an identity of another image', [platform, policy, vmsa(0x6000), identity('00'.repeat(48))], 'BadConfig', 'launch: finish: BadMeasurement'],
    ['with an identity that nobody signed', [platform, policy, vmsa(0x6000), identity(digestOf([[2, 0x6000, start()]]))], 'BadConfig', 'launch: finish: BadSignature'],
    ['that is damaged', [platform, { ...policy, mask: 2 } as IgvmHeaderInput], 'BadImage', 'compatibility mask 0x2'],
    ['that needs more memory', [platform, { kind: 'requiredMemory', gpa: 0n, mask: SNP, bytes: 0x20_0000, flags: 0 }], 'BadConfig', 'the machine has none at 0x100000'],
  ])('%s is refused by name', async (_what, headers, code, message) => {
    expect(await failure(() => launched(headers))).toEqual([code, expect.stringContaining(message) as string]);
  });
  it('is refused by a guest that places none', async () => {
    expect(await failure(() => launched([platform], { type: 'plain', personalities: [] }))).toEqual(['BadConfig', expect.stringContaining('no personality of this guest places images') as string]);
    expect(await failure(() => createVm({ boot: { igvm: './none.igvm' } }, { baseFile: join(folder, 'guest.json') }))).toEqual(['BadFile', expect.stringContaining('none.igvm cannot be read') as string]);
  });
});

describe('processors that start as after a reset', () => {
  it('get VMSAs of the host, at the addresses that the firmware names; the first runs, the others wait', async () => {
    const vm = await createVm({ type: 'sev-snp', memory: '1MiB', vps: 2, personalities: [{ use: 'sev-snp-vmpl', options: { start: 'image' } }], scripts: { tables: { guest: { steps: run as never } }, run: [{ vp: 0, script: 'guest' }] } }, { plugins });
    const { launch, chapters } = snpOf(vm.machine);
    launch!.page({ gpa: 0x1000, data: page(9), type: 'zero', shared: false });
    launch!.vp({ vp: 0, gpa: -1, state: { kind: 'reset', address: 0xffff_fff0 } });
    launch!.vp({ vp: 1, gpa: -1, state: { kind: 'reset', address: 0x0080_b004 } });
    launch!.finish();
    const at = (eip: number): Uint8Array => buildVmsa(kvmVmsa({ eip, vmpl: 0, sevFeatures: 1n }, 0x00a0_0f11));
    expect(hexBytes(guestOf(vm).digest)).toBe(digestOf([[3, 0x1000, null], [2, LAUNCH_VMSA_GPA, at(0xffff_fff0)], [2, LAUNCH_VMSA_GPA, at(0x0080_b004)]]));
    expect([0, 1].map((v) => chapters.switching.plane(vm.machine.vp(v), 0)!.vmsa)).toEqual([LAUNCH_VMSA_GPA, LAUNCH_VMSA_GPA]);
    expect((await vm.run()).reason).toBe('finished');
    expect(vm.inspect('vps/1/planes/0/activity')).not.toBe('running');
  });
});

describe('a launch that is not finished', () => {
  it('lets no processor in', async () => {
    const vm = await createVm({ type: 'sev-snp', memory: '1MiB', scripts: { tables: { guest: { steps: run as never } }, run: [{ vp: 0, script: 'guest' }] } }, { plugins });
    snpOf(vm.machine).launch!.policy(0x30000n);
    const { reason, at } = await vm.run();
    expect([reason, JSON.stringify(at?.payload)]).toEqual(['exit', expect.stringContaining('launch-not-finished') as string]);
    expect(vm.inspect('vps/0/planes/0/registers/rip')).toBe(0xfff0n);
  });
});

describe('a SEV-SNP guest without an image', () => {
  it('is measured by the VMSAs that its processors begin with', async () => {
    const vm = await createVm({ type: 'sev-snp', memory: '1MiB', vps: 2, scripts: { tables: { guest: { steps: run as never } }, run: [{ vp: 0, script: 'guest' }] } }, { plugins });
    expect(guestOf(vm).state).toBe('init');
    await vm.run();
    const first = buildVmsa(kvmVmsa({ eip: 0xffff_fff0, vmpl: 0, sevFeatures: 1n }, 0x00a0_0f11));
    expect(first[Vmsa.at.vmpl]).toBe(0);
    expect([guestOf(vm).state, guestOf(vm).policy, hexBytes(guestOf(vm).digest)]).toEqual(['running', 0x30000n, digestOf([[2, LAUNCH_VMSA_GPA, first], [2, LAUNCH_VMSA_GPA, first]])]);
  });
});
