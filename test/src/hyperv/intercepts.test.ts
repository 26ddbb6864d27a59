import { HvCall, type HvRegisterName } from '@vmplanes/abi-hyperv';
import { type RegisterExit, RegisterKey, type RegisterName, type Step } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { policies } from './bench.ts';
import { DATA, type Guest, Msr, ready, type ReadyConfig, SELF, simPage, target } from './guest.ts';

// Intercepts of control registers and MSRs, and how secure intercepts reach the VTL that asked for them.

const MSR_MESSAGE = 0x8001_0001, REGISTER_MESSAGE = 0x8001_0006, GPA_MESSAGE = 0x8000_0001;
const EMPTY = 0;
const frame = DATA >> 12;

describe.each(policies)('under %s', (policy) => {
  const secured = (config: ReadyConfig = {}): Guest => ready({ policy, ...config });
  /** VTL1 has set registers of its own; VTL0 is active. */
  const watching = (registers: Readonly<Partial<Record<HvRegisterName, bigint>>>, config: ReadyConfig = {}): Guest => {
    const guest = secured(config);
    guest.enter();
    for (const [name, value] of Object.entries(registers)) guest.put(name as HvRegisterName, value);
    guest.leave();
    guest.plain({ op: 'work' });
    return guest;
  };
  const protectedPage = (rights: number, config: ReadyConfig = {}): Guest => {
    const guest = secured(config);
    guest.enter();
    expect(guest.protect(rights, frame).status).toBe(0);
    guest.leave();
    guest.plain({ op: 'work' });
    return guest;
  };
  /** The head of the message of VTL1: type, access type, and where VTL0 stopped. */
  const head = (guest: Guest): { readonly type: number; readonly access: number; readonly rip: bigint; readonly payload: DataView } => {
    const message = guest.message();
    return { type: message.getUint32(0, true), access: message.getUint8(16 + 5), rip: message.getBigUint64(16 + 24, true), payload: new DataView(message.buffer, 16) };
  };

  // -- MSRs -----------------------------------------------------------------------------------------------------------------------------

  const writes: readonly (readonly [bit: number, name: string, index: number, value: bigint, cell: RegisterName])[] = [
    [4, 'MISC_ENABLE', 0x1a0, 0x1n, 'miscEnable'], [6, 'LSTAR', 0xc000_0082, 0x5000n, 'lstar'], [8, 'STAR', 0xc000_0081, 0x23_0008_0000_0000n, 'star'], [10, 'CSTAR', 0xc000_0083, 0x6000n, 'cstar'],
    [14, 'EFER', 0xc000_0080, 0xd00n, 'efer'], [19, 'SYSENTER_CS', 0x174, 0x10n, 'sysenterCs'], [20, 'SYSENTER_EIP', 0x176, 0x7000n, 'sysenterEip'], [21, 'SYSENTER_ESP', 0x175, 0x8000n, 'sysenterEsp'],
    [22, 'SFMASK', 0xc000_0084, 0x700n, 'sfmask'], [23, 'TSC_AUX', 0xc000_0103, 0x5n, 'tscAux'],
  ];
  it.each(writes)('TLFS Virtual Secure Mode, intercepting control registers: bit %i is a write of %s', (bit, _name, index, value, cell) => {
    const guest = watching({ CrInterceptControl: 1n << BigInt(bit), CrInterceptIa32MiscEnableMask: 0xffff_ffff_ffff_ffffn });
    const before = guest.get(cell);
    const written = before ^ value;
    const access = guest.issue({ op: 'wrmsr', index, value: written });
    expect([access.result, guest.active(), guest.entryReason()]).toEqual([null, 1, 2]);
    const { type, access: kind, payload, rip } = head(guest);
    expect([type, kind, payload.getUint32(0x28, true)]).toEqual([MSR_MESSAGE, 1, index]);
    expect([payload.getBigUint64(0x30, true) & 0xffff_ffffn, payload.getBigUint64(0x38, true) & 0xffff_ffffn]).toEqual([written >> 32n, written & 0xffff_ffffn]);
    expect([guest.get(cell, 0, 0), guest.get('rip', 0, 0)]).toEqual([before, rip]);
  });
  it('TLFS Virtual Secure Mode, intercepting control registers: bit 12 is a write of APIC_BASE', () => {
    const guest = watching({ CrInterceptControl: 0x1000n });
    guest.issue({ op: 'wrmsr', index: 0x1b, value: 0xfee0_0100 });
    expect([guest.active(), head(guest).type, head(guest).payload.getUint32(0x28, true)]).toEqual([1, MSR_MESSAGE, 0x1b]);
    expect(guest.apic(0, 0).isHardwareEnabled).toBe(true);
  });
  it('TLFS Virtual Secure Mode, intercepting control registers: MISC_ENABLE only where a bit of its mask changes', () => {
    const guest = watching({ CrInterceptControl: 0x10n, CrInterceptIa32MiscEnableMask: 0x8n });
    guest.wrmsr(0x1a0, guest.get('miscEnable') ^ 1n);
    expect(guest.active()).toBe(0);
  });
  const reads: readonly (readonly [bit: number, name: string, index: number])[] = [[3, 'MISC_ENABLE', 0x1a0], [5, 'LSTAR', 0xc000_0082], [7, 'STAR', 0xc000_0081], [9, 'CSTAR', 0xc000_0083], [11, 'APIC_BASE', 0x1b], [13, 'EFER', 0xc000_0080]];
  it.each(reads)('TLFS Virtual Secure Mode, intercepting control registers: bit %i is a read of %s', (bit, _name, index) => {
    const guest = watching({ CrInterceptControl: 1n << BigInt(bit) });
    guest.issue({ op: 'rdmsr', index });
    const { type, access, payload } = head(guest);
    expect([guest.active(), type, access, payload.getUint32(0x28, true)]).toEqual([1, MSR_MESSAGE, 0, index]);
  });
  it.each(writes.filter(([bit]) => bit !== 4))('TLFS Virtual Secure Mode, intercepting control registers: without bit %i a write of %s is done', (_bit, _name, index, value) => {
    const guest = watching({ CrInterceptControl: 0n });
    guest.wrmsr(index, value);
    expect([guest.active(), guest.rdmsr(index)]).toEqual([0, value]);
  });
  it.each(writes.filter(([bit]) => bit !== 4))('TLFS Virtual Secure Mode, intercepting control registers: bit %i is for VTL0: VTL1 writes %s itself', (bit, _name, index, value) => {
    const guest = watching({ CrInterceptControl: 1n << BigInt(bit) });
    guest.enter();
    guest.wrmsr(index, value);
    expect([guest.active(), guest.rdmsr(index)]).toEqual([1, value]);
  });
  it('TLFS Virtual Secure Mode: VTL1 does the write itself and steps VTL0 over it', () => {
    const guest = watching({ CrInterceptControl: 1n << 6n });
    const access = guest.issue({ op: 'wrmsr', index: 0xc000_0082, value: 0x5000 });
    const { rip } = head(guest);
    guest.takeMessage();
    guest.plain({ op: 'sti' });
    guest.run(3);
    guest.put('Lstar', 0x4000n, { vtl: target(0) });
    guest.put('Rip', rip + 1n, { vtl: target(0) });
    guest.leave(0, 0n);
    guest.finish(access);
    expect([access.result?.fault, guest.active(), guest.rdmsr(0xc000_0082)]).toEqual([null, 0, 0x4000n]);
  });
  it('OpenTMK hv_register_intercept: control 0x1000 reads back, and a write of the APIC base is intercepted', () => {
    const guest = watching({ CrInterceptControl: 0x1000n });
    guest.enter();
    expect(guest.reg('CrInterceptControl')).toBe(0x1000n);
    guest.interruptFlag(true);
    guest.leave();
    guest.issue({ op: 'wrmsr', index: 0x1b, value: 0xfee0_0d00 });
    guest.run(3);
    expect(guest.taken(0, 1)).toEqual([0x30]);
  });

  // -- control registers ----------------------------------------------------------------------------------------------------------------------

  const CR0 = 0x8001_0011n, CR4 = 0x620n, WP = 0x1_0000n, PGE = 0x80n;
  const controls: readonly (readonly [title: string, registers: Readonly<Partial<Record<HvRegisterName, bigint>>>, step: Step, name: number, value: bigint, intercepted: boolean])[] = [
    ['CR0, a bit of the mask', { CrInterceptControl: 1n, CrInterceptCr0Mask: WP }, { op: 'mov', to: 'cr0', value: CR0 & ~WP }, 0x4_0000, CR0 & ~WP, true],
    ['CR0, a bit outside the mask', { CrInterceptControl: 1n, CrInterceptCr0Mask: 0x20n }, { op: 'mov', to: 'cr0', value: CR0 & ~WP }, 0x4_0000, CR0 & ~WP, false],
    ['CR0, the same value', { CrInterceptControl: 1n, CrInterceptCr0Mask: 0xffff_ffff_ffff_ffffn }, { op: 'mov', to: 'cr0', value: CR0 }, 0x4_0000, CR0, false],
    ['CR0, no mask', { CrInterceptControl: 1n }, { op: 'mov', to: 'cr0', value: CR0 & ~WP }, 0x4_0000, CR0 & ~WP, false],
    ['CR0, a mask without the control bit', { CrInterceptCr0Mask: WP }, { op: 'mov', to: 'cr0', value: CR0 & ~WP }, 0x4_0000, CR0 & ~WP, false],
    ['CR4, a bit of the mask', { CrInterceptControl: 2n, CrInterceptCr4Mask: PGE }, { op: 'mov', to: 'cr4', value: CR4 | PGE }, 0x4_0003, CR4 | PGE, true],
    ['CR4, a bit outside the mask', { CrInterceptControl: 2n, CrInterceptCr4Mask: 1n }, { op: 'mov', to: 'cr4', value: CR4 | PGE }, 0x4_0003, CR4 | PGE, false],
    ['CR4, no mask', { CrInterceptControl: 2n }, { op: 'mov', to: 'cr4', value: CR4 | PGE }, 0x4_0003, CR4 | PGE, false],
    ['CR4, the mask of CR0', { CrInterceptControl: 2n, CrInterceptCr0Mask: PGE }, { op: 'mov', to: 'cr4', value: CR4 | PGE }, 0x4_0003, CR4 | PGE, false],
  ];
  it.each(controls)('TLFS Virtual Secure Mode, intercepting control registers: %s', (_title, registers, step, name, value, intercepted) => {
    const guest = watching(registers);
    const cell = name === 0x4_0000 ? 'cr0' : 'cr4';
    const before = guest.get(cell);
    const access = guest.issue(step);
    if (!intercepted) {
      expect([access.result?.fault, guest.active(), guest.get(cell)]).toEqual([null, 0, value]);
      return;
    }
    const { type, access: kind, payload } = head(guest);
    expect([access.result, guest.active(), type, kind, payload.getUint32(0x2c, true), payload.getBigUint64(0x30, true)]).toEqual([null, 1, REGISTER_MESSAGE, 1, name, value]);
    expect(guest.get(cell, 0, 0)).toBe(before);
  });
  it('TLFS Virtual Secure Mode, intercepting control registers: XCR0 at every write', () => {
    const guest = watching({ CrInterceptControl: 4n });
    guest.set({ cr4: CR4 | 0x4_0000n });
    guest.issue({ op: 'mov', to: 'xcr0', value: 3 });
    expect([guest.active(), head(guest).type, head(guest).payload.getUint32(0x2c, true)]).toEqual([1, REGISTER_MESSAGE, 0x4_0005]);
  });
  // Scripts have no LGDT and the like: their exit is put to the interface as a processor would.
  const tables: readonly (readonly [bit: number, instruction: string, key: number, name: number, inMemory: boolean])[] = [
    [15, 'LGDT', RegisterKey.Gdtr, 0x7_0001, true], [16, 'LIDT', RegisterKey.Idtr, 0x7_0000, true], [17, 'LLDT', RegisterKey.Ldtr, 0x6_0006, false], [18, 'LTR', RegisterKey.Tr, 0x6_0007, false],
  ];
  const exitOf = (key: number, write: boolean): RegisterExit => ({ kind: 'register', key, write, lo: 0x1234_5678, hi: 0x9 });
  it.each(tables)('TLFS Virtual Secure Mode, intercepting control registers: bit %i is %s', (bit, _name, key, name, inMemory) => {
    const guest = watching({ CrInterceptControl: 1n << BigInt(bit) });
    const answer = guest.hv.handle(guest.context(), exitOf(key, true));
    expect(answer).toMatchObject({ kind: 'wait', rip: 'held' });
    const { type, access, payload } = head(guest);
    expect([type, access, payload.getUint8(0x28) & 1, payload.getUint32(0x2c, true), payload.getBigUint64(0x30, true)]).toEqual([REGISTER_MESSAGE, 1, inMemory ? 1 : 0, name, 0x9_1234_5678n]);
    expect(guest.message().getUint8(4)).toBe(0x40);
  });
  it.each(tables)('TLFS Virtual Secure Mode, intercepting control registers: every bit but %i lets %s through, as do SGDT and the like', (bit, _name, key) => {
    const guest = watching({ CrInterceptControl: 0x1fff_ffffn & ~(1n << BigInt(bit)), CrInterceptCr0Mask: 0xffff_ffff_ffff_ffffn, CrInterceptCr4Mask: 0xffff_ffff_ffff_ffffn });
    expect([guest.hv.handle(guest.context(), exitOf(key, true)), guest.message().getUint32(0, true)]).toEqual([null, EMPTY]);
    guest.enter();
    guest.put('CrInterceptControl', 0x1fff_ffffn);
    expect([guest.hv.handle(guest.context(), exitOf(key, true)), guest.hv.handle(guest.context(0, 0), exitOf(key, false))]).toEqual([null, null]);
  });
  it.each([
    [24, 'SGX launch control', 0x8c], [24, 'SGX launch control', 0x8f], [25, 'XSS', 0xda0], [26, 'S_CET', 0x6a2], [27, 'PL0_SSP', 0x6a4], [27, 'PL1_SSP', 0x6a5], [27, 'PL2_SSP', 0x6a6], [28, 'ISST address', 0x6a8],
  ] as const)('openvmm hvdef, intercepting control registers: bit %i is a write of %s, whether or not the processor has it', (bit, _name, index) => {
    const guest = watching({ CrInterceptControl: 1n << BigInt(bit) });
    const access = guest.issue({ op: 'wrmsr', index, value: 0x5_0000_0001n });
    expect([access.result, guest.active(), head(guest).type, head(guest).access, head(guest).payload.getUint32(0x28, true)]).toEqual([null, 1, MSR_MESSAGE, 1, index]);
    expect([head(guest).payload.getBigUint64(0x30, true), head(guest).payload.getBigUint64(0x38, true)]).toEqual([5n, 1n]);
  });
  it('openvmm hvdef, intercepting control registers: PL3_SSP is of the user, no bit is for it', () => {
    const guest = watching({ CrInterceptControl: 0x1fff_ffffn });
    guest.issue({ op: 'wrmsr', index: 0x6a7, value: 0x1000 });
    expect([guest.active(), guest.message().getUint32(0, true)]).toEqual([0, EMPTY]);
  });
  it('TLFS Virtual Secure Mode, intercepting control registers: SetVpRegisters by VTL1 is not intercepted', () => {
    const guest = watching({ CrInterceptControl: 3n, CrInterceptCr0Mask: WP });
    guest.enter();
    guest.put('Cr0', CR0 & ~WP, { vtl: target(0) });
    expect([guest.active(), guest.get('cr0', 0, 0), guest.message().getUint32(0, true)]).toEqual([1, CR0 & ~WP, EMPTY]);
  });

  // -- delivery ----------------------------------------------------------------------------------------------------------------------------------

  it('TLFS Virtual Secure Mode, secure intercepts: they reach the VP that did it', () => {
    const guest = secured({ vps: 2 });
    guest.enter();
    guest.protect(0, frame);
    guest.leave();
    guest.issue({ op: 'read', gpa: DATA }, 1);
    expect([guest.active(0), guest.active(1), guest.message(1).getUint32(0, true), guest.message(0).getUint32(0, true), guest.message(1).getUint32(16, true)]).toEqual([0, 1, GPA_MESSAGE, EMPTY, 1]);
  });
  it.each([['SCONTROL', Msr.scontrol, 0n], ['SIMP', Msr.simp, 0n], ['SINT0', Msr.sint0, 0x1_0000n]] as const)('hyperv-vsm: VTL1 without %s cannot be told: VTL0 gets #GP', (_what, index, value) => {
    const guest = secured();
    guest.enter();
    guest.protect(0, frame);
    guest.wrmsr(index, value);
    guest.leave();
    expect(guest.issue({ op: 'read', gpa: DATA }).result?.fault).toMatchObject({ vector: 13, errorCode: 0 });
    expect(guest.active()).toBe(0);
  });
  it('TLFS Inter-Partition Communication: while the slot is in use VTL0 waits, and EOM brings the message', () => {
    const guest = protectedPage(0);
    guest.poke(1, simPage(0, 1), Uint8Array.of(1));
    const access = guest.issue({ op: 'read', gpa: DATA });
    expect([access.result, guest.message().getUint32(0, true)]).toEqual([null, 1]);
    guest.run(10);
    expect(access.result).toBeNull();
    // VTL1 comes for something else and frees its slot.
    if (guest.active() === 0) guest.interrupt(0xa0, 0, 1);
    guest.run(3);
    expect([guest.active(), guest.message().getUint8(5) & 1]).toEqual([1, 1]);
    guest.takeMessage();
    guest.wrmsr(Msr.eom, 0);
    expect(guest.message().getUint32(0, true)).toBe(GPA_MESSAGE);
    expect(guest.requested(0x30, 0, 1)).toBe(true);
  });
  it('TLFS Virtual Secure Mode: an access that VTL1 allows again is done after the return', () => {
    const guest = protectedPage(0);
    guest.poke64(0, DATA, 0x99n);
    const access = guest.issue({ op: 'read', gpa: DATA });
    guest.plain({ op: 'sti' });
    guest.run(3);
    guest.takeMessage();
    guest.protect(1, frame);
    guest.leave(0, 0n);
    expect(guest.finish(access)?.rax).toBe(0x99n);
  });
  it('TLFS Virtual Secure Mode: an access that VTL1 does not allow is intercepted again', () => {
    const guest = protectedPage(0);
    const access = guest.issue({ op: 'read', gpa: DATA });
    for (let round = 0; round < 3; round++) {
      expect([guest.active(), guest.takeMessage().getUint32(0, true)]).toEqual([1, GPA_MESSAGE]);
      guest.plain({ op: 'sti' });
      guest.run(3);
      guest.plain({ op: 'cli' });
      guest.vtlReturn(0, 0n);
      guest.run(3);
    }
    expect(access.result).toBeNull();
    expect(guest.taken(0, 1)).toEqual([0x30, 0x30, 0x30]);
  });
  it('hyperv-vsm: hypercall input that VTL1 protects is intercepted; the call is made when it may be', () => {
    const guest = protectedPage(0);
    guest.poke(0, DATA, guest.encode(HvCall.SendSyntheticClusterIpi, { header: { vector: 0x44, targetVtl: 0, flags: 0, processorMask: 1n } }));
    const call = guest.control(0x0bn, BigInt(DATA), 0n);
    expect([call.isDone, guest.active(), guest.message().getUint32(0, true), head(guest).access, guest.requested(0x44, 0, 0)]).toEqual([false, 1, GPA_MESSAGE, 0, false]);
    guest.plain({ op: 'sti' });
    guest.run(3);
    guest.takeMessage();
    guest.protect(1, frame);
    guest.set({ rdx: BigInt(DATA), r8: 0 });
    guest.leave(0, 0n);
    expect(call.finish().status).toBe(0);
    expect(guest.requested(0x44, 0, 0)).toBe(true);
  });
  it('hyperv-vsm: hypercall output that VTL1 protects is intercepted as a write', () => {
    const guest = protectedPage(1);
    const call = guest.call(HvCall.GetVpRegisters, { header: { partitionId: SELF, vpIndex: 0, inputVtl: 0 }, elements: [0x4_0002], outputGpa: BigInt(DATA) });
    expect([call.isDone, guest.active(), guest.message().getUint32(0, true), head(guest).access]).toEqual([false, 1, GPA_MESSAGE, 1]);
  });
});
