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

  it('are what a set of them would be, whichever VPs hold or suffer them', () => {
    const VPS = [0, 1, 31, 32, 33];
    const { locks, released } = make(34);
    const model = new Set<string>(), awaited = new Map<string, Set<number>>();
    const holders = (vtl: number): Set<number> => new Set([...model].map((key) => key.split(':').map(Number)).filter(([, of]) => of === vtl).map(([, , holder]) => holder!));
    const isLocked = (vp: number, vtl: number): boolean => [...model].some((key) => key.startsWith(`${vp}:${vtl}:`));
    let seed = 7;
    const any = (n: number): number => (seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0) % 65_521 % n;
    const drop = (isGone: (vp: number, vtl: number, holder: number, by: number) => boolean): void => {
      for (const key of model) {
        const [vp, vtl, holder, by] = key.split(':').map(Number) as [number, number, number, number];
        if (isGone(vp, vtl, holder, by)) model.delete(key);
      }
      for (const [key, set] of awaited) for (const holder of set) if (!holders(Number(key.split(':')[1])).has(holder)) set.delete(holder);
    };
    for (let step = 0; step < 150; step++) {
      const vp = VPS[any(5)]!, holder = VPS[any(5)]!, by = 1 + any(3), vtl = any(by);
      const before = new Map(VPS.flatMap((v) => [0, 1, 2].flatMap((l) => [[`hv-tlb:${v}:${l}`, isLocked(v, l)], [`hv-tlb-wait:${v}:${l}`, (awaited.get(`${v}:${l}`)?.size ?? 0) > 0]] as [string, boolean][])));
      released.length = 0;
      switch (any(6)) {
        case 0:
          drop((_v, _l, h, b) => h === holder && b === by);
          locks.releaseAll(holder, by);
          break;
        case 1:
          drop((v, l, _h, b) => v === vp && l === vtl && b === by);
          locks.unlock(vp, vtl, by);
          break;
        case 2: {
          const set = holders(vtl);
          set.delete(vp);
          awaited.set(`${vp}:${vtl}`, set);
          locks.setWaiting(vp, vtl, true);
          break;
        }
        default:
          model.add(`${vp}:${vtl}:${holder}:${by}`);
          locks.lock(vp, vtl, holder, by);
      }
      const seen = VPS.flatMap((v) => [0, 1, 2, 3].map((l) => [locks.isLocked(v, l), locks.isWaiting(v, l), locks.holdsAny(v, l), ...[1, 2, 3].map((b) => b > l && locks.isLockedBy(v, l, b))]));
      const wanted = VPS.flatMap((v) => [0, 1, 2, 3].map((l) => [isLocked(v, l), (awaited.get(`${v}:${l}`)?.size ?? 0) > 0, [...model].some((key) => key.endsWith(`:${v}:${l}`)), ...[1, 2, 3].map((b) => VPS.some((h) => model.has(`${v}:${l}:${h}:${b}`)))]));
      if (JSON.stringify(seen) !== JSON.stringify(wanted)) expect(seen, `step ${step}`).toEqual(wanted);
      // Whoever can go on is told.
      for (const [key, was] of before) {
        const [, v, l] = key.split(':').map(Number) as [number, number, number];
        const is = key.startsWith('hv-tlb:') ? isLocked(v, l) : (awaited.get(`${v}:${l}`)?.size ?? 0) > 0;
        if ((was || is) && released.includes(key) === is) expect.unreachable(`step ${step}: ${key} ${is ? 'released' : 'not released'}`);
      }
    }
  });
  it('cost nothing where there are none', () => {
    const machine = { options: { maxVps: 64 }, vps: [{}, {}] as unknown, hold: () => {}, release: () => {} };
    const locks = new TlbLocks(machine as never), other = new TlbLocks(machine as never);
    locks.lock(0, 0, 1, 1);
    locks.setWaiting(0, 0, true);
    const held = locks.save();
    locks.releaseAll(1, 1);
    const none = locks.save();
    // From here on, looking at a processor is an error.
    const context = new Proxy({}, { get: () => expect.unreachable() });
    const isCheap = (of: TlbLocks): void => {
      const { vps } = machine;
      machine.vps = null;
      of.releaseAll(1, 1);
      of.turn(context as never);
      machine.vps = vps;
    };
    isCheap(locks);
    other.restore(held);
    other.restore(none);
    isCheap(other);
    other.restore(held);
    other.setWaiting(0, 0, false);
    other.unlock(0, 0, 1);
    other.turn(context as never);
    other.releaseAll(1, 1);
    isCheap(other);
  });
  it('name to the machine what is waited for, before the wait', () => {
    const held: string[] = [];
    const locks = new TlbLocks({ options: { maxVps: 4 }, vps: [{}, {}], hold: (key: string) => held.push(key), release: () => {} } as never);
    locks.lock(1, 2, 0, 3);
    locks.setWaiting(1, 2, true);
    locks.turn({ vp: { index: 1 }, plane: 2, activity: Activity.Running } as never);
    expect(held).toEqual(['hv-tlb-wait:1:2']);
  });
});
