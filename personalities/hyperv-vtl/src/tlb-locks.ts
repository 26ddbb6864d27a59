import { Activity, type Machine, type PlaneContext, type PlainRecord, type PlainState } from '@vmplanes/engine';
import { tlbLockKey } from './ports.ts';

/** VTLs that can hold or be under a lock; a power of two above the highest VTL. */
const VTLS = 4;

/** Key of a VTL of a VP that waits for locks of other VPs. */
const waitKey = (vp: number, vtl: number): string => `hv-tlb-wait:${vp}:${vtl}`;

/**
 * TLB locks: while one is held, flushes of a lower VTL of a VP wait. A lock is known by its holder, a VTL of some VP, which loses
 * all its locks when it returns. A VTL can also be made to wait, before its next instruction, for the locks that other VPs hold on that VTL.
 * @spec TLFS Virtual Secure Mode, VP secure configuration: TLB locking
 */
export class TlbLocks {
  readonly #machine: Machine;
  /** Set of holding VPs as two words, by (VP, lower VTL, holding VTL). */
  readonly #holders: Uint32Array;
  /** VPs whose locks a VTL waits for, as two words, by (VP, VTL). */
  readonly #awaited: Uint32Array;
  /** Derived: some VTL waits, for the test in every turn. */
  #anyAwaited = false;
  /** Derived: there may be a lock; false means that there is none, for the test in every return. */
  #any = false;

  constructor(machine: Machine) {
    this.#machine = machine;
    this.#holders = new Uint32Array(machine.options.maxVps * VTLS * VTLS * 2);
    this.#awaited = new Uint32Array(machine.options.maxVps * VTLS * 2);
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
    if (!this.#anyAwaited) return;
    for (let waiting = 0; waiting < this.#machine.vps.length; waiting++) {
      const at = (waiting * VTLS + vtl) * 2;
      if ((this.#awaited[at]! | this.#awaited[at + 1]!) === 0) continue;
      for (const word of [0, 1]) this.#awaited[at + word]! &= this.#holdersOf(vtl, word);
      if ((this.#awaited[at]! | this.#awaited[at + 1]!) === 0) this.#machine.release(waitKey(waiting, vtl));
    }
    this.#anyAwaited = this.#awaited.some((set) => set !== 0);
  }

  /** VPs that hold a lock on a VTL of any VP: one word of the set. */
  #holdersOf(vtl: number, word: number): number {
    let holders = 0;
    for (let vp = 0; vp < this.#machine.vps.length; vp++) for (let by = vtl + 1; by < VTLS; by++) holders |= this.#holders[this.#at(vp, vtl, by) + word]!;
    return holders;
  }

  // -- waiting for locks -------------------------------------------------------------------------------------------------

  /** Makes a VTL of a VP wait for the locks that other VPs hold on that VTL now; or ends its wait. @spec openvmm vm/hv1/hvdef/src/lib.rs (HvRegisterVsmVpWaitForTlbLock) */
  setWaiting(vp: number, vtl: number, on: boolean): void {
    const at = (vp * VTLS + vtl) * 2;
    for (const word of [0, 1]) this.#awaited[at + word] = on ? this.#holdersOf(vtl, word) & ~(vp >>> 5 === word ? 1 << (vp & 31) : 0) : 0;
    if (!this.isWaiting(vp, vtl)) this.#machine.release(waitKey(vp, vtl));
    this.#anyAwaited = this.#awaited.some((set) => set !== 0);
  }
  isWaiting(vp: number, vtl: number): boolean {
    const at = (vp * VTLS + vtl) * 2;
    return (this.#awaited[at]! | this.#awaited[at + 1]!) !== 0;
  }
  /** The VTL would run: not while it waits. */
  turn(context: PlaneContext): void {
    if (!this.#anyAwaited || context.activity !== Activity.Running || context.plane >= VTLS || !this.isWaiting(context.vp.index, context.plane)) return;
    const key = waitKey(context.vp.index, context.plane);
    this.#machine.hold(key);
    context.activity = Activity.Held;
    context.wait = { kind: 'key', key };
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
    this.#any = this.#anyAwaited = false;
    this.#awaited.fill(0);
    for (let vp = 0; vp < this.#machine.vps.length; vp++) for (let vtl = 0; vtl < VTLS; vtl++) {
      this.#machine.release(tlbLockKey(vp, vtl));
      this.#machine.release(waitKey(vp, vtl));
    }
  }
  save(): PlainState {
    return { holders: this.#holders.slice(), awaited: this.#awaited.slice() };
  }
  restore(state: PlainState): void {
    const s = state as PlainRecord;
    this.#holders.set(s['holders'] as Uint32Array);
    this.#awaited.set(s['awaited'] as Uint32Array);
    this.#anyAwaited = this.#awaited.some((set) => set !== 0);
    this.#any = this.#holders.some((word) => word !== 0);
  }
}
