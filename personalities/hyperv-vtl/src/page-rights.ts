import { HvMapGpaFlags } from '@vmplanes/abi-hyperv';
import { ALL_RIGHTS, EXEC_RIGHTS, Right, type Rights } from '@vmplanes/engine';
import type { HvOptions } from './options.ts';

const { readable: READ, writable: WRITE, kernelExecutable: KERNEL, userExecutable: USER } = HvMapGpaFlags.mask;
/** Flags that a guest may use. */
const USABLE = READ | WRITE | KERNEL | USER;

/** Access flags with the execute bits in the order of {@link HvMapGpaFlags}, or back, where a partition has them the other way round. */
export const ordered = (flags: number, { executeBitOrder }: Pick<HvOptions, 'executeBitOrder'>): number =>
  executeBitOrder === 'kernelFirst' ? flags : (flags & ~(KERNEL | USER)) | ((flags & KERNEL) === 0 ? 0 : USER) | ((flags & USER) === 0 ? 0 : KERNEL);

/**
 * Whether access flags can stand: every right needs read. Execution is one right while MBEC is off: either execute bit means it, or
 * by option both must agree; with MBEC the kernel's alone is not allowed.
 * @param isStrict - both execute bits must agree while MBEC is off.
 * @spec TLFS HV_MAP_GPA_FLAGS; TLFS Virtual Secure Mode, memory access protections
 */
export const isLegalMask = (flags: number, isMbec: boolean, isStrict: boolean): boolean => {
  if ((flags & ~USABLE) !== 0) return false;
  if ((flags & USABLE) !== 0 && (flags & READ) === 0) return false;
  if (isMbec) return (flags & (KERNEL | USER)) !== KERNEL;
  return !isStrict || ((flags & KERNEL) === 0) === ((flags & USER) === 0);
};

/** The rights of legal flags, as permission tables have them: the shadow-stack right goes with read. */
export const normalMask = (flags: number, isMbec: boolean): Rights => {
  const execute = isMbec ? flags & EXEC_RIGHTS : (flags & EXEC_RIGHTS) !== 0 ? EXEC_RIGHTS : 0;
  const read = (flags & READ) !== 0 ? Right.Read | Right.ShadowStack : 0;
  return (read | ((flags & WRITE) !== 0 ? Right.Write : 0) | execute) & ALL_RIGHTS;
};
