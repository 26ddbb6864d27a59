import { HvCall } from '@vmplanes/abi-hyperv';
import { describe, expect, it } from 'vitest';
import { type BenchConfig, policies } from './bench.ts';
import { booted, DATA, type Guest, mapIdentity, Msr, ready, SELF, target, VP_SELF } from './guest.ts';

// Calls of single chapters: cluster IPIs, asserted interrupts, APIC ids, flushes, port intercepts, messages and events.

const OK = 0, PARAMETER = 5, DENIED = 6, PARTITION = 0xd, CONNECTION = 0x12, SYNIC = 0x18, VTL_STATE = 0x51;
type Options = NonNullable<BenchConfig['options']>;

describe.each(policies)('under %s', (policy) => {
  const three = (options: Options = {}): Guest => booted({ policy, vps: 3, options });
  const inVtl1 = (options: Options = {}, vps = 2): Guest => {
    const guest = ready({ policy, vps, options });
    guest.enter();
    return guest;
  };
  const hit = (guest: Guest, vector: number, vtl = 0): readonly number[] => {
    guest.run(2);
    return guest.machine.vps.filter((vp) => vp.planes[vtl] !== null && vp.planes[vtl] !== undefined && guest.requested(vector, vp.index, vtl)).map((vp) => vp.index);
  };

  // -- HvCallSendSyntheticClusterIpi ------------------------------------------------------------------------------------------

  const set = (format: bigint, validBankMask: bigint) => ({ format, validBankMask });
  const ipiEx = (guest: Guest, processorSet: ReturnType<typeof set>, variable: readonly bigint[], over: object = {}): number =>
    guest.call(HvCall.SendSyntheticClusterIpiEx, { header: { vector: 0x60, targetVtl: 0, flags: 0, ...over, processorSet }, variable }).status;
  it('openvmm hv1_structs proc_mask: the set {0, 2, 130} is the mask 5 with two banks; VPs that do not exist are ignored', () => {
    const guest = three();
    expect(ipiEx(guest, set(0n, 5n), [0x5n, 0x4n])).toBe(OK);
    expect(hit(guest, 0x60)).toEqual([0, 2]);
  });
  it('TLFS HV_VP_SET: all VPs', () => {
    const guest = three();
    expect(ipiEx(guest, set(1n, 0n), [])).toBe(OK);
    expect(hit(guest, 0x60)).toEqual([0, 1, 2]);
  });
  it.each([
    ['all VPs (switch clusterIpiAll)', set(1n, 0n), [], {}, { clusterIpiAll: false }, PARAMETER],
    ['a format that does not exist', set(2n, 1n), [1n], {}, {}, PARAMETER],
    ['fewer banks than the mask names', set(0n, 3n), [1n], {}, {}, PARAMETER],
    ['more banks than the mask names', set(0n, 1n), [1n, 1n], {}, {}, PARAMETER],
    ['flags', set(0n, 1n), [1n], { flags: 1 }, {}, PARAMETER],
    ['vector 15', set(0n, 1n), [1n], { vector: 15 }, {}, PARAMETER],
    ['vector 256', set(0n, 1n), [1n], { vector: 256 }, {}, PARAMETER],
    ['reserved bits of the VTL', set(0n, 1n), [1n], { targetVtl: 0x40 }, {}, PARAMETER],
    ['a VTL that is not supported', set(0n, 1n), [1n], { targetVtl: target(5) }, {}, PARAMETER],
    ['a VTL above the caller', set(0n, 1n), [1n], { targetVtl: target(1) }, {}, DENIED],
  ] as const)('TLFS HvCallSendSyntheticClusterIpiEx: %s', (_what, processorSet, banks, over, options, status) => {
    const guest = three(options);
    expect(ipiEx(guest, processorSet, banks, over)).toBe(status);
    expect(hit(guest, 0x60)).toEqual([]);
  });
  it('openvmm: a VP without the target VTL', () => {
    const guest = ready({ policy, vps: 2, secure: 1 });
    guest.enter();
    expect(ipiEx(guest, set(0n, 1n), [2n])).toBe(VTL_STATE);
  });

  // -- HvCallAssertVirtualInterrupt ---------------------------------------------------------------------------------------------

  const assert = (over: object) => (guest: Guest): number =>
    guest.call(HvCall.AssertVirtualInterrupt, { header: { partitionId: SELF, interruptControl: 0n, destinationAddress: 1n, requestedVector: 0x60, targetVtl: 0, ...over } }).status;
  it.each([
    ['fixed, into VTL0', assert({}), OK],
    ['NMI, into VTL0', assert({ interruptControl: 4n }), OK],
    ['another partition', assert({ partitionId: 42n }), DENIED],
    ['its own VTL', assert({ targetVtl: 1 }), DENIED],
    ['lowest priority', assert({ interruptControl: 1n }), PARAMETER],
    ['INIT', assert({ interruptControl: 5n }), PARAMETER],
    ['ExtINT', assert({ interruptControl: 7n }), PARAMETER],
    ['level-triggered', assert({ interruptControl: 1n << 32n }), PARAMETER],
  ] as const)('openvmm, HvCallAssertVirtualInterrupt: %s', (_what, act, status) => {
    const guest = inVtl1();
    expect(act(guest)).toBe(status);
    if (status !== OK) expect(hit(guest, 0x60)).toEqual([]);
  });
  it('openvmm, HvCallAssertVirtualInterrupt: VTL0 may not', () => {
    expect(assert({})(ready({ policy, vps: 2 }))).toBe(DENIED);
  });

  // -- HvCallGetVpIndexFromApicId ---------------------------------------------------------------------------------------------------

  it.each([
    ['another partition', { partitionId: 42n }, [0], PARTITION, 0],
    ['a VTL above the caller', { targetVtl: 1 }, [0], DENIED, 0],
    ['an id that does not exist, second', {}, [2, 9, 0], PARAMETER, 1],
    ['all ids', {}, [2, 1, 0], OK, 3],
  ] as const)('openvmm, HvCallGetVpIndexFromApicId: %s', (_what, over, elements, status, reps) => {
    const call = three().call(HvCall.GetVpIndexFromApicId, { header: { partitionId: SELF, targetVtl: 0, ...over }, elements });
    expect([call.status, call.reps]).toEqual([status, reps]);
    for (let i = 0; i < reps; i++) expect(call.output(12).getUint32(4 * i, true)).toBe(elements[i]);
  });

  // -- HvCallFlushVirtualAddressSpace ---------------------------------------------------------------------------------------------------

  it.each([
    ['no VPs', 2n, 0n, PARAMETER],
    ['all VPs', 3n, 0n, OK],
    ['its own VP', 2n, 1n, OK],
    ['VPs that do not exist, too', 2n, 0xffn, OK],
    ['an unknown flag', 3n | (1n << 20n), 0n, PARAMETER],
    ['only what is not global', 7n, 0n, OK],
  ] as const)('TLFS HvCallFlushVirtualAddressSpace: %s', (_what, flags, processorMask, status) => {
    expect(three().call(HvCall.FlushVirtualAddressSpace, { header: { addressSpace: 0n, flags, processorMask } }).status).toBe(status);
  });

  // -- port intercepts -----------------------------------------------------------------------------------------------------------------------

  const install = (over: object) => (guest: Guest): number =>
    guest.call(HvCall.InstallIntercept, { header: { partitionId: SELF, accessTypeMask: 3, interceptType: 0, interceptParameters: 0x80n, ...over } }).status;
  it.each([
    ['a port', install({}), OK],
    ['its removal', install({ accessTypeMask: 0 }), OK],
    ['execution of a port', install({ accessTypeMask: 4 }), PARAMETER],
    ['an MSR', install({ interceptType: 1 }), PARAMETER],
    ['CPUID', install({ interceptType: 2 }), PARAMETER],
    ['an exception', install({ interceptType: 3 }), PARAMETER],
  ] as const)('openvmm, HvCallInstallIntercept: %s', (_what, act, status) => {
    expect(act(inVtl1())).toBe(status);
  });
  it('openvmm, HvCallInstallIntercept: VTL0 may not', () => {
    expect(install({})(ready({ policy }))).toBe(DENIED);
  });
  it.each([
    ['read', { op: 'in', port: 0x80 }, 1, true],
    ['write', { op: 'out', port: 0x80, value: 5 }, 2, true],
    ['read, where writes are intercepted', { op: 'in', port: 0x80 }, 2, false],
    ['another port', { op: 'in', port: 0x81 }, 3, false],
  ] as const)('TLFS v6.0b, port intercept: %s', (_what, step, mask, intercepted) => {
    const guest = inVtl1();
    install({ accessTypeMask: mask })(guest);
    const check = guest.call(HvCall.CheckForIoIntercept, { header: { partitionId: SELF, vpIndex: VP_SELF, targetVtl: target(0), port: step.port, size: 1, isWrite: step.op === 'out' ? 1 : 0 } });
    expect([check.status, check.output(8).getUint8(0)]).toEqual([0, intercepted ? 1 : 0]);
    guest.leave();
    guest.issue(step);
    const message = guest.message();
    expect([guest.active(), message.getUint32(0, true)]).toEqual(intercepted ? [1, 0x8001_0000] : [0, 0]);
    if (intercepted) expect([message.getUint16(16 + 0x28, true), message.getUint8(16 + 0x2a) & 7, message.getUint8(16 + 5)]).toEqual([0x80, 1, step.op === 'out' ? 1 : 0]);
  });

  // -- messages and events ------------------------------------------------------------------------------------------------------------------------

  const port = (over: object) => ({ connectionId: 7, kind: 'message' as const, vp: 0, vtl: 0, sint: 3, baseFlag: 0, flagCount: 8, minConnectionVtl: 0, ...over });
  const post = (guest: Guest, over: object = {}): number =>
    guest.call(HvCall.PostMessage, { header: { connectionId: 7, messageType: 0x1234, payloadSize: 8, payload: new Uint8Array(240).fill(0x5a, 0, 8), ...over } }).status;
  const signal = (guest: Guest, over: object = {}): number => guest.call(HvCall.SignalEvent, { header: { connectionId: 7, flagNumber: 2, ...over }, fast: true }).status;
  it('TLFS HvCallPostMessage: the message is in the slot, and its interrupt is raised', () => {
    const guest = three({ ports: [port({})] });
    guest.wrmsr(Msr.sint0 + 3, 0x73);
    expect(post(guest)).toBe(OK);
    const message = guest.message(0, 0, 3);
    expect([message.getUint32(0, true), message.getUint8(4), message.getUint8(16), message.getUint8(24)]).toEqual([0x1234, 8, 0x5a, 0]);
    expect(guest.requested(0x73)).toBe(true);
  });
  it.each([
    ['a connection that does not exist', { connectionId: 8 }, CONNECTION],
    ['the type of a hypervisor', { messageType: 0x8000_0001 }, PARAMETER],
    ['a payload of 241 bytes', { payloadSize: 241 }, PARAMETER],
  ] as const)('TLFS HvCallPostMessage: %s', (_what, over, status) => {
    const guest = three({ ports: [port({})] });
    guest.wrmsr(Msr.sint0 + 3, 0x73);
    expect(post(guest, over)).toBe(status);
  });
  it('TLFS HvCallSignalEvent: the flag is set, and only a flag that was clear interrupts', () => {
    const guest = three({ ports: [port({ kind: 'event', baseFlag: 16 })] });
    guest.wrmsr(Msr.sint0 + 3, 0x73);
    guest.interruptFlag(true);
    expect(signal(guest)).toBe(OK);
    expect(signal(guest)).toBe(OK);
    guest.run(4);
    expect(guest.taken()).toEqual([0x73]);
    expect(guest.peek(0, 0xa_4000 + 256 * 3, 8).getUint32(0, true)).toBe(1 << 18);
  });
  it.each([
    ['a connection that does not exist', { connectionId: 8 }, 0x73, CONNECTION],
    ['a flag that the port has not', { flagNumber: 8 }, 0x73, PARAMETER],
    ['a masked SINT', {}, 0x1_0073, SYNIC],
  ] as const)('TLFS HvCallSignalEvent: %s', (_what, over, sint, status) => {
    const guest = three({ ports: [port({ kind: 'event' })] });
    guest.wrmsr(Msr.sint0 + 3, sint);
    expect(signal(guest, over)).toBe(status);
  });

  // -- HvCallTranslateVirtualAddressEx -------------------------------------------------------------------------------------------------------------

  it.each([
    ['read, allowed', 0xf, 1n, 0, null],
    ['read, denied by VTL1', 0x0, 1n, 8, 0],
    ['write, denied by VTL1', 0x1, 2n, 8, 1],
    ['execute, allowed', 0xd, 4n, 0, null],
    ['execute, denied by VTL1', 0x3, 4n, 8, 2],
  ] as const)('openvmm virt_support_x86emu checkvtlaccess: %s', (_what, rights, flags, code, access) => {
    const guest = ready({ policy });
    mapIdentity(guest);
    guest.enter();
    guest.protect(rights, DATA >> 12);
    guest.leave();
    const call = guest.call(HvCall.TranslateVirtualAddressEx, { header: { partitionId: SELF, vpIndex: VP_SELF, controlFlags: flags | (BigInt(target(0)) << 56n), gvaPage: BigInt(DATA >> 12) } });
    const view = call.output(64);
    expect([call.status, view.getUint32(0, true)]).toEqual([0, code]);
    if (access === null) {
      expect([view.getUint8(16), view.getBigUint64(0x30, true)]).toEqual([0, BigInt(DATA >> 12)]);
      return;
    }
    // A memory intercept is pending: for VTL1, of this kind, by the access itself, of the page.
    expect([view.getUint8(16), view.getUint8(17), view.getUint8(18), view.getUint8(19)]).toEqual([3, 1, access, 3]);
    expect([view.getBigUint64(24, true), view.getBigUint64(32, true)]).toEqual([BigInt(DATA), BigInt(DATA)]);
  });
});
