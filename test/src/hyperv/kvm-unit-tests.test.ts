import { HvCall } from '@vmplanes/abi-hyperv';
import { describe, expect, it } from 'vitest';
import { policies } from './bench.ts';
import { booted, contextOf, DATA, type Guest, hypercallPage, mapIdentity, Msr, ready, type ReadyConfig, SELF, simPage, target, tscPage, VP_SELF } from './guest.ts';

// Setting up, isolation, translation and the default mask: cases of x86/hyperv_vsm.c of kvm-unit-tests (branch vsm-next), in its
// order. Two VPs, as there. Interrupts and intercepts have their own files.

const BAD = 0xacac_acac;
const BAD_VP = 0xe, BAD_REGISTER = 5, DENIED = 6, BAD_PARAMETER = 5, BAD_PARTITION = 0xd;
const CR0 = 0x4_0000, CR3 = 0x4_0002, CR4 = 0x4_0003;
const forms = [['fast', true], ['slow', false]] as const;

describe.each(policies)('under %s', (policy) => {
  const fresh = (options = {}): Guest => booted({ policy, options, vps: 2 });
  const secured = (more: ReadyConfig = {}): Guest => ready({ policy, vps: 2, ...more });
  const registers = (guest: Guest, names: readonly number[], fast: boolean, vpIndex: number, inputVtl: number): readonly number[] => [
    guest.call(HvCall.GetVpRegisters, { header: { partitionId: SELF, vpIndex, inputVtl }, elements: names, fast }).status,
    guest.call(HvCall.SetVpRegisters, { header: { partitionId: SELF, vpIndex, inputVtl }, elements: names.map((name) => ({ name, value: { low: 1n, high: 0n } })), fast }).status,
  ];

  it('kvm-unit-tests hyperv_vsm.c #0: pages of VTL0 can be set up on every VP', () => {
    const guest = fresh();
    guest.wrmsr(Msr.tsc, tscPage(0) | 1);
    expect(guest.rdmsr(Msr.hypercall)).toBe(BigInt(hypercallPage(0) | 1));
    expect(guest.reg('VsmCodePageOffsets')).toBe(0x2_600fn);
    for (const vp of [0, 1]) expect(guest.rdmsr(Msr.simp, vp)).toBe(BigInt(simPage(vp, 0) | 1));
  });

  describe.each(forms)('%s', (_form, fast) => {
    it('kvm-unit-tests hyperv_vsm.c #1: a VP that does not exist', () => {
      expect(registers(fresh(), [CR0, CR3, CR4], fast, BAD, target(0))).toEqual([BAD_VP, BAD_VP]);
    });
    it('kvm-unit-tests hyperv_vsm.c #2: a VTL that does not exist', () => {
      for (const status of registers(fresh(), [CR0, CR3, CR4], fast, VP_SELF, target(15))) expect(status).toBe(BAD_PARAMETER);
    });
    it('kvm-unit-tests hyperv_vsm.c #3: a VTL above the caller, not yet enabled', () => {
      expect(registers(fresh(), [CR0, CR3, CR4], fast, VP_SELF, target(1))).toEqual([DENIED, DENIED]);
    });
    it('kvm-unit-tests hyperv_vsm.c #4: a register that does not exist, before others', () => {
      expect(registers(fresh(), [BAD, CR3, CR4], fast, VP_SELF, target(0))).toEqual([BAD_REGISTER, BAD_REGISTER]);
    });
    it('kvm-unit-tests hyperv_vsm.c #5, really called: no registers', () => {
      expect(registers(fresh(), [], fast, VP_SELF, target(0))).toEqual([3, 3]);
    });
  });
  it('kvm-unit-tests hyperv_vsm.c #6: five registers do not fit XMM', () => {
    const guest = fresh();
    const block = new Uint8Array(112).fill(0xff, 0, 8);
    for (const code of [0x50, 0x51]) expect(guest.callRaw(code, block, { fast: true, count: 5 }).status).toBe(3);
  });

  it.each([
    ['partition 42', { targetPartitionId: 42n, targetVtl: 1, flags: 0 }, BAD_PARTITION],
    ['VTL0', { targetPartitionId: SELF, targetVtl: 0, flags: 0 }, BAD_PARAMETER],
    ['a VTL above the maximum', { targetPartitionId: SELF, targetVtl: 2, flags: 0 }, BAD_PARAMETER],
    ['MBEC that is not offered', { targetPartitionId: SELF, targetVtl: 1, flags: 1 }, BAD_PARAMETER],
  ] as const)('kvm-unit-tests hyperv_vsm.c #7: EnablePartitionVtl of %s', (_what, header, status) => {
    const guest = fresh();
    expect(guest.call(HvCall.EnablePartitionVtl, { header, fast: true }).status).toBe(status);
    expect(guest.reg('VsmPartitionStatus')).toBe(0x1_0001n);
  });
  it.each([
    ['partition 42', { targetPartitionId: 42n, vpIndex: VP_SELF, targetVtl: 1 }, BAD_PARTITION],
    ['a VP that does not exist', { targetPartitionId: SELF, vpIndex: 0xffff_ffff, targetVtl: 1 }, BAD_VP],
    ['VTL0', { targetPartitionId: SELF, vpIndex: VP_SELF, targetVtl: 0 }, BAD_PARAMETER],
  ] as const)('kvm-unit-tests hyperv_vsm.c #8: EnableVpVtl of %s, before the partition has VTL1', (_what, header, status) => {
    expect(fresh().call(HvCall.EnableVpVtl, { header: { ...header, vpContext: contextOf(0, 1) } }).status).toBe(status);
  });
  it('kvm-unit-tests hyperv_vsm.c #9: only VTL0 is enabled and active at first', () => {
    const guest = fresh();
    for (const vp of [0, 1]) {
      if (vp === 1) expect(guest.active(1)).toBe(0);
      expect(guest.reg('VsmPartitionStatus', { vp })).toBe(0x1_0001n);
      expect(guest.reg('VsmVpStatus', { vp })).toBe(0x1_0000n);
      // Neither shared DR6 nor MBEC; DenyLowerVtlStartup.
      expect(guest.reg('VsmCapabilities', { vp }) & 0x3_ffffn).toBe(0x2_0000n);
    }
  });
  it('kvm-unit-tests hyperv_vsm.c #9, TLFS layout of the capabilities (switch vsmCapsLayout): DenyLowerVtlStartup is bit 46', () => {
    expect(fresh({ vsmCapsLayout: 'tlfs' }).reg('VsmCapabilities') >> 46n).toBe(1n);
  });
  it('kvm-unit-tests hyperv_vsm.c #10, #11: VTL1 is enabled for the partition, then on a VP; nothing is switched', () => {
    const guest = fresh();
    expect(guest.enablePartitionVtl(1)).toBe(0);
    expect(guest.reg('VsmPartitionStatus')).toBe(0x1_0003n);
    expect(guest.reg('VsmVpStatus')).toBe(0x1_0000n);
    expect(guest.enableVpVtl()).toBe(0);
    expect(guest.reg('VsmVpStatus')).toBe(0x3_0000n);
    expect(guest.reg('VsmVpStatus', { vp: 1 })).toBe(0x1_0000n);
    expect(guest.active()).toBe(0);
  });
  it('kvm-unit-tests hyperv_vsm.c #12: VTL0 can enable VTL1 on no VP after the first', () => {
    const guest = fresh();
    guest.enablePartitionVtl(1);
    guest.enableVpVtl();
    expect(guest.enableVpVtl(0)).toBeGreaterThan(0);
    expect(guest.enableVpVtl(VP_SELF)).toBeGreaterThan(0);
    expect(guest.enableVpVtl(1)).toBe(DENIED);
    expect(guest.enableVpVtl(VP_SELF, 1, 1)).toBe(DENIED);
  });
  it('kvm-unit-tests hyperv_vsm.c #13: VTL1 sets up its own pages and configuration', () => {
    const guest = fresh();
    guest.enablePartitionVtl(1);
    guest.enableVpVtl();
    guest.enter();
    guest.openInterface();
    expect(guest.reg('VsmCodePageOffsets')).toBe(0x2_600fn);
    guest.wrmsr(Msr.tsc, tscPage(1) | 1);
    // Protection on; read, write and bit 3.
    expect(guest.setReg('VsmPartitionConfig', 0x17n)).toBe(0);
    expect(guest.reg('VsmPartitionConfig') & 0x1fn).toBe(0x17n);
  });
  it('kvm-unit-tests hyperv_vsm.c #14: VTL1 enables the other VPs, and they enter it', () => {
    const guest = fresh();
    guest.enablePartitionVtl(1);
    guest.enableVpVtl();
    guest.enter();
    guest.openInterface();
    expect(guest.enableVpVtl(1)).toBe(0);
    expect(guest.active(1)).toBe(0);
    expect(guest.reg('VsmVpStatus', { of: 1 })).toBe(0x3_0000n);
    guest.enter(1);
    expect(guest.reg('VsmVpStatus', { vp: 1 })).toBe(0x3_0001n);
    expect(guest.get('rip', 1)).toBeGreaterThanOrEqual(contextOf(1, 1).rip);
  });
  it('kvm-unit-tests hyperv_vsm.c #15: the APIC of VTL1 is its own, with the same identity', () => {
    const guest = secured();
    for (const vp of [0, 1]) {
      const base0 = guest.rdmsr(0x1b, vp);
      const id0 = guest.rdmsr(0x802, vp);
      const topology = guest.plain({ op: 'cpuid', leaf: 0xb }, vp).rdx;
      guest.enter(vp);
      const base1 = guest.rdmsr(0x1b, vp);
      expect(base1 & 0x900n).toBe(vp === 0 ? 0x900n : 0x800n);
      expect(base1 & 0x100n).toBe(base0 & 0x100n);
      expect(guest.rdmsr(0x802, vp)).toBe(id0);
      expect(id0).toBe(topology);
      const version = guest.rdmsr(0x803, vp) & 0xffn;
      expect(version >= 0x10n && version <= 0x15n).toBe(true);
    }
  });
  it('kvm-unit-tests hyperv_vsm.c #15, at the first entry: hardware-enabled, xAPIC, software-disabled', () => {
    const guest = fresh();
    guest.enablePartitionVtl(1);
    guest.enableVpVtl();
    guest.enter();
    expect(guest.rdmsr(0x1b)).toBe(0xfee0_0900n);
    expect(guest.apic().isSoftwareEnabled).toBe(false);
  });
  it('kvm-unit-tests hyperv_vsm.c #16, with flags that can be set: RFLAGS is private', () => {
    const guest = secured();
    guest.set({ rflags: 0x24_0002 });
    guest.enter();
    expect(guest.reg('Rflags')).toBe(2n);
    guest.leave();
    expect(guest.reg('Rflags') & 0x24_0000n).toBe(0x24_0000n);
  });
  it('kvm-unit-tests hyperv_vsm.c #17: CR3 is private', () => {
    const guest = secured();
    expect(guest.reg('Cr3')).toBe(0x4_0000n);
    guest.enter();
    expect(guest.reg('Cr3')).toBe(0x5_0000n);
  });
  it('kvm-unit-tests hyperv_vsm.c #18: the FS base is private', () => {
    const guest = secured();
    guest.wrmsr(0xc000_0100, 0x1234_5000);
    guest.enter();
    expect(guest.rdmsr(0xc000_0100)).toBe(0n);
    guest.wrmsr(0xc000_0100, 0x777_0000);
    guest.leave();
    expect(guest.rdmsr(0xc000_0100)).toBe(0x1234_5000n);
  });
  it('kvm-unit-tests hyperv_vsm.c #19: CR8 is private', () => {
    const guest = secured();
    guest.plain({ op: 'mov', to: 'cr8', value: 1 });
    guest.enter();
    expect(guest.reg('Cr8')).toBe(0n);
    guest.plain({ op: 'mov', to: 'cr8', value: 2 });
    guest.leave();
    expect(guest.reg('Cr8')).toBe(1n);
  });
  it.each([
    ['its own VP', 0n, 2n],
    ['all VPs', 1n, 0n],
  ] as const)('kvm-unit-tests hyperv_vsm.c #20: flushes of %s wait while VTL1 of another VP holds the TLB lock', (_what, flags, mask) => {
    const guest = secured();
    for (let round = 0; round < 4; round++) {
      guest.enter();
      for (const of of [0, 1]) expect(guest.setReg('VsmVpSecureConfigVtl0', 2n, { of })).toBe(0);
      const flush = guest.call(HvCall.FlushVirtualAddressSpace, { header: { addressSpace: 0n, flags: flags | 2n, processorMask: mask }, vp: 1 });
      expect(flush.finish(30).isDone).toBe(false);
      for (const of of [0, 1]) expect(guest.setReg('VsmVpSecureConfigVtl0', 0n, { of })).toBe(0);
      expect(flush.finish().value).toBe(0n);
      guest.leave();
    }
  });
  it('kvm-unit-tests hyperv_vsm.c #21: reference TSC pages of both VTLs say the same', () => {
    const guest = secured();
    guest.wrmsr(Msr.tsc, tscPage(0) | 1);
    guest.enter();
    guest.wrmsr(Msr.tsc, tscPage(1) | 1);
    const [a, b] = [guest.peek(0, tscPage(0), 24), guest.peek(1, tscPage(1), 24)];
    expect(a.getUint32(0, true)).not.toBe(0);
    for (const at of [8, 16]) {
      expect(b.getBigUint64(at, true)).toBe(a.getBigUint64(at, true));
    }
    expect(b.getUint32(0, true)).toBe(a.getUint32(0, true));
    expect(a.getBigUint64(8, true)).not.toBe(0n);
  });
  it('kvm-unit-tests hyperv_vsm.c #22: VTL1 disables its own APIC only', () => {
    const guest = secured();
    guest.enter();
    const base = guest.rdmsr(0x1b);
    guest.wrmsr(0x1b, 0xfee0_0100);
    expect(guest.rdmsr(0x1b) & 0x800n).toBe(0n);
    guest.leave();
    expect(guest.rdmsr(0x1b) & 0xc00n).toBe(0xc00n);
    guest.enter();
    guest.wrmsr(0x1b, 0xfee0_0900);
    guest.wrmsr(0x1b, base);
    expect(guest.rdmsr(0x1b)).toBe(base);
  });

  // -- translation ----------------------------------------------------------------------------------------------------------------

  const ALL_ACCESS = 0xfn;
  const translate = (guest: Guest, address: bigint, vtl: number) => {
    const call = guest.call(HvCall.TranslateVirtualAddress, { header: { partitionId: SELF, vpIndex: VP_SELF, controlFlags: ALL_ACCESS | (BigInt(target(vtl)) << 56n), gvaPage: address >> 12n } });
    const view = call.output(16);
    return { status: call.status, code: view.getUint32(0, true), cache: view.getUint8(4), overlay: view.getUint8(5) & 1, frame: view.getBigUint64(8, true) };
  };
  const mapped = (options = {}): Guest => {
    const guest = secured({ options });
    mapIdentity(guest);
    return guest;
  };
  it('kvm-unit-tests hyperv_vsm.c #35: VTL0 translates its own mapped address', () => {
    expect(translate(mapped(), BigInt(DATA), 0)).toEqual({ status: 0, code: 0, cache: 6, overlay: 0, frame: BigInt(DATA >> 12) });
  });
  it('kvm-unit-tests hyperv_vsm.c #36: an address that is not mapped is a result, not a status', () => {
    expect(translate(mapped(), 0x80_0000_0000n, 0)).toMatchObject({ status: 0, code: 1 });
  });
  it('kvm-unit-tests hyperv_vsm.c #37: VTL1 translates an address of VTL0', () => {
    const guest = mapped();
    guest.enter();
    expect(translate(guest, BigInt(DATA), 0)).toEqual({ status: 0, code: 0, cache: 6, overlay: 0, frame: BigInt(DATA >> 12) });
  });
  it('kvm-unit-tests hyperv_vsm.c #38: the hypercall page of VTL0 is an overlay', () => {
    const guest = mapped();
    guest.enter();
    const call = guest.call(HvCall.TranslateVirtualAddress, { header: { partitionId: SELF, vpIndex: VP_SELF, controlFlags: 1n | (BigInt(target(0)) << 56n), gvaPage: BigInt(hypercallPage(0) >> 12) } });
    const view = call.output(16);
    expect([call.status, view.getUint32(0, true), view.getUint8(5) & 1, view.getBigUint64(8, true)]).toEqual([0, 0, 1, BigInt(hypercallPage(0) >> 12)]);
  });

  // -- protection -------------------------------------------------------------------------------------------------------------------

  it('kvm-unit-tests hyperv_vsm.c #39: the default mask cannot be changed, which is no failure', () => {
    const guest = secured({ partitionConfig: 0x17n });
    guest.enter();
    expect((guest.reg('VsmPartitionConfig') >> 1n) & 0xfn).toBe(0xbn);
    expect(guest.setReg('VsmPartitionConfig', 0x1n)).toBe(0);
    expect((guest.reg('VsmPartitionConfig') >> 1n) & 0xfn).toBe(0xbn);
    guest.leave();
    expect(guest.plain({ op: 'read', gpa: DATA }).fault).toBeNull();
  });
});
