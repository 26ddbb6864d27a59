import * as abi from '@vmplanes/abi-hyperv';
import { type AnyLayout, referencePage, type Struct } from '@vmplanes/binary';
import { describe, expect, it, test } from 'vitest';

/** Typed by hand from the tables of the specification: size, then offsets in order, reserved fields left out. */
const STRUCTS: readonly (readonly [layout: { readonly name: string; readonly size: number; readonly at: Readonly<Record<string, number>> }, size: number, at: Readonly<Record<string, number>>])[] = [
  // Calls
  [abi.HvInputModifyVtlProtectionMask, 16, { targetPartitionId: 0, mapFlags: 8, targetVtl: 12 }],
  [abi.HvInputEnablePartitionVtl, 16, { targetPartitionId: 0, targetVtl: 8, flags: 9 }],
  [abi.HvInputVpContext, 240, { targetPartitionId: 0, vpIndex: 8, targetVtl: 12, vpContext: 16 }],
  [abi.HvInputVpRegisters, 16, { partitionId: 0, vpIndex: 8, inputVtl: 12 }],
  [abi.HvRegisterAssoc, 32, { name: 0, value: 16 }],
  [abi.HvInputTranslateVirtualAddress, 32, { partitionId: 0, vpIndex: 8, controlFlags: 16, gvaPage: 24 }],
  [abi.HvOutputTranslateVirtualAddress, 16, { result: 0, gpaPage: 8 }],
  [abi.HvOutputTranslateVirtualAddressEx, 0x40, { result: 0, eventInfo: 0x10, gpaPage: 0x30 }],
  [abi.HvOutputTranslateVirtualAddressExTlfs, 24, { result: 0, gpaPage: 16 }],
  [abi.HvInputSendSyntheticClusterIpi, 16, { vector: 0, targetVtl: 4, flags: 5, processorMask: 8 }],
  [abi.HvInputSendSyntheticClusterIpiEx, 24, { vector: 0, targetVtl: 4, flags: 5, processorSet: 8 }],
  [abi.HvInputFlushVirtualAddress, 24, { addressSpace: 0, flags: 8, processorMask: 16 }],
  [abi.HvInputFlushVirtualAddressEx, 32, { addressSpace: 0, flags: 8, processorSet: 16 }],
  [abi.HvVpSet, 16, { format: 0, validBankMask: 8 }],
  [abi.HvInputAssertVirtualInterrupt, 32, { partitionId: 0, interruptControl: 8, destinationAddress: 16, requestedVector: 24, targetVtl: 28 }],
  [abi.HvInputInstallIntercept, 24, { partitionId: 0, accessTypeMask: 8, interceptType: 12, interceptParameters: 16 }],
  [abi.HvInputInterceptResult, 64, { partitionId: 0, vpIndex: 8, interceptType: 12, parameters: 16 }],
  [abi.HvInputCheckForIoIntercept, 24, { partitionId: 0, vpIndex: 8, targetVtl: 12, port: 14, size: 16, isWrite: 17 }],
  [abi.HvInputGetVpIndexFromApicId, 16, { partitionId: 0, targetVtl: 8 }],
  [abi.HvInputPostMessage, 256, { connectionId: 0, messageType: 8, payloadSize: 12, payload: 16 }],
  [abi.HvInputSignalEvent, 8, { connectionId: 0, flagNumber: 4 }],
  [abi.HvInputPostMessageDirect, 280, { partitionId: 0, vpIndex: 8, vtl: 12, sint: 16, message: 20 }],
  [abi.HvInputSignalEventDirect, 16, { targetPartition: 0, targetVp: 8, targetVtl: 12, targetSint: 13, flagNumber: 14 }],
  [abi.HvInputRetargetDeviceInterrupt, 56, { partitionId: 0, deviceId: 8, interruptEntry: 16, targetVector: 40, targetFlags: 44, maskOrFormat: 48 }],
  [abi.HvInputCheckSparseGpaPageVtlAccess, 16, { partitionId: 0, inputVtl: 8, desiredAccess: 9 }],
  [abi.HvInputRestorePartitionTime, 32, { partitionId: 0, tscSequence: 8, referenceTime: 16, tsc: 24 }],
  // State
  [abi.HvX64SegmentRegister, 16, { base: 0, limit: 8, selector: 12, attributes: 14 }],
  [abi.HvX64TableRegister, 16, { limit: 6, base: 8 }],
  [abi.HvInitialVpContext, 224, { rip: 0, rsp: 8, rflags: 16, cs: 24, ds: 40, es: 56, fs: 72, gs: 88, ss: 104, tr: 120, ldtr: 136, idtr: 152, gdtr: 168, efer: 184, cr0: 192, cr3: 200, cr4: 208, msrCrPat: 216 }],
  [abi.HvVpVtlControl, 24, { entryReason: 0, vinaStatus: 4, vtlReturnRax: 8, vtlReturnRcx: 16 }],
  [abi.HvVpAssistPage, 624, {
    apicAssist: 0, vtlControl: 8, nestedEnlightenmentsControl: 32, enlightenVmEntry: 40, currentNestedVmcs: 48, syntheticTimeUnhaltedTimerExpired: 56, virtualizationFaultInformation: 64, interceptMessage: 112, vtlReturnActions: 368,
  }],
  [abi.HvVpAssistPageActionSignalEvent, 16, { actionType: 0, targetVp: 8, targetVtl: 12, targetSint: 13, flagNumber: 14 }],
  [abi.HvVirtualizationFaultInformation, 16, { parameter0: 0, code: 4, parameter1: 8 }],
  [abi.HvReferenceTscPage, 4096, { tscSequence: 0, tscScale: 8, tscOffset: 16, timelineBias: 24, tscMultiplier: 32 }],
  [abi.HvX64PendingExceptionEvent, 32, { header: 0, flags: 1, vector: 2, errorCode: 4, exceptionParameter: 8 }],
  [abi.HvX64PendingMemoryInterceptEvent, 32, { header: 0, targetVtl: 1, accessType: 2, accessFlags: 3, guestLinearAddress: 8, guestPhysicalAddress: 16 }],
  [abi.HvX64PendingExtIntEvent, 32, { header: 0, vector: 1 }],
  // Messages
  [abi.HvMessageHeader, 16, { type: 0, payloadSize: 4, flags: 5, origin: 8 }],
  [abi.HvMessage, 256, { header: 0, payload: 16 }],
  [abi.HvTimerMessagePayload, 24, { timerIndex: 0, expirationTime: 8, deliveryTime: 16 }],
  [abi.HvX64InterceptMessageHeader, 40, { vpIndex: 0, instructionLengthAndCr8: 4, accessType: 5, executionState: 6, cs: 8, rip: 24, rflags: 32 }],
  [abi.HvX64MemoryInterceptMessage, 0xf0, {
    header: 0, cacheType: 0x28, instructionByteCount: 0x2c, memoryAccessInfo: 0x2d, tprPriority: 0x2e, guestVirtualAddress: 0x30, guestPhysicalAddress: 0x38, instructionBytes: 0x40, ds: 0x50, ss: 0x60,
    rax: 0x70, rcx: 0x78, rdx: 0x80, rbx: 0x88, rsp: 0x90, rbp: 0x98, rsi: 0xa0, rdi: 0xa8, r8: 0xb0, r9: 0xb8, r10: 0xc0, r11: 0xc8, r12: 0xd0, r13: 0xd8, r14: 0xe0, r15: 0xe8,
  }],
  [abi.HvX64MemoryInterceptMessageShort, 0x50, {
    header: 0, cacheType: 0x28, instructionByteCount: 0x2c, memoryAccessInfo: 0x2d, tprPriority: 0x2e, guestVirtualAddress: 0x30, guestPhysicalAddress: 0x38, instructionBytes: 0x40,
  }],
  [abi.HvX64MsrInterceptMessage, 0x40, { header: 0, msrNumber: 0x28, rdx: 0x30, rax: 0x38 }],
  [abi.HvX64IoPortInterceptMessage, 0x80, {
    header: 0, portNumber: 0x28, accessInfo: 0x2a, instructionByteCount: 0x2b, rax: 0x30, instructionBytes: 0x38, ds: 0x48, es: 0x58, rcx: 0x68, rsi: 0x70, rdi: 0x78,
  }],
  [abi.HvX64RegisterInterceptMessage, 0x40, { header: 0, flags: 0x28, registerName: 0x2c, sourceValue: 0x30 }],
  [abi.HvX64CpuidInterceptMessage, 0x68, { header: 0, rax: 0x28, rcx: 0x30, rdx: 0x38, rbx: 0x40, defaultResultRax: 0x48, defaultResultRcx: 0x50, defaultResultRdx: 0x58, defaultResultRbx: 0x60 }],
  [abi.HvX64ExceptionInterceptMessage, 0xf0, {
    header: 0, vector: 0x28, exceptionInfo: 0x2a, instructionByteCount: 0x2b, errorCode: 0x2c, exceptionParameter: 0x30, instructionBytes: 0x40, ds: 0x50, ss: 0x60,
    rax: 0x70, rcx: 0x78, rdx: 0x80, rbx: 0x88, rsp: 0x90, rbp: 0x98, rsi: 0xa0, rdi: 0xa8, r8: 0xb0, r9: 0xb8, r10: 0xc0, r11: 0xc8, r12: 0xd0, r13: 0xd8, r14: 0xe0, r15: 0xe8,
  }],
  [abi.HvX64HypercallInterceptMessage, 0xd0, { header: 0, rax: 0x28, rbx: 0x30, rcx: 0x38, rdx: 0x40, r8: 0x48, rsi: 0x50, rdi: 0x58, xmmRegisters: 0x60, flags: 0xc0 }],
  [abi.HvX64SynicSintDeliverableMessage, 0x30, { header: 0, deliverableSints: 0x28 }],
  [abi.HvX64InterruptionDeliverableMessage, 0x30, { header: 0, deliverableType: 0x28 }],
  [abi.HvX64SipiInterceptMessage, 0x30, { header: 0, targetVpIndex: 0x28, vector: 0x2c }],
  [abi.HvX64ApicEoiMessage, 8, { vpIndex: 0, interruptVector: 4 }],
];

