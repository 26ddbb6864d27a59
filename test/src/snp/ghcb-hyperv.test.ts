import { GhcbHypercallPage } from '@vmplanes/abi-sev-snp';
import { HvCall, HvStatus } from '@vmplanes/abi-hyperv';
import { personality as hyperv } from '@vmplanes/personality-hyperv-vtl';
import { personality as snpPersonality } from '@vmplanes/personality-sev-snp-vmpl';
import { createVm } from '@vmplanes/vmm';
import { describe, expect, it } from 'vitest';
import { BUFFER, DATA, DONE, exception, ghcbOf, GhcbRig, type GhcbRigConfig, invalid } from './ghcb-rig.ts';

// @spec openvmm vm/x86/x86defs/src/snp.rs; Linux arch/x86/hyperv/ivm.c (hv_ghcb_hypercall)
const { at } = GhcbHypercallPage;
const PAGE = ghcbOf();
const GUEST_OS_ID = 0x4000_0000;

const rigOf = (config: GhcbRigConfig = {}): GhcbRig => new GhcbRig({ hyperv: true, ...config, options: { hypervUsages: true, ...config.options } });

/** Makes a call through the page, and gives the result word. */
const call = (rig: GhcbRig, code: number, words: readonly bigint[], { count = 0, output = DATA } = {}): bigint => {
  rig.write(PAGE, new Uint8Array(4096));
  words.forEach((word, i) => rig.poke(PAGE + 8 * i, word));
  rig.poke(PAGE + at.outputGpa, BigInt(output));
  rig.poke(PAGE + at.control, BigInt(code) | (BigInt(count) << 32n));
  rig.poke(PAGE + at.ghcbUsage, 1n, 4);
  rig.setMsr(BigInt(PAGE));
  rig.step();
  return rig.peek(PAGE + at.control);
};
const result = (status: number, reps = 0): bigint => BigInt(status) | (BigInt(reps) << 32n);

describe('a Hyper-V call in the page', () => {
  it('is served, with the status where the control word was', () => expect(call(rigOf(), HvCall.FlushVirtualAddressSpace.code, [0n, 0n, 1n])).toBe(result(HvStatus.Success)));
  it('of an unknown code has its status', () => expect(call(rigOf(), 0x1ff, [])).toBe(result(HvStatus.InvalidHypercallCode)));
  it('counts the elements that are done', () => expect(call(rigOf(), HvCall.FlushVirtualAddressList.code, [0n, 0n, 1n, 0x1000n, 0x2000n, 0x3000n], { count: 3 })).toBe(result(HvStatus.Success, 3)));
  it('keeps its parameters: they are not a bitmap to be cleared', () => {
    const rig = rigOf();
    rig.write(PAGE, new Uint8Array(4096));
    const before = 0x1234_5678_9abc_def0n;
    rig.poke(PAGE + 0x3f0, before);
    rig.poke(PAGE + at.control, 0x1ffn);
    rig.poke(PAGE + at.ghcbUsage, 1n, 4);
    rig.setMsr(BigInt(PAGE));
    rig.step();
    expect(rig.peek(PAGE + 0x3f0)).toBe(before);
  });
  it('gives its output to shared memory', () => {
    const rig = rigOf();
    const { memory } = rig.machine;
    // A read of a device leaves to the VMM, and its reply is the output.
    call(rig, HvCall.MemoryMappedIoRead.code, [0xfed0_0000n, 4n]);
    expect(rig.exit()).toEqual({ kind: 'mmio', write: false, gpa: 0xfed0_0000, size: 4, lo: 0, hi: 0 });
    rig.answer({ lo: 0x1234_5678, hi: 0 });
    expect([rig.peek(PAGE + at.control), rig.peek(DATA)]).toEqual([result(HvStatus.Success), 0x1234_5678n]);
    expect([rig.rip(), memory.isPrivate(DATA / 4096)]).toEqual([4n, false]);
  });
  it('that only tells the VMM something has its result before', () => {
    const rig = rigOf();
    expect(call(rig, HvCall.MemoryMappedIoWrite.code, [0xfed0_0000n, 4n, 0x77n])).toBe(result(HvStatus.Success));
    expect(rig.exit()).toMatchObject({ kind: 'mmio', write: true, lo: 0x77 });
  });
  it('cannot have its output in private memory', () => expect(call(rigOf(), HvCall.MemoryMappedIoRead.code, [0xfed0_0000n, 4n], { output: 0x3000 })).not.toBe(result(HvStatus.Success)));
  it('the address of the output has 64 bits', () => {
    const rig = rigOf();
    expect(call(rig, HvCall.MemoryMappedIoRead.code, [0xfed0_0000n, 4n], { output: DATA + 2 ** 32 })).not.toBe(result(HvStatus.Success));
    expect(rig.exit()).toBeNull();
  });
  it('changes no register of the guest', () => {
    const rig = rigOf();
    rig.set('rax', 0x1234n);
    call(rig, HvCall.FlushVirtualAddressSpace.code, [0n, 0n, 1n]);
    expect(rig.get('rax')).toBe(0x1234n);
  });
  it('needs the registered page: 2/1 as for any request', () => {
    const rig = rigOf();
    rig.plane().registeredGhcb = -1;
    call(rig, HvCall.FlushVirtualAddressSpace.code, [0n, 0n, 1n]);
    expect(rig.reply()).toEqual({ swExitInfo1: 2n, swExitInfo2: 1n });
  });
  it('in a page that is not shared leaves the guest as it is', () => {
    const rig = rigOf();
    rig.plane().registeredGhcb = 0x3000;
    expect(rig.msr(0x3000n)).toBe(0x3000n);
  });
  it.each<[string, GhcbRigConfig]>([['without the option', { options: { hypervUsages: false } }], ['without that personality', { hyperv: false }]])('%s is 2/2', (_what, config) => {
    const rig = rigOf(config);
    call(rig, HvCall.FlushVirtualAddressSpace.code, [0n, 0n, 1n]);
    expect(rig.reply()).toEqual({ swExitInfo1: 2n, swExitInfo2: 2n });
  });
  it('VTL return is 2/2: planes are VMPLs', () => {
    const rig = rigOf();
    rig.poke(PAGE + at.ghcbUsage, 2n, 4);
    expect(rig.result(0x76)).toEqual(invalid(2));
  });
  it('leaves other requests to the page protocol', () => expect(rigOf().result(0x8000_fffd)).toEqual([0n, 0x37n]));
  it('is finished in a machine that was restored', () => {
    const rig = rigOf();
    call(rig, HvCall.MemoryMappedIoRead.code, [0xfed0_0000n, 4n]);
    const other = rigOf();
    other.machine.restore(structuredClone(rig.machine.snapshot()));
    other.answer({ lo: 0x99, hi: 0 });
    expect([other.peek(PAGE + at.control), other.peek(DATA)]).toEqual([result(HvStatus.Success), 0x99n]);
  });
});

