import { bits, type Bits, numbersOf } from '@vmplanes/binary';

const DISCOVERY = 'TLFS Feature and Interface Discovery';
const HVDEF = `${DISCOVERY}; openvmm vm/hv1/hvdef/src/lib.rs`;

/** Leaf 0x40000002 EBX. @spec TLFS Feature and Interface Discovery, hypervisor system identity */
export const HvVersionEbx = bits('HvCpuid40000002Ebx', DISCOVERY, 32, { minorVersion: [0, 16], majorVersion: [16, 16] });
/** Leaf 0x40000002 EDX. @spec TLFS Feature and Interface Discovery, hypervisor system identity */
export const HvVersionEdx = bits('HvCpuid40000002Edx', DISCOVERY, 32, { serviceNumber: [0, 24], serviceBranch: [24, 8] });

/** Leaf 0x40000003 ECX. @spec TLFS Feature and Interface Discovery, hypervisor feature identification */
export const HvFeaturesEcx = bits('HvCpuid40000003Ecx', HVDEF, 32, {
  maxSupportedCstate: [0, 4],
  hpetNeededForC3Deprecated: 4,
  invariantMperfAvailable: 5,
  supervisorShadowStackAvailable: 6,
  archPmuAvailable: 7,
  exceptionTrapInterceptAvailable: 8,
});
/** Leaf 0x40000003 EDX. @spec TLFS Feature and Interface Discovery, hypervisor feature identification */
export const HvFeaturesEdx = bits('HvCpuid40000003Edx', HVDEF, 32, {
  mwaitAvailableDeprecated: 0,
  guestDebuggingAvailable: 1,
  performanceMonitorsAvailable: 2,
  cpuDynamicPartitioningAvailable: 3,
  xmmRegistersForFastHypercallAvailable: [4, 'hypercall input in XMM registers'],
  guestIdleAvailable: 5,
  hypervisorSleepStateSupportAvailable: 6,
  numaDistanceQueryAvailable: 7,
  frequencyRegsAvailable: 8,
  syntheticMachineCheckAvailable: 9,
  guestCrashRegsAvailable: 10,
  debugRegsAvailable: 11,
  npiep1Available: 12,
  disableHypervisorAvailable: 13,
  extendedGvaRangesForFlushVirtualAddressListAvailable: 14,
  fastHypercallOutputAvailable: [15, 'hypercall output in XMM registers'],
  svmFeaturesAvailable: 16,
  sintPollingModeAvailable: 17,
  hypercallMsrLockAvailable: 18,
  directSyntheticTimers: 19,
  registerPatAvailable: [20, 'PAT register for VSM'],
  registerBndcfgsAvailable: [21, 'BNDCFGS register for VSM'],
  watchdogTimerAvailable: 22,
  syntheticTimeUnhaltedTimerAvailable: 23,
  deviceDomainsAvailable: 24,
  s1DeviceDomainsAvailable: 25,
  lbrAvailable: 26,
  iptAvailable: 27,
  crossVtlFlushAvailable: [28, 'flush calls may name a lower VTL'],
  idleSpecCtrlAvailable: 29,
  translateGvaFlagsAvailable: 30,
  apicEoiInterceptAvailable: 31,
});

/** Leaf 0x40000004 EAX: what a guest had better do. @spec TLFS Feature and Interface Discovery, implementation recommendations */
export const HvRecommendationsEax = bits('HvCpuid40000004Eax', HVDEF, 32, {
  useHypercallForAddressSpaceSwitch: 0,
  useHypercallForLocalFlush: 1,
  useHypercallForRemoteFlush: 2,
  useApicMsrs: 3,
  useHvRegisterForReset: 4,
  useRelaxedTiming: 5,
  useDmaRemappingDeprecated: 6,
  useInterruptRemappingDeprecated: 7,
  useX2ApicMsrs: 8,
  deprecateAutoEoi: 9,
  useSyntheticClusterIpi: 10,
  useExProcessorMasks: 11,
  nested: 12,
  useIntForMbecSystemCalls: [13, 'SYSCALL does not suit a VTL whose pages are split by MBEC'],
  useVmcsEnlightenments: 14,
  useSyncedTimeline: 15,
  coreSchedulerRequested: 16,
  useDirectLocalFlushEntire: 17,
  noNonArchitecturalCoreSharing: 18,
  useX2Apic: 19,
  restoreTimeOnResume: 20,
  useHypercallForMmioAccess: 21,
  useGpaPinningHypercall: 22,
  wakeVps: 23,
});
/** The name of a recommendation. */
export type HvRecommendation = keyof typeof HvRecommendationsEax.fields;
/** Leaf 0x40000004 ECX. @spec TLFS Feature and Interface Discovery, implementation recommendations */
export const HvRecommendationsEcx = bits('HvCpuid40000004Ecx', HVDEF, 32, { implementedPhysicalAddressBits: [0, 7] });
/** Leaf 0x40000004 EBX: the guest never reports a long spin wait. @spec TLFS Feature and Interface Discovery, implementation recommendations */
export const SPIN_WAIT_NEVER_NOTIFY = 0xffff_ffff;

