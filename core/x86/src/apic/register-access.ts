import { ApicMode } from './apic-base.ts';
import { ApicFlag, Extra } from './block.ts';
import { DeliveryMode, icrMode, icrVector } from './icr.ts';
import type { LocalApic } from './local-apic.ts';
import { arbitrationPriority } from './priority.ts';
import {
  ApicReg,
  CAN_READ,
  CAN_WRITE,
  Esr,
  Lvt,
  MSR_APIC_BASE,
  MSR_TSC_DEADLINE,
  X2APIC_MSR_BASE,
  X2APIC_MSR_COUNT,
} from './registers.ts';

/** True for an MSR that the local APIC serves: IA32_APIC_BASE, IA32_TSC_DEADLINE and the x2APIC range. */
export const isApicMsr = (msr: number): boolean =>
  (msr >= X2APIC_MSR_BASE && msr < X2APIC_MSR_BASE + X2APIC_MSR_COUNT) || msr === MSR_APIC_BASE || msr === MSR_TSC_DEADLINE;

/**
 * Reads the register page. Registers are 32 bits wide at 16-byte steps; the 12 bytes between them read as zero.
 * @param offset - byte offset in the page.
 * @param size - 1, 2 or 4 bytes.
 * @spec SDM 3A §10.4.1
 */
export const readPage = (apic: LocalApic, offset: number, size: number): number => {
  const byte = offset & 15;
  if (byte + size > 4) return 0;
  const slot = offset >>> 4;
  const access = apic.rules.xapic[slot] ?? 0;
  if (access === 0) {
    apic.logError(Esr.illegalRegister);
    return 0;
  }
  if ((access & CAN_READ) === 0) return 0;
  const value = readRegister(apic, slot << 4) >>> (byte * 8);
  return size === 4 ? value : value & ((1 << (size * 8)) - 1);
};

/**
 * Writes the register page. Only an aligned write of a whole register has an effect; reserved bits are ignored.
 * @param offset - byte offset in the page.
 * @param size - 1, 2 or 4 bytes.
 * @spec SDM 3A §10.4.1
 */
export const writePage = (apic: LocalApic, offset: number, size: number, value: number): void => {
  if (size !== 4 || (offset & 15) !== 0) return;
  const slot = offset >>> 4;
  const access = apic.rules.xapic[slot] ?? 0;
  if (access === 0) apic.logError(Esr.illegalRegister);
  else if ((access & CAN_WRITE) !== 0) writeRegister(apic, slot << 4, (value & apic.rules.writable[slot]!) >>> 0, 0);
};

/**
 * RDMSR of an APIC register.
 * @param out - receives the low and the high word.
 * @returns false when the read is #GP.
 * @spec SDM 3A §10.12.1.2
 */
export const readMsr = (apic: LocalApic, msr: number, out: Uint32Array): boolean => {
  out[1] = 0;
  if (msr === MSR_APIC_BASE) {
    out[0] = apic.block.get(Extra.baseLow);
    out[1] = apic.block.get(Extra.baseHigh);
    return true;
  }
  if (msr === MSR_TSC_DEADLINE) {
    if (!apic.config.tscDeadline) return false;
    apic.timer.settle();
    out[0] = apic.block.get(Extra.tscDeadlineLow);
    out[1] = apic.block.get(Extra.tscDeadlineHigh);
    return true;
  }
  const slot = msr - X2APIC_MSR_BASE;
  if (apic.mode !== ApicMode.x2apic || ((apic.rules.x2apic[slot] ?? 0) & CAN_READ) === 0) return false;
  out[0] = readRegister(apic, slot << 4);
  if (slot << 4 === ApicReg.icr) out[1] = apic.block.get(ApicReg.icrHigh);
  return true;
};

/**
 * WRMSR of an APIC register.
 * @returns false when the write is #GP: wrong mode, unknown or read-only register, reserved bit; nothing changed then.
 * @spec SDM 3A §10.12.1.2, §10.12.1.3
 */
