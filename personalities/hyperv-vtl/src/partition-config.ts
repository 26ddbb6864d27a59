import { HvRegisterVsmPartitionConfig, HvStatus } from '@vmplanes/abi-hyperv';
import type { HvOptions } from './options.ts';
import { isLegalMask, normalMask, ordered } from './page-rights.ts';

const { mask, shift } = HvRegisterVsmPartitionConfig;
const RIGHTS = mask.defaultVtlProtectionMask;
const PROTECT = mask.enableVtlProtection;
/** What a VTL above 0 may set. The others trap what a paravisor does for its guest. */
export const WRITABLE = PROTECT | RIGHTS | mask.zeroMemoryOnReset | mask.denyLowerVtlStartup | mask.interceptCpuidUnimplemented | mask.interceptUnrecoverableException | mask.interceptPage;
const READ_WRITE = 3;

/** Default rights of lower VTLs in a configuration value. */
export const defaultRights = (config: bigint): number => Number((config & RIGHTS) >> BigInt(shift.defaultVtlProtectionMask));

/** A write of VsmPartitionConfig: its status, the value kept, and whether protections are enabled by it, so that the default rights take effect. */
export interface ConfigWrite {
  readonly status: number;
  readonly value: bigint;
  readonly protects: boolean;
}

/**
 * Decides a write of VsmPartitionConfig. Protection once enabled stays enabled, and with it the default mask; a write that would
 * change either then succeeds without effect, or is refused, by option.
 * @param isProtecting - protections were enabled before.
 * @param isMbec - execute rights of lower VTLs are split.
 * @spec TLFS Virtual Secure Mode, partition configuration
 */
export const writePartitionConfig = (old: bigint, isProtecting: boolean, written: bigint, isMbec: boolean, options: HvOptions): ConfigWrite => {
  const refused: ConfigWrite = { status: HvStatus.InvalidRegisterValue, value: old, protects: false };
  if ((written & ~WRITABLE) !== 0n) return refused;
  if (!isProtecting) {
    const rights = ordered(defaultRights(written), options);
    if ((rights & READ_WRITE) !== READ_WRITE || !isLegalMask(rights, isMbec, options.strictExecBits)) return refused;
    return { status: HvStatus.Success, value: written, protects: options.protectionsEnabledBy === 'write' || (written & PROTECT) !== 0n };
  }
  // The mask does not count any more: which one is asked for makes no difference, legal or not.
  if ((written & RIGHTS) !== (old & RIGHTS) && options.maskChangeStatus !== 0) return { ...refused, status: options.maskChangeStatus };
  if ((written & PROTECT) < (old & PROTECT) && options.protectionClearStatus !== 0) return { ...refused, status: options.protectionClearStatus };
  return { status: HvStatus.Success, value: (written & ~RIGHTS) | (old & (RIGHTS | PROTECT)), protects: false };
};

/** Rights that the default mask of a configuration gives, as the permission tables have them. */
export const grantedByDefault = (config: bigint, isMbec: boolean, options: HvOptions): number => normalMask(ordered(defaultRights(config), options), isMbec);
