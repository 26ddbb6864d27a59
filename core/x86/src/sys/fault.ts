/** An architectural fault that an access to a system register raises. Error codes here are always zero. */
export interface RegisterFault {
  readonly fault: { readonly vector: number; readonly errorCode: number };
}

/** Outcome of a check: the value that the register takes, or a fault and no change. */
export type Legalized = { readonly value: bigint } | RegisterFault;

/** #GP(0), shared. */
export const gp0: RegisterFault = Object.freeze({ fault: Object.freeze({ vector: 13, errorCode: 0 }) });

/** @returns whether the outcome is a fault. */
export const isFault = (outcome: object): outcome is RegisterFault => 'fault' in outcome;
