import { HvStatus } from '@vmplanes/abi-hyperv';
import type { CallFrame } from './dispatcher/call-frame.ts';

const USE_TARGET = 0x10;
const RESERVED = 0xe0;

/** Returned for a VTL that no call can name. */
export const NO_VTL = -1;

/**
 * The VTL that an HV_INPUT_VTL means: without its flag that of the caller.
 * @returns {@link NO_VTL} when reserved bits are set or the number is above the highest VTL of the partition.
 * @spec TLFS HV_INPUT_VTL
 */
export const inputVtl = (call: CallFrame, raw: number): number => {
  if ((raw & RESERVED) !== 0) return NO_VTL;
  const vtl = (raw & USE_TARGET) !== 0 ? raw & 0xf : call.vtl;
  return vtl > call.hv.options.maximumVtl ? NO_VTL : vtl;
};

/** A plain VTL number, for calls that take one. @returns {@link NO_VTL} above the highest VTL of the partition. @spec TLFS HV_VTL */
export const plainVtl = (call: CallFrame, raw: number): number => (raw > call.hv.options.maximumVtl ? NO_VTL : raw);

/** HV_PARTITION_ID_SELF in two words, the only partition a guest can name. @spec TLFS HV_PARTITION_ID */
export const isSelf = (lo: number, hi: number): boolean => lo === 0xffff_ffff && hi === 0xffff_ffff;
/** Status of a call that refuses other partitions as out of its reach, unless it is to say that there is no such partition. */
export const foreignStatus = ({ hv }: CallFrame): number => (hv.options.partitionIdStatus === 'byCall' ? HvStatus.AccessDenied : HvStatus.InvalidPartitionId);
