import { HvCall } from '@vmplanes/abi-hyperv';
import { describe, expect, it } from 'vitest';
import { policies } from './bench.ts';
import { booted, DATA, type Guest, mapIdentity, PROTECT, ready, type ReadyConfig, SELF, target, VP_SELF } from './guest.ts';

// What protections of VTL1 let VTL0 do: rights, MBEC, page walks, translations, TLB locks, reset.

const GPA_MESSAGE = 0x8000_0001;
const frame = DATA >> 12;
const R = 1, RW = 3, RX = 0xd, RWX = 0xf, NONE = 0;

describe.each(policies)('under %s', (policy) => {
  const secured = (config: ReadyConfig = {}): Guest => ready({ policy, ...config });
  const inVtl1 = (config: ReadyConfig = {}): Guest => {
    const guest = secured(config);
    guest.enter();
    return guest;
  };
  const steps = {
    read: { op: 'read', gpa: DATA },
    write: { op: 'write', gpa: DATA, value: 1 },
    execute: { op: 'execute', gpa: DATA },
  } as const;

  it.each([
    [NONE, 'read', false], [NONE, 'write', false], [NONE, 'execute', false],
    [R, 'read', true], [R, 'write', false], [R, 'execute', false],
    [RW, 'read', true], [RW, 'write', true], [RW, 'execute', false],
    [RX, 'read', true], [RX, 'write', false], [RX, 'execute', true],
    [RWX, 'read', true], [RWX, 'write', true], [RWX, 'execute', true],
  ] as const)('TLFS Virtual Secure Mode, memory access protections: rights %i, %s: %s', (rights, access, allowed) => {
    const guest = inVtl1();
    guest.protect(rights, frame);
    // VTL1 itself is not restricted.
    expect(guest.plain(steps[access]).fault).toBeNull();
    guest.leave();
    const issued = guest.issue(steps[access]);
    expect([guest.active(), issued.result !== null]).toEqual(allowed ? [0, true] : [1, false]);
    if (!allowed) expect([guest.message().getUint32(0, true), guest.message().getUint8(16 + 5)]).toEqual([GPA_MESSAGE, { read: 0, write: 1, execute: 2 }[access]]);
  });
  it.each([
    ['nothing is denied by read and write', 0x06n | 1n, 'write', true],
    ['read and write deny execution', 0x06n | 1n, 'execute', false],
    ['all rights by default', PROTECT, 'execute', true],
  ] as const)('TLFS Virtual Secure Mode, default protection mask: %s', (_title, config, access, allowed) => {
    const guest = secured({ partitionConfig: config });
    const issued = guest.issue(steps[access]);
    expect([guest.active(), issued.result !== null]).toEqual(allowed ? [0, true] : [1, false]);
  });
  it('TLFS Virtual Secure Mode: before protection is enabled everything is allowed', () => {
    const guest = secured({ partitionConfig: null });
    for (const step of Object.values(steps)) expect(guest.plain(step).fault).toBeNull();
  });
  it('TLFS Virtual Secure Mode: protections hold on every VP before the call returns', () => {
    const guest = secured({ vps: 2 });
    mapIdentity(guest);
    expect(guest.plain({ op: 'read', gva: DATA }, 1).fault).toBeNull();
    guest.enter();
    guest.protect(NONE, frame);
    expect(guest.issue({ op: 'read', gva: DATA }, 1).result).toBeNull();
    expect(guest.active(1)).toBe(1);
  });
  it('TLFS Virtual Secure Mode: with three VTLs a restriction of VTL2 and one of VTL1 add up, and the lower one is told first', () => {
    const guest = inVtl1({ options: { maximumVtl: 2 } });
    guest.protect(R, frame);
    guest.enablePartitionVtl(2);
    guest.enableVpVtl(VP_SELF, 2);
    guest.enter();
    guest.openInterface();
    guest.openApic();
    guest.openSynic();
    guest.put('VsmPartitionConfig', PROTECT);
    expect(guest.protect(NONE, frame, frame + 1).status).toBe(0);
    guest.leave();
    expect(guest.issue({ op: 'read', gpa: DATA + 4096 }).result).toBeNull();
    expect([guest.active(), guest.message(0, 2).getUint32(0, true)]).toEqual([2, GPA_MESSAGE]);
    guest.takeMessage(0, 2);
    guest.plain({ op: 'sti' });
    guest.run(3);
    guest.protect(RWX, frame + 1);
    guest.leave();
    guest.run(4);
    guest.leave();
    guest.issue(steps.write);
    expect([guest.active(), guest.message(0, 1).getUint32(0, true)]).toEqual([1, GPA_MESSAGE]);
    guest.takeMessage(0, 1);
    guest.plain({ op: 'sti' });
    guest.run(3);
    guest.protect(RWX, frame);
    guest.vtlReturn();
    guest.run(4);
    expect([guest.active(), guest.message(0, 2).getUint32(0, true)]).toEqual([2, GPA_MESSAGE]);
  });

  // -- MBEC --------------------------------------------------------------------------------------------------------------------------------

  const SMEP = 0x10_0000n;
  const withMbec = (): Guest => {
    const guest = booted({ policy, options: { mbec: true } });
    expect(guest.enablePartitionVtl(1, 1)).toBe(0);
    guest.enableVpVtl();
    guest.enter();
    guest.openInterface();
    guest.openApic();
    guest.openSynic();
    guest.put('VsmPartitionConfig', PROTECT);
    expect(guest.reg('VsmPartitionStatus')).toBe(0x11_0003n);
    return guest;
  };
  it.each([
    // rights, CR4.SMEP, user fetch, allowed
    [R, true, false, false], [R, true, true, false],
    [0x9, true, false, false], [0x9, true, true, true],
    [RX, true, false, true], [RX, true, true, true],
    // With SMEP off the supervisor right decides for all fetches.
    [0x9, false, true, false], [RX, false, true, true],
  ] as const)('TLFS Virtual Secure Mode, MBEC: rights %i, SMEP %s, user fetch %s: %s', (rights, hasSmep, user, allowed) => {
    const guest = withMbec();
    guest.put('VsmVpSecureConfigVtl0', 1n);
    expect(guest.protect(rights, frame).status).toBe(0);
    guest.leave();
    guest.set({ cr4: 0x620n | (hasSmep ? SMEP : 0n) });
    const issued = guest.issue({ op: 'execute', gpa: DATA, user });
    expect([guest.active(), issued.result !== null]).toEqual(allowed ? [0, true] : [1, false]);
  });
  it('openvmm, MBEC: a VP must say what the partition says', () => {
    const guest = withMbec();
    expect([guest.setReg('VsmVpSecureConfigVtl0', 0n), guest.setReg('VsmVpSecureConfigVtl0', 1n)]).toEqual([0x50, 0]);
  });
  it('TLFS Virtual Secure Mode, MBEC: what it offers and who is subject to it', () => {
    const guest = booted({ policy, options: { mbec: true } });
    // MbecVtlMask, bits 16:1, names VTL0.
    expect((guest.reg('VsmCapabilities') >> 1n) & 0xffffn).toBe(1n);
    guest.enablePartitionVtl(1, 1);
    expect((guest.reg('VsmPartitionStatus') >> 20n) & 0xffffn).toBe(1n);
  });

  // -- page walks ------------------------------------------------------------------------------------------------------------------------------

  it('TLFS Virtual Secure Mode: page tables are read with the rights of their VTL', () => {
    const guest = secured();
    mapIdentity(guest);
    guest.enter();
    guest.protect(NONE, 0x4_1000 >> 12);
    guest.leave();
    const issued = guest.issue({ op: 'read', gva: DATA });
    const message = guest.message();
    expect([issued.result, guest.active(), message.getUint32(0, true), message.getBigUint64(16 + 0x38, true) >> 12n]).toEqual([null, 1, GPA_MESSAGE, 0x41n]);
    // The addresses do not belong to each other.
    expect(message.getUint8(16 + 0x2d) & 2).toBe(0);
  });
  it('TLFS Virtual Secure Mode: the linear address is in the message (switch interceptGva)', () => {
    const guest = secured({ options: { interceptGva: true } });
    mapIdentity(guest);
    guest.enter();
    guest.protect(NONE, frame);
    guest.leave();
    guest.issue({ op: 'read', gva: DATA + 0x123 });
    const message = guest.message();
    expect([message.getUint8(16 + 0x2d) & 3, message.getBigUint64(16 + 0x30, true)]).toEqual([3, BigInt(DATA + 0x123)]);
  });
  const translate = (guest: Guest, flags: bigint, gva: number, vtl = 0) => {
    const call = guest.call(HvCall.TranslateVirtualAddress, { header: { partitionId: SELF, vpIndex: VP_SELF, controlFlags: flags | (BigInt(target(vtl)) << 56n), gvaPage: BigInt(gva >> 12) } });
    return { status: call.status, code: call.output(16).getUint32(0, true) };
  };
  it.each([
    ['no access to validate', 0n, { status: 5 }],
    ['a reserved flag', 1n | (1n << 20n), { status: 5 }],
    ['an allowed read', 1n, { status: 0, code: 0 }],
    ['a write that VTL1 denies', 2n, { status: 0, code: 8 }],
    ['an execution that VTL1 denies', 4n, { status: 0, code: 8 }],
  ] as const)('TLFS HvCallTranslateVirtualAddress: %s', (_title, flags, expected) => {
    const guest = secured();
    mapIdentity(guest);
    guest.enter();
    guest.protect(R, frame);
    guest.leave();
    expect(translate(guest, flags, DATA)).toMatchObject(expected);
  });
  it('openvmm: translation of the own VTL is refused (switch translateOwnVtl)', () => {
    const guest = secured({ options: { translateOwnVtl: false } });
    mapIdentity(guest);
    expect(translate(guest, 1n, DATA).status).toBe(6);
  });
  it('TLFS HvCallTranslateVirtualAddress: a higher VTL is refused', () => {
    expect(translate(secured(), 1n, DATA, 1).status).toBe(6);
  });
  it.each([
    // rights, wanted, denied
    [NONE, 1, 1], [R, 1, 0], [R, 3, 2], [RW, 3, 0], [RW, 0xf, 0xc], [RX, 0xd, 0], [RX, 2, 2], [RWX, 0xf, 0],
  ] as const)('openvmm hvdef, HvCallCheckSparseGpaPageVtlAccess: rights %i, wanted %i: denied %i', (rights, wanted, denied) => {
    const guest = inVtl1();
    guest.protect(rights, frame);
    const call = guest.call(HvCall.CheckSparseGpaPageVtlAccess, { header: { partitionId: SELF, inputVtl: target(0), desiredAccess: wanted }, elements: [BigInt(frame), BigInt(frame + 1)] });
    const answers = call.output(16);
    expect([call.status, call.reps]).toEqual([0, 2]);
    expect([answers.getUint8(0), answers.getUint8(1), answers.getUint8(2) & 0xf]).toEqual(denied === 0 ? [0, 0, 0] : [1, denied, 1]);
    expect(answers.getBigUint64(8, true)).toBe(0n);
  });

  // -- TLB locks ---------------------------------------------------------------------------------------------------------------------------------

  const flush = (guest: Guest, vp: number) => guest.call(HvCall.FlushVirtualAddressSpace, { header: { addressSpace: 0n, flags: 3n, processorMask: 0n }, vp });
  it.each([
    ['VpSecureConfig', (g: Guest) => g.put('VsmVpSecureConfigVtl0', 2n)],
    ['a translation with TlbFlushInhibit', (g: Guest) => {
      mapIdentity(g);
      expect(translate(g, 1n | (1n << 5n), DATA)).toEqual({ status: 0, code: 0 });
    }],
  ] as const)('TLFS Virtual Secure Mode, TLB lock by %s: the return of VTL1 ends it', (_title, lock) => {
    const guest = secured({ vps: 2 });
    guest.enter();
    lock(guest);
    const call = flush(guest, 1);
    expect(call.finish(20).isDone).toBe(false);
    guest.leave();
    expect(call.finish().status).toBe(0);
  });
  it('TLFS Virtual Secure Mode, TLB lock: a VTL0 that waits for it can still be preempted', () => {
    const guest = secured({ vps: 2 });
    guest.enter();
    guest.put('VsmVpSecureConfigVtl0', 2n);
    const call = flush(guest, 1);
    guest.interruptFlag(true, 1, 1);
    guest.interrupt(0xa0, 1, 1);
    guest.run(5);
    expect([guest.active(1), guest.taken(1, 1), call.isDone]).toEqual([1, [0xa0], false]);
    guest.leave(0);
    guest.leave(1, 0n);
    expect(call.finish().status).toBe(0);
  });
  it('TLFS Virtual Secure Mode, TLB lock: flushes of VTL1 do not wait', () => {
    const guest = secured({ vps: 2 });
    guest.enter(0);
    guest.put('VsmVpSecureConfigVtl0', 2n);
    guest.enter(1);
    expect(flush(guest, 1).status).toBe(0);
  });

  // -- reset ----------------------------------------------------------------------------------------------------------------------------------------

  it.each([
    ['zeroed by default', PROTECT, 'msr', 0n],
    ['kept without ZeroMemoryOnReset', PROTECT & ~0x20n, 'msr', 0x77n],
    ['zeroed by a triple fault', PROTECT, 'shutdown', 0n],
  ] as const)('TLFS Virtual Secure Mode, partition reset: memory is %s; only VTL0 is left', (_title, config, by, value) => {
    const guest = secured({ partitionConfig: config });
    guest.poke64(0, DATA, 0x77n);
    guest.enter();
    guest.protect(NONE, frame);
    guest.leave();
    guest.issue(by === 'msr' ? { op: 'wrmsr', index: 0x4000_0003, value: 1 } : { op: 'shutdown' });
    guest.run(3);
    expect([guest.active(), guest.hv.chapters.vsm.enabledVtls, guest.peek(0, DATA, 8).getBigUint64(0, true), guest.machine.vp(0).existing]).toEqual([0, 1, value, 1]);
    expect(guest.hv.chapters.hypercalls.hypercallMsr(0)).toBe(0n);
  });

  // -- OpenTMK --------------------------------------------------------------------------------------------------------------------------------------------

  it('OpenTMK hv_error_vp_start: VTL1 on a VP before the partition has it is INVALID_VTL_STATE', () => {
    expect(booted({ policy }).enableVpVtl()).toBe(0x51);
  });
  it.each([['read', NONE], ['write', R]] as const)('OpenTMK hv_memory_protect_%s: the intercept comes on the VP that did it; the page keeps its value', (access, rights) => {
    const guest = secured({ vps: 3, partitionConfig: null });
    guest.poke(0, DATA + 10, Uint8Array.of(0xa2));
    guest.enter();
    guest.put('VsmPartitionConfig', PROTECT, { vtl: target(1) });
    expect(guest.call(HvCall.ModifyVtlProtectionMask, { header: { targetPartitionId: SELF, mapFlags: rights, targetVtl: target(1) }, elements: [BigInt(frame)] }).status).toBe(0);
    guest.leave();
    guest.interruptFlag(true, 2, 1);
    const issued = guest.issue(access === 'read' ? { op: 'read', gpa: DATA + 10, size: 1 } : { op: 'write', gpa: DATA + 10, size: 1, value: 0x56 }, 2);
    guest.run(3);
    expect([issued.result, guest.active(2), guest.taken(2, 1), guest.peek(0, DATA + 10, 1).getUint8(0)]).toEqual([null, 1, [0x30], 0xa2]);
  });
  it('OpenTMK hv_processor: each VP and VTL knows which it is', () => {
    const guest = secured({ vps: 4 });
    for (const vp of [0, 1, 2, 3]) {
      for (const vtl of [0, 1]) {
        expect([guest.rdmsr(0x4000_0002, vp), guest.reg('VsmVpStatus', { vp }) & 0xfn]).toEqual([BigInt(vp), BigInt(vtl)]);
        if (vtl === 0) guest.enter(vp);
      }
      guest.leave(vp);
    }
  });
});
