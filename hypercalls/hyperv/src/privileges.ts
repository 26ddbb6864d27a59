import { bits } from '@vmplanes/binary';

/** What a partition may use; its halves are EAX and EBX of CPUID leaf 0x40000003. @spec TLFS HV_PARTITION_PRIVILEGE_MASK; openvmm vm/hv1/hvdef/src/lib.rs */
export const HvPartitionPrivilegeMask = bits('HvPartitionPrivilegeMask', 'TLFS HV_PARTITION_PRIVILEGE_MASK; openvmm vm/hv1/hvdef/src/lib.rs', 64, {
  accessVpRunTimeReg: [0, 'VP_RUNTIME'],
  accessPartitionReferenceCounter: [1, 'TIME_REF_COUNT'],
  accessSynicRegs: [2, 'SCONTROL to SINT15'],
  accessSyntheticTimerRegs: [3, 'STIMER0 to STIMER3'],
  accessIntrCtrlRegs: [4, 'EOI, ICR, TPR and the VP assist page'],
  accessHypercallMsrs: [5, 'GUEST_OS_ID and HYPERCALL'],
  accessVpIndex: [6, 'VP_INDEX'],
  accessResetReg: [7, 'RESET'],
  accessStatsReg: [8, 'statistics pages'],
  accessPartitionReferenceTsc: [9, 'REFERENCE_TSC'],
  accessGuestIdleReg: [10, 'GUEST_IDLE'],
  accessFrequencyRegs: [11, 'TSC_FREQUENCY and APIC_FREQUENCY'],
  accessDebugRegs: [12, 'synthetic debug registers'],
  accessReenlightenmentControls: [13, 'reenlightenment and TSC emulation'],
  accessRootSchedulerReg: [14, 'root scheduler'],
  accessTscInvariantControls: [15, 'TSC_INVARIANT_CONTROL'],
  createPartitions: 32,
  accessPartitionId: 33,
  accessMemoryPool: 34,
  adjustMessageBuffers: 35,
  postMessages: 36,
  signalEvents: 37,
  createPort: 38,
  connectPort: 39,
  accessStats: 40,
  debugging: 43,
  cpuManagement: 44,
  configureProfiler: 45,
  accessVpExitTracing: 46,
  enableExtendedGvaRangesForFlushVirtualAddressList: 47,
  accessVsm: [48, 'Virtual Secure Mode'],
  accessVpRegisters: [49, 'HvCallGetVpRegisters and HvCallSetVpRegisters'],
  fastHypercallOutput: 51,
  enableExtendedHypercalls: 52,
  startVirtualProcessor: 53,
  isolation: 54,
});
/** The name of a privilege. */
export type HvPrivilege = keyof typeof HvPartitionPrivilegeMask.fields;

/** Privileges that a partition must hold, all of them, to use VSM. @spec TLFS Virtual Secure Mode, VSM detection */
export const VSM_PRIVILEGES = ['accessVsm', 'accessVpRegisters', 'accessSynicRegs'] as const satisfies readonly HvPrivilege[];

/** The privilege mask as the two registers of leaf 0x40000003. @param raw - of {@link HvPartitionPrivilegeMask}. */
export const privilegeRegisters = (raw: bigint): { readonly eax: number; readonly ebx: number } => ({ eax: Number(raw & 0xffff_ffffn), ebx: Number((raw >> 32n) & 0xffff_ffffn) });
/** The privileges of a mask, by name. */
export const privilegeNames = (raw: bigint): readonly string[] => Object.entries(HvPartitionPrivilegeMask.unpack(raw)).flatMap(([name, isSet]) => (isSet ? [name] : []));
