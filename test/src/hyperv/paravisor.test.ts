import { HvCall } from '@vmplanes/abi-hyperv';
import { describe, expect, it } from 'vitest';
import { type BenchConfig, policies } from './bench.ts';
import { booted, type Guest, Msr, ready, SELF, target, VP_SELF } from './guest.ts';

// Registers of a VTL2 that looks after VTL0 and VTL1, waiting for TLB locks, and the counter that a guest asks to be invariant.

type Options = NonNullable<BenchConfig['options']>;
const OK = 0, PARAMETER = 5, DENIED = 6, VALUE = 0x50, VTL_STATE = 0x51;

describe.each(policies)('under %s', (policy) => {
  // -- GuestVsmPartitionConfig ---------------------------------------------------------------------------------------------------

  /** VTL0 has enabled VTL2 alone, which is active. */
  const inVtl2 = (options: Options = {}): Guest => {
    const guest = booted({ policy, vps: 2, options: { maximumVtl: 2, ...options } });
    expect([guest.enablePartitionVtl(2), guest.enableVpVtl(VP_SELF, 2)]).toEqual([OK, OK]);
    guest.enter();
    expect(guest.active()).toBe(2);
    guest.openInterface();
    return guest;
  };
  const maximum = (guest: Guest): bigint => (guest.reg('VsmPartitionStatus') >> 16n) & 0xfn;
  it('openvmm hvdef, GuestVsmPartitionConfig: VTL1 is left to the guest, and the guest is told so', () => {
    const guest = inVtl2();
    expect([guest.reg('GuestVsmPartitionConfig'), maximum(guest)]).toEqual([2n, 2n]);
    expect([guest.setReg('GuestVsmPartitionConfig', 1n), guest.reg('GuestVsmPartitionConfig'), maximum(guest)]).toEqual([OK, 1n, 2n]);
    guest.leave();
    expect([maximum(guest), guest.enablePartitionVtl(1)]).toEqual([1n, OK]);
  });
  it('openvmm hvdef, GuestVsmPartitionConfig: VTL2 withdraws VTL1, and gives it back', () => {
    const guest = inVtl2();
    expect([guest.setReg('GuestVsmPartitionConfig', 0n), guest.reg('GuestVsmPartitionConfig'), maximum(guest)]).toEqual([OK, 0n, 2n]);
    guest.leave();
    expect([maximum(guest), guest.enablePartitionVtl(1)]).toEqual([0n, DENIED]);
    guest.enter();
    expect(guest.setReg('GuestVsmPartitionConfig', 1n)).toBe(OK);
    guest.leave();
    expect([maximum(guest), guest.enablePartitionVtl(1)]).toEqual([1n, OK]);
  });
  it('openvmm: VTL1 is withdrawn only while it is not enabled', () => {
    const guest = inVtl2();
    guest.leave();
    guest.enablePartitionVtl(1);
    guest.enter();
    expect([guest.setReg('GuestVsmPartitionConfig', 0n), guest.setReg('GuestVsmPartitionConfig', 1n), guest.reg('GuestVsmPartitionConfig')]).toEqual([VTL_STATE, OK, 1n]);
  });
  it('VTL2 itself may enable what it withdrew from its guest', () => {
    const guest = inVtl2();
    guest.put('GuestVsmPartitionConfig', 0n);
    expect(guest.enablePartitionVtl(1)).toBe(OK);
  });
  it.each([['VTL3', 3n, VALUE], ['an interrupt injection mode of VTL0', 0x11n, VALUE], ['an interrupt injection mode of VTL1', 0x41n, VALUE], ['a reserved bit', 1n << 8n, VALUE]] as const)('openvmm hvdef, GuestVsmPartitionConfig: %s', (_what, value, status) => {
    expect(inVtl2().setReg('GuestVsmPartitionConfig', value)).toBe(status);
  });
  it('openvmm hvdef, GuestVsmPartitionConfig: not for VTL0 and VTL1', () => {
    const guest = ready({ policy });
    expect([guest.getReg('GuestVsmPartitionConfig').status, guest.setReg('GuestVsmPartitionConfig', 0n)]).toEqual([PARAMETER, PARAMETER]);
    guest.enter();
    expect([guest.getReg('GuestVsmPartitionConfig').status, guest.setReg('GuestVsmPartitionConfig', 0n)]).toEqual([PARAMETER, PARAMETER]);
  });
  it('GuestVsmPartitionConfig: a reset gives VTL1 back', () => {
    const guest = inVtl2();
    guest.put('GuestVsmPartitionConfig', 0n);
    guest.hv.chapters.vsm.reset();
    expect(guest.hv.chapters.vsm.guestMaximumVtl).toBe(2);
  });

  // -- VsmVpWaitForTlbLock -------------------------------------------------------------------------------------------------------

  const LOCK = 2n, WAIT = 1n;
  /** VP 1 holds a lock on the VTL0 of VP `of`; VP 0 is in VTL1. */
  const locked = (of = 1): Guest => {
    const guest = ready({ policy, vps: 3 });
    guest.enter(1);
    guest.put('VsmVpSecureConfigVtl0', LOCK, { vp: 1, of });
    guest.enter();
    return guest;
  };
  const wait = (guest: Guest, value = WAIT, vp = 0, of = VP_SELF): number => guest.setReg('VsmVpWaitForTlbLock', value, { vp, of, vtl: target(0) });
  it.each([0, 1, 2])('openvmm hvdef, VsmVpWaitForTlbLock: VTL0 runs only once the lock of another VP on VTL0 of VP %i is gone', (of) => {
    const guest = locked(of);
    expect([wait(guest), guest.reg('VsmVpWaitForTlbLock', { vtl: target(0) })]).toEqual([OK, WAIT]);
    guest.leave();
    const work = guest.issue({ op: 'work' });
    guest.run(10);
    expect([guest.active(), work.result]).toEqual([0, null]);
    guest.put('VsmVpSecureConfigVtl0', 0n, { vp: 1, of });
    guest.finish(work);
    expect(work.result?.fault).toBe(null);
  });
  it('openvmm hvdef, VsmVpWaitForTlbLock: the return of the VTL that holds the lock ends the wait', () => {
    const guest = locked();
    wait(guest);
    guest.leave();
    const work = guest.issue({ op: 'work' });
    expect(work.result).toBe(null);
    guest.leave(1);
    guest.finish(work);
    expect(work.result?.fault).toBe(null);
  });
  it('openvmm: a VP never waits for its own locks: they end when it returns', () => {
    const guest = ready({ policy, vps: 2 });
    guest.enter();
    guest.put('VsmVpSecureConfigVtl0', LOCK);
    guest.put('VsmVpSecureConfigVtl0', LOCK, { of: 1 });
    expect([wait(guest), guest.reg('VsmVpWaitForTlbLock', { vtl: target(0) })]).toEqual([OK, 0n]);
    guest.leave();
    guest.plain({ op: 'work' });
  });
  it('openvmm: locks that come later are not waited for', () => {
    const guest = locked();
    wait(guest);
    guest.enter(2);
    guest.put('VsmVpSecureConfigVtl0', LOCK, { vp: 2, of: 0 });
    guest.leave();
    const work = guest.issue({ op: 'work' });
    guest.leave(1);
    guest.finish(work);
    expect([work.result?.fault, guest.active(2)]).toEqual([null, 1]);
  });
  it('VsmVpWaitForTlbLock: VTL1 is still entered while VTL0 waits, and VTL0 waits on behind it', () => {
    const guest = locked();
    wait(guest);
    guest.leave();
    const work = guest.issue({ op: 'work' });
    guest.interrupt(0x90, 0, 1);
    guest.run(3);
    expect([guest.active(), guest.entryReason()]).toEqual([1, 2]);
    guest.interruptFlag(true);
    guest.run(3);
    expect(guest.taken(0, 1)).toEqual([0x90]);
    guest.leave(0, 0n);
    guest.run(6);
    expect([guest.active(), work.result]).toEqual([0, null]);
  });
  it('VsmVpWaitForTlbLock: VTL1 ends the wait itself', () => {
    const guest = locked();
    expect([wait(guest), wait(guest, 0n), guest.reg('VsmVpWaitForTlbLock', { vtl: target(0) })]).toEqual([OK, OK, 0n]);
    guest.leave();
    guest.plain({ op: 'work' });
  });
  it('VsmVpWaitForTlbLock: of another VP', () => {
    const guest = locked();
    expect(wait(guest, WAIT, 0, 2)).toBe(OK);
    const work = guest.issue({ op: 'work' }, 2);
    expect(work.result).toBe(null);
    guest.leave(1);
    guest.finish(work);
    expect(work.result?.fault).toBe(null);
  });
  it('VsmVpWaitForTlbLock: without locks nobody waits', () => {
    const guest = ready({ policy, vps: 2 });
    guest.enter();
    expect([wait(guest), guest.reg('VsmVpWaitForTlbLock', { vtl: target(0) })]).toEqual([OK, 0n]);
  });
  it('VsmVpWaitForTlbLock: a lock by a translation counts, too', () => {
    const guest = ready({ policy, vps: 2 });
    guest.enter(1);
    const flags = 1n | (1n << 5n) | (BigInt(target(0)) << 56n);
    expect(guest.call(HvCall.TranslateVirtualAddress, { header: { partitionId: SELF, vpIndex: VP_SELF, controlFlags: flags, gvaPage: 0n }, vp: 1 }).status).toBe(OK);
    guest.enter();
    expect([wait(guest), guest.reg('VsmVpWaitForTlbLock', { vtl: target(0) })]).toEqual([OK, WAIT]);
  });
  it.each([['reserved bits', 2n, 0, VALUE], ['the own VTL', 1n, 1, PARAMETER]] as const)('VsmVpWaitForTlbLock: %s', (_what, value, vtl, status) => {
    const guest = ready({ policy });
    guest.enter();
    expect(guest.setReg('VsmVpWaitForTlbLock', value, { vtl: target(vtl) })).toBe(status);
  });
  it('VsmVpWaitForTlbLock: is part of the state, and a reset ends the wait', () => {
    const guest = locked();
    wait(guest);
    const { locks } = guest.hv.chapters.vsm;
    const saved = structuredClone(locks.save());
    locks.reset();
    expect([locks.isWaiting(0, 0), locks.isLocked(1, 0)]).toEqual([false, false]);
    locks.restore(saved);
    expect([locks.isWaiting(0, 0), locks.isLocked(1, 0)]).toEqual([true, true]);
  });

  // -- TSC_INVARIANT_CONTROL ---------------------------------------------------------------------------------------------------------

  const INVARIANT = 0x4000_0118;
  const isShown = (guest: Guest): boolean => ((guest.plain({ op: 'cpuid', leaf: 0x8000_0007 }).rdx >> 8n) & 1n) === 1n;
  it('Linux hv_init_tsc_clocksource: the counter is shown as invariant once the guest has asked for it; it cannot be taken back', () => {
    const guest = booted({ policy });
    expect([isShown(guest), guest.rdmsr(INVARIANT)]).toEqual([false, 0n]);
    guest.wrmsr(INVARIANT, 0);
    guest.wrmsr(INVARIANT, 1);
    expect([isShown(guest), guest.rdmsr(INVARIANT)]).toEqual([true, 1n]);
    expect(guest.step({ op: 'wrmsr', index: INVARIANT, value: 0 }).fault?.vector).toBe(13);
    guest.wrmsr(INVARIANT, 1);
    expect(guest.rdmsr(INVARIANT)).toBe(1n);
  });
  it('TSC_INVARIANT_CONTROL: only bit 0 is defined', () => {
    expect(booted({ policy }).step({ op: 'wrmsr', index: INVARIANT, value: 2 }).fault?.vector).toBe(13);
  });
  it('TSC_INVARIANT_CONTROL: without its privilege there is no MSR, and the counter is shown as it is', () => {
    const guest = booted({ policy, options: { withhold: ['accessTscInvariantControls'] } });
    expect([guest.step({ op: 'rdmsr', index: INVARIANT }).fault?.vector, isShown(guest)]).toEqual([13, true]);
  });
  it('TSC_INVARIANT_CONTROL: the privilege is announced, and the MSR is one for all VTLs and VPs', () => {
    const guest = ready({ policy, vps: 2 });
    expect((guest.plain({ op: 'cpuid', leaf: 0x4000_0003 }).rax >> 15n) & 1n).toBe(1n);
    guest.wrmsr(INVARIANT, 1);
    guest.enter(1);
    expect(guest.rdmsr(INVARIANT, 1)).toBe(1n);
  });

  it.each([
    [7, 'InterceptAcceptance'], [8, 'InterceptEnableVtlProtection'], [9, 'InterceptVpStartup'], [13, 'InterceptRestorePartitionTime'], [14, 'InterceptNotPresent'], [15, 'InterceptSystemReset'],
  ] as const)('VsmPartitionConfig: bit %i, %s, is refused', (bit, _name) => {
    const guest = ready({ policy });
    guest.enter();
    expect([guest.setReg('VsmPartitionConfig', 0x3fn | (1n << BigInt(bit))), guest.reg('VsmPartitionConfig')]).toEqual([VALUE, 0x3fn]);
    expect(guest.rdmsr(Msr.scontrol)).toBe(1n);
  });
});
