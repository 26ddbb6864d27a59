import type { AnyLayout } from '@vmplanes/binary';
import type { SvsmProtocol } from './protocols.ts';
import type { SvsmApicResultName, SvsmCoreResultName, SvsmResultName } from './result.ts';

/** Registers that carry arguments and results; RAX carries the call and its result code. @spec SVSM 1.00, calling convention */
export const svsmRegisters = ['rcx', 'rdx', 'r8'] as const;
export type SvsmRegister = (typeof svsmRegisters)[number];

/** What every declaration of a call says. */
export interface SvsmCallFacts {
  readonly number: number;
  /** Document and section that define it. */
  readonly spec: string;
  /** Meaning of each register that the call reads. */
  readonly input?: Readonly<Partial<Record<SvsmRegister, string>>>;
  /** Meaning of each register that the call writes; others come back unchanged. */
  readonly output?: Readonly<Partial<Record<SvsmRegister, string>>>;
  /** What RCX points at. */
  readonly structure?: AnyLayout;
  /** Results beside Success that its own section lists. */
  readonly results?: readonly (SvsmResultName | SvsmCoreResultName | SvsmApicResultName)[];
  /** Why this product does not serve it; absent when it does. */
  readonly unsupported?: string;
}

/** A declared call. */
export interface SvsmCall extends SvsmCallFacts {
  /** The specification's own name. */
  readonly name: string;
  readonly protocol: SvsmProtocol;
}

/** Declares a call. @throws {RangeError} when number or reason do not fit. */
export const call = (name: string, protocol: SvsmProtocol, facts: SvsmCallFacts): SvsmCall => {
  if (!Number.isInteger(facts.number) || facts.number < 0 || facts.number > 0xffff_ffff) throw new RangeError(`${name}: call ${facts.number} is not in 0..0xffffffff`);
  if (facts.unsupported === '') throw new RangeError(`${name}: an unsupported call needs a reason`);
  return Object.freeze({ name, protocol, ...facts });
};

/** RAX of a call. */
export const callRax = (c: SvsmCall): bigint => (BigInt(c.protocol) << 32n) | BigInt(c.number);
