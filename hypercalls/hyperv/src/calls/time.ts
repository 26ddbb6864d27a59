import { struct, u32, u64 } from '@vmplanes/binary';
import { simple } from '../call.ts';

/** Input of HvCallNotifyLongSpinWait. @spec TLFS HvCallNotifyLongSpinWait */
export const HvInputNotifyLongSpinWait = struct('HvInputNotifyLongSpinWait', 'TLFS HvCallNotifyLongSpinWait', 8, { spinCount: [0, u32], reservedZ: [4, u32] });
/** Says that the VP has spun for long. */
export const NotifyLongSpinWait = simple('HvCallNotifyLongSpinWait', {
  code: 0x0008, spec: 'TLFS HvCallNotifyLongSpinWait', fast: 'registers', header: HvInputNotifyLongSpinWait,
  statuses: [],
});

/** Input of HvCallRestorePartitionTime. @spec TLFS HvCallRestorePartitionTime */
export const HvInputRestorePartitionTime = struct('HvInputRestorePartitionTime', 'TLFS HvCallRestorePartitionTime', 32, {
  partitionId: [0, u64],
  tscSequence: [8, u32, 'of the reference TSC page; 0 when it was not valid'],
  reservedZ: [12, u32],
  referenceTime: [16, u64, '100 ns'],
  tsc: [24, u64],
});
/** Sets reference time and TSC to saved values. */
export const RestorePartitionTime = simple('HvCallRestorePartitionTime', {
  code: 0x0103, spec: 'TLFS HvCallRestorePartitionTime', privileges: ['accessPartitionReferenceCounter', 'accessPartitionReferenceTsc'], recommendedBy: 'restoreTimeOnResume', header: HvInputRestorePartitionTime,
  statuses: ['AccessDenied', 'InvalidPartitionId', 'InvalidPartitionState'],
});
