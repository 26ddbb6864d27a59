import { callName, callOf, CALLS, HvCall, HvStatus, inputBytes, isParameterCall, OTHER_CALL_NAMES, outputBytes, type ParameterCall, PARAMETER_PAGE_BYTES, UNSUPPORTED_CALLS, XMM_FAST_INPUT_BYTES } from '@vmplanes/abi-hyperv';
import { describe, expect, it, test } from 'vitest';

/** Typed by hand from TLFS Hypercall Reference and the definitions of openvmm: code, shape, fast form, header, element, output, output element, in bytes. */
const TABLE: readonly (readonly [name: string, code: number, shape: string, fast: string, header: number, element: number, output: number, outputElement: number])[] = [
  ['HvCallFlushVirtualAddressSpace', 0x0002, 'simple', 'xmm', 24, 0, 0, 0],
  ['HvCallFlushVirtualAddressList', 0x0003, 'rep', 'xmm', 24, 8, 0, 0],
  ['HvCallNotifyLongSpinWait', 0x0008, 'simple', 'registers', 8, 0, 0, 0],
  ['HvCallSendSyntheticClusterIpi', 0x000b, 'simple', 'registers', 16, 0, 0, 0],
  ['HvCallModifyVtlProtectionMask', 0x000c, 'rep', 'xmm', 16, 8, 0, 0],
  ['HvCallEnablePartitionVtl', 0x000d, 'simple', 'registers', 16, 0, 0, 0],
  ['HvCallEnableVpVtl', 0x000f, 'simple', 'never', 240, 0, 0, 0],
  ['HvCallFlushVirtualAddressSpaceEx', 0x0013, 'variable', 'xmm', 32, 0, 0, 0],
  ['HvCallFlushVirtualAddressListEx', 0x0014, 'variableRep', 'xmm', 32, 8, 0, 0],
  ['HvCallSendSyntheticClusterIpiEx', 0x0015, 'variable', 'xmm', 24, 0, 0, 0],
  ['HvCallInstallIntercept', 0x004d, 'simple', 'xmm', 24, 0, 0, 0],
  ['HvCallGetVpRegisters', 0x0050, 'rep', 'xmm', 16, 4, 0, 16],
  ['HvCallSetVpRegisters', 0x0051, 'rep', 'xmm', 16, 32, 0, 0],
  ['HvCallTranslateVirtualAddress', 0x0052, 'simple', 'xmm', 32, 0, 16, 0],
  ['HvCallPostMessage', 0x005c, 'simple', 'never', 256, 0, 0, 0],
  ['HvCallSignalEvent', 0x005d, 'simple', 'registers', 8, 0, 0, 0],
  ['HvCallRetargetDeviceInterrupt', 0x007e, 'variable', 'xmm', 56, 0, 0, 0],
  ['HvCallRegisterInterceptResult', 0x0091, 'simple', 'xmm', 64, 0, 0, 0],
  ['HvCallUnregisterInterceptResult', 0x0092, 'simple', 'xmm', 64, 0, 0, 0],
  ['HvCallAssertVirtualInterrupt', 0x0094, 'simple', 'xmm', 32, 0, 0, 0],
  ['HvCallStartVirtualProcessor', 0x0099, 'simple', 'never', 240, 0, 0, 0],
  ['HvCallGetVpIndexFromApicId', 0x009a, 'rep', 'xmm', 16, 4, 0, 4],
  ['HvCallTranslateVirtualAddressEx', 0x00ac, 'simple', 'xmm', 32, 0, 64, 0],
  ['HvCallCheckForIoIntercept', 0x00ad, 'simple', 'xmm', 24, 0, 8, 0],
  ['HvCallFlushGuestPhysicalAddressSpace', 0x00af, 'simple', 'never', 16, 0, 0, 0],
  ['HvCallFlushGuestPhysicalAddressList', 0x00b0, 'rep', 'never', 16, 8, 0, 0],
  ['HvCallSignalEventDirect', 0x00c0, 'simple', 'never', 16, 0, 8, 0],
  ['HvCallPostMessageDirect', 0x00c1, 'simple', 'never', 280, 0, 0, 0],
  ['HvCallCheckSparseGpaPageVtlAccess', 0x00d4, 'rep', 'xmm', 16, 8, 0, 8],
  ['HvCallAcceptGpaPages', 0x00d9, 'rep', 'never', 24, 0, 0, 0],
  ['HvCallModifySparseGpaPageHostVisibility', 0x00db, 'rep', 'never', 16, 8, 0, 0],
  ['HvCallRestorePartitionTime', 0x0103, 'simple', 'never', 32, 0, 0, 0],
  ['HvCallMemoryMappedIoRead', 0x0106, 'simple', 'never', 16, 0, 64, 0],
  ['HvCallMemoryMappedIoWrite', 0x0107, 'simple', 'never', 80, 0, 0, 0],
  ['HvCallPinGpaPageRanges', 0x0112, 'rep', 'never', 8, 8, 0, 0],
  ['HvCallUnpinGpaPageRanges', 0x0113, 'rep', 'never', 8, 8, 0, 0],
  ['HvCallQuerySparseGpaPageHostVisibility', 0x011c, 'rep', 'never', 8, 8, 0, 1],
  ['HvExtCallQueryCapabilities', 0x8001, 'simple', 'never', 0, 0, 8, 0],
  ['HvExtCallGetBootZeroedMemory', 0x8002, 'simple', 'never', 0, 0, 0xff8, 0],
  ['HvExtCallMemoryHeatHint', 0x8003, 'rep', 'never', 8, 8, 0, 0],
  ['HvCallVbsVmCallReport', 0xc001, 'simple', 'never', 64, 0, 2048, 0],
];
const withParameters = CALLS.filter((call): call is ParameterCall => isParameterCall(call));
const xmmCalls = withParameters.filter((call) => call.fast === 'xmm').map((call) => [call.name, call] as const);

