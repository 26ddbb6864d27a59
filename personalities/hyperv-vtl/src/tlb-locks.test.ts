import { Activity } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { TlbLocks } from './tlb-locks.ts';

const make = (vps = 40) => {
  const released: string[] = [];
  const locks = new TlbLocks({ options: { maxVps: 64 }, vps: Array.from({ length: vps }), hold: () => {}, release: (key: string) => released.push(key) } as never);
  return { locks, released, locked: () => Array.from({ length: vps * 3 }, (_, i) => i).filter((i) => locks.isLocked(Math.floor(i / 3), i % 3)).map((i) => `${Math.floor(i / 3)}:${i % 3}`) };
};

describe('TLB locks', () => {
  it('are known by VP, VTL and the VTL that holds them', () => {
    const { locks, locked } = make();
    locks.lock(3, 0, 7, 1);
    locks.lock(39, 1, 0, 2);
    expect(locked()).toEqual(['3:0', '39:1']);
    expect([locks.isLockedBy(3, 0, 1), locks.isLockedBy(3, 0, 2), locks.isLockedBy(3, 1, 2), locks.isLockedBy(39, 1, 2), locks.isLockedBy(39, 0, 2), locks.isLockedBy(38, 1, 2)]).toEqual([true, false, false, true, false, false]);
    expect([locks.holdsAny(7, 1), locks.holdsAny(7, 2), locks.holdsAny(3, 1), locks.holdsAny(0, 2), locks.holdsAny(0, 1)]).toEqual([true, false, false, true, false]);
  });
  it.each([0, 31, 32, 39])('go with the return of VP %i, which holds them', (holder) => {
    const { locks, released, locked } = make();
    locks.lock(5, 0, holder, 1);
    locks.lock(5, 0, holder, 2);
    locks.lock(6, 1, holder, 2);
    locks.lock(5, 0, (holder + 1) % 40, 1);
    locks.releaseAll(holder, 1);
    // VTL2 of the same VP, and VTL1 of another, hold on.
    expect([locked(), released]).toEqual([['5:0', '6:1'], []]);
    locks.releaseAll(holder, 2);
    expect([locked(), released]).toEqual([['5:0'], ['hv-tlb:6:1']]);
    locks.releaseAll((holder + 1) % 40, 1);
    expect([locked(), released]).toEqual([[], ['hv-tlb:6:1', 'hv-tlb:5:0']]);
    locks.releaseAll(holder, 2);
    expect(released.length).toBe(2);
  });
  it('of one VTL go whoever holds them', () => {
    const { locks, released, locked } = make();
    locks.lock(2, 0, 1, 1);
    locks.lock(2, 0, 35, 1);
    locks.lock(2, 0, 1, 2);
    locks.unlock(2, 0, 1);
    expect([locks.isLockedBy(2, 0, 1), locked(), released]).toEqual([false, ['2:0'], []]);
    locks.unlock(2, 0, 2);
    expect([locked(), released]).toEqual([[], ['hv-tlb:2:0']]);
  });
  it('are saved, restored and reset', () => {
    const { locks } = make();
    locks.lock(4, 0, 33, 1);
    const other = make();
    other.locks.lock(1, 0, 1, 1);
    other.locks.restore(structuredClone(locks.save()));
    expect(other.locked()).toEqual(['4:0']);
    other.locks.releaseAll(33, 1);
    expect([other.locked(), other.released]).toEqual([[], ['hv-tlb:4:0']]);
    other.locks.lock(4, 0, 33, 1);
    other.locks.reset();
    const all = Array.from({ length: 160 }, (_, i) => `${i >>> 2}:${i & 3}`);
    expect(other.locked()).toEqual([]);
    expect(other.released.slice(1).sort()).toEqual([...all.map((at) => `hv-tlb:${at}`), ...all.map((at) => `hv-tlb-wait:${at}`)].sort());
    expect(other.locks.save()).toEqual(make().locks.save());
  });

  /** Locks on VTL0 by three VPs, of which VP9 waits for the other two. */
  const waiting = () => {
    const it = make();
    for (const holder of [9, 31, 33]) it.locks.lock(5, 0, holder, 1);
    it.locks.lock(6, 1, 2, 2);
    it.locks.setWaiting(9, 0, true);
    return it;
  };
  it('are waited for by one VTL of a VP, its own not', () => {
    const { locks, released } = waiting();
    expect([locks.isWaiting(9, 0), locks.isWaiting(9, 1), locks.isWaiting(8, 0), locks.isWaiting(5, 0), released]).toEqual([true, false, false, false, []]);
    locks.releaseAll(31, 1);
    expect([locks.isWaiting(9, 0), released]).toEqual([true, []]);
    // A lock that comes later is not waited for; nor is one on another VTL.
    locks.lock(4, 0, 7, 1);
    locks.releaseAll(33, 1);
    expect([locks.isWaiting(9, 0), released]).toEqual([false, ['hv-tlb-wait:9:0']]);
    locks.releaseAll(7, 1);
    expect(released).toEqual(['hv-tlb-wait:9:0', 'hv-tlb:4:0']);
  });
  it('are not waited for where there is none, or none any more', () => {
    const { locks, released } = waiting();
    locks.setWaiting(3, 1, true);
    expect(locks.isWaiting(3, 1)).toBe(true);
    locks.setWaiting(2, 1, true);
    // VP2 itself holds the only lock on VTL1.
    expect([locks.isWaiting(2, 1), released]).toEqual([false, ['hv-tlb-wait:2:1']]);
    locks.setWaiting(9, 0, false);
    expect([locks.isWaiting(9, 0), locks.isWaiting(3, 1), released]).toEqual([false, true, ['hv-tlb-wait:2:1', 'hv-tlb-wait:9:0']]);
    locks.unlock(6, 1, 2);
    expect([locks.isWaiting(3, 1), released.slice(2)]).toEqual([false, ['hv-tlb:6:1', 'hv-tlb-wait:3:1']]);
  });
  it('hold a VTL that would run', () => {
    const { locks } = waiting();
    const context = (vp: number, plane: number, activity: Activity = Activity.Running) => ({ vp: { index: vp }, plane, activity, wait: null as unknown });
    const turned = [context(9, 0), context(9, 1), context(8, 0), context(9, 0, Activity.Halted), context(9, 4)];
    for (const c of turned) locks.turn(c as never);
    expect(turned.map(({ activity }) => activity)).toEqual([Activity.Held, Activity.Running, Activity.Running, Activity.Halted, Activity.Running]);
    expect(turned[0]!.wait).toEqual({ kind: 'key', key: 'hv-tlb-wait:9:0' });
    locks.setWaiting(9, 0, false);
    const free = context(9, 0);
    locks.turn(free as never);
    expect(free.activity).toBe(Activity.Running);
  });
  it('keep who waits over a save', () => {
    const other = make();
    other.locks.restore(structuredClone(waiting().locks.save()));
    expect([other.locks.isWaiting(9, 0), other.locks.isWaiting(8, 0)]).toEqual([true, false]);
    for (const holder of [31, 33]) other.locks.releaseAll(holder, 1);
    expect([other.locks.isWaiting(9, 0), other.released]).toEqual([false, ['hv-tlb-wait:9:0']]);
    const again = waiting();
    again.locks.reset();
    expect([again.locks.isWaiting(9, 0), again.locks.save()]).toEqual([false, make().locks.save()]);
  });
});
