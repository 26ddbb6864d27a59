import { bytes, struct, u64 } from '@vmplanes/binary';
import { describe, expect, it } from 'vitest';
import * as abi from './index.ts';

// Numbers as they are published: TLFS v6.0b and online, openvmm vm/hv1/hvdef/src/lib.rs, Linux include/hyperv/hvgdk_mini.h and hvhdk_mini.h.

/** `name number` pairs of an enumeration. */
const ENUMS: Readonly<Record<string, readonly [ours: Readonly<Record<string, number | bigint>>, published: string]>> = {
  HV_INTERCEPT_TYPE: [abi.HvInterceptType, 'X64IoPort 0 X64Msr 1 X64Cpuid 2 Exception 3 X64GlobalCpuid 6 X64ApicSmi 7 Hypercall 8 X64ApicInitSipi 9 X64ApicWrite 0xb X64MsrIndex 0xc UnknownSynicConnection 0xd X64ApicEoi 0xe RetargetInterruptWithUnknownDeviceId 0xf ExceptionTrap 0x10 X64IoPortRange 0x11 Register 0x12 SystemResetExt 0x13'],
  HV_INTERRUPT_TYPE: [abi.HvInterruptType, 'Fixed 0 LowestPriority 1 Smi 2 RemoteRead 3 Nmi 4 Init 5 Sipi 6 ExtInt 7 LocalInt0 8 LocalInt1 9'],
  HV_INTERCEPT_ACCESS_TYPE: [abi.HvInterceptAccessType, 'Read 0 Write 1 Execute 2'],
  HV_INTERCEPT_ACCESS_TYPE_MASK: [abi.HvInterceptAccessMask, 'None 0 Read 1 Write 2 Execute 4'],
  HV_CACHE_TYPE: [abi.HvCacheType, 'Uncached 0 WriteCombining 1 WriteThrough 4 WriteProtected 5 WriteBack 6'],
  HV_VTL_ENTRY_REASON: [abi.HvVtlEntryReason, 'Reserved 0 VtlCall 1 Interrupt 2 Intercept 3'],
  HV_MAP_GPA_PERMISSIONS: [abi.HvMapGpaPermissions, 'None 0 All 0xf'],
  HV_TRANSLATE_GVA_RESULT_CODE: [abi.HvTranslateGvaResultCode, 'Success 0 PageNotPresent 1 PrivilegeViolation 2 InvalidPageTableFlags 3 GpaUnmapped 4 GpaNoReadAccess 5 GpaNoWriteAccess 6 GpaIllegalOverlayAccess 7 Intercept 8 GpaUnaccepted 9'],
  HV_X64_PENDING_INTERRUPTION_TYPE: [abi.HvX64PendingInterruptionType, 'Interrupt 0 Nmi 2 Exception 3 SoftwareInterrupt 4 PrivilegedSoftwareException 5 SoftwareException 6'],
  HV_X64_PENDING_EVENT_TYPE: [abi.HvX64PendingEventType, 'Exception 0 MemoryIntercept 1 NestedMemoryIntercept 2 VirtualizationFault 3 HypercallOutput 4 ExternalInterrupt 5 ShadowIpt 6'],
  HV_VP_ASSIST_PAGE_ACTION_TYPE: [abi.HvVpAssistPageActionType, 'None 0 SignalEvent 1'],
  HV_GENERIC_SET_FORMAT: [abi.HvVpSetFormat, 'Sparse4K 0 All 1'],
  HV_INTERRUPT_SOURCE: [abi.HvInterruptSource, 'Msi 1 IoApic 2'],
  HV_PARTITION_ISOLATION_TYPE: [abi.HvIsolationType, 'None 0 Vbs 1 Snp 2 Tdx 3 Cca 4'],
  HV_HOST_VISIBILITY: [abi.HvHostVisibility, 'Private 0 ReadOnly 1 Shared 3'],
  HV_UNIMPLEMENTED_MSR_ACTION: [abi.HvUnimplementedMsrAction, 'Fault 0 IgnoreWriteReadZero 1'],
  HV_CHECK_GPA_PAGE_VTL_ACCESS_RESULT_CODE: [abi.HvCheckVtlAccessResult, 'Success 0 MemoryIntercept 1'],
  HV_GUEST_OS_TYPE: [abi.HvGuestOsType, 'Undefined 0 Linux 1 FreeBsd 2 Xen 3 Illumos 4'],
  HV_MESSAGE_TYPE: [abi.HvMessageType,
    'None 0 UnmappedGpa 0x80000000 GpaIntercept 0x80000001 UnacceptedGpa 0x80000003 GpaAttributeIntercept 0x80000004 EnablePartitionVtlIntercept 0x80000005 TimerExpired 0x80000010 InvalidVpRegisterValue 0x80000020 UnrecoverableException 0x80000021 ' +
    'UnsupportedFeature 0x80000022 TlbPageSizeMismatch 0x80000023 IommuFault 0x80000024 OpaqueIntercept 0x8000003f EventLogBufferComplete 0x80000040 HypercallIntercept 0x80000050 SynicEventIntercept 0x80000060 SynicSintIntercept 0x80000061 ' +
    'SynicSintDeliverable 0x80000062 AsyncCallCompletion 0x80000070 SchedulerVpSignalBitset 0x80000100 SchedulerVpSignalPair 0x80000101 X64IoPortIntercept 0x80010000 MsrIntercept 0x80010001 X64CpuidIntercept 0x80010002 ExceptionIntercept 0x80010003 ' +
    'X64ApicEoi 0x80010004 X64IommuPrq 0x80010005 RegisterIntercept 0x80010006 X64Halt 0x80010007 X64InterruptionDeliverable 0x80010008 X64SipiIntercept 0x80010009 X64RdtscIntercept 0x8001000a X64ApicSmiIntercept 0x8001000b Arm64ResetIntercept 0x8001000c ' +
    'X64ApicInitSipiIntercept 0x8001000d X64ApicWriteIntercept 0x8001000e X64ProxyInterruptIntercept 0x8001000f X64IsolationCtrlRegIntercept 0x80010010 X64SnpGuestRequestIntercept 0x80010011 X64ExceptionTrapIntercept 0x80010012 X64SevVmgexitIntercept 0x80010013'],
};
const pairs = (text: string): readonly (readonly [string, string])[] => [...text.matchAll(/(\S+) (\S+)/g)].map(([, name = '', number = '']) => [name, number]);

