import type { Machine, PlainState } from '@vmplanes/engine';
import { tlbLockKey } from './ports.ts';

/** VTLs that can hold or be under a lock; a power of two above the highest VTL. */
const VTLS = 4;

/**
 * TLB locks: while one is held, flushes of a lower VTL of a VP wait. A lock is known by its holder, a VTL of some VP, which loses
 * all its locks when it returns.
 * @spec TLFS Virtual Secure Mode, VP secure configuration: TLB locking
 */
export class TlbLocks {
  readonly #machine: Machine;
  /** Set of holding VPs as two words, by (VP, lower VTL, holding VTL). */
  readonly #holders: Uint32Array;
  /** Derived: there may be a lock; false means that there is none, for the test in every return. */
  #any = false;

  constructor(machine: Machine) {
    this.#machine = machine;
    this.#holders = new Uint32Array(machine.options.maxVps * VTLS * VTLS * 2);
  }

  #at(vp: number, vtl: number, by: number): number {
    return ((vp * VTLS + vtl) * VTLS + by) * 2;
  }

  /** @param vp - whose translations. @param by - VTL of VP `holder` that holds it. */
  lock(vp: number, vtl: number, holder: number, by: number): void {
    this.#any = true;
    this.#holders[this.#at(vp, vtl, by) + (holder >>> 5)]! |= 1 << (holder & 31);
  }

  /** Takes the locks of one VTL away, whichever VPs hold them. */
  unlock(vp: number, vtl: number, by: number): void {
    const at = this.#at(vp, vtl, by);
    this.#holders[at] = this.#holders[at + 1] = 0;
    this.#settle(vp, vtl);
  }

  /** VTL `by` of VP `holder` returns. */
  releaseAll(holder: number, by: number): void {
    if (!this.#any) return;
    const bit = 1 << (holder & 31);
    for (let vp = 0; vp < this.#machine.vps.length; vp++) {
      for (let vtl = 0; vtl < by; vtl++) {
        const at = this.#at(vp, vtl, by) + (holder >>> 5);
        if ((this.#holders[at]! & bit) === 0) continue;
        this.#holders[at]! &= ~bit;
        this.#settle(vp, vtl);
      }
    }
    this.#any = this.#holders.some((word) => word !== 0);
  }

  /** Tells those who wait when no lock is left. */
  #settle(vp: number, vtl: number): void {
    if (!this.isLocked(vp, vtl)) this.#machine.release(tlbLockKey(vp, vtl));
  }

  isLocked(vp: number, vtl: number): boolean {
    for (let by = vtl + 1; by < VTLS; by++) if (this.isLockedBy(vp, vtl, by)) return true;
    return false;
  }
  isLockedBy(vp: number, vtl: number, by: number): boolean {
    const at = this.#at(vp, vtl, by);
    return (this.#holders[at]! | this.#holders[at + 1]!) !== 0;
  }
  /** Whether VTL `by` of VP `holder` holds any lock. */
  holdsAny(holder: number, by: number): boolean {
    const bit = 1 << (holder & 31);
    for (let vp = 0; vp < this.#machine.vps.length; vp++) {
      for (let vtl = 0; vtl < by; vtl++) if ((this.#holders[this.#at(vp, vtl, by) + (holder >>> 5)]! & bit) !== 0) return true;
    }
    return false;
  }

  /** Everything is unlocked and nobody waits. */
  reset(): void {
    this.#holders.fill(0);
    this.#any = false;
    for (let vp = 0; vp < this.#machine.vps.length; vp++) for (let vtl = 0; vtl < VTLS; vtl++) this.#machine.release(tlbLockKey(vp, vtl));
  }
  save(): PlainState {
    return this.#holders.slice();
  }
  restore(state: PlainState): void {
    this.#holders.set(state as Uint32Array);
    this.#any = this.#holders.some((word) => word !== 0);
  }
}