describe('the Hyper-V interface beside', () => {
  it('has its leaves', () => expect(rigOf().event(0x72, 0, 0, { rax: 0x4000_0000, rcx: 0 })).toMatchObject({ rbx: 0x7263_694dn, rcx: 0x666f_736fn, rdx: 0x7648_2074n }));
  it('has its leaves by MSR', () => expect(rigOf().msr(0x4000_0000_4000_0004n) >> 32n).toBe(0x7263_694dn));
  it('has its MSRs', () => {
    const rig = rigOf();
    expect(rig.result(0x7c, 1, 0, { rcx: GUEST_OS_ID, rax: 0x55, rdx: 0x66 })).toEqual(DONE);
    expect(rig.event(0x7c, 0, 0, { rcx: GUEST_OS_ID })).toMatchObject({ rax: 0x55n, rdx: 0x66n });
    expect(rig.result(0x7c, 0, 0, { rcx: 0x4000_01ff })).toEqual(exception(13, 0));
  });
  it('has its calls by VMMCALL, once it is on', () => {
    const rig = rigOf();
    const fields = { rax: 0, cpl: 0, rcx: 0x1_0000 | HvCall.SendSyntheticClusterIpi.code, rdx: 0x40, r8: 0 } as const;
    rig.set('cr0', 0x11n);
    expect(rig.result(0x81, 0, 0, fields)).toEqual(exception(6));
    rig.event(0x7c, 1, 0, { rcx: GUEST_OS_ID, rax: 1, rdx: 0 });
    rig.event(0x7c, 1, 0, { rcx: 0x4000_0001, rax: 0x3_0001, rdx: 0 });
    expect(rig.result(0x81, 0, 0, { ...fields, cpl: 3 })).toEqual(exception(6));
    expect(rig.result(0x81, 0, 0, fields)).toEqual(DONE);
  });
  it('its ports leave as they do elsewhere', () => {
    const rig = rigOf();
    rig.event(0x7b, 0x03f8_0011);
    expect(rig.exit()).toMatchObject({ kind: 'io', port: 0x3f8 });
  });
  it('asks for no events of lower VMPLs', () => {
    const rig = rigOf();
    rig.msr((1n << 32n) | 0x016n);
    expect(rig.machine.vp(0).asked).toBe(1);
  });
});

describe('a configuration with both', () => {
  const plugins = { 'hyperv-vtl': async () => ({ personality: hyperv }), 'sev-snp-vmpl': async () => ({ personality: snpPersonality }) };
  const make = (maximumVtl: number) =>
    createVm({ planes: 4, cpuModel: 'epyc-like', personalities: [{ use: 'hyperv-vtl', options: { maximumVtl } }, { use: 'sev-snp-vmpl', options: { hypervUsages: true } }] }, { plugins });
  it('has VMPLs, and Hyper-V calls through the page', async () => {
    const vm = await make(0);
    expect(vm.machine.meaning.planeName(2)).toBe('VMPL2');
    expect(vm.machine.claims.find('call', 2)?.name).toBe('sev-snp-vmpl');
  });
  it('may not have VTLs, too', async () => {
    await expect(make(1)).rejects.toMatchObject({ code: 'BadConfig', message: expect.stringContaining('planes of this machine are VMPL0 and so on, not VTLs (set its option maximumVtl to 0)') as string });
  });
  it('names the personality of the calls first', async () => {
    await expect(createVm({ planes: 4, cpuModel: 'epyc-like', personalities: ['sev-snp-vmpl', 'hyperv-vtl'] }, { plugins })).rejects.toMatchObject({ code: 'BadConfig', message: expect.stringContaining("move 'hyperv-vtl' before 'sev-snp-vmpl'") as string });
  });
});

it('the rig has a buffer', () => expect(BUFFER).toBeGreaterThan(PAGE));
