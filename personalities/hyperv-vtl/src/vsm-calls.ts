import { type HvCall, HV_VP_INDEX_SELF, HvCheckVtlAccessResult, HvEnablePartitionVtlFlags, HvInitialVpContext, HvMapGpaFlags, HvStatus } from '@vmplanes/abi-hyperv';
import { Activity, PAGE_LIMIT, type PlaneContext, PlaneId, type Vp } from '@vmplanes/engine';
import { Svr } from '@vmplanes/x86';
import { copyClock } from './new-vtl.ts';
import type { RepHandler, SimpleHandler } from './dispatcher/bind.ts';
import type { CallFrame } from './dispatcher/call-frame.ts';
import { isLegalContext, loadContext } from './initial-context.ts';
import { foreignStatus, inputVtl, isSelf, NO_VTL, plainVtl } from './input-vtl.ts';
import { isLegalMask, normalMask, ordered } from './page-rights.ts';
import { type HvContext, SwitchReason } from './ports.ts';

const { Success, InvalidParameter, AccessDenied, InvalidPartitionId, InvalidVpIndex, InvalidVpState, InvalidVtlState, InvalidRegisterValue } = HvStatus;
const { enableMbec } = HvEnablePartitionVtlFlags.mask;
const TWO_32 = 2 ** 32;
/** Access rights that a sparse check can ask for. */
const CHECKABLE = HvMapGpaFlags.mask.readable | HvMapGpaFlags.mask.writable | HvMapGpaFlags.mask.kernelExecutable | HvMapGpaFlags.mask.userExecutable;

const areZero = (bytes: Uint8Array, at: number, count: number): boolean => {
  for (let i = at; i < at + count; i++) if (bytes[i] !== 0) return false;
  return true;
};
const highest = (mask: number): number => 31 - Math.clz32(mask);

/** The VP that an index means, SELF first. @returns null when there is none. */
export const vpOf = (call: CallFrame, index: number): Vp | null => (index === HV_VP_INDEX_SELF ? call.vp : (call.hv.machine.vps[index] ?? null));

// -- enabling ----------------------------------------------------------------------------------------------------------

/** Enables a VTL for the partition; no VP changes. A higher one only by the VTL right below it. @spec TLFS HvCallEnablePartitionVtl */
export const enablePartitionVtl: SimpleHandler<typeof HvCall.EnablePartitionVtl> = (call, input) => {
  const { vsm } = call.hv.chapters;
  const { options } = call.hv;
  if (!isSelf(input.targetPartitionIdLo, input.targetPartitionIdHi)) return InvalidPartitionId;
  const { targetVtl: vtl, flags } = input;
  if (vtl === 0) return options.badVtlStatus;
  if (vtl > options.maximumVtl) return options.badVtlStatus;
  if ((vsm.enabledVtls & (1 << vtl)) !== 0) return options.partitionEnabledStatus;
  // Withdrawn by the paravisor.
  if (vtl > vsm.maximumVtlFor(call.vtl)) return AccessDenied;
  if ((flags & ~(options.mbec ? enableMbec : 0)) !== 0 || !areZero(input.bytes, input.reservedZAt, 6)) return InvalidParameter;
  if (call.vtl < vtl && call.vtl !== highest(vsm.enabledVtls & ((1 << vtl) - 1))) return AccessDenied;
  vsm.enable(vtl, (flags & enableMbec) !== 0);
  return Success;
};

/** Whether the caller may enable a VTL on a VP. @spec TLFS HvCallEnableVpVtl */
const mayEnable = (call: CallFrame, vp: Vp, vtl: number): boolean => {
  if (call.vtl >= vtl) return true;
  // Only the first VP that gets the VTL is enabled from below: itself, by the highest VTL it has.
  return vp === call.vp && call.vtl === highest(vp.existing) && !call.hv.machine.vps.some((each) => each.planes[vtl]);
};

