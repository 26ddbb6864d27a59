import type { HvPrivilege } from '@vmplanes/abi-hyperv';

/** Privileges whose whole meaning is served. No other one is ever granted. @spec TLFS HV_PARTITION_PRIVILEGE_MASK */
export const servedPrivileges = [
  'accessVpRunTimeReg',
  'accessPartitionReferenceCounter',
  'accessSynicRegs',
  'accessSyntheticTimerRegs',
  'accessIntrCtrlRegs',
  'accessHypercallMsrs',
  'accessVpIndex',
  'accessResetReg',
  'accessPartitionReferenceTsc',
  'accessGuestIdleReg',
  'accessFrequencyRegs',
  'accessReenlightenmentControls',
  'accessTscInvariantControls',
  'postMessages',
  'signalEvents',
  'enableExtendedGvaRangesForFlushVirtualAddressList',
  'accessVsm',
  'accessVpRegisters',
  'fastHypercallOutput',
  'enableExtendedHypercalls',
  'startVirtualProcessor',
] as const satisfies readonly HvPrivilege[];
/** The name of a privilege that can be withheld. */
export type ServedPrivilege = (typeof servedPrivileges)[number];