export const writeMsr = (apic: LocalApic, msr: number, low: number, high: number): boolean => {
  if (msr === MSR_APIC_BASE) return apic.writeApicBase(low, high);
  if (msr === MSR_TSC_DEADLINE) {
    if (!apic.config.tscDeadline) return false;
    apic.timer.writeTscDeadline(low, high);
    apic.port.changed(apic);
    return true;
  }
  const slot = msr - X2APIC_MSR_BASE;
  if (apic.mode !== ApicMode.x2apic || ((apic.rules.x2apic[slot] ?? 0) & CAN_WRITE) === 0) return false;
  const offset = slot << 4;
  if ((low & apic.rules.reserved[slot]!) !== 0 || (high !== 0 && offset !== ApicReg.icr)) return false;
  writeRegister(apic, offset, (low & apic.rules.writable[slot]!) >>> 0, high);
  return true;
};

/** Reads a register that exists and can be read. */
const readRegister = (apic: LocalApic, offset: number): number => {
  switch (offset) {
    case ApicReg.ppr:
      return apic.ppr();
    case ApicReg.apr:
      return arbitrationPriority(apic.block);
    case ApicReg.currentCount:
      return apic.timer.currentCount();
    default:
      return apic.block.get(offset);
  }
};

/** Writes a register that exists and can be written. @param value - 32 bits without sign, reserved bits removed. */
const writeRegister = (apic: LocalApic, offset: number, value: number, high: number): void => {
  switch (offset) {
    case ApicReg.tpr:
      apic.setTpr(value);
      return;
    case ApicReg.eoi:
      apic.eoi();
      return;
    case ApicReg.svr:
      apic.writeSvr(value);
      return;
    case ApicReg.id:
    case ApicReg.ldr:
      apic.block.set(offset, value);
      apic.port.mapChanged(apic);
      return;
    case ApicReg.dfr:
      apic.block.set(offset, value | 0x0fff_ffff);
      apic.port.mapChanged(apic);
      return;
    case ApicReg.esr:
      // The write shows what was collected since the last one and arms the error interrupt again.
      apic.block.set(ApicReg.esr, apic.block.get(Extra.errors));
      apic.block.set(Extra.errors, 0);
      apic.block.clear(ApicFlag.errorDisarmed);
      return;
    case ApicReg.icr:
      writeCommand(apic, value, high);
      return;
    case ApicReg.selfIpi:
      apic.acceptVector(value, false);
      return;
    case ApicReg.initialCount:
      apic.timer.writeInitialCount(value);
      break;
    case ApicReg.divide:
      apic.timer.writeDivide(value);
      break;
    case ApicReg.lvtTimer:
      apic.timer.writeLvt(maskedIfDisabled(apic, value));
      break;
    case ApicReg.lvtLint0:
    case ApicReg.lvtLint1:
      apic.vectors.writePinEntry(offset, maskedIfDisabled(apic, value));
      break;
    case ApicReg.lvtThermal:
    case ApicReg.lvtPerf:
    case ApicReg.lvtError:
    case ApicReg.lvtCmci:
      apic.block.set(offset, maskedIfDisabled(apic, value));
      break;
    default:
      apic.block.set(offset, value);
      return;
  }
  apic.port.changed(apic);
};

/** While the APIC is software-disabled the mask bits cannot be cleared. @spec SDM 3A §10.4.7.2 */
const maskedIfDisabled = (apic: LocalApic, entry: number): number => (apic.isSoftwareEnabled ? entry : entry | Lvt.masked);

/**
 * Stores an interrupt command and sends it. The message goes out whatever the software enable says.
 * @spec SDM 3A §10.6.1, §10.5.3, §10.12.9
 */
const writeCommand = (apic: LocalApic, low: number, high: number): void => {
  const isWide = apic.mode === ApicMode.x2apic;
  apic.block.set(ApicReg.icr, low);
  if (isWide) apic.block.set(ApicReg.icrHigh, high);
  const mode = icrMode(low);
  if (mode === DeliveryMode.reserved || mode === DeliveryMode.extInt) return;
  if ((mode === DeliveryMode.fixed || mode === DeliveryMode.lowestPriority) && icrVector(low) < 16) {
    apic.logError(Esr.sendIllegalVector);
    return;
  }
  apic.port.sendIpi(apic, low, isWide ? high >>> 0 : apic.block.get(ApicReg.icrHigh) >>> 24);
};
