import { ApicMode, x2apicLogicalId } from './apic-base.ts';
import { APIC_IMAGE_BYTES } from './block.ts';
import { ApicEvent, ApicReset, discardPending, tally } from './counters.ts';
import { TimerMode } from './icr.ts';
import type { LocalApic } from './local-apic.ts';
import { ApicReg } from './registers.ts';

/**
 * The register page in the form of KVM_GET_LAPIC: 1 KiB, register n at n * 16, with priorities and count computed.
 * @param hasWideIds - KVM_X2APIC_API_USE_32BIT_IDS: an x2APIC id is stored as it is; otherwise its low byte in bits 31:24.
 * @spec Linux Documentation/virt/kvm/api.rst §4.57
 */
export const toKvmImage = (apic: LocalApic, hasWideIds: boolean): Uint8Array => {
  const { arena, at } = apic.block;
  const count = apic.timer.currentCount();
  const image = arena.u8.slice(at, at + APIC_IMAGE_BYTES);
  const view = new DataView(image.buffer);
  view.setUint32(ApicReg.ppr, apic.ppr(), true);
  view.setUint32(ApicReg.currentCount, count, true);
  if (apic.mode === ApicMode.x2apic && !hasWideIds) view.setUint32(ApicReg.id, apic.id << 24, true);
  return image;
};

/**
 * Loads a register page in the form of KVM_SET_LAPIC. IA32_APIC_BASE must have been set before, since the mode decides
 * how the id is read. A running count goes on from the current count of the image; the TSC deadline is not part of it. Whatever is requested in the image is announced, so that a sleeping processor sees it.
 * @returns false when the size is wrong or the id is not the one of this APIC (EINVAL); nothing changed then.
 * @spec Linux Documentation/virt/kvm/api.rst §4.58
 */
export const fromKvmImage = (apic: LocalApic, image: Uint8Array, hasWideIds: boolean): boolean => {
  if (image.length !== APIC_IMAGE_BYTES) return false;
  const { block } = apic;
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  const isX2apic = apic.mode === ApicMode.x2apic;
  if (isX2apic && hasWideIds && view.getUint32(ApicReg.id, true) !== apic.initialId) return false;
  apic.timer.settle();
  discardPending(block, ApicEvent.interrupt, ApicReset.load);
  const version = block.get(ApicReg.version);
  for (let offset = 0; offset < APIC_IMAGE_BYTES; offset += 16) block.set(offset, view.getUint32(offset, true));
  block.set(ApicReg.version, version);
  // Vectors below 16 cannot be requested or in service.
  for (const register of [ApicReg.irr, ApicReg.isr, ApicReg.tmr]) block.set(register, block.get(register) & 0xffff_0000);
  tally(block, ApicEvent.interrupt, 'accepted', block.count(ApicReg.irr));
  if (isX2apic) {
    block.set(ApicReg.id, apic.initialId);
    block.set(ApicReg.ldr, x2apicLogicalId(apic.initialId));
  }
  if (apic.timer.mode === TimerMode.tscDeadline) {
    apic.timer.tscChanged();
  } else {
    apic.timer.stop();
    apic.timer.start(view.getUint32(ApicReg.currentCount, true));
  }
  apic.restored();
  return true;
};
