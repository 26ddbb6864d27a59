import { type HvCall, HvInputPostMessageDirect, HvMessage, HvStatus, HV_VP_INDEX_SELF } from '@vmplanes/abi-hyperv';
import type { PlaneContext } from '@vmplanes/engine';
import type { SimpleHandler } from './dispatcher/bind.ts';
import type { CallFrame } from './dispatcher/call-frame.ts';
import { foreignStatus, isSelf, NO_VTL, plainVtl } from './input-vtl.ts';

const { Success, AccessDenied, InvalidParameter, InvalidVpIndex, InvalidVtlState, InvalidSynicState, ObjectInUse } = HvStatus;
const SINTS = 16;

/** The lower VTL of a VP that a higher one names; or a status. */
const lowerVtl = (call: CallFrame, partitionLo: number, partitionHi: number, vpIndex: number, rawVtl: number, sint: number): PlaneContext | number => {
  if (!isSelf(partitionLo, partitionHi)) return foreignStatus(call);
  const vp = vpIndex === HV_VP_INDEX_SELF ? call.vp : call.hv.machine.vps[vpIndex];
  if (vp === undefined) return InvalidVpIndex;
  const vtl = plainVtl(call, rawVtl);
  if (vtl === NO_VTL || sint >= SINTS) return InvalidParameter;
  if (vtl >= call.vtl) return AccessDenied;
  return vp.planes[vtl] ?? InvalidVtlState;
};

/** Puts a message into the slot of a lower VTL; there is no port whose buffers could keep it. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const postMessageDirect: SimpleHandler<typeof HvCall.PostMessageDirect> = (call, input) => {
  const target = lowerVtl(call, input.partitionIdLo, input.partitionIdHi, input.vpIndex, input.vtl, input.sint);
  if (typeof target === 'number') return target;
  const message = input.bytes.slice(HvInputPostMessageDirect.at.message, HvInputPostMessageDirect.at.message + HvMessage.size);
  switch (call.hv.chapters.synic.post(target, input.sint, message, false)) {
    case 'delivered':
      return Success;
    case 'unavailable':
      return InvalidSynicState;
    default:
      return ObjectInUse;
  }
};

/** Sets an event flag of a lower VTL, and tells whether it was clear. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const signalEventDirect: SimpleHandler<typeof HvCall.SignalEventDirect> = (call, input, output) => {
  const target = lowerVtl(call, input.targetPartitionLo, input.targetPartitionHi, input.targetVp, input.targetVtl, input.targetSint);
  if (typeof target === 'number') return target;
  const { synic } = call.hv.chapters;
  const status = synic.signal(target, input.targetSint, input.flagNumber);
  output.newlySignaled = status === Success && synic.wasNew ? 1 : 0;
  return status;
};