describe('structures have the sizes and offsets of the specification', () => {
  test.each(STRUCTS.map((row) => [row[0].name, row] as const))('%s', (_name, [layout, size, at]) => {
    expect(layout.size).toBe(size);
    expect(Object.fromEntries(Object.entries(layout.at).filter(([name]) => !name.startsWith('reserved')))).toEqual(at);
  });
  it('offsets of VSM fields in the assist page', () => {
    const control = abi.HvVpAssistPage.at.vtlControl;
    expect([control, control + abi.HvVpVtlControl.at.vinaStatus, control + abi.HvVpVtlControl.at.vtlReturnRax, control + abi.HvVpVtlControl.at.vtlReturnRcx]).toEqual([8, 12, 16, 24]);
  });
});

const bit = (...bits: readonly number[]): bigint => bits.reduce((mask, n) => mask | (1n << BigInt(n)), 0n);
const range = (hi: number, lo: number): bigint => ((1n << BigInt(hi - lo + 1)) - 1n) << BigInt(lo);
/** Typed by hand: the bits that are defined. */
const BITS: readonly (readonly [layout: { readonly name: string; readonly width: number; readonly reservedMask: number | bigint }, defined: bigint])[] = [
  [abi.HypercallInput, range(15, 0) | bit(16, 31) | range(26, 17) | range(43, 32) | range(59, 48)],
  [abi.HypercallResult, range(15, 0) | range(43, 32)],
  [abi.HypercallInputV6, range(16, 0) | range(25, 17) | bit(26) | range(43, 32) | range(59, 48)],
  [abi.HvInputVtl, range(4, 0)],
  [abi.HvMapGpaFlags, range(6, 0) | bit(15)],
  [abi.HvEnablePartitionVtlFlags, range(2, 0)],
  [abi.VtlCallInput, 0n],
  [abi.VtlReturnInput, bit(0)],
  [abi.HvRegisterVsmCodePageOffsets, range(23, 0)],
  [abi.HvRegisterVsmVpStatus, range(4, 0) | range(31, 16)],
  [abi.HvRegisterVsmPartitionStatus, range(39, 0)],
  [abi.HvRegisterVsmVina, range(63, 0)],
  [abi.HvRegisterVsmCapabilities, range(32, 27) | range(26, 0) | bit(34)],
  [abi.HvRegisterVsmPartitionConfig, range(15, 0)],
  [abi.HvRegisterVsmVpSecureVtlConfig, range(3, 0)],
  [abi.HvRegisterCrInterceptControl, range(28, 0)],
  [abi.HvTranslateGvaControlFlags, range(10, 0) | range(63, 56)],
  [abi.HvTranslateGvaResult, range(40, 0)],
  [abi.HvFlushFlags, range(4, 0) | bit(8, 9)],
  [abi.HvX64PendingInterruptionRegister, range(9, 0) | range(63, 16)],
  [abi.HvX64InterruptStateRegister, range(1, 0)],
  [abi.HvDeliverabilityNotificationsRegister, range(5, 0) | range(63, 48)],
  [abi.HvX64VpExecutionState, range(13, 0)],
  [abi.HvX64SegmentAttributes, range(7, 0) | range(15, 12)],
  [abi.HvSynicSint, range(7, 0) | range(20, 16)],
  [abi.HvSynicScontrol, bit(0)],
  [abi.HvSynicSimpSiefp, range(63, 0)],
  [abi.HvStimerConfig, range(12, 0) | range(19, 16)],
  [abi.HvStimeUnhaltedTimerConfig, range(8, 0)],
  [abi.HvInterceptIoPortRange, range(31, 0)],
  [abi.HvX64MsrHypercallContents, range(63, 0)],
  [abi.HvX64MsrEoiContents, range(31, 0)],
  [abi.HvX64MsrTprContents, range(7, 0)],
  [abi.HvX64MsrNpiepConfigContents, range(3, 0)],
  [abi.HvCrashCtlRegContents, range(63, 58)],
  [abi.HvInterruptControl, range(33, 0)],
];
describe('registers and flags define the bits of the specification', () => {
  test.each(BITS.map((row) => [row[0].name, row] as const))('%s', (_name, [layout, defined]) => expect(~BigInt(layout.reservedMask) & range(layout.width - 1, 0)).toBe(defined));

  it('VsmCapabilities in the two layouts are mirror images', () => {
    const mirror = (value: bigint): bigint => BigInt(`0b${value.toString(2).padStart(64, '0').split('').reverse().join('')}`);
    const { pack } = abi.HvRegisterVsmCapabilities;
    expect(mirror(pack({ dr6Shared: true }))).toBe(abi.HvRegisterVsmCapabilitiesTlfs.pack({ dr6Shared: true }));
    expect(mirror(pack({ denyLowerVtlStartup: true }))).toBe(abi.HvRegisterVsmCapabilitiesTlfs.pack({ denyLowerVtlStartup: true }));
    expect(mirror(pack({ mbecVtlMask: 0xffff }))).toBe(abi.HvRegisterVsmCapabilitiesTlfs.pack({ mbecVtlMask: 0xffff }));
  });
  it('values worked out by hand', () => {
    expect(abi.HvRegisterVsmPartitionConfig.pack({ defaultVtlProtectionMask: 0xf, zeroMemoryOnReset: true })).toBe(abi.VSM_PARTITION_CONFIG_RESET);
    expect(abi.HvSynicSint.pack({ masked: true })).toBe(abi.HV_SYNIC_SINT_RESET);
    expect(abi.HvRegisterVsmCodePageOffsets.pack({ callOffset: 0x0f, returnOffset: 0x26 })).toBe(0x2_600fn);
    expect(abi.HypercallInput.pack({ callCode: 0x0c, isFast: true, repCount: 2, repStartIndex: 1 })).toBe(0x0001_0002_0001_000cn);
    expect(abi.HypercallInput.unpack(0x0000_0000_8002_0015n)).toMatchObject({ callCode: 0x15, variableHeaderSize: 1, isNested: true });
    expect(abi.HypercallResult.unpack(0x0000_000a_0000_0000n)).toMatchObject({ status: 0, repsCompleted: 10 });
    expect(abi.HvX64SegmentAttributes.unpack(0xa09b)).toEqual({ segmentType: 11, nonSystemSegment: true, descriptorPrivilegeLevel: 0, present: true, available: false, long: true, defaultSize: false, granularity: true });
    expect(abi.HvRegisterCrInterceptControl.pack({ msrApicBaseWrite: true })).toBe(0x1000n);
    expect(abi.HvInputVtl.pack({ targetVtl: 1, useTargetVtl: true })).toBe(0x11);
  });
});