describe('numbers', () => {
  it.each(Object.entries(ENUMS))('of %s', (_name, [ours, published]) => {
    expect(Object.entries(ours).map(([name, number]) => [name, BigInt(number)])).toEqual(pairs(published).map(([name, number]) => [name, BigInt(number)]));
  });
  it('that stand alone', () => {
    expect([abi.ARCHITECTURAL_VTLS, abi.HV_NUM_VTLS, abi.HV_INVALID_VTL, abi.HV_VTL_ALL]).toEqual([16, 2, 0xff, 0xf]);
    expect([abi.HV_PARTITION_ID_SELF, abi.HV_PARTITION_ID_INVALID, abi.HV_VP_INDEX_SELF, abi.HV_ANY_VP]).toEqual([0xffff_ffff_ffff_ffffn, 0n, 0xffff_fffe, 0xffff_ffff]);
    expect([abi.HV_SYNIC_SINT_COUNT, abi.HV_SYNIC_STIMER_COUNT, abi.HV_SYNIC_VERSION_1, abi.HV_SYNIC_FIRST_VALID_VECTOR, abi.HV_EVENT_FLAGS_COUNT]).toEqual([16, 4, 1, 16, 2048]);
    expect([abi.HV_SYNIC_INTERCEPTION_SINT_INDEX, abi.HV_SYNIC_IOMMU_FAULT_SINT_INDEX, abi.HV_SYNIC_VMBUS_SINT_INDEX, abi.HV_SYNIC_SINT_RESET]).toEqual([0, 1, 2, 0x1_0000n]);
    expect([abi.HV_IPI_LOW_VECTOR, abi.HV_IPI_HIGH_VECTOR, abi.HV_VPS_PER_BANK, abi.HV_MAX_SPARSE_BANKS]).toEqual([0x10, 0xff, 64, 64]);
    expect([abi.HV_MESSAGE_SIZE, abi.HV_MESSAGE_PAYLOAD_BYTES, abi.HV_MESSAGE_TYPE_HYPERVISOR_MASK, abi.HV_HYPERCALL_MMIO_MAX_DATA_LENGTH]).toEqual([256, 240, 0x8000_0000, 64]);
    expect([abi.EXTENDED_CALL_CODE, abi.FAST_INPUT_BYTES, abi.XMM_FAST_INPUT_BYTES, abi.XMM_FAST_OUTPUT_UNIT, abi.PARAMETER_ALIGNMENT, abi.PARAMETER_PAGE_BYTES]).toEqual([0x8000, 16, 112, 16, 8, 4096]);
    // VMCALL is 0f 01 c1, VMMCALL 0f 01 d9.
    expect(abi.HYPERCALL_INSTRUCTION_BYTES).toBe(3);
    expect([abi.HV_REFERENCE_TSC_SEQUENCE_INVALID, abi.REFERENCE_TIME_NANOSECONDS, abi.VSM_PARTITION_CONFIG_RESET]).toEqual([0, 100, 0x3en]);
    expect([abi.SPIN_WAIT_NEVER_NOTIFY, abi.CPUID_1_ECX_HYPERVISOR_PRESENT, abi.CPUID_MIN_LEAF, abi.CPUID_MAX_LEAF]).toEqual([0xffff_ffff, 0x8000_0000, 0x4000_0005, 0x4000_ffff]);
  });
  it('of CPUID leaves, and what their registers show', () => {
    expect(abi.CPUID_LEAVES.map(({ leaf, name, eax, ebx, ecx, edx }) => [leaf, name, ...[eax, ebx, ecx, edx].map((of) => (typeof of === 'object' ? of.name.replace('HvCpuid', '') : of === undefined ? '-' : 'text'))].join(' '))).toEqual([
      '1073741824 VendorAndMaxFunction text text text text', '1073741825 Interface text - - -', '1073741826 Version text 40000002Ebx text 40000002Edx', '1073741827 Features text text 40000003Ecx 40000003Edx',
      '1073741828 EnlightenmentInformation 40000004Eax text 40000004Ecx -', '1073741829 ImplementationLimits text text text -', '1073741830 HardwareFeatures 40000006Eax 40000006Ebx - -', '1073741831 CpuManagementFeatures 40000007Eax - - -',
      '1073741832 SvmFeatures text - - -', '1073741833 NestedFeatures 40000009Eax - - 40000009Edx', '1073741834 NestedEnlightenments 4000000aEax 4000000aEbx - -', '1073741835 IptFeatures text - - -', '1073741836 IsolationConfiguration 4000000cEax 4000000cEbx - -',
      '1073741952 StackVendor text text text text', '1073741953 StackInterface text - - -', '1073741954 StackProperties 40000082Eax - - -',
    ]);
  });
  it('of the stubs in the hypercall page', () => {
    expect(abi.CODE_PAGE_OFFSETS).toEqual({
      openvmm: { x64: { call: 0x0f, return: 0x26 }, x86: { call: 0x04, return: 0x1b } }, hypervisor: { x64: { call: 0x0f, return: 0x28 }, x86: undefined }, kvmPrototype: { x64: { call: 0x16, return: 0x20 }, x86: { call: 0x16, return: 0x20 } },
    });
    expect(abi.HYPERCALL_REGISTERS).toEqual({
      x64: { control: ['rcx'], input: ['rdx'], output: ['r8'], result: ['rax'] }, x86: { control: ['edx', 'eax'], input: ['ebx', 'ecx'], output: ['edi', 'esi'], result: ['edx', 'eax'] },
    });
  });
  it('of calls that others make', () => {
    const published =
      'SwitchVirtualAddressSpace 1 CreatePartition 0x40 InitializePartition 0x41 FinalizePartition 0x42 DeletePartition 0x43 GetPartitionProperty 0x44 SetPartitionProperty 0x45 GetPartitionId 0x46 DepositMemory 0x48 WithdrawMemory 0x49 ' +
      'MapGpaPages 0x4b UnmapGpaPages 0x4c CreateVp 0x4e DeleteVp 0x4f ClearVirtualInterrupt 0x56 DeletePort 0x58 DisconnectPort 0x5b PostDebugData 0x69 RetrieveDebugData 0x6a ResetDebugSession 0x6b MapStatsPage 0x6c UnmapStatsPage 0x6d ' +
      'OutputDebugCharacter 0x71 AddLogicalProcessor 0x76 GetSystemProperty 0x7b MapDeviceInterrupt 0x7c UnmapDeviceInterrupt 0x7d NotifyPortRingEmpty 0x8b CreatePort 0x95 ConnectPort 0x96 DispatchVp 0xc2 GetGpaPagesAccessStates 0xc9 ' +
      'AcquireSparseSpaPageHostAccess 0xd7 ReleaseSparseSpaPageHostAccess 0xd8 MapVpStatePage 0xe1 UnmapVpStatePage 0xe2 GetVpState 0xe3 SetVpState 0xe4 GetVpCpuidValues 0xf4';
    expect([...abi.OTHER_CALL_NAMES].map(([code, name]) => [name, code])).toEqual(pairs(published).map(([name, code]) => [`HvCall${name}`, Number(code)]));
  });
});

