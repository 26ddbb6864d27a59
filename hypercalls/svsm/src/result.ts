/** Result codes that every call may give, in RAX. @spec SVSM 1.00, result codes */
export const SvsmResult = {
  Success: 0,
  /** Progress was made: the same call again, unchanged. */
  Incomplete: 0x8000_0000,
  UnsupportedProtocol: 0x8000_0001,
  UnsupportedCall: 0x8000_0002,
  InvalidAddress: 0x8000_0003,
  InvalidFormat: 0x8000_0004,
  InvalidParameter: 0x8000_0005,
  /** Not possible in the present state. */
  InvalidRequest: 0x8000_0006,
  /** Try again. */
  Busy: 0x8000_0007,
} as const;
export type SvsmResult = (typeof SvsmResult)[keyof typeof SvsmResult];
export type SvsmResultName = keyof typeof SvsmResult;

/** First result code that belongs to a protocol. @spec SVSM 1.00, result codes */
export const SVSM_PROTOCOL_RESULT = 0x8000_1000;

/** Results of the core protocol: {@link SVSM_PROTOCOL_RESULT} plus what PVALIDATE or RMPADJUST gave. @spec SVSM 1.00, SVSM_CORE_PVALIDATE */
export const SvsmCoreResult = {
  FailInput: 0x8000_1001,
  FailPermission: 0x8000_1002,
  FailInUse: 0x8000_1003,
  FailSizeMismatch: 0x8000_1006,
  /** PVALIDATE set the carry flag: the page was in that state. */
  Unchanged: 0x8000_1010,
} as const;
export type SvsmCoreResultName = keyof typeof SvsmCoreResult;

/** Results of the APIC protocol. @spec coconut-svsm kernel/src/protocols/apic.rs */
export const SvsmApicResult = { CannotRegister: 0x8000_1000 } as const;
export type SvsmApicResultName = keyof typeof SvsmApicResult;

const names = new Map<number, string>(Object.entries({ ...SvsmResult, ...SvsmCoreResult }).map(([name, code]) => [code, name]));
/** A result code for people: its name, or its number. */
export const svsmResultName = (code: number): string => names.get(code) ?? `0x${(code >>> 0).toString(16)}`;
