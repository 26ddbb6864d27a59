import { HvCall, HvDeviceInterruptTargetFlags, HvInputRetargetDeviceInterrupt, HvInterruptSource, HvInterruptType, HvStatus } from '@vmplanes/abi-hyperv';
import { u64 } from '@vmplanes/binary';
import type { PlainState } from '@vmplanes/engine';
import { DeliveryMode, encodeMessage } from '@vmplanes/x86';
import type { RepHandler, SimpleHandler } from './dispatcher/bind.ts';
import type { CallFrame } from './dispatcher/call-frame.ts';
import { foreignStatus, inputVtl, isSelf, NO_VTL, plainVtl } from './input-vtl.ts';
import type { HvContext } from './ports.ts';
import { targetMask, targetSet } from './vp-set.ts';

const { Success, InvalidParameter, AccessDenied, InvalidPartitionId, InvalidVtlState, InvalidDeviceId, FeatureUnavailable } = HvStatus;
const FIRST_VECTOR = 0x10;
const LAST_VECTOR = 0xff;

// -- AssertVirtualInterrupt --------------------------------------------------------------------------------------------

/** An interrupt of a higher VTL into a lower one: fixed or NMI, to one APIC id. @spec TLFS HvCallAssertVirtualInterrupt */
export const assertVirtualInterrupt: SimpleHandler<typeof HvCall.AssertVirtualInterrupt> = (call, input) => {
  if (!isSelf(input.partitionIdLo, input.partitionIdHi)) return foreignStatus(call);
  if (input.reserved0 !== 0 || input.reserved1 !== 0) return InvalidParameter;
  const vtl = plainVtl(call, input.targetVtl);
  if (vtl === NO_VTL) return InvalidParameter;
  if (vtl >= call.vtl) return AccessDenied;
  const type = input.interruptControlLo;
  // Level-triggered and logical interrupts are those of devices.
  if ((type !== HvInterruptType.Fixed && type !== HvInterruptType.Nmi) || input.interruptControlHi !== 0) return InvalidParameter;
  const isNmi = type === HvInterruptType.Nmi;
  const vector = input.requestedVector;
  if (!isNmi && (vector < FIRST_VECTOR || vector > LAST_VECTOR)) return InvalidParameter;
  const vp = input.destinationAddressHi === 0 ? vpOfApicId(call.hv, input.destinationAddressLo) : -1;
  if (vp < 0) return InvalidParameter;
  const { machine } = call.hv;
  if (!machine.vps[vp]!.planes[vtl]) return InvalidVtlState;
  machine.send(vp, vtl, encodeMessage(isNmi ? DeliveryMode.nmi : DeliveryMode.fixed, isNmi ? 0 : vector, true, false), 0);
  return Success;
};

// -- GetVpIndexFromApicId ----------------------------------------------------------------------------------------------

/** VP index of an APIC id: the two are different things. @returns -1 when no VP has it. */
export const vpOfApicId = ({ machine, arch }: HvContext, id: number): number => {
  for (let i = 0; i < machine.vps.length; i++) if (arch.fabric.apicId(i) === id) return i;
  return -1;
};

const USE_TARGET = 0x10;
/** The operand is a plain number in the specification and an HV_INPUT_VTL in its users; both write 0 for VTL0. */
const indexVtl = (call: CallFrame, raw: number): number => ((raw & USE_TARGET) !== 0 ? inputVtl(call, raw) : plainVtl(call, raw));

const checkIndex = (call: CallFrame, input: { readonly partitionIdLo: number; readonly partitionIdHi: number; readonly targetVtl: number }): number => {
  if (!isSelf(input.partitionIdLo, input.partitionIdHi)) return InvalidPartitionId;
  const vtl = indexVtl(call, input.targetVtl);
  if (vtl === NO_VTL) return InvalidParameter;
  return vtl > call.vtl ? AccessDenied : Success;
};

/** @returns the VP index, or a status with its sign reversed. */
const indexOf = (call: CallFrame, targetVtl: number, id: number): number => {
  const vp = vpOfApicId(call.hv, id);
  if (vp < 0) return -InvalidParameter;
  return call.hv.machine.vps[vp]!.planes[indexVtl(call, targetVtl)] ? vp : -InvalidVtlState;
};

/** A VP without the VTL has no index there: the element fails. @spec TLFS HvCallGetVpIndexFromApicId */
export const getVpIndexFromApicId: RepHandler<typeof HvCall.GetVpIndexFromApicId> = {
  check: checkIndex,
  element: (call, input, element, output) => {
    const vp = indexOf(call, input.targetVtl, element.value);
    if (vp < 0) return -vp;
    output.value = vp;
    return Success;
  },
};