describe('every layout', () => {
  it('has a name of its own and a source', () => {
    expect(abi.LAYOUTS.length).toBeGreaterThan(150);
    expect(referencePage(abi.LAYOUTS)).toContain('### HvInitialVpContext');
    for (const layout of abi.LAYOUTS) expect((layout as Struct).spec, layout.name).toMatch(/TLFS|openvmm|Linux|no parameters/);
  });
  it('is part of the list when a call uses it', () => {
    const listed = new Set<unknown>(abi.LAYOUTS);
    const used = abi.CALLS.filter(abi.isParameterCall).flatMap((call): AnyLayout[] => [call.header, call.output, call.element, call.outputElement]);
    expect(used.filter((layout) => layout.kind !== 'scalar' && layout.size > 0 && !listed.has(layout)).map((layout) => layout.name)).toEqual([]);
  });
  it('of a message fits its payload and comes back by its type', () => {
    for (const [name, [type, layout]] of Object.entries(abi.HvTypedMessage.cases)) {
      expect(layout.size, name).toBeLessThanOrEqual(abi.HV_MESSAGE_PAYLOAD_BYTES);
      const page = new DataView(new ArrayBuffer(abi.HV_MESSAGE_SIZE));
      page.setUint32(0, type, true);
      expect(abi.HvTypedMessage.read(page, 0).kind).toBe(name);
    }
  });
});
