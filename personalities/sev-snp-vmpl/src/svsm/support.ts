import { svsmApicRegisters, svsmProtocolNames, SvsmProtocol, svsmCallOf } from '@vmplanes/abi-svsm';
import { hex } from '@vmplanes/binary';
import type { SupportRow } from '@vmplanes/engine';
import { svsmDeviations } from '../options.ts';
import { bindings } from './calls.ts';

/** What a served call leaves out. */
const limits = new Map<string, string>([
  ['SVSM_CORE_CONFIGURE_VTOM', 'the query; a virtual top of memory is not set through it'],
  ['SVSM_VTPM_QUERY', 'with the option vtpm'],
  ['SVSM_VTPM_CMD', 'TPM_SEND_COMMAND, with the option vtpm: a TPM of the host answers'],
]);
const noteOf = (name: string, protocol: number): string | undefined => limits.get(name) ?? (protocol === SvsmProtocol.Apic ? 'with the option svsmApic' : undefined);

/** Calls of the SVSM, the registers of its APIC protocol, and its deviations, printed from the tables that the behaviour is bound to. */
export const svsmSupport: readonly SupportRow[] = [
  ...bindings.map(({ call, reason }): SupportRow => {
    const note = reason ?? noteOf(call.name, call.protocol);
    return { kind: `SVSM ${svsmProtocolNames[call.protocol]}`, name: call.name, code: `${call.protocol}.${call.number}`, spec: svsmCallOf(call.protocol, call.number)!.spec, support: reason === undefined ? 'yes' : 'no', ...(note === undefined ? {} : { note }) };
  }),
  ...svsmApicRegisters.map(({ name, from, to, read, write, spec }): SupportRow => ({
    kind: 'SVSM APIC register', name, code: from === to ? hex(from) : `${hex(from)}..${hex(to)}`, spec, support: 'yes', note: `${read ? 'read' : ''}${read && write ? ', ' : ''}${write ? 'write' : ''}`,
  })),
  ...Object.entries(svsmDeviations).map(([name, about]): SupportRow => ({ kind: 'SVSM deviation', name, code: 'option svsmDeviations', spec: 'coconut-svsm f4bc4bc', support: 'yes', note: about })),
];
