import { HvCall, HvRegister, HvRegisterVsmCapabilities } from '@vmplanes/abi-hyperv';
import { describe, expect, it } from 'vitest';
import { type BenchConfig, policies } from './bench.ts';
import { assistPage, booted, contextOf, DATA, type Guest, hypercallPage, mapIdentity, Msr, outputPage, ready, SELF, target, VP_SELF } from './guest.ts';

// Questions on which public sources differ: each answer that a switch gives. The sources of both are in the table of disputes.

type Options = NonNullable<BenchConfig['options']>;
const OK = 0, PARAMETER = 5, DENIED = 6, PARTITION = 0xd, VP = 0xe, VP_STATE = 0x15, VALUE = 0x50;
const frame = DATA >> 12;

describe.each(policies)('under %s', (policy) => {
  const inVtl1 = (options: Options = {}, vps = 1, partitionConfig?: bigint | null): Guest => {
    const guest = ready({ policy, vps, options, ...(partitionConfig === undefined ? {} : { partitionConfig }) });
    guest.enter();
    return guest;
  };
  /** VTL1 that subjects VTL0 to MBEC. */
  const withMbec = (options: Options): Guest => {
    const guest = booted({ policy, options: { mbec: true, ...options } });
    expect(guest.enablePartitionVtl(1, 1)).toBe(OK);
    expect(guest.enableVpVtl()).toBe(OK);
    guest.enter();
    guest.openInterface();
    guest.openApic();
    guest.openSynic();
    return guest;
  };

  // -- memory protections ------------------------------------------------------------------------------------------------------

  // Execution by the kernel alone is never legal.
  it.each([
    ['kernelFirst', 3, OK],
    ['kernelFirst', 2, VALUE],
    ['userFirst', 2, OK],
    ['userFirst', 3, VALUE],
  ] as const)('executeBitOrder %s: with MBEC, read and bit %i alone have status %i', (executeBitOrder, bit, status) => {
    const guest = withMbec({ executeBitOrder });
    guest.put('VsmPartitionConfig', 0x3fn);
    expect(guest.protect(1 | (1 << bit), frame).status).toBe(status);
  });
  it.each([['kernelFirst', 0x9], ['userFirst', 0x5]] as const)('executeBitOrder %s: user execute alone is reported so when VTL1 asks', (executeBitOrder, readAndUser) => {
    const guest = withMbec({ executeBitOrder });
    guest.put('VsmPartitionConfig', 0x3fn);
    guest.protect(readAndUser, frame);
    const check = guest.call(HvCall.CheckSparseGpaPageVtlAccess, { header: { partitionId: SELF, inputVtl: target(0), desiredAccess: 0xd }, elements: [BigInt(frame)] });
    // Denied: the kernel's execute bit, VTL1 intercepts.
    expect([check.status, check.output(8).getBigUint64(0, true)]).toEqual([OK, BigInt(1 | ((0xd & ~readAndUser) << 8) | (1 << 16))]);
  });
  it.each([['kernelFirst', 0xb, OK], ['kernelFirst', 0x7, VALUE], ['userFirst', 0x7, OK], ['userFirst', 0xb, VALUE]] as const)('executeBitOrder %s: the default mask %i is %i', (executeBitOrder, mask, status) => {
    expect(withMbec({ executeBitOrder }).setReg('VsmPartitionConfig', BigInt(1 | (mask << 1)))).toBe(status);
  });

  it.each([['subject', 0b1n, 0b1], ['owner', 0b10n, 0b10]] as const)('mbecVtlMask %s: the masks name VTL mask %s', (mbecVtlMask, set, capability) => {
    const guest = withMbec({ mbecVtlMask });
    expect((guest.reg('VsmPartitionStatus') >> 20n) & 0xffffn).toBe(set);
    expect(HvRegisterVsmCapabilities.unpack(guest.reg('VsmCapabilities')).mbecVtlMask).toBe(capability);
    expect((guest.reg('VsmVpStatus') >> 4n) & 1n).toBe((set >> 1n) & 1n);
    guest.leave();
    expect((guest.reg('VsmVpStatus') >> 4n) & 1n).toBe(set & 1n);
  });

  it('protectionsEnabledBy bit: a write without bit 0 enables nothing', () => {
    const guest = inVtl1({}, 1, 0x1en);
    expect(guest.protect(1, frame).status).toBe(DENIED);
    expect([guest.setReg('VsmPartitionConfig', 0x06n), guest.reg('VsmPartitionConfig')]).toEqual([OK, 0x06n]);
  });
  it('protectionsEnabledBy write: a write without bit 0 enables protections, and the mask stands', () => {
    const guest = inVtl1({ protectionsEnabledBy: 'write', maskChangeStatus: 0x50 }, 1, 0x1en);
    expect(guest.protect(1, frame).status).toBe(OK);
    expect([guest.setReg('VsmPartitionConfig', 0x06n), guest.reg('VsmPartitionConfig')]).toEqual([VALUE, 0x1en]);
    expect([guest.setReg('VsmPartitionConfig', 0x1fn), guest.reg('VsmPartitionConfig')]).toEqual([OK, 0x1fn]);
  });
  it('protectionsEnabledBy write: nothing was written, nothing is enabled', () => {
    expect(inVtl1({ protectionsEnabledBy: 'write' }, 1, null).protect(1, frame).status).toBe(DENIED);
  });
  it.each([[0, OK], [VALUE, VALUE]] as const)('protectionClearStatus %i: bit 0 stays set', (protectionClearStatus, status) => {
    const guest = inVtl1({ protectionClearStatus });
    expect([guest.setReg('VsmPartitionConfig', 0x3en), guest.reg('VsmPartitionConfig')]).toEqual([status, 0x3fn]);
    expect(guest.setReg('VsmPartitionConfig', 0x3fn)).toBe(OK);
  });

  // -- intercepts ----------------------------------------------------------------------------------------------------------------

  const intercepted = (options: Options): Guest => {
    const guest = inVtl1(options);
    guest.protect(0, frame);
    guest.leave();
    guest.set({ rbx: 0x1234_5678_9abc_def0n });
    guest.issue({ op: 'read', gpa: DATA, size: 8 });
    expect(guest.active()).toBe(1);
    return guest;
  };
  it.each([[0xf0, 0x1234_5678_9abc_def0n], [0x50, 0n]] as const)('memoryMessageBytes %i: registers are there or are not', (memoryMessageBytes, rbx) => {
    const message = intercepted({ memoryMessageBytes }).message();
    expect([message.getUint8(4), message.getBigUint64(16 + 0x88, true), message.getBigUint64(16 + 0x38, true)]).toEqual([memoryMessageBytes, rbx, BigInt(DATA)]);
    const behind = Array.from({ length: 240 - memoryMessageBytes }, (_, i) => message.getUint8(16 + memoryMessageBytes + i));
    expect(behind.every((byte) => byte === 0)).toBe(true);
  });
  it('busyIntercept drop: without a SynIC the access is made again and again, until VTL1 can be told', () => {
    const guest = inVtl1({ busyIntercept: 'drop' }, 1);
    guest.protect(0, frame);
    guest.wrmsr(Msr.scontrol, 0);
    guest.leave();
    const access = guest.issue({ op: 'read', gpa: DATA });
    expect([guest.active(), access.result]).toEqual([0, null]);
    guest.hv.chapters.synic.setScontrol(guest.context(0, 1), 1n);
    guest.finish(access);
    expect([guest.active(), guest.message().getUint32(0, true)]).toEqual([1, 0x8000_0001]);
  });
  it.each([['gp', 13, 0], ['mc', 18, null]] as const)('hypercallPageWrite %s: a write raises vector %i', (hypercallPageWrite, vector, errorCode) => {
    const guest = booted({ policy, options: { hypercallPageWrite } });
    expect(guest.step({ op: 'write', gpa: hypercallPage(0), value: 1 }).fault).toMatchObject({ vector, errorCode });
  });
  it.each([['higherVtl', OK], ['parent', DENIED]] as const)('installInterceptCaller %s: VTL1 asks for a port', (installInterceptCaller, status) => {
    const guest = inVtl1({ installInterceptCaller });
    expect(guest.call(HvCall.InstallIntercept, { header: { partitionId: SELF, accessTypeMask: 3, interceptType: 0, interceptParameters: 0x70n } }).status).toBe(status);
    guest.leave();
    guest.issue({ op: 'in', port: 0x70, size: 1 });
    expect(guest.active()).toBe(status === OK ? 1 : 0);
  });

  // -- registers -------------------------------------------------------------------------------------------------------------------

  it.each([[true, OK, OK], [false, DENIED, VP]] as const)('otherVpRegisters %s: get %i, set %i', (otherVpRegisters, get, set) => {
    const guest = inVtl1({ otherVpRegisters }, 2);
    expect([guest.getReg('Rip', { of: 1, vtl: target(0) }).status, guest.setReg('VsmVpSecureConfigVtl0', 0n, { of: 1 })]).toEqual([get, set]);
    expect([guest.getReg('Rip', { of: 0, vtl: target(0) }).status, guest.setReg('VsmVpSecureConfigVtl0', 0n, { of: 0 })]).toEqual([OK, OK]);
  });

  /** The input block of SetVpRegisters with all names before all values. */
  const packed = (...pairs: readonly (readonly [number, bigint])[]): Uint8Array => {
    const names = Math.ceil(pairs.length / 4) * 16;
    const view = new DataView(new ArrayBuffer(16 + names + 16 * pairs.length));
    view.setBigUint64(0, SELF, true);
    view.setUint32(8, VP_SELF, true);
    pairs.forEach(([name, value], i) => {
      view.setUint32(16 + 4 * i, name, true);
      view.setBigUint64(16 + names + 16 * i, value, true);
    });
    return new Uint8Array(view.buffer);
  };
  const four = [[HvRegister.R12, 12n], [HvRegister.R13, 13n], [HvRegister.R14, 14n], [HvRegister.R15, 15n]] as const;
  it.each([false, true])('setRegistersElement packed: four names, then four values; fast %s', (fast) => {
    const guest = booted({ policy, options: { setRegistersElement: 'packed' } });
    const call = guest.callRaw(0x51, packed(...four), { count: 4, fast });
    expect([call.status, call.reps]).toEqual([OK, 4]);
    expect(['r12', 'r13', 'r14', 'r15'].map((name) => guest.get(name as 'r12'))).toEqual([12n, 13n, 14n, 15n]);
  });
  it('setRegistersElement packed: five values lie behind two rows of names; the third element fails', () => {
    const guest = booted({ policy, options: { setRegistersElement: 'packed' } });
    const call = guest.callRaw(0x51, packed(...four.slice(0, 2), [0xacac_acac, 0n], ...four.slice(2)), { count: 5 });
    expect([call.status, call.reps]).toEqual([PARAMETER, 2]);
    expect(guest.callRaw(0x51, packed(...four, [HvRegister.R12, 99n]), { count: 5 }).status).toBe(OK);
    expect(['r12', 'r15'].map((name) => guest.get(name as 'r12'))).toEqual([99n, 15n]);
  });
  it('setRegistersElement packed: five elements do not fit the XMM registers', () => {
    const guest = booted({ policy, options: { setRegistersElement: 'packed' } });
    expect(guest.callRaw(0x51, new Uint8Array(112), { count: 5, fast: true }).status).toBe(3);
  });
  it('setRegistersElement: one element in registers is the same in both forms', () => {
    for (const setRegistersElement of ['record', 'packed'] as const) {
      const guest = booted({ policy, options: { setRegistersElement } });
      expect(guest.callRaw(0x51, packed([HvRegister.R12, 7n]), { count: 1, fast: true }).status).toBe(OK);
      expect(guest.get('r12')).toBe(7n);
    }
  });
  it('setRegistersElement record: two packed elements are not understood', () => {
    const guest = booted({ policy });
    // The second record has its name where the packed form has the second value.
    expect(guest.callRaw(0x51, new Uint8Array([...packed([HvRegister.R12, 7n], [HvRegister.R13, 0xacac_acacn]), ...new Uint8Array(16)]), { count: 2 }).status).toBe(PARAMETER);
  });

  const others = [
    ['HvCallGetVpRegisters', (g: Guest) => g.getReg('Rip', { partitionId: 42n }).status],
    ['HvCallSetVpRegisters', (g: Guest) => g.setReg('R12', 0n, { partitionId: 42n })],
    ['HvCallTranslateVirtualAddress', (g: Guest) => g.call(HvCall.TranslateVirtualAddress, { header: { partitionId: 42n, vpIndex: VP_SELF, controlFlags: 1n, gvaPage: 0n } }).status],
    ['HvCallModifyVtlProtectionMask', (g: Guest) => g.call(HvCall.ModifyVtlProtectionMask, { header: { targetPartitionId: 42n, mapFlags: 1, targetVtl: 0 }, elements: [BigInt(frame)] }).status],
    ['HvCallAssertVirtualInterrupt', (g: Guest) => g.call(HvCall.AssertVirtualInterrupt, { header: { partitionId: 42n, interruptControl: 0n, destinationAddress: 0n, requestedVector: 0x60, targetVtl: 0 } }).status],
    ['HvCallInstallIntercept', (g: Guest) => g.call(HvCall.InstallIntercept, { header: { partitionId: 42n, accessTypeMask: 1, interceptType: 0, interceptParameters: 0n } }).status],
    ['HvCallCheckForIoIntercept', (g: Guest) => g.call(HvCall.CheckForIoIntercept, { header: { partitionId: 42n, vpIndex: VP_SELF, targetVtl: 0, port: 0, size: 1, isWrite: 0 } }).status],
    ['HvCallCheckSparseGpaPageVtlAccess', (g: Guest) => g.call(HvCall.CheckSparseGpaPageVtlAccess, { header: { partitionId: 42n, inputVtl: target(0), desiredAccess: 1 }, elements: [BigInt(frame)] }).status],
    ['HvCallSignalEventDirect', (g: Guest) => g.call(HvCall.SignalEventDirect, { header: { targetPartition: 42n, targetVp: 0, targetVtl: 0, targetSint: 2, flagNumber: 0 } }).status],
    ['HvCallRegisterInterceptResult', (g: Guest) => g.callRaw(0x91, new Uint8Array(64).fill(7, 0, 8)).status],
  ] as const;
  it.each(others)('partitionIdStatus: another partition in %s', (_name, act) => {
    expect(act(inVtl1())).toBe(DENIED);
    expect(act(inVtl1({ partitionIdStatus: 'invalidPartitionId' }))).toBe(PARTITION);
  });

  it.each([[0x40, 0x30], [24, 16]] as const)('translateExOutput %i: the page number is at %i, nothing is written behind', (translateExOutput, at) => {
    const guest = booted({ policy, options: { translateExOutput } });
    mapIdentity(guest);
    guest.poke(0, outputPage(0, 0), new Uint8Array(64).fill(0xee));
    const call = guest.call(HvCall.TranslateVirtualAddressEx, { header: { partitionId: SELF, vpIndex: VP_SELF, controlFlags: 1n, gvaPage: BigInt(frame) } });
    const out = call.output(0x41);
    expect([call.status, out.getUint32(0, true), out.getUint8(4), out.getBigUint64(at, true), out.getUint8(translateExOutput)]).toEqual([OK, 0, 6, BigInt(frame), translateExOutput === 24 ? 0xee : 0]);
  });
  it('translateExOutput 24: fast, the output begins behind the input', () => {
    const guest = booted({ policy, options: { translateExOutput: 24 } });
    mapIdentity(guest);
    const call = guest.call(HvCall.TranslateVirtualAddressEx, { header: { partitionId: SELF, vpIndex: VP_SELF, controlFlags: 1n, gvaPage: BigInt(frame) }, fast: true });
    expect([call.status, call.output(24).getBigUint64(16, true)]).toEqual([OK, BigInt(frame)]);
  });

  // -- starting, assist page, VINA ---------------------------------------------------------------------------------------------------

  const start = (guest: Guest, vtl: number, vp = 1): number =>
    guest.call(HvCall.StartVirtualProcessor, { header: { targetPartitionId: SELF, vpIndex: vp, targetVtl: vtl, vpContext: { ...contextOf(vp, 1), rip: 0x18_0123n } } }).status;
  it('startStartedVp refuse: a VP that was started keeps its state', () => {
    const guest = booted({ policy, vps: 2 });
    expect([start(guest, 0), guest.get('cr4', 1)]).toEqual([VP_STATE, 0x620n]);
  });
  it('startStartedVp restart: it begins anew, as after INIT, with the state that it is given', () => {
    const guest = booted({ policy, vps: 2, options: { startStartedVp: 'restart' } });
    guest.set({ dr7: 0x401n }, 1);
    guest.issue({ op: 'hlt' }, 1);
    expect(start(guest, 0)).toBe(OK);
    expect([guest.get('rip', 1) >= 0x18_0123n, guest.get('cr4', 1), guest.get('dr7', 1)]).toEqual([true, 0x220n, 0x400n]);
    expect(guest.plain({ op: 'work' }, 1).fault).toBe(null);
  });
  it('startStartedVp restart: a VP in VTL1 stays there, and its VTL0 begins anew when VTL1 returns', () => {
    const guest = ready({ policy, vps: 2, options: { startStartedVp: 'restart' } });
    guest.enter(1);
    expect(start(guest, 0)).toBe(OK);
    expect(guest.active(1)).toBe(1);
    guest.leave(1);
    expect([guest.active(1), guest.get('cr4', 1)]).toEqual([0, 0x220n]);
  });
  it('startStartedVp restart: a VP that runs VTL0 enters VTL1 first', () => {
    const guest = ready({ policy, vps: 2, options: { startStartedVp: 'restart' } });
    guest.set({ rdx: 0x77n }, 1);
    guest.plain({ op: 'work' }, 1);
    expect(start(guest, 0)).toBe(OK);
    expect(guest.active(1)).toBe(1);
    guest.plain({ op: 'work' }, 1);
    guest.leave(1);
    expect([guest.active(1), guest.get('cr4', 1)]).toEqual([0, 0x220n]);
  });
  it('startStartedVp restart: VTL0 that waits for an intercept begins anew', () => {
    const guest = ready({ policy, vps: 2, options: { startStartedVp: 'restart' } });
    guest.enter();
    guest.protect(0, frame);
    guest.leave();
    const access = guest.issue({ op: 'read', gpa: DATA }, 1);
    expect([guest.active(1), access.result]).toEqual([1, null]);
    expect(start(guest, 0)).toBe(OK);
    guest.interruptFlag(true, 1);
    guest.run(4);
    guest.leave(1);
    expect([guest.active(1), guest.get('cr4', 1)]).toEqual([0, 0x220n]);
    guest.run(4);
    // The access is not made again: VTL0 has another state.
    expect([guest.active(1), guest.get('rip', 1) >= 0x18_0123n]).toEqual([0, true]);
  });
  it('startStartedVp restart: the own VP is never started', () => {
    expect(start(booted({ policy, vps: 2, options: { startStartedVp: 'restart' } }), 0, 0)).toBe(VP);
  });

  const REASON = 8;
  /** What VTL1 finds in its page after it disabled the page, was entered, and enabled it again; and what before the first enable. */
  const assistContent = (options: Options): readonly [number, number] => {
    const guest = booted({ policy, options });
    guest.enablePartitionVtl(1);
    guest.enableVpVtl();
    guest.enter();
    guest.openInterface();
    guest.openApic();
    // VINA is asserted inside while there is no page to show it.
    guest.put('VsmVina', 0x140n);
    guest.set({ rflags: 0x202n }, 0, 0);
    guest.interrupt(0x50);
    guest.run(2);
    guest.interruptFlag(false, 0, 0);
    guest.wrmsr(Msr.assist, assistPage(0, 1) | 1);
    const first = guest.peek(1, assistPage(0, 1) + 12, 1).getUint8(0);
    guest.poke(1, assistPage(0, 1) + REASON, new Uint8Array([7]));
    guest.wrmsr(Msr.assist, 0);
    guest.wrmsr(Msr.assist, assistPage(0, 1) | 1);
    return [first, guest.peek(1, assistPage(0, 1) + REASON, 1).getUint8(0)];
  };
  it.each([['zeroFirst', 0, 7], ['zeroEach', 0, 0], ['kept', 1, 7]] as const)('assistPageContent %s: %i at first, then %i', (assistPageContent, first, then) => {
    expect(assistContent({ assistPageContent })).toEqual([first, then]);
  });

  it.each([['entry', 0], ['return', 1]] as const)('vinaAutoReset %s: automatic reset that was asked for while the VTL did not run leaves %i', (vinaAutoReset, asserted) => {
    const guest = ready({ policy, vps: 2, options: { vinaAutoReset } });
    guest.enter();
    guest.put('VsmVina', 0x140n);
    guest.interruptFlag(true, 0, 0);
    guest.interrupt(0x50);
    guest.run(2);
    expect(guest.vinaAsserted()).toBe(1);
    guest.interruptFlag(true);
    guest.run(4);
    guest.leave();
    guest.run(6);
    // Another VP's VTL1 turns automatic reset on.
    guest.enter(1);
    guest.put('VsmVina', 0x340n, { vp: 1, of: 0 });
    guest.enter();
    expect(guest.vinaAsserted()).toBe(asserted);
  });

  it.each([['default', 0x0f, 0x26], ['openvmm', 0x0f, 0x26], ['whp', 0x0f, 0x28], ['qemu', 0x16, 0x20]] as const)('codeOffsets of profile %s: %i and %i', (profile, call, back) => {
    const guest = booted({ policy, options: { profile } });
    expect(guest.reg('VsmCodePageOffsets')).toBe(BigInt(call | (back << 12)));
  });
});
