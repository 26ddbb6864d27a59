import { Access, Privilege } from './access.ts';
import { Cr0, Cr4, Efer } from './bits.ts';
import type { WalkInput } from './input.ts';
import { PagingMode, pagingMode } from './mode.ts';
import { PageRight } from './result.ts';

/** Who denies an access to a present page: the tables and modes, a protection key, or both. */
export const Denial = { None: 0, Protection: 1, Key: 2 } as const;

/**
 * Decides one access to a present page. Also serves translation caches, which ask it for each kind of access when they fill an entry.
 * @param input - supplies CR0, CR4, EFER, AC and the key registers; its access fields are not looked at.
 * @param rights - {@link PageRight} bits of the page.
 * @returns {@link Denial} bits, 0 when allowed.
 * @spec SDM 3A §4.6.1
 */
export function denial(input: WalkInput, rights: number, pkey: number, access: Access, privilege: Privilege): number {
  if (access === Access.Lookup) return Denial.None;
  const protection = isProtected(input, rights, access, privilege) ? Denial.Protection : 0;
  return protection | (isKeyProtected(input, rights, pkey, access, privilege) ? Denial.Key : 0);
}

function isProtected(input: WalkInput, rights: number, access: Exclude<Access, typeof Access.Lookup>, privilege: Privilege): boolean {
  const userPage = (rights & PageRight.User) !== 0;
  const user = privilege === Privilege.User;
  if (user && !userPage) return true;
  switch (access) {
    case Access.Fetch:
      return !(rights & PageRight.Execute) || (!user && userPage && (input.cr4 & Cr4.SMEP) !== 0);
    case Access.Read:
      return !user && userPage && smapApplies(input, privilege);
    case Access.Write:
      if (!user && userPage && smapApplies(input, privilege)) return true;
      return !(rights & PageRight.Write) && (user || (input.cr0 & Cr0.WP) !== 0);
    case Access.ShadowRead:
    case Access.ShadowWrite:
      return !(rights & PageRight.ShadowStack) || user !== userPage;
  }
}

const smapApplies = (input: WalkInput, privilege: Privilege): boolean => (input.cr4 & Cr4.SMAP) !== 0 && (privilege === Privilege.Implicit || !input.ac);

/** @spec SDM 3A §4.6.2 */
function isKeyProtected(input: WalkInput, rights: number, pkey: number, access: Access, privilege: Privilege): boolean {
  if (access === Access.Fetch) return false;
  const userPage = (rights & PageRight.User) !== 0;
  if (!(input.cr4 & (userPage ? Cr4.PKE : Cr4.PKS)) || pagingMode(input.cr0, input.cr4, input.efer) < PagingMode.Level4) return false;
  const key = (userPage ? input.pkru : input.pkrs) >>> (pkey * 2);
  if (key & 1) return true;
  const writes = access === Access.Write || access === Access.ShadowWrite;
  return writes && (key & 2) !== 0 && (privilege === Privilege.User || (input.cr0 & Cr0.WP) !== 0);
}

/** Whether page faults say that the access was a fetch. @spec SDM 3A §4.7 */
export const reportsFetch = (input: WalkInput): boolean =>
  (input.cr4 & Cr4.SMEP) !== 0 || ((input.cr4 & Cr4.PAE) !== 0 && (input.efer & Efer.NXE) !== 0);