/** Gives a VP a VTL, with the state of its first entry. The active VTL stays. @spec TLFS HvCallEnableVpVtl */
export const enableVpVtl: SimpleHandler<typeof HvCall.EnableVpVtl> = (call, input) => {
  const { hv } = call;
  const { machine, options } = hv;
  if (!isSelf(input.targetPartitionIdLo, input.targetPartitionIdHi)) return InvalidPartitionId;
  const vp = vpOf(call, input.vpIndex);
  if (vp === null) return InvalidVpIndex;
  const vtl = input.targetVtl;
  if (vtl === 0 || plainVtl(call, vtl) === NO_VTL || !areZero(input.bytes, input.reservedZAt, 3)) return InvalidParameter;
  if ((hv.chapters.vsm.enabledVtls & (1 << vtl)) === 0) return InvalidVtlState;
  if (!mayEnable(call, vp, vtl)) return AccessDenied;
  if (vp.planes[vtl]) return options.vpEnabledStatus;
  const context = HvInitialVpContext.read(input.data, input.vpContextAt);
  if (!isLegalContext(context, vtl, hv.arch.registers.features)) return InvalidRegisterValue;
  const plane = machine.createPlane(vp, PlaneId(vtl));
  loadContext(machine.arena, plane, context);
  copyClock(machine.arena, vp.plane(0), plane);
  if (options.vtl1ApicSwEnabled) hv.arch.apicOf(plane).writeSvr(Svr.enabled | Svr.vector);
  return Success;
};

/** VTL0 waits for its start, and so does whatever lies above it on a VP that never ran. */
const isStarted = (vp: Vp, target: PlaneContext): boolean => vp.plane(0).activity !== Activity.WaitForSipi || (target.plane !== 0 && vp.current !== 0);

/** What INIT does to a processor happens to one VTL, and what it waited for is over. @spec TLFS HvCallStartVirtualProcessor; openvmm vmm_core/virt_whp/src */
const restart = (hv: HvContext, target: PlaneContext): void => {
  hv.chapters.intercepts.release(target);
  target.wait = null;
  hv.arch.reset(target, 'init');
};

/**
 * Starts a VP with a full register state, in its highest VTL: a lower one then has its state when that VTL returns.
 * @spec TLFS HvCallStartVirtualProcessor
 */
export const startVirtualProcessor: SimpleHandler<typeof HvCall.StartVirtualProcessor> = (call, input) => {
  const { hv } = call;
  const { machine } = hv;
  if (!isSelf(input.targetPartitionIdLo, input.targetPartitionIdHi)) return InvalidPartitionId;
  const vp = vpOf(call, input.vpIndex);
  if (vp === null || vp === call.vp) return InvalidVpIndex;
  const vtl = input.targetVtl;
  if (plainVtl(call, vtl) === NO_VTL || !areZero(input.bytes, input.reservedZAt, 3)) return InvalidParameter;
  if (vtl > call.vtl) return AccessDenied;
  const target = vp.planes[vtl];
  if (!target) return InvalidVpState;
  if (hv.chapters.vsm.isStartupDenied(call.vtl)) return AccessDenied;
  const isRestart = isStarted(vp, target);
  if (isRestart && hv.options.startStartedVp === 'refuse') return InvalidVpState;
  const context = HvInitialVpContext.read(input.data, input.vpContextAt);
  if (!isLegalContext(context, vtl, hv.arch.registers.features)) return InvalidRegisterValue;
  machine.checks?.authorise(target);
  if (isRestart) restart(hv, target);
  loadContext(machine.arena, target, context);
  if (vtl === 0 || isRestart) {
    hv.arch.apicOf(target).latches.setWaitingForSipi(false);
    target.activity = Activity.Running;
    machine.eventsChanged(target);
  }
  const first = vp.plane(highest(vp.existing));
  if (first.plane !== vp.current) {
    // Shared registers that a restart has changed go along.
    if (isRestart) machine.checks?.authorise(first);
    machine.policy.switchTo(vp, first, 'runnable');
    machine.switchPlane(vp, first, SwitchReason.Start);
  }
  return Success;
};

