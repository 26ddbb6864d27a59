import { type HvCall, HvStatus } from '@vmplanes/abi-hyperv';
import type { Machine, Vp } from '@vmplanes/engine';
import { DeliveryMode, encodeMessage } from '@vmplanes/x86';
import type { SimpleHandler } from './dispatcher/bind.ts';
import type { CallFrame } from './dispatcher/call-frame.ts';
import { inputVtl, NO_VTL } from './input-vtl.ts';
import { targetMask, targetSet } from './vp-set.ts';

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

const lowestBit = (bits: number): number => 31 - Math.clz32(bits & -bits);

/** @param bits - VPs from `first` on. @returns whether all of them have the VTL. */
const haveAll = (vps: readonly Vp[], bits: number, first: number, vtl: number): boolean => {
  for (let rest = bits; rest !== 0; rest &= rest - 1) if (!vps[first + lowestBit(rest)]!.planes[vtl]) return false;
  return true;
};

/** @param bits - VPs from `first` on. */
const sendAll = (machine: Machine, bits: number, first: number, vtl: number, message: number): void => {
  for (let rest = bits; rest !== 0; rest &= rest - 1) machine.send(first + lowestBit(rest), vtl, message, 0);
};

/** Sends to all targets or to none. */
const send = (call: CallFrame, vtl: number, vector: number): number => {
  const { machine } = call.hv;
  const { vps } = machine;
  const { targetsLo, targetsHi } = call;
  if (!haveAll(vps, targetsLo, 0, vtl) || !haveAll(vps, targetsHi, 32, vtl)) return InvalidVtlState;
  const message = encodeMessage(DeliveryMode.fixed, vector, true, false);
  sendAll(machine, targetsLo, 0, vtl, message);
  sendAll(machine, targetsHi, 32, vtl, message);
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