/** Leaf 0x40000006 EAX. @spec TLFS Feature and Interface Discovery, implementation hardware features */
export const HvHardwareFeaturesEax = bits('HvCpuid40000006Eax', HVDEF, 32, {
  apicOverlayAssistInUse: 0,
  msrBitmapsInUse: 1,
  architecturalPerformanceCountersInUse: 2,
  secondLevelAddressTranslationInUse: 3,
  dmaRemappingInUse: 4,
  interruptRemappingInUse: 5,
  memoryPatrolScrubberPresent: 6,
  dmaProtectionInUse: 7,
  hpetRequested: 8,
  syntheticTimersVolatile: 9,
  hypervisorLevel: [10, 4],
  physicalDestinationModeRequired: 14,
  useVmfuncForAliasMapSwitch: 15,
  hvRegisterForMemoryZeroingSupported: 16,
  unrestrictedGuestSupported: 17,
  rdtAFeaturesSupported: 18,
  rdtMFeaturesSupported: 19,
  childPerfmonPmuSupported: 20,
  childPerfmonLbrSupported: 21,
  childPerfmonIptSupported: 22,
  apicEmulationSupported: 23,
  childX2ApicRecommended: 24,
  hardwareWatchdogReserved: 25,
  deviceAccessTrackingSupported: 26,
  hardwareGpaAccessTrackingSupported: 27,
});
/** Leaf 0x40000006 EBX. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvHardwareFeaturesEbx = bits('HvCpuid40000006Ebx', HVDEF, 32, { deviceDomainInputWidth: [0, 8] });
/** Leaf 0x40000007 EAX, root partition only. @spec Linux include/hyperv/hvgdk_mini.h */
export const HvCpuManagementEax = bits('HvCpuid40000007Eax', 'Linux include/hyperv/hvgdk_mini.h', 32, {
  startLogicalProcessor: 0, createRootVirtualProcessor: 1, performanceCounterSync: 2, reservedIdentityBit: 31,
});

/** Leaf 0x40000009 EAX: privileges towards the hypervisor below a nested one. @spec TLFS Feature and Interface Discovery, nested hypervisor feature identification */
export const HvNestedFeaturesEax = bits('HvCpuid40000009Eax', DISCOVERY, 32, { accessSynicRegs: 2, accessIntrCtrlRegs: 4, accessHypercallMsrs: 5, accessVpIndex: 6, accessReenlightenmentControls: 12 });
/** Leaf 0x40000009 EDX. @spec TLFS Feature and Interface Discovery, nested hypervisor feature identification */
export const HvNestedFeaturesEdx = bits('HvCpuid40000009Edx', DISCOVERY, 32, { xmmRegistersForFastHypercallAvailable: 4, fastHypercallOutputAvailable: 15, sintPollingModeAvailable: 17 });
/** Leaf 0x4000000A EAX. @spec TLFS Feature and Interface Discovery, nested virtualization features */
export const HvNestedEnlightenmentsEax = bits('HvCpuid4000000aEax', `${DISCOVERY}; Linux include/hyperv/hvgdk_mini.h`, 32, {
  enlightenedVmcsVersionLow: [0, 8],
  enlightenedVmcsVersionHigh: [8, 8],
  directVirtualFlush: 17,
  flushGuestPhysicalAddress: 18,
  enlightenedMsrBitmap: 19,
  combineVirtualizationExceptions: 20,
  debugCtl: 21,
  enlightenedNptTlb: 22,
});
/** Leaf 0x4000000A EBX. @spec Linux include/hyperv/hvgdk_mini.h */
export const HvNestedEnlightenmentsEbx = bits('HvCpuid4000000aEbx', `${DISCOVERY}; Linux include/hyperv/hvgdk_mini.h`, 32, { evmcsPerfGlobalCtrl: 0 });

/** Leaf 0x4000000C EAX. @spec Linux include/hyperv/hvgdk_mini.h; openvmm vm/hv1/hvdef/src/lib.rs */
export const HvIsolationEax = bits('HvCpuid4000000cEax', HVDEF, 32, { paravisorPresent: 0 });
/** Leaf 0x4000000C EBX. @spec Linux include/hyperv/hvgdk_mini.h; openvmm vm/hv1/hvdef/src/lib.rs */
export const HvIsolationEbx = bits('HvCpuid4000000cEbx', HVDEF, 32, { isolationType: [0, 4], sharedGpaBoundaryActive: 5, sharedGpaBoundaryBits: [6, 6] });
/** Kinds of isolation. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvIsolationType = { None: 0, Vbs: 1, Snp: 2, Tdx: 3, Cca: 4 } as const;
export type HvIsolationType = (typeof HvIsolationType)[keyof typeof HvIsolationType];
/** Leaf 0x40000082 EAX. @spec openvmm vm/hv1/hvdef/src/lib.rs; Linux include/hyperv/hvgdk_mini.h */
export const HvStackPropertiesEax = bits('HvCpuid40000082Eax', HVDEF, 32, { isPortable: 0, debugDevicePresent: 1, extendedIoapicRte: 2 });