// -- protections -------------------------------------------------------------------------------------------------------

/**
 * The VTL whose protections a call changes. Sources disagree whether the operand names the owner of a protection or who is restricted; with
 * two VTLs both mean the same.
 * @returns the owner, or a status with its sign reversed.
 */
const ownerOf = (call: CallFrame, raw: number): number => {
  const { vtlProtTarget, maximumVtl } = call.hv.options;
  const target = inputVtl(call, raw);
  if (target === NO_VTL) return -InvalidParameter;
  if (target > call.vtl) return -AccessDenied;
  const isNamed = (raw & 0x10) !== 0;
  if (vtlProtTarget === 'restricted') return isNamed && target === call.vtl ? -AccessDenied : call.vtl;
  if (vtlProtTarget === 'lenient' && maximumVtl === 1) return call.vtl;
  return target === 0 ? -InvalidParameter : target;
};

/** Changes what lower VTLs may do with pages. @spec TLFS HvCallModifyVtlProtectionMask */
export const modifyVtlProtectionMask: RepHandler<typeof HvCall.ModifyVtlProtectionMask> = {
  check: (call, input) => {
    const { vsm } = call.hv.chapters;
    if (!isSelf(input.targetPartitionIdLo, input.targetPartitionIdHi)) return foreignStatus(call);
    if (call.vtl === 0) return InvalidParameter;
    const owner = ownerOf(call, input.targetVtl);
    if (owner < 0) return -owner;
    if (!areZero(input.bytes, input.reservedZAt, 3)) return InvalidParameter;
    if ((vsm.enabledVtls & (1 << owner)) === 0) return InvalidVtlState;
    if (owner === call.vtl && !vsm.isProtecting(owner)) return AccessDenied;
    return isLegalMask(ordered(input.mapFlags, call.hv.options), vsm.isMbecBelow(owner), call.hv.options.strictExecBits) ? Success : InvalidRegisterValue;
  },
  element: (call, input, page) => {
    const { vsm, protections } = call.hv.chapters;
    const owner = ownerOf(call, input.targetVtl);
    return protections.modify(owner, page.hi * TWO_32 + page.lo, normalMask(ordered(input.mapFlags, call.hv.options), vsm.isMbecBelow(owner)));
  },
};

/** Tells which accesses of a lower VTL would be intercepted, and by whom. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const checkSparseGpaPageVtlAccess: RepHandler<typeof HvCall.CheckSparseGpaPageVtlAccess> = {
  check: (call, input) => {
    if (!isSelf(input.partitionIdLo, input.partitionIdHi)) return foreignStatus(call);
    if (call.vtl === 0) return AccessDenied;
    const vtl = inputVtl(call, input.inputVtl);
    if (vtl === NO_VTL || (input.desiredAccess & ~CHECKABLE) !== 0 || input.reserved0 !== 0 || input.reserved1 !== 0) return InvalidParameter;
    return vtl >= call.vtl ? AccessDenied : Success;
  },
  element: (call, input, page, output) => {
    const { protections } = call.hv.chapters;
    const gpn = page.hi * TWO_32 + page.lo;
    const vtl = inputVtl(call, input.inputVtl);
    const wanted = ordered(input.desiredAccess, call.hv.options);
    // Only memory is protected.
    const owner = gpn < PAGE_LIMIT && call.hv.machine.memory.slots.find(gpn) !== null ? protections.deniedBy(vtl, gpn, wanted) : -1;
    output.hi = 0;
    output.lo = owner < 0 ? HvCheckVtlAccessResult.Success : HvCheckVtlAccessResult.MemoryIntercept | (ordered(wanted & ~protections.rightsFrom(owner, gpn), call.hv.options) << 8) | (owner << 16);
    return Success;
  },
};
