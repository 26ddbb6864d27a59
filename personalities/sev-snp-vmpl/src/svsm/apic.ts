import { ApicConfiguration, svsmApicRegisters, SvsmApicResult, SvsmApicVector, SvsmCallingArea, SvsmResult } from '@vmplanes/abi-svsm';
import { type LocalApic, readMsr, writeMsr } from '@vmplanes/x86';
import type { SvsmFrame } from './frame.ts';
import type { SvsmHandler } from './handler.ts';
import type { SvsmProvider } from './provider.ts';

const { Success, InvalidAddress, InvalidParameter } = SvsmResult;
/** Most registrations. @spec coconut-svsm kernel/src/cpu/apic.rs */
const REGISTRATIONS = 0xffff_ffff;
const Eoi = 0x80b;
const Icr = 0x830;
/** ICR bits of x2APIC mode without reserved ones. @spec SDM 3A §10.12.9 */
const ICR_DEFINED_LO = 0x000c_cfff;
const DELIVERY_FIXED = 0;
const DELIVERY_NMI = 4;

const word = new Uint32Array(2);
const apicOf = (p: SvsmProvider, call: SvsmFrame): LocalApic => p.snp.arch.apicOf(call.guest.context);
/** An argument that is no MSR number is none that is offered. */
const registerOf = (value: bigint): (typeof svsmApicRegisters)[number] | undefined => svsmApicRegisters.find(({ from, to }) => value >= BigInt(from) && value <= BigInt(to));

/** SVSM_APIC_QUERY_FEATURES. @spec coconut-svsm kernel/src/protocols/apic.rs */
export const apicQueryFeatures: SvsmHandler = (_p, call) => {
  call.rcx = 0n;
  return Success;
};

/** SVSM_APIC_CONFIGURE: emulation is on while someone is registered. @spec coconut-svsm kernel/src/protocols/apic.rs */
export const apicConfigure: SvsmHandler = (p, call) => {
  const { apics } = p;
  switch (call.rcx) {
    case BigInt(ApicConfiguration.Follow):
      break;
    case BigInt(ApicConfiguration.Deregister):
      if (apics.registrations > 0) apics.registrations--;
      break;
    case BigInt(ApicConfiguration.Register):
      if (apics.registrations === 0 || apics.registrations >= REGISTRATIONS) return SvsmApicResult.CannotRegister;
      apics.registrations++;
      return Success;
    default:
      return InvalidParameter;
  }
  if (apics.registrations === 0) call.cpu.hasApic = false;
  return Success;
};

/** SVSM_APIC_READ_REGISTER. @spec coconut-svsm kernel/src/protocols/apic.rs */
export const apicReadRegister: SvsmHandler = (p, call) => {
  const register = registerOf(call.rcx);
  if (!register) return InvalidAddress;
  if (!register.read || !readMsr(apicOf(p, call), Number(call.rcx), word)) return InvalidParameter;
  call.rdx = (BigInt(word[1]!) << 32n) | BigInt(word[0]!);
  return Success;
};

/** SVSM_APIC_WRITE_REGISTER. @spec coconut-svsm kernel/src/protocols/apic.rs */
export const apicWriteRegister: SvsmHandler = (p, call) => {
  const register = registerOf(call.rcx);
  if (!register) return InvalidAddress;
  const lo = Number(call.rdx & 0xffff_ffffn);
  const hi = Number(call.rdx >> 32n);
  if (!register.write) return InvalidParameter;
  if (register.from === Eoi) {
    if (call.rdx !== 0n) return InvalidParameter;
    // The guest may have been told that this EOI is not needed.
    call.cpu.owesEoi = false;
    if (call.cpu.area >= 0) p.pages.writeHead(call.cpu.area, SvsmCallingArea.at.noEoiRequired, 0);
  }
  const mode = (lo >>> 8) & 7;
  if (register.from === Icr && ((lo & ~ICR_DEFINED_LO) !== 0 || (mode !== DELIVERY_FIXED && mode !== DELIVERY_NMI))) return InvalidParameter;
  if (!writeMsr(apicOf(p, call), Number(call.rcx), lo, hi)) return InvalidParameter;
  p.machine.eventsChanged(call.guest.context);
  return Success;
};

/** SVSM_APIC_CONFIGURE_VECTOR: which vectors the host may inject. @spec coconut-svsm kernel/src/protocols/apic.rs */
export const apicConfigureVector: SvsmHandler = (p, call) => {
  const { vector, enable, all, reserved10 } = SvsmApicVector.unpack(call.rcx);
  if (reserved10 !== 0n) return InvalidParameter;
  p.apics.allow(call.vp.index, all ? 31 : vector, all ? 255 : vector, enable);
  return Success;
};
