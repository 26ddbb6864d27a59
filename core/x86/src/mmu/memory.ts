import type { Access } from './access.ts';

/** What a page-table memory operation came to; every value from `Refused` up is the refuser's own and is passed through. */
export const TableStatus = { Ok: 0, Changed: 1, Refused: 2 } as const;

/**
 * Guest memory as the walker sees it. The second stage lives behind it: an implementation refuses by returning a status of `Refused` or more.
 * Guest physical addresses are doubles, exact up to 52 bits; entries are (lo, hi) pairs.
 */
export interface PageTableMemory {
  /** The entry that the last successful `read` found; `hi` is 0 for 4-byte entries. */
  readonly lo: number;
  readonly hi: number;
  /**
   * Reads one entry, atomically.
   * @param gpa - aligned to `bytes`.
   * @param bytes - 4 or 8.
   * @returns `Ok`, or a refusal.
   */
  read(gpa: number, bytes: number): number;
  /**
   * Replaces an entry if it still holds the old value, atomically.
   * @returns `Ok`, `Changed` when it holds another value by now, or a refusal.
   */
  compareAndSwap(gpa: number, bytes: number, oldLo: number, oldHi: number, newLo: number, newHi: number): number;
  /**
   * Asks the second stage for the access itself, after the accessed and dirty flags are set.
   * @param userPage - the address is a user-mode address, whatever the privilege of the access (decides between two execute rights).
   * @param marked - the leaf had the bit that the address model takes out of entries; true, too, in modes whose entries have no such bit.
   * @returns `Ok`, or a refusal. Implementations without a second stage return `Ok`.
   */
  leaf(gpa: number, access: Access, userPage: boolean, marked: boolean): number;
}
