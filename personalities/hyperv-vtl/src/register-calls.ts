import { HvCall, HvStatus, None } from '@vmplanes/abi-hyperv';
import type { PlaneContext } from '@vmplanes/engine';
import type { RepHandler } from './dispatcher/bind.ts';
import type { CallFrame } from './dispatcher/call-frame.ts';
import { foreignStatus, inputVtl, isSelf, NO_VTL } from './input-vtl.ts';
import { readHvRegister, writeHvRegister } from './registers/table.ts';
import { vpOf } from './vsm-calls.ts';

const { Success, InvalidParameter, AccessDenied, InvalidVpIndex } = HvStatus;

interface Header {
  readonly partitionIdLo: number;
  readonly partitionIdHi: number;
  readonly vpIndex: number;
  readonly inputVtl: number;
  readonly reservedZAt: number;
  readonly bytes: Uint8Array;
}

/** The VTL of a VP that a call means. @param otherVp - status where only the own VP is reached. @returns it, or a status. */
const targetOf = (call: CallFrame, input: Header, otherVp: number): PlaneContext | number => {
  if (!isSelf(input.partitionIdLo, input.partitionIdHi)) return foreignStatus(call);
  const vp = vpOf(call, input.vpIndex);
  if (vp === null) return InvalidVpIndex;
  if (vp !== call.vp && !call.hv.options.otherVpRegisters) return otherVp;
  const vtl = inputVtl(call, input.inputVtl);
  const { bytes, reservedZAt: at } = input;
  if (vtl === NO_VTL || (bytes[at]! | bytes[at + 1]! | bytes[at + 2]!) !== 0) return InvalidParameter;
  if (vtl > call.vtl) return AccessDenied;
  return vp.planes[vtl] ?? InvalidParameter;
};
const check = (otherVp: number) => (call: CallFrame, input: Header): number => {
  const target = targetOf(call, input, otherVp);
  return typeof target === 'number' ? target : Success;
};

const U32 = 0xffff_ffffn;
const wordsToValue = (words: Uint32Array, at: number): bigint => {
  let value = 0n;
  for (let word = 3; word >= 0; word--) value = (value << 32n) | BigInt(words[at + word]!);
  return value;
};

/** Reads registers of a VTL no higher than the caller's, of any VP. @spec TLFS HvCallGetVpRegisters */
export const getVpRegisters: RepHandler<typeof HvCall.GetVpRegisters> = {
  check: check(AccessDenied),
  element: (call, input, name, output) => {
    const target = targetOf(call, input, AccessDenied);
    if (typeof target === 'number') return target;
    const value = readHvRegister({ hv: call.hv, target, caller: call.context }, name.value);
    if (typeof value === 'number') return value;
    for (let word = 0, rest = value; word < 4; word++, rest >>= 32n) output.words[(output.at >>> 2) + word] = Number(rest & U32);
    return Success;
  },
};

/** Writes registers; those before one that is refused are written. @spec TLFS HvCallSetVpRegisters */
export const setVpRegisters: RepHandler<typeof HvCall.SetVpRegisters> = {
  check: check(InvalidVpIndex),
  element: (call, input, assoc) => {
    const target = targetOf(call, input, InvalidVpIndex);
    if (typeof target === 'number') return target;
    return writeHvRegister({ hv: call.hv, target, caller: call.context }, assoc.name, wordsToValue(assoc.words, assoc.valueAt >>> 2));
  },
};

/** The call as early users have it: all names, then all values, each value at a multiple of 16 bytes. @spec kvm-unit-tests x86/hyperv_vsm.c; QEMU VSM prototype hw/hyperv/hyperv.c */
export const SetVpRegistersPacked = Object.freeze({ ...HvCall.SetVpRegisters, element: None });
const NAME_BYTES = 4;
const VALUE_BYTES = 16;
const namesBytes = (count: number): number => Math.ceil((count * NAME_BYTES) / VALUE_BYTES) * VALUE_BYTES;

/** Writes registers whose names come before their values. */
export const setVpRegistersPacked: RepHandler<typeof SetVpRegistersPacked> = {
  check: check(InvalidVpIndex),
  listBytes: (count) => namesBytes(count) + count * VALUE_BYTES,
  element: (call, input) => {
    const target = targetOf(call, input, InvalidVpIndex);
    if (typeof target === 'number') return target;
    const { words } = call.input;
    const list = call.headerBytes;
    const value = list + namesBytes(call.count) + call.index * VALUE_BYTES;
    return writeHvRegister({ hv: call.hv, target, caller: call.context }, words[(list + call.index * NAME_BYTES) >>> 2]!, wordsToValue(words, value >>> 2));
  },
};
