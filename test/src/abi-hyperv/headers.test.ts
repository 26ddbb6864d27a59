import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import * as abi from '@vmplanes/abi-hyperv';
import { describe, expect } from 'vitest';
import { hostThatFinds, requirement, systemTool } from '../support/system-tool.ts';

/** The kernel's own definitions of the interface as oracle: a C program prints numbers, sizes, offsets and bit positions, which must be ours. */
const ARCH_HEADER = 'arch/x86/include/asm/hyperv-tlfs.h';
const root = (): string | undefined => {
  const folders = existsSync('/usr/src') ? readdirSync('/usr/src').filter((name) => name.startsWith('linux-headers-')).map((name) => join('/usr/src', name)) : [];
  return folders.find((folder) => existsSync(join(folder, ARCH_HEADER)) && existsSync(join(folder, 'include/asm-generic/hyperv-tlfs.h')));
};
/** The newest package of headers common to all builds; they have the file up to Linux 6.13. */
const newestPackage = (): string => {
  const found = spawnSync('apt-cache', ['search', '--names-only', '^linux-headers-6[.](1|6|9|11|12)[.][0-9.]+-[0-9]+-common$'], { encoding: 'utf8' }).stdout ?? '';
  return found.split('\n').map((line) => line.split(' ')[0] ?? '').filter((name) => name !== '').sort((a, b) => a.localeCompare(b, 'en', { numeric: true })).at(-1) ?? 'linux-headers-amd64';
};
const gcc = systemTool('gcc', { debianPackage: 'gcc', command: 'gcc' });
const kernel = systemTool('the Hyper-V header of the kernel', { debianPackage: root() === undefined ? newestPackage() : 'linux-headers-amd64', command: ARCH_HEADER }, hostThatFinds(root));
const headers = requirement(gcc.isMet && kernel.isMet && process.arch === 'x64' && existsSync('/usr/include/stdio.h'), 'needs gcc and the Hyper-V header of Linux 6.13 or older', 'apt-get install -y gcc libc6-dev linux-headers-amd64');

/** What the header takes from the rest of the kernel. */
const SHIMS: Readonly<Record<string, string>> = {
  'linux/types.h': `#include <stdint.h>
typedef uint8_t u8, __u8; typedef uint16_t u16, __u16; typedef uint32_t u32, __u32; typedef uint64_t u64, __u64; typedef int64_t s64, __s64;
#define __packed __attribute__((packed))
#define __aligned(n) __attribute__((aligned(n)))
`,
  'linux/bits.h': `#define BIT(n) (1UL << (n))
#define BIT_ULL(n) (1ULL << (n))
#define GENMASK(h, l) (((~0UL) << (l)) & (~0UL >> (63 - (h))))
#define GENMASK_ULL(h, l) GENMASK(h, l)
`,
  'linux/time64.h': '#define NSEC_PER_SEC 1000000000L\n',
  'asm/page.h': '#include <linux/bits.h>\n#define PAGE_SIZE 4096UL\n',
};

interface Probe { readonly c: string; readonly value: bigint }
const is = (c: string, value: number | bigint): Probe => ({ c: `(unsigned long long)(${c})`, value: BigInt(value) });
const table = (prefix: string, values: Readonly<Record<string, number | bigint>>): readonly Probe[] => Object.entries(values).map(([name, value]) => is(prefix + name, value));
/** Size and offsets: C path to our offset. */
const struct = (type: string, size: number | undefined, offsets: Readonly<Record<string, number>>): readonly Probe[] => [
  ...(size === undefined ? [] : [is(`sizeof(${type})`, size)]), ...Object.entries(offsets).map(([path, at]) => is(`__builtin_offsetof(${type}, ${path})`, at)),
];
/** Bit fields: the mask that setting a field to all ones gives. */
const fields = (type: string, masks: Readonly<Record<string, number | bigint>>): readonly Probe[] =>
  Object.entries(masks).map(([path, mask]) => is(`({ union { ${type} s; u64 raw; } x = { .raw = 0 }; x.s.${path} = ~0ULL; x.raw; })`, mask));