describe('tables', () => {
  it('are sorted, each row found by its own number', () => {
    for (const row of abi.REGISTERS) expect(abi.registerOf(row.number)).toBe(row);
    for (const row of abi.MSRS) expect(abi.msrOf(row.index)).toBe(row);
    const types: Readonly<Record<string, number>> = abi.HvMessageType;
    for (const [name, type] of Object.entries(types)) expect(abi.messageTypeName(type)).toBe(name);
    const codes = abi.CALLS.map(({ code }) => code);
    expect(codes).toEqual(codes.toSorted((a, b) => a - b));
    expect([abi.callName(0x0040), abi.callName(0x9), abi.callName(0x1234)]).toEqual(['HvCallCreatePartition', 'HvCall 0x0009', 'HvCall 0x1234']);
  });
  it('say what a status means', () => {
    expect([0, 2, 0x87].map(abi.statusMeaning)).toEqual(['the call succeeded', 'the call code is not known or not enabled', 'no such register']);
    expect(abi.statusName(0x0bad)).toBe('HV_STATUS 0x0bad');
  });
  it('give both halves of the privilege mask whole', () => {
    expect(abi.privilegeRegisters(0xffff_ffff_ffff_ffffn)).toEqual({ eax: 0xffff_ffff, ebx: 0xffff_ffff });
    expect(abi.privilegeRegisters(0x8000_0001_4000_0002n)).toEqual({ eax: 0x4000_0002, ebx: 0x8000_0001 });
  });
});

