import { HvPartitionPrivilegeMask, type HvPrivilege, VSM_PRIVILEGES } from '@vmplanes/abi-hyperv';
import { hiWord, loWord } from '@vmplanes/binary';
import type { HvOptions } from './options.ts';
import { servedPrivileges } from './privilege-names.ts';

const maskOf = (names: readonly HvPrivilege[]): bigint => names.reduce((mask, name) => mask | HvPartitionPrivilegeMask.mask[name], 0n);

/** What a partition with these options may use. Without VTLs above 0 there is nothing that AccessVsm could allow. */
export const grantedPrivileges = (options: HvOptions): bigint => {
  const withheld: readonly string[] = options.withhold;
  const without = [...withheld, ...(options.maximumVtl === 0 ? ['accessVsm'] : []), ...(options.xmmHypercalls ? [] : ['fastHypercallOutput'])];
  return maskOf(servedPrivileges.filter((name) => !without.includes(name)));
};
/** Whether a partition with these options holds a privilege. */
export const holds = (options: HvOptions, privilege: HvPrivilege): boolean => (grantedPrivileges(options) & HvPartitionPrivilegeMask.mask[privilege]) !== 0n;

/** Privileges as two words, for tests without bigints. */
export interface PrivilegeWords {
  readonly lo: number;
  readonly hi: number;
}
const words = (mask: bigint): PrivilegeWords => ({ lo: loWord(mask), hi: hiWord(mask) });
/** Privileges that a partition holds. */
export const grantedWords = (options: HvOptions): PrivilegeWords => words(grantedPrivileges(options));
/** Privileges that a call needs: VSM is allowed by three together. @spec TLFS Virtual Secure Mode, VSM detection */
export const neededWords = (names: readonly HvPrivilege[] = []): PrivilegeWords => words(maskOf(names.includes('accessVsm') ? [...names, ...VSM_PRIVILEGES] : names));
