import { HvCall, HvFlushFlags, HvStatus } from '@vmplanes/abi-hyperv';
import { loWord } from '@vmplanes/binary';
import type { PlaneContext } from '@vmplanes/engine';
import type { RepHandler, SimpleHandler } from './dispatcher/bind.ts';
import type { CallFrame } from './dispatcher/call-frame.ts';
import { tlbLockKey } from './ports.ts';
import { holds } from './privileges.ts';
import { isTarget, targetAll, targetMask, targetSet } from './vp-set.ts';

/** Told of the flushes that guests ask for, by whatever keeps translations of a plane. */
export interface FlushPort {
  /** All translations of an address space. @param crLo, crHi - its CR3; null for every address space. */
  flushSpace(target: PlaneContext, crLo: number | null, crHi: number): void;
  /** Translations of `pages` pages of 4 KiB from a linear address on. */
  flushRange(target: PlaneContext, lo: number, hi: number, pages: number): void;
}

const flag = Object.fromEntries(Object.entries(HvFlushFlags.mask).map(([name, mask]) => [name, loWord(mask)])) as Readonly<Record<keyof typeof HvFlushFlags.fields, number>>;
const KNOWN = loWord(~HvFlushFlags.reservedMask);
const TARGET_SHIFT = HvFlushFlags.shift.targetVtl0;
const { Success, InvalidParameter, AccessDenied } = HvStatus;

/** What flush calls have in common: their flags. */
interface FlushInput {
  readonly flagsLo: number;
  readonly flagsHi: number;
}

/** The VTLs whose translations are meant, one bit each; a status with its sign reversed when the flags do not allow it. */
const vtlsOf = (call: CallFrame, flags: number): number => {
  if ((flags & flag.useTargetVtl) === 0) return 1 << call.vtl;
  const vtls = (flags >>> TARGET_SHIFT) & 3;
  if (vtls >>> (call.vtl + 1) !== 0) return -AccessDenied;
  return vtls === 0 ? -InvalidParameter : vtls;
};

/** Checks the flags; the targets of a set are taken already. */
const checkFlags = (call: CallFrame, { flagsLo, flagsHi }: FlushInput, isList: boolean): number => {
  if (flagsHi !== 0 || (flagsLo & ~KNOWN) !== 0) return InvalidParameter;
  if ((flagsLo & flag.useTargetVtl) === 0 && (flagsLo & (flag.targetVtl0 | flag.targetVtl1)) !== 0) return InvalidParameter;
  const isExtended = (flagsLo & flag.useExtendedRangeFormat) !== 0;
  return isExtended && !(isList && holds(call.hv.options, 'enableExtendedGvaRangesForFlushVirtualAddressList')) ? InvalidParameter : Success;
};

/**
 * Whether a higher VTL keeps the translations of a target in place: the caller then waits.
 * @returns a status, or `Special.Parked`.
 * @spec TLFS Virtual Secure Mode, protecting the TLB
 */
const waitForLocks = (call: CallFrame, vtls: number): number => {
  const { machine, chapters } = call.hv;
  for (const vp of machine.vps) {
    if (!isTarget(call, vp.index)) continue;
    for (let vtl = 0; vtls >>> vtl !== 0; vtl++) {
      if (((vtls >>> vtl) & 1) !== 0 && vp.planes[vtl] && chapters.vsm.isTlbLocked(vp, vtl)) return call.park(tlbLockKey(vp.index, vtl));
    }
  }
  return Success;
};

/** Everything before the flush itself. @param status - of finding the targets. */
const prepare = (call: CallFrame, input: FlushInput, isList: boolean, status: number): number => {
  const flags = checkFlags(call, input, isList);
  if (flags !== Success) return flags;
  if ((input.flagsLo & flag.allProcessors) !== 0) targetAll(call);
  else if (status !== Success) return status;
  const vtls = vtlsOf(call, input.flagsLo);
  return vtls < 0 ? -vtls : waitForLocks(call, vtls);
};

const maskTargets = (call: CallFrame, lo: number, hi: number): number => {
  // A mask without any VP is an error; one that names only VPs that do not exist has nothing to flush.
  if ((lo | hi) === 0) {
    targetMask(call, 0, 0);
    return InvalidParameter;
  }
  targetMask(call, lo, hi);
  return Success;
};