const { HvMsr, HvCall, HvStatus, HvCpuid, HvMessageType } = abi;
const low = (name: abi.HvPrivilege): bigint => abi.HvPartitionPrivilegeMask.mask[name];
const high = (name: abi.HvPrivilege): bigint => abi.HvPartitionPrivilegeMask.mask[name] >> 32n;
const { mask: edx } = abi.HvFeaturesEdx;
const { mask: eax } = abi.HvRecommendationsEax;
const { mask: control } = abi.HypercallInput;

const PROBES: readonly Probe[] = [
  ...table('HYPERV_CPUID_', {
    VENDOR_AND_MAX_FUNCTIONS: HvCpuid.VendorAndMaxFunction, INTERFACE: HvCpuid.Interface, VERSION: HvCpuid.Version, FEATURES: HvCpuid.Features, ENLIGHTMENT_INFO: HvCpuid.EnlightenmentInformation,
    IMPLEMENT_LIMITS: HvCpuid.ImplementationLimits, CPU_MANAGEMENT_FEATURES: HvCpuid.CpuManagementFeatures, NESTED_FEATURES: HvCpuid.NestedEnlightenments, ISOLATION_CONFIG: HvCpuid.IsolationConfiguration,
    VIRT_STACK_INTERFACE: HvCpuid.StackInterface, VIRT_STACK_PROPERTIES: HvCpuid.StackProperties, MIN: abi.CPUID_MIN_LEAF, MAX: abi.CPUID_MAX_LEAF,
  }),
  is('HYPERV_VS_INTERFACE_EAX_SIGNATURE', abi.CpuidSignature.stackInterfaceEax), is('HYPERV_HYPERVISOR_PRESENT_BIT', abi.CPUID_1_ECX_HYPERVISOR_PRESENT),
  is('HYPERV_VS_PROPERTIES_EAX_EXTENDED_IOAPIC_RTE', abi.HvStackPropertiesEax.mask.extendedIoapicRte),
  // Privileges, features, recommendations
  ...table('HV_', {
    MSR_VP_RUNTIME_AVAILABLE: low('accessVpRunTimeReg'), MSR_TIME_REF_COUNT_AVAILABLE: low('accessPartitionReferenceCounter'), MSR_SYNIC_AVAILABLE: low('accessSynicRegs'), MSR_SYNTIMER_AVAILABLE: low('accessSyntheticTimerRegs'),
    MSR_APIC_ACCESS_AVAILABLE: low('accessIntrCtrlRegs'), MSR_HYPERCALL_AVAILABLE: low('accessHypercallMsrs'), MSR_VP_INDEX_AVAILABLE: low('accessVpIndex'), MSR_RESET_AVAILABLE: low('accessResetReg'),
    MSR_STAT_PAGES_AVAILABLE: low('accessStatsReg'), MSR_REFERENCE_TSC_AVAILABLE: low('accessPartitionReferenceTsc'), MSR_GUEST_IDLE_AVAILABLE: low('accessGuestIdleReg'), ACCESS_FREQUENCY_MSRS: low('accessFrequencyRegs'),
    ACCESS_REENLIGHTENMENT: low('accessReenlightenmentControls'), ACCESS_TSC_INVARIANT: low('accessTscInvariantControls'),
    CREATE_PARTITIONS: high('createPartitions'), ACCESS_PARTITION_ID: high('accessPartitionId'), ACCESS_MEMORY_POOL: high('accessMemoryPool'), ADJUST_MESSAGE_BUFFERS: high('adjustMessageBuffers'), POST_MESSAGES: high('postMessages'),
    SIGNAL_EVENTS: high('signalEvents'), CREATE_PORT: high('createPort'), CONNECT_PORT: high('connectPort'), ACCESS_STATS: high('accessStats'), DEBUGGING: high('debugging'), CPU_MANAGEMENT: high('cpuManagement'),
    ENABLE_EXTENDED_HYPERCALLS: high('enableExtendedHypercalls'), ISOLATION: high('isolation'),
    X64_MWAIT_AVAILABLE: edx.mwaitAvailableDeprecated, X64_GUEST_DEBUGGING_AVAILABLE: edx.guestDebuggingAvailable, X64_PERF_MONITOR_AVAILABLE: edx.performanceMonitorsAvailable,
    X64_CPU_DYNAMIC_PARTITIONING_AVAILABLE: edx.cpuDynamicPartitioningAvailable, X64_HYPERCALL_XMM_INPUT_AVAILABLE: edx.xmmRegistersForFastHypercallAvailable, X64_GUEST_IDLE_STATE_AVAILABLE: edx.guestIdleAvailable,
    FEATURE_FREQUENCY_MSRS_AVAILABLE: edx.frequencyRegsAvailable, FEATURE_GUEST_CRASH_MSR_AVAILABLE: edx.guestCrashRegsAvailable, FEATURE_DEBUG_MSRS_AVAILABLE: edx.debugRegsAvailable,
    X64_HYPERCALL_XMM_OUTPUT_AVAILABLE: edx.fastHypercallOutputAvailable, STIMER_DIRECT_MODE_AVAILABLE: edx.directSyntheticTimers,
    X64_AS_SWITCH_RECOMMENDED: eax.useHypercallForAddressSpaceSwitch, X64_LOCAL_TLB_FLUSH_RECOMMENDED: eax.useHypercallForLocalFlush, X64_REMOTE_TLB_FLUSH_RECOMMENDED: eax.useHypercallForRemoteFlush,
    X64_APIC_ACCESS_RECOMMENDED: eax.useApicMsrs, X64_SYSTEM_RESET_RECOMMENDED: eax.useHvRegisterForReset, X64_RELAXED_TIMING_RECOMMENDED: eax.useRelaxedTiming, DEPRECATING_AEOI_RECOMMENDED: eax.deprecateAutoEoi,
    X64_CLUSTER_IPI_RECOMMENDED: eax.useSyntheticClusterIpi, X64_EX_PROCESSOR_MASKS_RECOMMENDED: eax.useExProcessorMasks, X64_ENLIGHTENED_VMCS_RECOMMENDED: eax.useVmcsEnlightenments,
    X64_NO_NONARCH_CORESHARING: eax.noNonArchitecturalCoreSharing,
    X64_START_LOGICAL_PROCESSOR: abi.HvCpuManagementEax.mask.startLogicalProcessor, X64_CREATE_ROOT_VIRTUAL_PROCESSOR: abi.HvCpuManagementEax.mask.createRootVirtualProcessor,
    X64_PERFORMANCE_COUNTER_SYNC: abi.HvCpuManagementEax.mask.performanceCounterSync, X64_RESERVED_IDENTITY_BIT: abi.HvCpuManagementEax.mask.reservedIdentityBit,
    X64_NESTED_DIRECT_FLUSH: abi.HvNestedEnlightenmentsEax.mask.directVirtualFlush, X64_NESTED_GUEST_MAPPING_FLUSH: abi.HvNestedEnlightenmentsEax.mask.flushGuestPhysicalAddress,
    X64_NESTED_MSR_BITMAP: abi.HvNestedEnlightenmentsEax.mask.enlightenedMsrBitmap, X64_NESTED_ENLIGHTENED_TLB: abi.HvNestedEnlightenmentsEax.mask.enlightenedNptTlb,
    X64_NESTED_EVMCS1_PERF_GLOBAL_CTRL: abi.HvNestedEnlightenmentsEbx.mask.evmcsPerfGlobalCtrl,
    PARAVISOR_PRESENT: abi.HvIsolationEax.mask.paravisorPresent, ISOLATION_TYPE: abi.HvIsolationEbx.mask.isolationType, SHARED_GPA_BOUNDARY_ACTIVE: abi.HvIsolationEbx.mask.sharedGpaBoundaryActive,
    SHARED_GPA_BOUNDARY_BITS: abi.HvIsolationEbx.mask.sharedGpaBoundaryBits, ISOLATION_TYPE_VBS: abi.HvIsolationType.Vbs, ISOLATION_TYPE_SNP: abi.HvIsolationType.Snp,
  }),
  // MSRs
  ...table('HV_X64_MSR_', {
    GUEST_OS_ID: HvMsr.GuestOsId, HYPERCALL: HvMsr.Hypercall, RESET: HvMsr.Reset, VP_RUNTIME: HvMsr.VpRuntime, TSC_FREQUENCY: HvMsr.TscFrequency, APIC_FREQUENCY: HvMsr.ApicFrequency, EOI: HvMsr.Eoi, ICR: HvMsr.Icr, TPR: HvMsr.Tpr,
    VP_ASSIST_PAGE: HvMsr.VpAssistPage, GUEST_IDLE: HvMsr.GuestIdle, REENLIGHTENMENT_CONTROL: HvMsr.ReenlightenmentControl, TSC_EMULATION_CONTROL: HvMsr.TscEmulationControl, TSC_EMULATION_STATUS: HvMsr.TscEmulationStatus,
    TSC_INVARIANT_CONTROL: HvMsr.TscInvariantControl, HYPERCALL_ENABLE: abi.HvX64MsrHypercallContents.mask.enable, HYPERCALL_PAGE_ADDRESS_MASK: abi.HvX64MsrHypercallContents.mask.gpaPageNumber,
    VP_ASSIST_PAGE_ENABLE: abi.HvX64MsrVpAssistPageContents.mask.enable, VP_ASSIST_PAGE_ADDRESS_MASK: abi.HvX64MsrVpAssistPageContents.mask.gpaPageNumber, TSC_REFERENCE_ENABLE: abi.HvX64MsrReferenceTscContents.mask.enable,
  }),
  ...table('HV_REGISTER_', {
    VP_INDEX: HvMsr.VpIndex, TIME_REF_COUNT: HvMsr.TimeRefCount, REFERENCE_TSC: HvMsr.ReferenceTsc, SCONTROL: HvMsr.Scontrol, SVERSION: HvMsr.Sversion, SIEFP: HvMsr.Siefp, SIMP: HvMsr.Simp, EOM: HvMsr.Eom,
    SINT0: HvMsr.Sint0, SINT1: HvMsr.Sint1, SINT7: HvMsr.Sint7, SINT15: HvMsr.Sint15, STIMER0_CONFIG: HvMsr.Stimer0Config, STIMER0_COUNT: HvMsr.Stimer0Count, STIMER1_CONFIG: HvMsr.Stimer1Config, STIMER3_CONFIG: HvMsr.Stimer3Config,
    STIMER3_COUNT: HvMsr.Stimer3Count, CRASH_P0: HvMsr.GuestCrashP0, CRASH_P1: HvMsr.GuestCrashP1, CRASH_P4: HvMsr.GuestCrashP4, CRASH_CTL: HvMsr.GuestCrashCtl,
  }),
  is('HV_CRASH_CTL_CRASH_NOTIFY_MSG', abi.HvCrashCtlRegContents.mask.crashMessage), is('HV_CRASH_CTL_CRASH_NOTIFY', abi.HvCrashCtlRegContents.mask.crashNotify),
  ...fields('union hv_x64_msr_hypercall_contents', { enable: abi.HvX64MsrHypercallContents.mask.enable, guest_physical_address: abi.HvX64MsrHypercallContents.mask.gpaPageNumber }),
  ...fields('union hv_vp_assist_msr_contents', { enable: abi.HvX64MsrVpAssistPageContents.mask.enable, pfn: abi.HvX64MsrVpAssistPageContents.mask.gpaPageNumber }),
  ...fields('union hv_reference_tsc_msr', { enable: abi.HvX64MsrReferenceTscContents.mask.enable, pfn: abi.HvX64MsrReferenceTscContents.mask.gpaPageNumber }),
  ...fields('struct hv_reenlightenment_control', { vector: abi.HvReenlightenmentControl.mask.vector, enabled: abi.HvReenlightenmentControl.mask.enabled, target_vp: abi.HvReenlightenmentControl.mask.targetVp }),
  // Calls and statuses
  ...table('HVCALL_', {
    FLUSH_VIRTUAL_ADDRESS_SPACE: HvCall.FlushVirtualAddressSpace.code, FLUSH_VIRTUAL_ADDRESS_LIST: HvCall.FlushVirtualAddressList.code, NOTIFY_LONG_SPIN_WAIT: HvCall.NotifyLongSpinWait.code, SEND_IPI: HvCall.SendSyntheticClusterIpi.code,
    FLUSH_VIRTUAL_ADDRESS_SPACE_EX: HvCall.FlushVirtualAddressSpaceEx.code, FLUSH_VIRTUAL_ADDRESS_LIST_EX: HvCall.FlushVirtualAddressListEx.code, SEND_IPI_EX: HvCall.SendSyntheticClusterIpiEx.code,
    GET_VP_REGISTERS: HvCall.GetVpRegisters.code, SET_VP_REGISTERS: HvCall.SetVpRegisters.code, POST_MESSAGE: HvCall.PostMessage.code, SIGNAL_EVENT: HvCall.SignalEvent.code, RETARGET_INTERRUPT: HvCall.RetargetDeviceInterrupt.code,
    FLUSH_GUEST_PHYSICAL_ADDRESS_SPACE: HvCall.FlushGuestPhysicalAddressSpace.code, FLUSH_GUEST_PHYSICAL_ADDRESS_LIST: HvCall.FlushGuestPhysicalAddressList.code,
    MODIFY_SPARSE_GPA_PAGE_HOST_VISIBILITY: HvCall.ModifySparseGpaPageHostVisibility.code,
  }),
  is('HV_EXT_CALL_QUERY_CAPABILITIES', HvCall.QueryCapabilities.code), is('HV_EXT_CALL_MEMORY_HEAT_HINT', HvCall.MemoryHeatHint.code), is('HV_EXT_CAPABILITY_MEMORY_COLD_DISCARD_HINT', abi.HvExtCapabilities.mask.memoryColdDiscardHint),
  ...table('HV_STATUS_', {
    SUCCESS: HvStatus.Success, INVALID_HYPERCALL_CODE: HvStatus.InvalidHypercallCode, INVALID_HYPERCALL_INPUT: HvStatus.InvalidHypercallInput, INVALID_ALIGNMENT: HvStatus.InvalidAlignment, INVALID_PARAMETER: HvStatus.InvalidParameter,
    ACCESS_DENIED: HvStatus.AccessDenied, OPERATION_DENIED: HvStatus.OperationDenied, INSUFFICIENT_MEMORY: HvStatus.InsufficientMemory, INVALID_PORT_ID: HvStatus.InvalidPortId, INVALID_CONNECTION_ID: HvStatus.InvalidConnectionId,
    INSUFFICIENT_BUFFERS: HvStatus.InsufficientBuffers,
  }),
  ...table('HV_HYPERCALL_', {
    RESULT_MASK: abi.HypercallResult.mask.status, FAST_BIT: control.isFast, VARHEAD_OFFSET: abi.HypercallInput.shift.variableHeaderSize, VARHEAD_MASK: control.variableHeaderSize, REP_COMP_OFFSET: abi.HypercallInput.shift.repCount,
    REP_COMP_MASK: abi.HypercallResult.mask.repsCompleted, REP_START_OFFSET: abi.HypercallInput.shift.repStartIndex, REP_START_MASK: control.repStartIndex,
    // This header counts the nested bit among the reserved ones.
    RSVD_MASK: abi.HypercallInput.reservedMask | control.isNested, MAX_XMM_REGISTERS: (abi.XMM_FAST_INPUT_BYTES - abi.FAST_INPUT_BYTES) / 16,
  }),
  is('HV_PARTITION_ID_SELF', abi.HV_PARTITION_ID_SELF), is('HV_VP_INDEX_SELF', abi.HV_VP_INDEX_SELF), is('HV_GENERIC_SET_SPARSE_4K', abi.HvVpSetFormat.Sparse4K), is('HV_GENERIC_SET_ALL', abi.HvVpSetFormat.All),
  ...table('HV_FLUSH_', {
    ALL_PROCESSORS: abi.HvFlushFlags.mask.allProcessors, ALL_VIRTUAL_ADDRESS_SPACES: abi.HvFlushFlags.mask.allVirtualAddressSpaces, NON_GLOBAL_MAPPINGS_ONLY: abi.HvFlushFlags.mask.nonGlobalMappingsOnly,
    USE_EXTENDED_RANGE_FORMAT: abi.HvFlushFlags.mask.useExtendedRangeFormat,
  }),
  // SynIC and messages
  ...table('HV_SYNIC_', {
    SINT_COUNT: abi.HV_SYNIC_SINT_COUNT, VERSION_1: abi.HV_SYNIC_VERSION_1, FIRST_VALID_VECTOR: abi.HV_SYNIC_FIRST_VALID_VECTOR, STIMER_COUNT: abi.HV_SYNIC_STIMER_COUNT, CONTROL_ENABLE: abi.HvSynicScontrol.mask.enable,
    SIMP_ENABLE: abi.HvSynicSimpSiefp.mask.enable, SIEFP_ENABLE: abi.HvSynicSimpSiefp.mask.enable, SINT_MASKED: abi.HvSynicSint.mask.masked, SINT_AUTO_EOI: abi.HvSynicSint.mask.autoEoi, SINT_VECTOR_MASK: abi.HvSynicSint.mask.vector,
  }),
  ...table('HV_', { MESSAGE_SIZE: abi.HV_MESSAGE_SIZE, MESSAGE_PAYLOAD_BYTE_COUNT: abi.HV_MESSAGE_PAYLOAD_BYTES, EVENT_FLAGS_COUNT: abi.HV_EVENT_FLAGS_COUNT, IPI_LOW_VECTOR: abi.HV_IPI_LOW_VECTOR, IPI_HIGH_VECTOR: abi.HV_IPI_HIGH_VECTOR }),
  ...table('HVMSG_', {
    NONE: HvMessageType.None, UNMAPPED_GPA: HvMessageType.UnmappedGpa, GPA_INTERCEPT: HvMessageType.GpaIntercept, TIMER_EXPIRED: HvMessageType.TimerExpired, INVALID_VP_REGISTER_VALUE: HvMessageType.InvalidVpRegisterValue,
    UNRECOVERABLE_EXCEPTION: HvMessageType.UnrecoverableException, UNSUPPORTED_FEATURE: HvMessageType.UnsupportedFeature, EVENTLOG_BUFFERCOMPLETE: HvMessageType.EventLogBufferComplete, X64_IOPORT_INTERCEPT: HvMessageType.X64IoPortIntercept,
    X64_MSR_INTERCEPT: HvMessageType.MsrIntercept, X64_CPUID_INTERCEPT: HvMessageType.X64CpuidIntercept, X64_EXCEPTION_INTERCEPT: HvMessageType.ExceptionIntercept, X64_APIC_EOI: HvMessageType.X64ApicEoi,
  }),
  ...table('HV_X64_INTERRUPT_TYPE_', {
    FIXED: abi.HvInterruptType.Fixed, LOWESTPRIORITY: abi.HvInterruptType.LowestPriority, SMI: abi.HvInterruptType.Smi, REMOTEREAD: abi.HvInterruptType.RemoteRead, NMI: abi.HvInterruptType.Nmi, INIT: abi.HvInterruptType.Init,
    SIPI: abi.HvInterruptType.Sipi, EXTINT: abi.HvInterruptType.ExtInt, LOCALINT0: abi.HvInterruptType.LocalInt0, LOCALINT1: abi.HvInterruptType.LocalInt1,
  }),
  is('HV_INTERRUPT_SOURCE_MSI', abi.HvInterruptSource.Msi), is('HV_INTERRUPT_SOURCE_IOAPIC', abi.HvInterruptSource.IoApic),
  is('HV_DEVICE_INTERRUPT_TARGET_MULTICAST', abi.HvDeviceInterruptTargetFlags.mask.multicast), is('HV_DEVICE_INTERRUPT_TARGET_PROCESSOR_SET', abi.HvDeviceInterruptTargetFlags.mask.processorSet),
  ...fields('union hv_synic_sint', { vector: abi.HvSynicSint.mask.vector, masked: abi.HvSynicSint.mask.masked, auto_eoi: abi.HvSynicSint.mask.autoEoi, polling: abi.HvSynicSint.mask.polling }),
  ...fields('union hv_synic_simp', { simp_enabled: abi.HvSynicSimpSiefp.mask.enable, preserved: abi.HvSynicSimpSiefp.mask.preserved, base_simp_gpa: abi.HvSynicSimpSiefp.mask.baseGpn }),
  ...fields('union hv_stimer_config', {
    enable: abi.HvStimerConfig.mask.enable, periodic: abi.HvStimerConfig.mask.periodic, lazy: abi.HvStimerConfig.mask.lazy, auto_enable: abi.HvStimerConfig.mask.autoEnable, apic_vector: abi.HvStimerConfig.mask.apicVector,
    direct_mode: abi.HvStimerConfig.mask.directMode, sintx: abi.HvStimerConfig.mask.sintx,
  }),
  ...fields('union hv_gpa_page_range', { 'page.additional_pages': abi.HvGpaPageRange.mask.additionalPages, 'page.largepage': abi.HvGpaPageRange.mask.largePage, 'page.basepfn': abi.HvGpaPageRange.mask.basePfn }),
  ...fields('union hv_port_id', { 'u.id': BigInt(abi.HvConnectionId.mask.id) }),
  ...struct('struct hv_message_header', abi.HvMessageHeader.size, { message_type: abi.HvMessageHeader.at.type, payload_size: abi.HvMessageHeader.at.payloadSize, message_flags: abi.HvMessageHeader.at.flags, sender: abi.HvMessageHeader.at.origin }),
  ...struct('struct hv_message', abi.HvMessage.size, { 'u.payload': abi.HvMessage.at.payload }),
  ...struct('struct hv_message_page', abi.HvMessagePage.size, {}),
  ...struct('struct hv_timer_message_payload', abi.HvTimerMessagePayload.size, {
    timer_index: abi.HvTimerMessagePayload.at.timerIndex, expiration_time: abi.HvTimerMessagePayload.at.expirationTime, delivery_time: abi.HvTimerMessagePayload.at.deliveryTime,
  }),
  ...struct('union hv_synic_event_flags', abi.HV_EVENT_FLAGS_COUNT / 8, {}),
  // Pages and inputs
  ...struct('struct ms_hyperv_tsc_page', undefined, { tsc_sequence: abi.HvReferenceTscPage.at.tscSequence, tsc_scale: abi.HvReferenceTscPage.at.tscScale, tsc_offset: abi.HvReferenceTscPage.at.tscOffset }),
  ...struct('struct hv_vp_assist_page', undefined, {
    apic_assist: abi.HvVpAssistPage.at.apicAssist, vtl_control: abi.HvVpAssistPage.at.vtlControl, nested_control: abi.HvVpAssistPage.at.nestedEnlightenmentsControl, enlighten_vmentry: abi.HvVpAssistPage.at.enlightenVmEntry,
    current_nested_vmcs: abi.HvVpAssistPage.at.currentNestedVmcs,
  }),
  ...struct('struct hv_vpset', abi.HvVpSet.size, { format: abi.HvVpSet.at.format, valid_bank_mask: abi.HvVpSet.at.validBankMask }),
  ...struct('struct hv_send_ipi', abi.HvInputSendSyntheticClusterIpi.size, { vector: abi.HvInputSendSyntheticClusterIpi.at.vector, cpu_mask: abi.HvInputSendSyntheticClusterIpi.at.processorMask }),
  ...struct('struct hv_send_ipi_ex', abi.HvInputSendSyntheticClusterIpiEx.size, { vector: abi.HvInputSendSyntheticClusterIpiEx.at.vector, vp_set: abi.HvInputSendSyntheticClusterIpiEx.at.processorSet }),
  ...struct('struct hv_guest_mapping_flush', abi.HvInputFlushGuestPhysicalAddress.size, { address_space: abi.HvInputFlushGuestPhysicalAddress.at.addressSpace, flags: abi.HvInputFlushGuestPhysicalAddress.at.flags }),
  ...struct('struct hv_tlb_flush', abi.HvInputFlushVirtualAddress.size, {
    address_space: abi.HvInputFlushVirtualAddress.at.addressSpace, flags: abi.HvInputFlushVirtualAddress.at.flags, processor_mask: abi.HvInputFlushVirtualAddress.at.processorMask, gva_list: HvCall.FlushVirtualAddressList.header.size,
  }),
  ...struct('struct hv_tlb_flush_ex', abi.HvInputFlushVirtualAddressEx.size, { address_space: abi.HvInputFlushVirtualAddressEx.at.addressSpace, flags: abi.HvInputFlushVirtualAddressEx.at.flags, hv_vp_set: abi.HvInputFlushVirtualAddressEx.at.processorSet }),
  ...struct('struct hv_interrupt_entry', abi.HvInterruptEntry.size, { source: abi.HvInterruptEntry.at.source, 'msi_entry.address': abi.HvInterruptEntry.at.addressOrRteLow, 'msi_entry.data': abi.HvInterruptEntry.at.dataOrRteHigh }),
  ...struct('struct hv_retarget_device_interrupt', undefined, {
    partition_id: abi.HvInputRetargetDeviceInterrupt.at.partitionId, device_id: abi.HvInputRetargetDeviceInterrupt.at.deviceId, int_entry: abi.HvInputRetargetDeviceInterrupt.at.interruptEntry,
    'int_target.vector': abi.HvInputRetargetDeviceInterrupt.at.targetVector, 'int_target.flags': abi.HvInputRetargetDeviceInterrupt.at.targetFlags, 'int_target.vp_mask': abi.HvInputRetargetDeviceInterrupt.at.maskOrFormat,
  }),
  ...struct('struct hv_get_vp_registers_input', undefined, { 'header.partitionid': abi.HvInputVpRegisters.at.partitionId, 'header.vpindex': abi.HvInputVpRegisters.at.vpIndex, 'header.inputvtl': abi.HvInputVpRegisters.at.inputVtl, element: abi.HvInputVpRegisters.size }),
  ...struct('struct hv_get_vp_registers_output', HvCall.GetVpRegisters.outputElement.size, { 'as64.low': abi.HvRegisterValue.at.low, 'as64.high': abi.HvRegisterValue.at.high }),
  is('sizeof(((struct hv_set_vp_registers_input *)0)->element[0])', HvCall.SetVpRegisters.element.size),
  ...struct('struct hv_set_vp_registers_input', undefined, { element: abi.HvInputVpRegisters.size, 'element[0].valuelow': abi.HvInputVpRegisters.size + abi.HvRegisterAssoc.at.value }),
  ...struct('struct hv_gpa_range_for_visibility', undefined, { partition_id: abi.HvInputModifySparseGpaPageHostVisibility.at.partitionId, gpa_page_list: abi.HvInputModifySparseGpaPageHostVisibility.size }),
  ...struct('struct hv_memory_hint', abi.HvExtInputMemoryHeatHint.size, { ranges: abi.HvExtInputMemoryHeatHint.size }),
];