describe('declared calls', () => {
  it('are those of the specification, with its sizes', () => {
    expect(withParameters.map((c) => [c.name, c.code, c.shape, c.fast, c.header.size, c.element.size, c.output.size, c.outputElement.size])).toEqual(TABLE);
  });
  it('include the two switches and six calls of which no parameters are public', () => {
    const others = CALLS.filter((call) => !isParameterCall(call)).map((call) => [call.name, call.code, call.shape]);
    expect(others).toEqual([
      ['HvCallDisablePartitionVtl', 0x000e, 'opaque'], ['HvCallDisableVpVtl', 0x0010, 'opaque'],
      ['HvCallVtlCall', 0x0011, 'vtlSwitch'], ['HvCallVtlReturn', 0x0012, 'vtlSwitch'],
      ['HvCallInstallInterceptEx', 0x0110, 'opaque'], ['HvCallSetVirtualInterruptTarget', 0x011f, 'opaque'],
      ['HvExtCallEpfSetup', 0x8004, 'opaque'], ['HvExtCallSchedulerAssistSetup', 0x8005, 'opaque'], ['HvExtCallMemoryHeatHintAsync', 0x8006, 'opaque'],
    ]);
    expect(CALLS.length).toBe(TABLE.length + others.length);
  });
  it('are named in HvCall as in the specification, and found by code', () => {
    for (const [name, call] of Object.entries(HvCall)) {
      expect(call.name.replace(/^Hv(Ext)?Call/, '')).toBe(name);
      expect(callOf(call.code)).toBe(call);
      expect(call.spec).not.toBe('');
    }
    expect(callOf(0x3fff)).toBeUndefined();
    expect([callName(0x0012), callName(0x0046), callName(0x3fff)]).toEqual(['HvCallVtlReturn', 'HvCallGetPartitionId', 'HvCall 0x3fff']);
  });
  it('have codes that no other known call has', () => {
    const codes = CALLS.map((call) => call.code);
    expect(new Set(codes).size).toBe(codes.length);
    expect(codes).toEqual([...codes].sort((a, b) => a - b));
    expect(codes.filter((code) => OTHER_CALL_NAMES.has(code))).toEqual([]);
    expect(new Set(OTHER_CALL_NAMES.values()).size).toBe(OTHER_CALL_NAMES.size);
  });
  it('that are not implemented say why: the pinned list', () => {
    expect(UNSUPPORTED_CALLS.map((call) => [call.name, call.unsupported])).toEqual([
      ['HvCallDisablePartitionVtl', 'no public body: only the name and the number are published'],
      ['HvCallDisableVpVtl', 'no public body: only the name and the number are published'],
      ['HvCallAcceptGpaPages', 'isolated virtual machines only'],
      ['HvCallModifySparseGpaPageHostVisibility', 'isolated virtual machines only'],
      ['HvCallInstallInterceptEx', 'ARM64 only'],
      ['HvCallQuerySparseGpaPageHostVisibility', 'isolated virtual machines only'],
      ['HvCallSetVirtualInterruptTarget', 'ARM64 only'],
      ['HvExtCallEpfSetup', 'no public body: only the name and the number are published'],
      ['HvExtCallSchedulerAssistSetup', 'no public body: only the name is published'],
      ['HvExtCallMemoryHeatHintAsync', 'no public body: only the name and the number are published'],
      ['HvCallVbsVmCallReport', 'isolated virtual machines only'],
    ]);
  });
});

