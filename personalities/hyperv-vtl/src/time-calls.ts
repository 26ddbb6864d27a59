import { type HvCall, HvStatus } from '@vmplanes/abi-hyperv';
import { fromWords } from '@vmplanes/binary';
import type { SimpleHandler } from './dispatcher/bind.ts';
import { foreignStatus, isSelf } from './input-vtl.ts';

const { Success, InvalidParameter } = HvStatus;

/** The VP waits for another one: the rest of its slice goes to the others. @spec TLFS HvCallNotifyLongSpinWait */
export const notifyLongSpinWait: SimpleHandler<typeof HvCall.NotifyLongSpinWait> = (call) => {
  call.vp.sliceEnd = call.vp.retired;
  return Success;
};

/** The guest comes back from a suspended state: clocks go on from what they showed then. @spec TLFS HvCallRestorePartitionTime */
export const restorePartitionTime: SimpleHandler<typeof HvCall.RestorePartitionTime> = (call, input) => {
  if (!isSelf(input.partitionIdLo, input.partitionIdHi)) return foreignStatus(call);
  if (input.reservedZ !== 0) return InvalidParameter;
  call.hv.chapters.clocks.restoreTime(call.vp, fromWords(input.referenceTimeLo, input.referenceTimeHi), fromWords(input.tscLo, input.tscHi), input.tscSequence);
  return Success;
};