/** The call as its table has it: elements of 8 bytes, each with 4 of padding. */
export const GetVpIndexFromApicIdWide = Object.freeze({ ...HvCall.GetVpIndexFromApicId, element: u64, outputElement: u64 });

/** The same with elements of 8 bytes. @spec TLFS HvCallGetVpIndexFromApicId */
export const getVpIndexFromApicIdWide: RepHandler<typeof GetVpIndexFromApicIdWide> = {
  check: checkIndex,
  element: (call, input, element, output) => {
    const vp = indexOf(call, input.targetVtl, element.lo);
    if (vp < 0) return -vp;
    output.lo = vp;
    return Success;
  },
};

// -- RetargetDeviceInterrupt -------------------------------------------------------------------------------------------

/** Where the interrupts of one device entry go. */
interface DeviceRoute {
  readonly vector: number;
  readonly targetsLo: number;
  readonly targetsHi: number;
  readonly multicast: boolean;
}

const routeKey = (deviceLo: number, deviceHi: number, address: number, data: number): string => [deviceHi, deviceLo, address, data].map((n) => (n >>> 0).toString(16)).join(':');

/** Targets of device interrupts as guests set them. Devices have the rights of VTL0, and so do their interrupts. @spec TLFS HvCallRetargetDeviceInterrupt */
export class DeviceInterrupts {
  readonly #hv: HvContext;
  #routes = new Map<string, DeviceRoute>();

  constructor(hv: HvContext) {
    this.#hv = hv;
  }

  retarget(deviceLo: number, deviceHi: number, address: number, data: number, route: DeviceRoute): void {
    this.#routes.set(routeKey(deviceLo, deviceHi, address, data), route);
  }

  /** An interrupt of a device. @returns whether a guest has set where it goes; it was then sent. */
  signal(deviceLo: number, deviceHi: number, address: number, data: number): boolean {
    const route = this.#routes.get(routeKey(deviceLo, deviceHi, address, data));
    if (route === undefined) return false;
    const message = encodeMessage(DeliveryMode.fixed, route.vector, true, false);
    for (let vp = 0; vp < this.#hv.machine.vps.length; vp++) {
      if ((((vp < 32 ? route.targetsLo : route.targetsHi) >>> (vp % 32)) & 1) === 0) continue;
      this.#hv.machine.send(vp, 0, message, 0);
      if (!route.multicast) break;
    }
    return true;
  }

  reset(): void {
    this.#routes.clear();
  }
  save(): PlainState {
    return [...this.#routes].map(([key, route]) => ({ key, route }));
  }
  restore(state: PlainState): void {
    this.#routes = new Map((state as readonly { readonly key: string; readonly route: DeviceRoute }[]).map(({ key, route }) => [key, route]));
  }
}

const { multicast, processorSet, proxyRedirect } = HvDeviceInterruptTargetFlags.mask;
/** Byte of the input where the format of a set lies; its mask is the first unit of the variable header, right behind. */
const FORMAT_AT = HvInputRetargetDeviceInterrupt.at.maskOrFormat;
const FIRST_BANK = 1;

/** @spec TLFS HvCallRetargetDeviceInterrupt */
export const retargetDeviceInterrupt: SimpleHandler<typeof HvCall.RetargetDeviceInterrupt> = (call, input) => {
  const { options, chapters } = call.hv;
  if (!isSelf(input.partitionIdLo, input.partitionIdHi)) return InvalidPartitionId;
  if (input.deviceIdHi !== 0 || !options.devices.includes(input.deviceIdLo)) return InvalidDeviceId;
  const entry = input.interruptEntryAt >>> 2;
  const source = input.words[entry];
  if (source !== HvInterruptSource.Msi && source !== HvInterruptSource.IoApic) return InvalidParameter;
  if (input.targetVector < FIRST_VECTOR || input.targetVector > LAST_VECTOR) return InvalidParameter;
  const flags = input.targetFlags;
  if ((flags & proxyRedirect) !== 0) return FeatureUnavailable;
  if ((flags & ~(multicast | processorSet)) !== 0) return InvalidParameter;
  if ((flags & processorSet) !== 0) {

    const status = targetSet(call, FORMAT_AT, FIRST_BANK);
    if (status !== Success) return status;
  } else targetMask(call, input.maskOrFormatLo, input.maskOrFormatHi);
  const { targetsLo, targetsHi } = call;
  if ((targetsLo | targetsHi) === 0) return InvalidParameter;
  chapters.hypercalls.devices.retarget(input.deviceIdLo, input.deviceIdHi, input.words[entry + 2]!, input.words[entry + 3]!, { vector: input.targetVector, targetsLo, targetsHi, multicast: (flags & multicast) !== 0 });
  return Success;
};


