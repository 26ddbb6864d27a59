/**
 * What an access does to memory. `Lookup` only translates: no right is checked and nothing faults but absence and reserved bits.
 * @spec SDM 3A §4.6.1
 */
export const Access = { Read: 0, Write: 1, Fetch: 2, ShadowRead: 3, ShadowWrite: 4, Lookup: 5 } as const;
export type Access = (typeof Access)[keyof typeof Access];

/**
 * On whose behalf: user mode (CPL 3, or an explicit user access of WRUSS), explicit supervisor (RFLAGS.AC may lift SMAP),
 * or implicit supervisor (descriptor tables, TSS: AC never counts, even at CPL 3).
 * @spec SDM 3A §4.6
 */
export const Privilege = { User: 0, Supervisor: 1, Implicit: 2 } as const;
export type Privilege = (typeof Privilege)[keyof typeof Privilege];

/** Bits of the page-fault error code. @spec SDM 3A §4.7 */
export const PageFault = { P: 1, W: 2, U: 4, RSVD: 8, ID: 16, PK: 32, SS: 64 } as const;

/** Why a walk fails. `Protection` and `Key` may hold together: their bits add up. */
export const WalkFailure = { NotPresent: 0, Reserved: 1, Protection: 2, Key: 3 } as const;
export type WalkFailure = (typeof WalkFailure)[keyof typeof WalkFailure];

const { P, W, U, RSVD, ID, PK, SS } = PageFault;
const COLUMNS = 6;
/** Failure x access -> error code bits; {@link pageFaultCode} adds U and takes ID out where the processor does not report fetches. */
const CODES = Uint8Array.from([
  // Read        Write             Fetch              ShadowRead         ShadowWrite            Lookup
  0,             W,                ID,                SS,                SS | W,                0,             // NotPresent
  P | RSVD,      P | RSVD | W,     P | RSVD | ID,     P | RSVD | SS,     P | RSVD | SS | W,     P | RSVD,      // Reserved
  P,             P | W,            P | ID,            P | SS,            P | SS | W,            P,             // Protection
  P | PK,        P | PK | W,       P | PK | ID,       P | PK | SS,       P | PK | SS | W,       P | PK,        // Key
]);

/**
 * The page-fault error code of one failure of one access.
 * @param user - the access is a user-mode access.
 * @param reportsFetch - IA32_EFER.NXE with CR4.PAE, or CR4.SMEP: only then is the fetch bit given.
 * @spec SDM 3A §4.7
 */
export function pageFaultCode(failure: WalkFailure, access: Access, user: boolean, reportsFetch: boolean): number {
  const code = CODES[failure * COLUMNS + access]! | (user ? U : 0);
  return reportsFetch ? code : code & ~ID;
}