describe('declarations up to their limits', () => {
  const spec = 'none';
  const block = (size: number) => struct('Block', spec, size, { all: [0, bytes(size)] });
  it.each([
    ['the highest code', () => abi.simple('A', { code: 0xffff, spec }), true],
    ['code 1', () => abi.simple('A', { code: 1, spec }), true],
    ['a code that is no integer', () => abi.simple('A', { code: 1.5, spec }), false],
    ['two registers, full', () => abi.simple('A', { code: 1, spec, header: block(16), fast: 'registers' }), true],
    ['two registers and 8 bytes', () => abi.simple('A', { code: 1, spec, header: block(24), fast: 'registers' }), false],
    ['XMM registers, full', () => abi.simple('A', { code: 1, spec, header: block(112), fast: 'xmm' }), true],
    ['an element behind full XMM registers', () => abi.rep('A', { code: 1, spec, header: block(112), element: u64, fast: 'xmm' }), false],
    ['a page, full', () => abi.simple('A', { code: 1, spec, header: block(4096), output: block(4096) }), true],
    ['a page and an element', () => abi.rep('A', { code: 1, spec, header: block(4096), element: u64 }), false],
    ['one output element of a page', () => abi.rep('A', { code: 1, spec, header: block(8), outputElement: bytes(4096) }), true],
    ['one output element that rounds up beyond a page', () => abi.rep('A', { code: 1, spec, header: block(8), outputElement: bytes(4097) }), false],
    ['an output element of more than half a page', () => abi.rep('A', { code: 1, spec, header: block(8), outputElement: bytes(2056) }), true],
  ] as const)('%s', (_what, declare, isLegal) => {
    if (isLegal) expect(Object.isFrozen(declare())).toBe(true);
    else expect(declare).toThrow(RangeError);
  });
  it('variable calls have no register form unless they say so', () => {
    expect([abi.variable('A', { code: 1, spec, header: block(8) }).fast, abi.variableRep('A', { code: 1, spec, header: block(8), element: u64 }).fast, abi.rep('A', { code: 1, spec, header: block(8) }).fast]).toEqual(['never', 'never', 'never']);
    expect([abi.hasFastOutput(abi.rep('A', { code: 1, spec, header: block(8), outputElement: bytes(1), fast: 'xmm' })), abi.hasFastOutput(abi.simple('A', { code: 1, spec, header: block(8), output: block(8), fast: 'xmm' }))]).toEqual([true, true]);
  });
});
