import { describe, expect, it } from 'vitest';
import { TlbLocks } from './tlb-locks.ts';

const make = (vps = 40) => {
  const released: string[] = [];
  const locks = new TlbLocks({ options: { maxVps: 64 }, vps: Array.from({ length: vps }), release: (key: string) => released.push(key) } as never);
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
    expect([other.locked(), other.released.length, other.released.includes('hv-tlb:39:3'), other.released.includes('hv-tlb:0:0'), other.released.includes('hv-tlb:40:0')]).toEqual([[], 1 + 40 * 4, true, true, false]);
    expect(other.locks.save()).toEqual(make().locks.save());
  });
});
