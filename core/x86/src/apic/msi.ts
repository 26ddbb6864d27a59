import { DeliveryMode } from './icr.ts';
import { type ApicMessage, type InterruptRouter, newMessage } from './ipi.ts';

/** Address window of interrupt messages: bits 31:20 of the address. @spec SDM 3A §10.11.1 */
export const MSI_ADDRESS_PREFIX = 0xfee;

/** True for a DMA write that is an interrupt message and not a memory access. @spec SDM 3A §10.11.1 */
export const isMsiAddress = (addressLow: number, addressHigh: number): boolean => addressHigh === 0 && addressLow >>> 20 === MSI_ADDRESS_PREFIX;

/** With 32-bit ids the low byte of the high address word must be zero. @spec Linux Documentation/virt/kvm/api.rst KVM_CAP_X2APIC_API */
export const isValidMsi = (addressHigh: number, hasWideIds: boolean): boolean => !hasWideIds || (addressHigh & 0xff) === 0;

/**
 * Decodes an MSI into a message record.
 * @param hasWideIds - bits 31:8 of the high address word are bits 31:8 of the destination.
 * @spec SDM 3A §10.11.1, §10.11.2; Linux Documentation/virt/kvm/api.rst KVM_CAP_X2APIC_API
 */
export const decodeMsi = (addressLow: number, addressHigh: number, data: number, hasWideIds: boolean, out: ApicMessage): void => {
  const low = (addressLow >>> 12) & 0xff;
  out.mode = ((data >>> 8) & 7) as DeliveryMode;
  out.destination = hasWideIds ? ((addressHigh & 0xffff_ff00) | low) >>> 0 : low;
  // A destination that fits 8 bits means the same in both widths, 0xff included: broadcast.
  out.isWide = out.destination > 0xff;
  out.isLogical = (addressLow & 4) !== 0;
  out.vector = data & 0xff;
  // An MSI is one write: there is no later write that would take the level back.
  out.isAssert = true;
  out.isLevel = (data & 0x8000) !== 0;
  out.isArbitrated = out.mode === DeliveryMode.lowestPriority || (addressLow & 8) !== 0;
};

/** Error of an invalid route, as the facade reports it. */
export const EINVAL = 22;

/** What decides on the result of {@link signalMsiResult}. */
export interface MsiSignal {
  /** The machine has local APICs in the kernel. */
  readonly hasIrqchip: boolean;
  /** Flag bits outside of the known ones are set. */
  readonly hasUnknownFlags: boolean;
  readonly isValidRoute: boolean;
  readonly planeExists: boolean;
  /** APICs of the target plane that match. */
  readonly matched: number;
  /** Matching APICs that took it as a new request. */
  readonly took: number;
}

/**
 * Result of KVM_SIGNAL_MSI: negative errno, -1 without a destination, 0 when every match dropped it, else how many took it.
 * @spec Linux Documentation/virt/kvm/api.rst §4.70; LKML 20250401 RFC KVM planes 09/29, 20/29
 */
export const signalMsiResult = (s: MsiSignal): number => {
  if (!s.hasIrqchip || s.hasUnknownFlags || !s.isValidRoute || !s.planeExists) return -EINVAL;
  return s.matched === 0 ? -1 : s.took;
};

const scratch = newMessage();

/**
 * Sends an MSI to a plane whose existence and in-kernel APICs the caller has checked.
 * @returns as {@link signalMsiResult}.
 */
export const sendMsi = (router: InterruptRouter, plane: number, addressLow: number, addressHigh: number, data: number, hasWideIds: boolean): number => {
  if (!isValidMsi(addressHigh, hasWideIds)) return -EINVAL;
  decodeMsi(addressLow, addressHigh, data, hasWideIds, scratch);
  return router.sendMessage(plane, scratch);
};
