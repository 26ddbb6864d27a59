import { HvStatus, type RegisterRow } from '@vmplanes/abi-hyperv';
import type { PlaneContext } from '@vmplanes/engine';
import type { HvContext } from '../ports.ts';

/** One access to a register of a VTL of a VP, for a call of another (or the same). */
export interface RegisterAccess {
  readonly hv: HvContext;
  readonly row: RegisterRow;
  /** Whose register. */
  readonly target: PlaneContext;
  /** Who asks. */
  readonly caller: PlaneContext;
}

/** How a register is reached, one side absent where it cannot be. Values have 128 bits; narrower registers use the low ones. */
export interface RegisterBinding {
  /** @returns null when it does not exist here. */
  readonly read?: (access: RegisterAccess) => bigint | null;
  /** @returns a status. */
  readonly write?: (access: RegisterAccess, value: bigint) => number;
}

export const MASK_64 = (1n << 64n) - 1n;
/** Status of a check: the value is stored, or the register cannot have it. */
export const stored = (isLegal: boolean): number => (isLegal ? HvStatus.Success : HvStatus.InvalidRegisterValue);
