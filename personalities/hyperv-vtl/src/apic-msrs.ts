import type { PlaneContext } from '@vmplanes/engine';
import { ApicMode, ApicReg, type LocalApic, writeMsr as writeApicMsr, writePage, X2APIC_MSR_BASE } from '@vmplanes/x86';
import type { HvContext } from './ports.ts';

// The local APIC through synthetic MSRs: the same registers as by page or x2APIC MSR, in either mode.
// @spec TLFS Virtual Interrupts, Local APIC MSR Accesses

const U32 = 0xffff_ffffn;
const ICR_X2APIC = X2APIC_MSR_BASE + (ApicReg.icr >>> 4);

/** Ends the interrupt in service; the value says nothing, and guests leave garbage in its upper half. */
export const writeEoi = (hv: HvContext, context: PlaneContext): void => {
  hv.arch.apicOf(context).eoi();
};

/** Interrupt command: the halves of the register. */
export const readIcr = (hv: HvContext, context: PlaneContext): bigint => {
  const { block } = hv.arch.apicOf(context);
  return (BigInt(block.get(ApicReg.icrHigh)) << 32n) | BigInt(block.get(ApicReg.icr));
};
/** Sends an interrupt command inside the VTL. @returns false when it is #GP. */
export const writeIcr = (hv: HvContext, context: PlaneContext, value: bigint): boolean => {
  const apic: LocalApic = hv.arch.apicOf(context);
  const low = Number(value & U32);
  const high = Number(value >> 32n);
  if (apic.mode === ApicMode.x2apic) return writeApicMsr(apic, ICR_X2APIC, low, high);
  if (apic.mode !== ApicMode.xapic) return false;
  writePage(apic, ApicReg.icrHigh, 4, high);
  writePage(apic, ApicReg.icr, 4, low);
  return true;
};

export const readTpr = (hv: HvContext, context: PlaneContext): bigint => BigInt(hv.arch.apicOf(context).tpr);
export const writeTpr = (hv: HvContext, context: PlaneContext, value: bigint): void => {
  hv.arch.apicOf(context).setTpr(Number(value));
};
