import { bits } from '@vmplanes/binary';
import { call, type SvsmCall } from '../call.ts';
import { SvsmProtocol } from '../protocols.ts';

const { Apic } = SvsmProtocol;
const SPEC = 'coconut-svsm kernel/src/protocols/apic.rs';
const REGISTERS = 'coconut-svsm kernel/src/cpu/apic.rs';

/** What SVSM_APIC_CONFIGURE asks for. @spec coconut-svsm kernel/src/protocols/apic.rs */
export const ApicConfiguration = { Follow: 0, Deregister: 1, Register: 2 } as const;

/** Argument of SVSM_APIC_CONFIGURE_VECTOR. @spec coconut-svsm kernel/src/protocols/apic.rs */
export const SvsmApicVector = bits('SvsmApicVector', SPEC, 64, { vector: [0, 8], enable: 8, all: [9, 'vectors from 31 on'], reserved10: [10, 54] });

/** A register that the protocol offers: x2APIC MSR numbers `from` to `to`. */
export interface SvsmApicRegister {
  readonly name: string;
  readonly from: number;
  readonly to: number;
  readonly read: boolean;
  readonly write: boolean;
  readonly spec: string;
}
const register = (name: string, from: number, access: 'r' | 'w' | 'rw', to = from): SvsmApicRegister => ({ name, from, to, read: access !== 'w', write: access !== 'r', spec: REGISTERS });
/** Registers of the emulated APIC. @spec coconut-svsm kernel/src/cpu/apic.rs */
export const svsmApicRegisters: readonly SvsmApicRegister[] = [
  register('ID', 0x802, 'r'),
  register('TPR', 0x808, 'rw'),
  register('PPR', 0x80a, 'r'),
  register('EOI', 0x80b, 'w'),
  register('LDR', 0x80d, 'r'),
  register('ISR', 0x810, 'r', 0x817),
  register('TMR', 0x818, 'r', 0x81f),
  register('IRR', 0x820, 'r', 0x827),
  register('ICR', 0x830, 'rw'),
  register('SELF_IPI', 0x83f, 'w'),
];

/** Calls of the APIC protocol. @spec coconut-svsm kernel/src/protocols/apic.rs */
export const ApicCall = {
  QueryFeatures: call('SVSM_APIC_QUERY_FEATURES', Apic, { number: 0, spec: SPEC, output: { rcx: '0' } }),
  Configure: call('SVSM_APIC_CONFIGURE', Apic, { number: 1, spec: SPEC, input: { rcx: 'ApicConfiguration' }, results: ['InvalidParameter', 'CannotRegister'] }),
  ReadRegister: call('SVSM_APIC_READ_REGISTER', Apic, { number: 2, spec: SPEC, input: { rcx: 'x2APIC MSR' }, output: { rdx: 'value' }, results: ['InvalidParameter', 'InvalidAddress'] }),
  WriteRegister: call('SVSM_APIC_WRITE_REGISTER', Apic, { number: 3, spec: SPEC, input: { rcx: 'x2APIC MSR', rdx: 'value' }, results: ['InvalidParameter', 'InvalidAddress'] }),
  ConfigureVector: call('SVSM_APIC_CONFIGURE_VECTOR', Apic, { number: 4, spec: SPEC, input: { rcx: 'SvsmApicVector' }, results: ['InvalidParameter'] }),
} as const satisfies Readonly<Record<string, SvsmCall>>;
