import type { Bits, Struct } from '@vmplanes/binary';
import { describe, expect, it } from 'vitest';
import { LAYOUTS } from './layouts.ts';

// Layouts as C would declare them, field after field, from TLFS, openvmm vm/hv1/hvdef/src/lib.rs and Linux include/hyperv: each begins where the one before ends; `_` is a gap.

/** Width in bits, then fields: one bit, or as many as behind the colon. */
const BIT_FIELDS = `
  HvApicAssist 32: noEoiRequired
  HvNestedEnlightenmentsControl 64: directHypercall _:31 interPartitionCommunication
  HvVinaStatus 8: vinaAsserted
  HvAcceptPagesAttributes 32: memoryType:6 hostVisibility:2 vtlSet:3
  HvConnectionId 32: id:24
  HvDeviceInterruptTargetFlags 32: multicast processorSet proxyRedirect
  HvExtCapabilities 64: getBootZeroedMemory memoryHeatHint epfSetup schedulerAssistSetup memoryHeatHintAsync _:3 memoryColdDiscardHint
  HvFlushFlags 64: allProcessors allVirtualAddressSpaces nonGlobalMappingsOnly useExtendedRangeFormat useTargetVtl _:3 targetVtl0 targetVtl1
  HvGpaPageRange 64: additionalPages:11 largePage basePfn:52
  HvGvaRange 64: additionalPages:12 gvaPageNumber:52
  HvGvaRangeExtended 64: additionalPages:11 largePage gvaPageNumber:52
  HvGvaRangeExtendedLargePage 64: additionalPages:11 largePage pageSize _:8 gvaLargePageNumber:43
  HvInterceptIoPortRange 64: base:16 end:16
  HvInterruptControl 64: interruptType:32 levelTriggered logicalDestinationMode
  HvOutputCheckSparseGpaPageVtlAccess 64: resultCode:8 deniedAccess:8 interceptingVtl:4
  HvTranslateGvaControlFlags 64: validateRead validateWrite validateExecute privilegeExempt setPageTableBits tlbFlushInhibit supervisorAccess userAccess enforceSmap overrideSmap shadowStack _:45 inputVtl:8
  HvTranslateGvaResult 64: resultCode:32 cacheType:8 overlayPage
  HvX64SegmentAttributes 16: segmentType:4 nonSystemSegment descriptorPrivilegeLevel:2 present _:4 available long defaultSize granularity
  HvCpuid40000007Eax 32: startLogicalProcessor createRootVirtualProcessor performanceCounterSync _:28 reservedIdentityBit
  HvCpuid40000003Ecx 32: maxSupportedCstate:4 hpetNeededForC3Deprecated invariantMperfAvailable supervisorShadowStackAvailable archPmuAvailable exceptionTrapInterceptAvailable
  HvCpuid40000003Edx 32: mwaitAvailableDeprecated guestDebuggingAvailable performanceMonitorsAvailable cpuDynamicPartitioningAvailable xmmRegistersForFastHypercallAvailable guestIdleAvailable hypervisorSleepStateSupportAvailable numaDistanceQueryAvailable frequencyRegsAvailable syntheticMachineCheckAvailable guestCrashRegsAvailable debugRegsAvailable npiep1Available disableHypervisorAvailable extendedGvaRangesForFlushVirtualAddressListAvailable fastHypercallOutputAvailable svmFeaturesAvailable sintPollingModeAvailable hypercallMsrLockAvailable directSyntheticTimers registerPatAvailable registerBndcfgsAvailable watchdogTimerAvailable syntheticTimeUnhaltedTimerAvailable deviceDomainsAvailable s1DeviceDomainsAvailable lbrAvailable iptAvailable crossVtlFlushAvailable idleSpecCtrlAvailable translateGvaFlagsAvailable apicEoiInterceptAvailable
  HvCpuid40000006Eax 32: apicOverlayAssistInUse msrBitmapsInUse architecturalPerformanceCountersInUse secondLevelAddressTranslationInUse dmaRemappingInUse interruptRemappingInUse memoryPatrolScrubberPresent dmaProtectionInUse hpetRequested syntheticTimersVolatile hypervisorLevel:4 physicalDestinationModeRequired useVmfuncForAliasMapSwitch hvRegisterForMemoryZeroingSupported unrestrictedGuestSupported rdtAFeaturesSupported rdtMFeaturesSupported childPerfmonPmuSupported childPerfmonLbrSupported childPerfmonIptSupported apicEmulationSupported childX2ApicRecommended hardwareWatchdogReserved deviceAccessTrackingSupported hardwareGpaAccessTrackingSupported
  HvCpuid40000006Ebx 32: deviceDomainInputWidth:8
  HvCpuid4000000cEax 32: paravisorPresent
  HvCpuid4000000cEbx 32: isolationType:4 _:1 sharedGpaBoundaryActive sharedGpaBoundaryBits:6
  HvCpuid4000000aEax 32: enlightenedVmcsVersionLow:8 enlightenedVmcsVersionHigh:8 _:1 directVirtualFlush flushGuestPhysicalAddress enlightenedMsrBitmap combineVirtualizationExceptions debugCtl enlightenedNptTlb
  HvCpuid4000000aEbx 32: evmcsPerfGlobalCtrl
  HvCpuid40000009Eax 32: _:2 accessSynicRegs _:1 accessIntrCtrlRegs accessHypercallMsrs accessVpIndex _:5 accessReenlightenmentControls
  HvCpuid40000009Edx 32: _:4 xmmRegistersForFastHypercallAvailable _:10 fastHypercallOutputAvailable _:1 sintPollingModeAvailable
  HvCpuid40000004Eax 32: useHypercallForAddressSpaceSwitch useHypercallForLocalFlush useHypercallForRemoteFlush useApicMsrs useHvRegisterForReset useRelaxedTiming useDmaRemappingDeprecated useInterruptRemappingDeprecated useX2ApicMsrs deprecateAutoEoi useSyntheticClusterIpi useExProcessorMasks nested useIntForMbecSystemCalls useVmcsEnlightenments useSyncedTimeline coreSchedulerRequested useDirectLocalFlushEntire noNonArchitecturalCoreSharing useX2Apic restoreTimeOnResume useHypercallForMmioAccess useGpaPinningHypercall wakeVps
  HvCpuid40000004Ecx 32: implementedPhysicalAddressBits:7
  HvCpuid40000082Eax 32: isPortable debugDevicePresent extendedIoapicRte
  HvCpuid40000002Ebx 32: minorVersion:16 majorVersion:16
  HvCpuid40000002Edx 32: serviceNumber:24 serviceBranch:8
  HvHypercallInput 64: callCode:16 isFast variableHeaderSize:10 _:4 isNested repCount:12 _:4 repStartIndex:12
  HvHypercallInputV6 64: callCode:16 isFast variableHeaderSize:9 isNested _:5 repCount:12 _:4 repStartIndex:12
  HvHypercallResult 64: status:16 reservedIgnored:16 repsCompleted:12
  HvVtlCallInput 64:
  HvVtlReturnInput 64: isFast
  HvMessageFlags 8: messagePending
  HvX64ExceptionInfo 8: errorCodeValid softwareException
  HvX64InstructionLengthAndCr8 8: instructionLength:4 cr8:4
  HvX64IoPortAccessInfo 8: accessSize:3 stringOp repPrefix
  HvX64MemoryAccessInfo 8: gvaValid gvaGpaValid hypercallOutputPending tlbLocked supervisorShadowStack
  HvX64RegisterInterceptFlags 8: isMemoryOperand
  HvX64VpExecutionState 16: cpl:2 cr0Pe cr0Am eferLma debugActive interruptionPending vtl:4 enclaveMode interruptShadow virtualizationFaultActive
  HvCrashCtlRegContents 64: _:58 preOsId:3 noCrashDump crashMessage crashNotify
  HvGuestOsIdMicrosoft 64: buildNumber:16 serviceVersion:8 minorVersion:8 majorVersion:8 osId:8 vendorId:15 isOpenSource
  HvGuestOsIdOpenSource 64: buildNumber:16 version:32 osId:8 osType:7 isOpenSource
  HvReenlightenmentControl 64: vector:8 _:8 enabled _:15 targetVp:32
  HvTscEmulationControl 64: enabled
  HvTscEmulationStatus 64: inProgress
  HvTscInvariantControl 64: exposeInvariantTsc
  HvX64MsrEoiContents 64: eoi:32
  HvX64MsrHypercallContents 64: enable locked preserved:10 gpaPageNumber:52
  HvX64MsrIcrContents 64: icrLow:32 icrHigh:32
  HvX64MsrNpiepConfigContents 64: preventSgdt preventSidt preventSldt preventStr
  HvX64MsrReferenceTscContents 64: enable preserved:11 gpaPageNumber:52
  HvX64MsrResetContents 64: reset
  HvX64MsrTprContents 64: tpr:8
  HvX64MsrVpAssistPageContents 64: enable preserved:11 gpaPageNumber:52
  HvDeliverabilityNotificationsRegister 64: nmiNotification interruptNotification interruptPriority:4 _:42 sints:16
  HvInternalActivityRegister 64: startupSuspend haltSuspend idleSuspend
  HvSuspendRegister 64: suspended
  HvX64InterruptStateRegister 64: interruptShadow nmiMasked
  HvX64PendingEventAccessFlags 8: guestLinearAddressValid causedByGpaAccess
  HvX64PendingEventHeader 8: eventPending eventType:3
  HvX64PendingInterruptionRegister 64: interruptionPending interruptionType:3 deliverErrorCode instructionLength:4 nestedEvent _:6 interruptionVector:16 errorCode:32
  HvPartitionPrivilegeMask 64: accessVpRunTimeReg accessPartitionReferenceCounter accessSynicRegs accessSyntheticTimerRegs accessIntrCtrlRegs accessHypercallMsrs accessVpIndex accessResetReg accessStatsReg accessPartitionReferenceTsc accessGuestIdleReg accessFrequencyRegs accessDebugRegs accessReenlightenmentControls accessRootSchedulerReg accessTscInvariantControls _:16 createPartitions accessPartitionId accessMemoryPool adjustMessageBuffers postMessages signalEvents createPort connectPort accessStats _:2 debugging cpuManagement configureProfiler accessVpExitTracing enableExtendedGvaRangesForFlushVirtualAddressList accessVsm accessVpRegisters _:1 fastHypercallOutput enableExtendedHypercalls startVirtualProcessor isolation
  HvStimeUnhaltedTimerConfig 64: vector:8 enabled
  HvStimerConfig 64: enable periodic lazy autoEnable apicVector:8 directMode _:3 sintx:4
  HvSynicScontrol 64: enable
  HvSynicSimpSiefp 64: enable preserved:11 baseGpn:52
  HvSynicSint 64: vector:8 _:8 masked autoEoi polling asIntercept proxy
  HvRegisterCrInterceptControl 64: cr0Write cr4Write xcr0Write ia32MiscEnableRead ia32MiscEnableWrite msrLstarRead msrLstarWrite msrStarRead msrStarWrite msrCstarRead msrCstarWrite msrApicBaseRead msrApicBaseWrite msrEferRead msrEferWrite gdtrWrite idtrWrite ldtrWrite trWrite msrSysenterCsWrite msrSysenterEipWrite msrSysenterEspWrite msrSfmaskWrite msrTscAuxWrite msrSgxLaunchControlWrite msrXssWrite msrScetWrite msrPlsSspWrite msrInterruptSspTableAddrWrite
  HvRegisterGuestVsmPartitionConfig 64: maximumVtl:4 vtl0InterruptInjection:2 vtl1InterruptInjection:2
  HvRegisterVsmCapabilities 64: dr6Shared mbecVtlMask:16 denyLowerVtlStartup supervisorShadowStack hardwareHvptAvailable softwareHvptAvailable hardwareHvptRangeBits:6 interceptPageAvailable returnActionAvailable vtl0AliasMapAvailable interceptNotPresentAvailable installInterceptEx interceptSystemResetAvailable _:1 proxyInterruptRedirectAvailable
  HvRegisterVsmCapabilitiesTlfs 64: _:46 denyLowerVtlStartup mbecVtlMask:16 dr6Shared
  HvRegisterVsmCodePageOffsets 64: callOffset:12 returnOffset:12
  HvRegisterVsmPartitionConfig 64: enableVtlProtection defaultVtlProtectionMask:4 zeroMemoryOnReset denyLowerVtlStartup interceptAcceptance interceptEnableVtlProtection interceptVpStartup interceptCpuidUnimplemented interceptUnrecoverableException interceptPage interceptRestorePartitionTime interceptNotPresent interceptSystemReset
  HvRegisterVsmPartitionStatus 64: enabledVtlSet:16 maximumVtl:4 mbecEnabledVtlSet:16 supervisorShadowStackEnabledVtlSet:4
  HvRegisterVsmVina 64: vector:8 enabled autoReset autoEoi preserved:53
  HvRegisterVsmVpSecureVtlConfig 64: mbecEnabled tlbLocked supervisorShadowStackEnabled hardwareHvptEnabled
  HvRegisterVsmVpStatus 64: activeVtl:4 activeMbecEnabled _:11 enabledVtlSet:16
  HvRegisterVsmVpWaitForTlbLock 64: wait
  HvEnablePartitionVtlFlags 8: enableMbec enableSupervisorShadowStack enableHardwareHvpt
  HvInputVtl 8: targetVtl:4 useTargetVtl reservedZ:3
  HvMapGpaFlags 32: readable writable kernelExecutable userExecutable supervisorShadowStack pagingWritability verifyPagingWritability _:8 adjustable
  HvMapGpaFlagsPdf 32: readable writable userExecutable kernelExecutable
`;
/** Size in bytes, then members with theirs. */
const STRUCTS = `
  HvVirtualizationFaultInformation 16: parameter0:2 reserved:2 code:4 parameter1:8
  HvVpAssistPage 624: apicAssist:4 reservedZ0:4 vtlControl:24 nestedEnlightenmentsControl:8 enlightenVmEntry:1 reservedZ1:7 currentNestedVmcs:8 syntheticTimeUnhaltedTimerExpired:1 reservedZ2:7 virtualizationFaultInformation:16 reservedFault:24 reservedZ3:8 interceptMessage:256 vtlReturnActions:256
  HvVpAssistPageActionSignalEvent 16: actionType:8 targetVp:4 targetVtl:1 targetSint:1 flagNumber:2
  HvVpVtlControl 24: entryReason:4 vinaStatus:1 reserved:3 vtlReturnRax:8 vtlReturnRcx:8
  HvExtBootZeroedRange 16: startGpa:8 pageCount:8
  HvExtInputMemoryHeatHint 8: heatType:8
  HvExtOutputBootZeroedMemory 4088: rangeCount:8 ranges:4080
  HvExtOutputQueryCapabilities 8: capabilities:8
  HvInputAcceptGpaPages 24: partitionId:8 pageAttributes:4 vtlPermissionSet:4 gpaPageBase:8
  HvInputAssertVirtualInterrupt 32: partitionId:8 interruptControl:8 destinationAddress:8 requestedVector:4 targetVtl:1 reserved0:1 reserved1:2
  HvInputCheckForIoIntercept 24: partitionId:8 vpIndex:4 targetVtl:1 reserved0:1 port:2 size:1 isWrite:1 reserved1:6
  HvInputCheckSparseGpaPageVtlAccess 16: partitionId:8 inputVtl:1 desiredAccess:1 reserved0:2 reserved1:4
  HvInputEnablePartitionVtl 16: targetPartitionId:8 targetVtl:1 flags:1 reservedZ:6
  HvInputFlushGuestPhysicalAddress 16: addressSpace:8 flags:8
  HvInputFlushVirtualAddress 24: addressSpace:8 flags:8 processorMask:8
  HvInputFlushVirtualAddressEx 32: addressSpace:8 flags:8 processorSet:16
  HvInputGetVpIndexFromApicId 16: partitionId:8 targetVtl:1 reserved:7
  HvInputInstallIntercept 24: partitionId:8 accessTypeMask:4 interceptType:4 interceptParameters:8
  HvInputInterceptResult 64: partitionId:8 vpIndex:4 interceptType:4 parameters:48
  HvInputMemoryMappedIoRead 16: gpa:8 accessWidth:4 reservedZ:4
  HvInputMemoryMappedIoWrite 80: gpa:8 accessWidth:4 reservedZ:4 data:64
  HvInputModifySparseGpaPageHostVisibility 16: partitionId:8 hostVisibility:4 reserved:4
  HvInputModifyVtlProtectionMask 16: targetPartitionId:8 mapFlags:4 targetVtl:1 reservedZ:3
  HvInputNotifyLongSpinWait 8: spinCount:4 reservedZ:4
  HvInputPinGpaPageRanges 8: reserved:8
  HvInputPostMessage 256: connectionId:4 reserved:4 messageType:4 payloadSize:4 payload:240
  HvInputPostMessageDirect 280: partitionId:8 vpIndex:4 vtl:1 reserved0:3 sint:1 reserved1:3 message:256 reserved2:4
  HvInputQuerySparseGpaPageHostVisibility 8: partitionId:8
  HvInputRestorePartitionTime 32: partitionId:8 tscSequence:4 reservedZ:4 referenceTime:8 tsc:8
  HvInputRetargetDeviceInterrupt 56: partitionId:8 deviceId:8 interruptEntry:16 reserved:8 targetVector:4 targetFlags:4 maskOrFormat:8
  HvInputSendSyntheticClusterIpi 16: vector:4 targetVtl:1 flags:1 reserved:2 processorMask:8
  HvInputSendSyntheticClusterIpiEx 24: vector:4 targetVtl:1 flags:1 reserved:2 processorSet:16
  HvInputSignalEvent 8: connectionId:4 flagNumber:2 reserved:2
  HvInputSignalEventDirect 16: targetPartition:8 targetVp:4 targetVtl:1 targetSint:1 flagNumber:2
  HvInputTranslateVirtualAddress 32: partitionId:8 vpIndex:4 reserved:4 controlFlags:8 gvaPage:8
  HvInputVbsVmCallReport 64: reportData:64
  HvInputVpContext 240: targetPartitionId:8 vpIndex:4 targetVtl:1 reservedZ:3 vpContext:224
  HvInputVpRegisters 16: partitionId:8 vpIndex:4 inputVtl:1 reservedZ:3
  HvInterruptEntry 16: source:4 reserved:4 addressOrRteLow:4 dataOrRteHigh:4
  HvOutputCheckForIoIntercept 8: intercept:1 reserved:7
  HvOutputMemoryMappedIoRead 64: data:64
  HvOutputSignalEventDirect 8: newlySignaled:1 reserved:7
  HvOutputTranslateVirtualAddress 16: result:8 gpaPage:8
  HvOutputTranslateVirtualAddressEx 64: result:8 reserved0:8 eventInfo:32 gpaPage:8 reserved1:8
  HvOutputTranslateVirtualAddressExTlfs 24: result:8 reserved:8 gpaPage:8
  HvOutputVbsVmCallReport 2048: report:2048
  HvRegisterX64CpuidResultParameters 44: inputEax:4 inputEcx:4 subleafSpecific:1 alwaysOverride:1 reservedPadding:2 eax:4 eaxMask:4 ebx:4 ebxMask:4 ecx:4 ecxMask:4 edx:4 edxMask:4
  HvRegisterX64MsrResultParameters 12: msrIndex:4 accessType:4 action:4
  HvVpSet 16: format:8 validBankMask:8
  HvInitialVpContext 224: rip:8 rsp:8 rflags:8 cs:16 ds:16 es:16 fs:16 gs:16 ss:16 tr:16 ldtr:16 idtr:16 gdtr:16 efer:8 cr0:8 cr3:8 cr4:8 msrCrPat:8
  HvRegisterAssoc 32: name:4 reservedPad:12 value:16
  HvRegisterValue 16: low:8 high:8
  HvX64SegmentRegister 16: base:8 limit:4 selector:2 attributes:2
  HvX64TableRegister 16: reservedPad:6 limit:2 base:8
  HvInvalidVpRegisterMessage 8: vpIndex:4 reserved:4
  HvMessage 256: header:16 payload:240
  HvMessageHeader 16: type:4 payloadSize:1 flags:1 reserved:2 origin:8
  HvTimerMessagePayload 24: timerIndex:4 reserved:4 expirationTime:8 deliveryTime:8
  HvX64ApicEoiMessage 8: vpIndex:4 interruptVector:4
  HvX64CpuidInterceptMessage 104: header:40 rax:8 rcx:8 rdx:8 rbx:8 defaultResultRax:8 defaultResultRcx:8 defaultResultRdx:8 defaultResultRbx:8
  HvX64ExceptionInterceptMessage 240: header:40 vector:2 exceptionInfo:1 instructionByteCount:1 errorCode:4 exceptionParameter:8 reserved:8 instructionBytes:16 ds:16 ss:16 rax:8 rcx:8 rdx:8 rbx:8 rsp:8 rbp:8 rsi:8 rdi:8 r8:8 r9:8 r10:8 r11:8 r12:8 r13:8 r14:8 r15:8
  HvX64HaltMessage 40: header:40
  HvX64HypercallInterceptMessage 208: header:40 rax:8 rbx:8 rcx:8 rdx:8 r8:8 rsi:8 rdi:8 xmmRegisters:96 flags:4 reserved:12
  HvX64InterceptMessageHeader 40: vpIndex:4 instructionLengthAndCr8:1 accessType:1 executionState:2 cs:16 rip:8 rflags:8
  HvX64InterruptionDeliverableMessage 48: header:40 deliverableType:4 reserved:4
  HvX64IoPortInterceptMessage 128: header:40 portNumber:2 accessInfo:1 instructionByteCount:1 reserved:4 rax:8 instructionBytes:16 ds:16 es:16 rcx:8 rsi:8 rdi:8
  HvX64MemoryInterceptMessage 240: header:40 cacheType:4 instructionByteCount:1 memoryAccessInfo:1 tprPriority:1 reserved:1 guestVirtualAddress:8 guestPhysicalAddress:8 instructionBytes:16 ds:16 ss:16 rax:8 rcx:8 rdx:8 rbx:8 rsp:8 rbp:8 rsi:8 rdi:8 r8:8 r9:8 r10:8 r11:8 r12:8 r13:8 r14:8 r15:8
  HvX64MemoryInterceptMessageShort 80: header:40 cacheType:4 instructionByteCount:1 memoryAccessInfo:1 tprPriority:1 reserved:1 guestVirtualAddress:8 guestPhysicalAddress:8 instructionBytes:16
  HvX64MsrInterceptMessage 64: header:40 msrNumber:4 reserved:4 rdx:8 rax:8
  HvX64RegisterInterceptMessage 64: header:40 flags:1 reserved:3 registerName:4 sourceValue:16
  HvX64SipiInterceptMessage 48: header:40 targetVpIndex:4 vector:4
  HvX64SynicSintDeliverableMessage 48: header:40 deliverableSints:2 reserved:6
  HvX64UnrecoverableExceptionMessage 40: header:40
  HvX64FpControlStatusRegister 16: fpControl:2 fpStatus:2 fpTag:1 reserved:1 lastFpOpcode:2 lastFpRip:8
  HvX64PendingEvent 32: header:1 data:31
  HvX64PendingExceptionEvent 32: header:1 flags:1 vector:2 errorCode:4 exceptionParameter:8 reserved:16
  HvX64PendingExtIntEvent 32: header:1 vector:1 reserved1:30
  HvX64PendingHypercallOutputEvent 32: header:1 retired:1 reserved1:2 outputSize:4 outputGpa:8 reserved2:16
  HvX64PendingMemoryInterceptEvent 32: header:1 targetVtl:1 accessType:1 accessFlags:1 reserved2:4 guestLinearAddress:8 guestPhysicalAddress:8 reserved3:8
  HvX64PendingVirtualizationFaultEvent 32: header:1 reserved1:1 parameter0:2 code:4 parameter1:8 reserved2:16
  HvX64XmmControlStatusRegister 16: lastFpRdp:8 xmmStatusControl:4 xmmStatusControlMask:4
  HvEventFlagsPage 4096: slots:4096
  HvMessagePage 4096: slots:4096
  HvReferenceTscPage 4096: tscSequence:4 reserved1:4 tscScale:8 tscOffset:8 timelineBias:8 tscMultiplier:8 reserved2:4056
`;