/** Values that identify the interface. @spec TLFS Feature and Interface Discovery, standard hypervisor CPUID leaves */
export const CpuidSignature = {
  /** Leaf 0x40000000 EBX, ECX, EDX: "Microsoft Hv". */
  vendorEbx: 0x7263_694d,
  vendorEcx: 0x666f_736f,
  vendorEdx: 0x7648_2074,
  /** Leaf 0x40000001 EAX: "Hv#1". */
  interfaceEax: 0x3123_7648,
  /** Leaf 0x40000081 EAX: "VS#1". */
  stackInterfaceEax: 0x3123_5356,
} as const;

/** Flag of leaf 1 ECX: a hypervisor is present. @spec TLFS Feature and Interface Discovery, hypervisor discovery */
export const CPUID_1_ECX_HYPERVISOR_PRESENT = 0x8000_0000;
/** Least highest leaf of a conforming hypervisor, and the highest that can be. @spec TLFS Feature and Interface Discovery */
export const CPUID_MIN_LEAF = 0x4000_0005;
export const CPUID_MAX_LEAF = 0x4000_ffff;

type Bits32 = Bits<32>;
/** How the four registers of a leaf read: a layout, or what the whole register says. */
export interface CpuidRow {
  readonly leaf: number;
  readonly name: HvCpuidLeaf;
  readonly eax?: Bits32 | string;
  readonly ebx?: Bits32 | string;
  readonly ecx?: Bits32 | string;
  readonly edx?: Bits32 | string;
}

const rows = {
  VendorAndMaxFunction: [0x4000_0000, { eax: 'highest leaf, at least 0x40000005', ebx: 'vendor', ecx: 'vendor', edx: 'vendor' }],
  Interface: [0x4000_0001, { eax: 'interface signature' }],
  Version: [0x4000_0002, { eax: 'build number', ebx: HvVersionEbx, ecx: 'service pack', edx: HvVersionEdx }],
  Features: [0x4000_0003, { eax: 'low half of the privilege mask', ebx: 'high half of the privilege mask', ecx: HvFeaturesEcx, edx: HvFeaturesEdx }],
  EnlightenmentInformation: [0x4000_0004, { eax: HvRecommendationsEax, ebx: 'spins before a long spin wait is reported', ecx: HvRecommendationsEcx }],
  ImplementationLimits: [0x4000_0005, { eax: 'most virtual processors', ebx: 'most logical processors', ecx: 'most interrupt vectors for remapping' }],
  HardwareFeatures: [0x4000_0006, { eax: HvHardwareFeaturesEax, ebx: HvHardwareFeaturesEbx }],
  CpuManagementFeatures: [0x4000_0007, { eax: HvCpuManagementEax }],
  SvmFeatures: [0x4000_0008, { eax: 'shared virtual memory features, root partition only' }],
  NestedFeatures: [0x4000_0009, { eax: HvNestedFeaturesEax, edx: HvNestedFeaturesEdx }],
  NestedEnlightenments: [0x4000_000a, { eax: HvNestedEnlightenmentsEax, ebx: HvNestedEnlightenmentsEbx }],
  IptFeatures: [0x4000_000b, { eax: 'processor trace features' }],
  IsolationConfiguration: [0x4000_000c, { eax: HvIsolationEax, ebx: HvIsolationEbx }],
  StackVendor: [0x4000_0080, { eax: 'highest leaf of the virtualization stack', ebx: 'vendor', ecx: 'vendor', edx: 'vendor' }],
  StackInterface: [0x4000_0081, { eax: 'virtualization stack signature' }],
  StackProperties: [0x4000_0082, { eax: HvStackPropertiesEax }],
} as const satisfies Readonly<Record<string, readonly [number, Omit<CpuidRow, 'leaf' | 'name'>]>>;

/** Leaf numbers by name. @spec TLFS Feature and Interface Discovery */
export const HvCpuid = numbersOf(rows);
/** The name of a leaf. */
export type HvCpuidLeaf = keyof typeof rows;
/** Every leaf, by rising number. */
export const CPUID_LEAVES: readonly CpuidRow[] = Object.entries(rows).map(([name, [leaf, registers]]) => ({ leaf, name: name as HvCpuidLeaf, ...registers }));