const forTargets = (call: CallFrame, flags: number, visit: (port: FlushPort, target: PlaneContext) => void): void => {
  const port = call.hv.chapters.hypercalls.flushPort;
  if (port === null) return;
  const vtls = vtlsOf(call, flags);
  for (const vp of call.hv.machine.vps) {
    if (!isTarget(call, vp.index)) continue;
    for (let vtl = 0; vtls >>> vtl !== 0; vtl++) {
      const target = vp.planes[vtl];
      if (target && ((vtls >>> vtl) & 1) !== 0) visit(port, target);
    }
  }
};

interface SpaceInput extends FlushInput {
  readonly addressSpaceLo: number;
  readonly addressSpaceHi: number;
}
const flushSpace = (call: CallFrame, { flagsLo, addressSpaceLo, addressSpaceHi }: SpaceInput): number => {
  const isAll = (flagsLo & flag.allVirtualAddressSpaces) !== 0;
  forTargets(call, flagsLo, (port, target) => port.flushSpace(target, isAll ? null : addressSpaceLo, addressSpaceHi));
  return Success;
};

const LARGE_PAGE = 1 << 11;
const PAGE_1G = 1 << 12;

/** One range of a list. @spec TLFS HvCallFlushVirtualAddressList; openvmm vm/hv1/hvdef/src/lib.rs (extended format) */
const flushRange = (call: CallFrame, { flagsLo }: FlushInput, { lo, hi }: { readonly lo: number; readonly hi: number }): number => {
  const isExtended = (flagsLo & flag.useExtendedRangeFormat) !== 0;
  const extra = lo & (isExtended ? 0x7ff : 0xfff);
  const size = isExtended && (lo & LARGE_PAGE) !== 0 ? ((lo & PAGE_1G) !== 0 ? 0x4_0000 : 0x200) : 1;
  const base = (lo & (size === 1 ? 0xffff_f000 : 0xffe0_0000)) >>> 0;
  forTargets(call, flagsLo, (port, target) => port.flushRange(target, base, hi, (extra + 1) * size));
  return Success;
};

/** @spec TLFS HvCallFlushVirtualAddressSpace */
export const flushVirtualAddressSpace: SimpleHandler<typeof HvCall.FlushVirtualAddressSpace> = (call, input) => {
  const status = prepare(call, input, false, maskTargets(call, input.processorMaskLo, input.processorMaskHi));
  return status === Success ? flushSpace(call, input) : status;
};

/** @spec TLFS HvCallFlushVirtualAddressSpaceEx */
export const flushVirtualAddressSpaceEx: SimpleHandler<typeof HvCall.FlushVirtualAddressSpaceEx> = (call, input) => {
  const status = prepare(call, input, false, setTargets(call, input.processorSetAt));
  return status === Success ? flushSpace(call, input) : status;
};

/** @spec TLFS HvCallFlushVirtualAddressList */
export const flushVirtualAddressList: RepHandler<typeof HvCall.FlushVirtualAddressList> = {
  check: (call, input) => prepare(call, input, true, maskTargets(call, input.processorMaskLo, input.processorMaskHi)),
  element: flushRange,
};

/** @spec TLFS HvCallFlushVirtualAddressListEx */
export const flushVirtualAddressListEx: RepHandler<typeof HvCall.FlushVirtualAddressListEx> = {
  check: (call, input) => prepare(call, input, true, setTargets(call, input.processorSetAt)),
  element: flushRange,
};

/** A set without any bank names no VP. */
function setTargets(call: CallFrame, at: number): number {
  const status = targetSet(call, at, 0);
  if (status !== Success) return status;
  const { words } = call.input;
  const isSparse = words[at >>> 2] === 0;
  return isSparse && call.units === 0 ? InvalidParameter : Success;
}

/** No nested guest has translations here: there is nothing to flush. @spec TLFS HvCallFlushGuestPhysicalAddressSpace */
export const flushGuestPhysicalAddressSpace: SimpleHandler<typeof HvCall.FlushGuestPhysicalAddressSpace> = (_call, input) => ((input.flagsLo | input.flagsHi) !== 0 ? InvalidParameter : Success);

/** @spec TLFS HvCallFlushGuestPhysicalAddressList */
export const flushGuestPhysicalAddressList: RepHandler<typeof HvCall.FlushGuestPhysicalAddressList> = {
  check: (_call, input) => ((input.flagsLo | input.flagsHi) !== 0 ? InvalidParameter : Success),
  element: () => Success,
};
