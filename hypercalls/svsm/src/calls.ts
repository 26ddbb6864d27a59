import type { SvsmCall } from './call.ts';
import { svsmProtocolNames } from './protocols.ts';
import { ApicCall } from './protocols/apic.ts';
import { AttestationCall } from './protocols/attestation.ts';
import { CoreCall } from './protocols/core.ts';
import { UefiMmCall } from './protocols/uefi-mm.ts';
import { VtpmCall } from './protocols/vtpm.ts';

/** Every declared call by protocol, then by number. */
export const SVSM_CALLS: readonly SvsmCall[] = [CoreCall, AttestationCall, VtpmCall, ApicCall, UefiMmCall].flatMap((calls): readonly SvsmCall[] => Object.values(calls));

const key = (protocol: number, number: number): string => `${protocol}.${number}`;
const byKey = new Map<string, SvsmCall>();
for (const c of SVSM_CALLS) {
  const other = byKey.get(key(c.protocol, c.number));
  if (other) throw new RangeError(`${c.name}: protocol ${c.protocol}, call ${c.number} belongs to ${other.name}`);
  byKey.set(key(c.protocol, c.number), c);
}

/** Finds a declared call. */
export const svsmCallOf = (protocol: number, number: number): SvsmCall | undefined => byKey.get(key(protocol, number));
/** The name of a call for people: the specification's, or its numbers. */
export const svsmCallName = (protocol: number, number: number): string =>
  svsmCallOf(protocol, number)?.name ?? `SVSM call ${number} of protocol ${protocol}${svsmProtocolNames[protocol] === undefined ? '' : ` (${svsmProtocolNames[protocol]})`}`;