describe('the kernel header', () => {
  headers.it('has our numbers, sizes, offsets and bits', () => {
    const folder = mkdtempSync(join(tmpdir(), 'hyperv-abi-'));
    try {
      for (const [path, text] of Object.entries(SHIMS)) {
        mkdirSync(dirname(join(folder, path)), { recursive: true });
        writeFileSync(join(folder, path), `#pragma once\n${text}`);
      }
      const kernelRoot = root()!;
      const lines = PROBES.map((probe, i) => `printf("${i} %llu\\n", ${probe.c});`);
      writeFileSync(join(folder, 'abi.c'), `#include <linux/types.h>\n#include <linux/bits.h>\n#include "${join(kernelRoot, ARCH_HEADER)}"\n#include <stdio.h>\nint main(void) {\n${lines.join('\n')}\nreturn 0; }\n`);
      const compiled = spawnSync('gcc', ['-w', '-I', folder, '-I', join(kernelRoot, 'include'), '-o', 'abi', 'abi.c'], { cwd: folder, encoding: 'utf8' });
      expect(compiled.stderr).toBe('');
      const printed = spawnSync(join(folder, 'abi'), { encoding: 'utf8' }).stdout.trim().split('\n').map((line) => line.split(' '));
      const theirs = Object.fromEntries(printed.map(([i, value]) => [PROBES[Number(i)]!.c, BigInt(value!)]));
      expect(Object.fromEntries(PROBES.map((probe) => [probe.c, probe.value]))).toEqual(theirs);
      expect(printed.length).toBe(PROBES.length);
    } finally {
      rmSync(folder, { recursive: true });
    }
  }, 60_000);
});