interface Declared {
  readonly name: string;
  readonly size: number;
  readonly members: readonly (readonly [name: string, at: number, size: number])[];
}
/** Lines of `name size: members`. */
const parse = (lines: string): readonly Declared[] =>
  lines.trim().split('\n').map((line) => {
    const [head = '', ...members] = line.trim().split(/:? /).filter((word) => word !== '');
    let at = 0;
    const [size, ...rest] = members;
    const placed = rest.map((word) => {
      const [name = '', length = '1'] = word.split(':');
      const place = [name, at, Number(length)] as const;
      at += Number(length);
      return place;
    });
    return { name: head, size: Number.parseInt(size ?? '', 10), members: placed.filter(([name]) => name !== '_') };
  });

const byName = (layouts: readonly Declared[]): readonly Declared[] => [...layouts].sort((a, b) => (a.name < b.name ? -1 : 1));
const widthOf = (mask: bigint, shift: number): number => (mask >> BigInt(shift)).toString(2).length;

describe('layouts', () => {
  it('of bits have every field where it is published', () => {
    const ours = LAYOUTS.filter((layout): layout is Bits => layout.kind === 'bits');
    expect(byName(ours.map(({ name, width, mask, shift }) => ({ name, size: width, members: Object.entries(mask).map(([field, m]) => [field, shift[field]!, widthOf(BigInt(m), shift[field]!)] as const) })))).toEqual(byName(parse(BIT_FIELDS)));
  });
  it('of structures have every member where it is published', () => {
    const ours = LAYOUTS.filter((layout): layout is Struct => layout.kind === 'struct');
    expect(byName(ours.map(({ name, size, fields }) => ({ name, size, members: Object.entries(fields).map(([field, [at, of]]) => [field, at, of.size] as const) })))).toEqual(byName(parse(STRUCTS)));
  });
});
