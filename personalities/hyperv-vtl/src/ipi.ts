import { type HvCall, HvStatus } from '@vmplanes/abi-hyperv';
import { DeliveryMode, encodeMessage } from '@vmplanes/x86';
import type { SimpleHandler } from './dispatcher/bind.ts';
import type { CallFrame } from './dispatcher/call-frame.ts';
import { inputVtl, NO_VTL } from './input-vtl.ts';
import { isTarget, targetMask, targetSet } from './vp-set.ts';

const { Success, InvalidParameter, AccessDenied, InvalidVtlState } = HvStatus;
/** Vectors below are not for interrupts. @spec SDM 3A §10.5.2 */
const FIRST_VECTOR = 0x10;
const LAST_VECTOR = 0xff;
const FORMAT_ALL = 1;

/** Input that both forms begin with. */
interface IpiInput {
  readonly vector: number;
  readonly targetVtl: number;
  readonly flags: number;
}

/** @returns the VTL that the interrupt is for, or a status with its sign reversed. */
const checkedVtl = (call: CallFrame, { vector, targetVtl, flags }: IpiInput): number => {
  if (vector < FIRST_VECTOR || vector > LAST_VECTOR || flags !== 0) return -InvalidParameter;
  const vtl = inputVtl(call, targetVtl);
  if (vtl === NO_VTL) return -InvalidParameter;
  return vtl > call.vtl && !call.hv.options.allowUpwardIpi ? -AccessDenied : vtl;
};

/** Sends to all targets or to none. */
const send = (call: CallFrame, vtl: number, vector: number): number => {
  const { machine } = call.hv;
  const { vps } = machine;
  for (let i = 0; i < vps.length; i++) if (isTarget(call, i) && !vps[i]!.planes[vtl]) return InvalidVtlState;
  const message = encodeMessage(DeliveryMode.fixed, vector, true, false);
  for (let i = 0; i < vps.length; i++) if (isTarget(call, i)) machine.send(i, vtl, message, 0);
  return Success;
};

/** A fixed, edge-triggered interrupt to the local APICs of one VTL. @spec TLFS HvCallSendSyntheticClusterIpi */
export const sendSyntheticClusterIpi: SimpleHandler<typeof HvCall.SendSyntheticClusterIpi> = (call, input) => {
  const vtl = checkedVtl(call, input);
  if (vtl < 0) return -vtl;
  targetMask(call, input.processorMaskLo, input.processorMaskHi);
  return send(call, vtl, input.vector);
};

/** @spec TLFS HvCallSendSyntheticClusterIpiEx */
export const sendSyntheticClusterIpiEx: SimpleHandler<typeof HvCall.SendSyntheticClusterIpiEx> = (call, input) => {
  const vtl = checkedVtl(call, input);
  if (vtl < 0) return -vtl;
  if (!call.hv.options.clusterIpiAll && input.words[input.processorSetAt >>> 2] === FORMAT_ALL) return InvalidParameter;
  const status = targetSet(call, input.processorSetAt, 0);
  return status === Success ? send(call, vtl, input.vector) : status;
};