describe('how many elements fit', () => {
  /** From the tables: XMM input of 112 bytes, output from the next 16-byte unit on. */
  const fast = (call: ParameterCall): number => {
    for (let n = 0; ; n++) if (Math.ceil(inputBytes(call, 0, n + 1) / 16) * 16 + outputBytes(call, n + 1) > XMM_FAST_INPUT_BYTES) return n;
  };
  test('XMM fast calls', () => {
    expect([fast(HvCall.ModifyVtlProtectionMask), fast(HvCall.GetVpRegisters), fast(HvCall.SetVpRegisters)]).toEqual([12, 4, 3]);
  });
  test.each(xmmCalls)('%s takes at least one', (_name, call) => expect(inputBytes(call, 0, call.element.size > 0 ? 1 : 0)).toBeLessThanOrEqual(XMM_FAST_INPUT_BYTES));
  test('one page holds 510 page numbers', () => expect(inputBytes(HvCall.ModifyVtlProtectionMask, 0, 510)).toBe(PARAMETER_PAGE_BYTES));
});

test('privileges and recommendations of the calls that have one', () => {
  const gates = CALLS.filter((call) => call.privileges ?? call.recommendedBy).map((call) => [call.code, ...(call.privileges ?? []), ...(call.recommendedBy ? [`(${call.recommendedBy})`] : [])].join(' '));
  const vsm = (...codes: readonly number[]): readonly string[] => codes.map((code) => `${code} accessVsm`);
  const expected = [
    ...vsm(0x0c, 0x0d, 0x0e, 0x0f, 0x10, 0x11, 0x12, 0x4d, 0x91, 0x92, 0x94, 0xad, 0xc0, 0xc1, 0xd4),
    ...[0x50, 0x51, 0x52, 0xac].map((code) => `${code} accessVpRegisters`),
    `${0x5c} postMessages`, `${0x5d} signalEvents`, `${0x99} startVirtualProcessor`,
    `${0x103} accessPartitionReferenceCounter accessPartitionReferenceTsc (restoreTimeOnResume)`,
    ...[0x8001, 0x8002, 0x8003, 0x8004, 0x8005, 0x8006].map((code) => `${code} enableExtendedHypercalls`),
    ...[0x02, 0x03, 0x13, 0x14].map((code) => `${code} (useHypercallForRemoteFlush)`),
    ...[0x0b, 0x15].map((code) => `${code} (useSyntheticClusterIpi)`),
    ...[0x106, 0x107].map((code) => `${code} (useHypercallForMmioAccess)`),
    ...[0x112, 0x113].map((code) => `${code} (useGpaPinningHypercall)`),
  ];
  expect(gates.sort()).toEqual(expected.sort());
});

test('failures that the sections list', () => {
  /** Typed by hand from TLFS v6.0b and, where it has a list, the online text. */
  const LISTS: Readonly<Record<string, readonly number[]>> = {
    HvCallModifyVtlProtectionMask: [0x06, 0x0d, 0x07, 0x05, 0x08, 0x0b, 0x51],
    HvCallEnablePartitionVtl: [0x06, 0x0d, 0x05, 0x07, 0x0b, 0x51],
    HvCallEnableVpVtl: [0x06, 0x0d, 0x05, 0x07, 0x15, 0x51, 0x50, 0x0e],
    HvCallGetVpRegisters: [0x06, 0x0d, 0x0e, 0x05],
    HvCallSetVpRegisters: [0x06, 0x0d, 0x0e, 0x15, 0x05, 0x07, 0x50],
    HvCallTranslateVirtualAddress: [0x06, 0x0d, 0x0e, 0x05, 0x07, 0x15],
    HvCallStartVirtualProcessor: [0x06, 0x0d, 0x0e, 0x50, 0x15, 0x07, 0x51],
    HvCallGetVpIndexFromApicId: [0x06, 0x05, 0x0d, 0x50, 0x15, 0x07, 0x51, 0x0e],
    HvCallAssertVirtualInterrupt: [0x06, 0x0d, 0x0e, 0x05, 0x16, 0x07, 0x51, 0x08],
    HvCallPostMessage: [0x06, 0x12, 0x11, 0x05, 0x13, 0x18, 0x0e],
    HvCallSignalEvent: [0x06, 0x12, 0x05, 0x11, 0x18, 0x0e],
    HvCallRetargetDeviceInterrupt: [0x06, 0x0d, 0x07, 0x1e, 0x05, 0x57, 0x08],
    HvCallRestorePartitionTime: [0x06, 0x0d, 0x07],
    HvCallNotifyLongSpinWait: [],
  };
  expect(Object.fromEntries(CALLS.flatMap((call) => (call.statuses ? [[call.name, call.statuses.map((name) => HvStatus[name])]] : [])))).toEqual(LISTS);
});
