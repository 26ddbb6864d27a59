import { Activity, NO_FRAME } from '@vmplanes/engine';
import { X86 } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { OverlayChapter } from './overlays.ts';
import type { OverlayKind } from './ports.ts';
import { ReferenceTimeChapter } from './reference-time.ts';
import { SyntheticTimerChapter } from './synthetic-timers.ts';

const BLOCK = 0x2000;
/** The clocks over two VPs with two VTLs, of which VP1 has only VTL0. @param scale - of the time-stamp counter, 32.32. */
const clocks = (scale = 0n) => {
  const view = new DataView(new ArrayBuffer(8 * BLOCK));
  const state = { ticks: 0, frame: BLOCK * 6 as number, inSpace: true };
  const told: unknown[] = [];
  const vps = [0, 1].map((index) => {
    const planes = [0, 1].map((plane) => (index + plane < 2 ? { base: (2 * index + plane) * BLOCK, plane, vp: { index } } : null));
    return { index, planes, plane: (n: number) => planes[n], retired: 1000 * (index + 1) };
  });
  view.setBigUint64(X86.tscScale, scale, true);
  const machine = { arena: { view }, vps, options: { ticksPerSecond: 1_000_000_000, ticksPerInstruction: 150 }, timeOf: () => state.ticks, checks: { authorise: (c: { base: number }) => told.push(`may ${c.base / BLOCK}`) }, hold: (key: string) => told.push(`hold ${key}`), release: (key: string) => told.push(`release ${key}`) };
  const chapters = {
    overlays: { isInSpace: () => state.inSpace, place: (...args: unknown[]) => (told.push(args), state.frame), frameByte: (...args: unknown[]) => (told.push(args), state.frame) },
    timers: { timeChanged: (c: { base: number }) => told.push(`timers ${c.base / BLOCK}`) },
  };
  const time = new ReferenceTimeChapter({ machine, chapters, arch: { config: { apic: { busTicks: 7 } } } } as never);
  const vp = vps[0] as never;
  return { time, state, told, view, vps, vp, now: (ticks: number) => ((state.ticks = ticks), time.now(vp)), page: (at = state.frame) => [view.getUint32(at, true), view.getBigUint64(at + 8, true), view.getBigInt64(at + 16, true)], context: (v: number, l: number, more = {}) => ({ ...vps[v]!.planes[l], vp: { index: v, replies: { wait: (...args: unknown[]) => args } }, ...more }) as never };
};
/** 100 ns units per cycle, 0.64 fixed point. */
const unitsPerCycle = (hz: bigint): bigint => (10_000_000n << 64n) / hz;

describe('reference time', () => {
  it.each([[0n, 1_000_000_000n], [1n << 32n, 1_000_000_000n], [3n << 31n, 1_500_000_000n], [1n << 31n, 500_000_000n]])('counts units of 100 ns with a counter of scale %i', (scale, hz) => {
    const { time, now, vps } = clocks(scale);
    const units = unitsPerCycle(hz);
    for (const ticks of [0, 1, 99, 100, 101, 12_345_678, 2 ** 45]) expect(now(ticks), `${ticks}`).toBe((((BigInt(ticks) * hz) / 1_000_000_000n) * units) >> 64n);
    for (const reference of [1n, 2n, 3n, 10n, 12_345n, 98_765_432_101n]) {
      const at = time.ticksAt(reference);
      expect([now(at), now(at - 1)], `${reference}`).toEqual([reference, reference - 1n]);
    }
    expect([time.tscFrequency(), time.apicFrequency(), time.runtime(vps[0] as never), time.runtime(vps[1] as never)]).toEqual([hz, 142_857_142n, 1500n, 3000n]);
  });
  it('has a first tick and a last one', () => {
    const { time } = clocks();
    expect([time.ticksAt(0n), time.ticksAt(-5n), time.ticksAt(2n ** 53n / 100n) < 2 ** 53, time.ticksAt(2n ** 53n / 100n + 1n), time.ticksAt(2n ** 64n - 1n)]).toEqual([0, 0, true, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]);
  });
  it.each([[0, 1], [41, 42], [0xffff_fffe, 0xffff_ffff], [0xffff_ffff, 1]])('is restored with sequence %i', (sequence, next) => {
    const { time, state, told, view, now, vp, page } = clocks();
    time.setTscMsr(1, 0x5001n);
    time.setTscMsr(0, 0x4000n);
    expect([page(), told]).toEqual([[1, unitsPerCycle(1_000_000_000n), 0n], [['tsc', 0, 1, 5], ['tsc', 0, 0, null]]]);
    told.length = 0;
    state.ticks = 5000;
    [0n, 7n, -3000n].forEach((offset, n) => view.setBigInt64(n * BLOCK + X86.tscOffset, offset, true));
    view.setBigInt64(3 * BLOCK + X86.tscOffset, 99n, true);
    const tsc = 1_000_000n, reference = 123_456n;
    time.restoreTime(vp, reference, tsc, sequence);
    // The counters of all VTLs go on from that value; the reference counter does, too.
    expect([0, 1, 2, 3].map((n) => view.getBigInt64(n * BLOCK + X86.tscOffset, true))).toEqual([995_000n, 995_007n, 992_000n, 99n]);
    expect(told).toEqual(['may 0', 'timers 0', 'may 1', 'timers 1', 'may 2', 'timers 2', ['tsc', 0, 1]]);
    const scale = unitsPerCycle(1_000_000_000n), offset = reference - ((tsc * scale) >> 64n);
    expect([page(), now(5000), now(15_000)]).toEqual([[next, scale, offset], reference, ((1_010_000n * scale) >> 64n) + offset]);
    for (const at of [reference + 1n, reference + 777n]) expect([now(time.ticksAt(at)), now(time.ticksAt(at) - 1)]).toEqual([at, at - 1n]);
    expect(time.ticksAt(reference - 1000n)).toBe(0);
    // Once more, from there.
    state.ticks = 6000;
    time.restoreTime(vp, 5n, 77n, 8);
    expect([now(6000), view.getBigInt64(X86.tscOffset, true), page()[0]]).toEqual([5n, 77n - 6000n, 9]);
    const other = clocks();
    other.time.restore(structuredClone(time.save()));
    expect([other.now(6000), other.time.tscMsr(1), other.time.tscMsr(0), other.time.tscMsr(2), other.time.save()]).toEqual([5n, 0x5001n, 0x4000n, 0n, time.save()]);
    other.time.setTscMsr(0, 0x6001n);
    expect(other.page()[0]).toBe(9);
    other.time.reset();
    expect([other.now(6000), [0, 1].map((vtl) => other.time.tscMsr(vtl))]).toEqual([5n, [0n, 0n]]);
  });
  it('has a page that needs memory and an address', () => {
    const { time, state, page } = clocks();
    state.frame = -1;
    expect([time.setTscMsr(1, 0x5001n), time.tscMsr(1), time.setTscMsr(1, 0x6000n), time.tscMsr(1)]).toEqual([false, 0n, true, 0x6000n]);
    state.inSpace = false;
    state.frame = 0;
    expect([time.setTscMsr(1, 0x7000n), time.setTscMsr(1, 0x7001n), time.tscMsr(1)]).toEqual([false, false, 0x6000n]);
    state.inSpace = true;
    expect([time.setTscMsr(1, 0x7001n), page(0)[0]]).toEqual([true, 1]);
    expect((time.save() as { tsc: readonly bigint[] }).tsc.slice(0, 3)).toEqual([0n, 0x7001n, 0n]);
  });
  it('lets a VTL idle until something is deliverable', () => {
    const { time, told, context } = clocks();
    const key = 'hyperv-idle:1:0';
    expect([time.idle(context(1, 0)), told]).toEqual([[{ kind: 'key', key }, 'advanced'], [`hold ${key}`]]);
    told.length = 0;
    const one = (activity: number, wait: unknown, deliverable = true): never => context(1, 0, { activity, wait, events: { deliverable: () => deliverable } });
    const idle = { kind: 'key', key };
    const rows = [one(Activity.Held, idle), one(Activity.Held, idle, false), one(Activity.Running, idle), one(Activity.Held, null), one(Activity.Held, { kind: 'other', key }), one(Activity.Held, { kind: 'key', key: 'hyperv-idle:0:1' })];
    expect(rows.map((c) => [time.isIdle(c), (time.turn(c), told.splice(0).length)])).toEqual([[true, 1], [true, 0], [false, 0], [false, 0], [false, 0], [false, 0]]);
    time.turn(rows[0]!);
    expect(told).toEqual([`release ${key}`]);
  });
});

/** Timers over a clock whose ticks are tenths of a unit. */
const timers = () => {
  const state = { now: 0n, post: 'delivered' };
  const told: unknown[] = [];
  const hv = {
    machine: { timersChanged: (c: { plane: number }) => told.push(`changed ${c.plane}`) },
    chapters: {
      clocks: { now: () => state.now, ticksAt: (reference: bigint) => Number(reference) * 10 },
      synic: { raise: (c: { plane: number }, vector: number, autoEoi: boolean) => told.push([c.plane, vector, autoEoi]), post: (c: { plane: number }, sint: number, m: Uint8Array, queue: boolean) => (told.push([c.plane, sint, new DataView(m.buffer).getUint32(16, true), new DataView(m.buffer).getBigUint64(24, true), new DataView(m.buffer).getBigUint64(32, true), queue]), state.post) },
    },
  };
  const it = new SyntheticTimerChapter(hv as never);
  const at = (vp: number, plane: number): never => ({ vp: { index: vp }, plane }) as never;
  const unit = (n = 0): { at: number; due: BigUint64Array; notBefore: BigUint64Array; held: number } => (it.save() as { units: never[] }).units[n]!;
  return { it, state, told, at, unit };
};
const ENABLE = 1n, PERIODIC = 2n, LAZY = 4n, AUTO = 8n, DIRECT = 0x1000n, LAST = 2n ** 64n - 1n;
const vector = (n: bigint): bigint => DIRECT | (n << 4n);

describe('synthetic timers', () => {
  it.each([[0, 0, 0], [0, 1, 3], [1, 0, 1], [2, 1, 2]])('of VP %i, VTL%i: number %i tells its own VTL once', (vp, vtl, n) => {
    const { it: t, told, at, state } = timers();
    const c = at(vp, vtl);
    expect([t.deadline(c), t.config(c, n), t.count(c, n)]).toEqual([Number.POSITIVE_INFINITY, 0n, 0n]);
    t.setConfig(c, n, ENABLE | vector(0x40n));
    expect(t.deadline(c)).toBe(Number.POSITIVE_INFINITY);
    t.setCount(c, n, 100n);
    expect([t.deadline(c), t.deadline(at(vp, 1 - vtl)), t.deadline(at(vp + 1, vtl)), told.splice(0)]).toEqual([1000, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, [`changed ${vtl}`, `changed ${vtl}`]]);
    state.now = 100n;
    t.expire(c, 999);
    expect(told).toEqual([]);
    t.expire(c, 1000);
    expect([told, t.config(c, n), t.count(c, n), t.deadline(c)]).toEqual([[[vtl, 0x40, false]], vector(0x40n), 100n, Number.POSITIVE_INFINITY]);
  });
  it('make up for eight periods that were missed, half a period apart, unless they are lazy', () => {
    for (const [now, lazy, due, notBefore] of [[14n, 0n, 20n, 20n], [20n, 0n, 20n, 25n], [95n, 0n, 20n, 100n], [99n, 0n, 20n, 104n], [100n, 0n, 30n, 105n], [105n, 0n, 30n, 110n], [100n, LAZY, 110n, 110n], [99n, LAZY, 100n, 100n]] as const) {
      const { it: t, state, at, unit } = timers();
      t.setConfig(at(0, 0), 1, ENABLE | PERIODIC | lazy | vector(0x40n));
      t.setCount(at(0, 0), 1, 10n);
      state.now = now;
      t.expire(at(0, 0), Number(now) * 10);
      expect([unit().due[1], unit().notBefore[1], t.deadline(at(0, 0))], `${now} ${lazy}`).toEqual([due, notBefore, Number(notBefore) * 10]);
    }
  });
  it('have no time after the last', () => {
    for (const [now, count, due] of [[10n, LAST, LAST], [10n, LAST - 10n, LAST], [10n, LAST - 11n, LAST - 1n], [0n, LAST, LAST]] as const) {
      const { it: t, state, at, unit } = timers();
      state.now = now;
      t.setConfig(at(0, 0), 0, ENABLE | PERIODIC | vector(0x40n));
      t.setCount(at(0, 0), 0, count);
      expect([unit().due[0], unit().notBefore[0]]).toEqual([due, due]);
    }
  });
  it('are enabled by a count when they ask for it, disabled by none, and by having nobody to tell', () => {
    const { it: t, at } = timers();
    const c = at(0, 0);
    for (const [config, count, after] of [[AUTO | vector(0x40n), 5n, AUTO | ENABLE | vector(0x40n)], [vector(0x40n), 5n, vector(0x40n)], [ENABLE | vector(0x40n), 0n, vector(0x40n)], [AUTO | ENABLE | vector(0x40n), 0n, AUTO | vector(0x40n)], [AUTO, 5n, AUTO], [AUTO | 0x3_0000n, 5n, AUTO | ENABLE | 0x3_0000n]] as const) {
      t.setConfig(c, 2, config);
      t.setCount(c, 2, count);
      expect([t.config(c, 2), t.count(c, 2)], `${config} ${count}`).toEqual([after, count]);
    }
  });
  it('wait with a message that finds no place, each for itself', () => {
    const { it: t, state, told, at, unit } = timers();
    const c = at(1, 1);
    for (const [n, count] of [[0, 50n], [3, 60n]] as const) {
      t.setConfig(c, n, ENABLE | (BigInt(n + 2) << 16n));
      t.setCount(c, n, count);
    }
    told.length = 0;
    Object.assign(state, { now: 70n, post: 'busy' });
    t.retry(c);
    t.expire(c, 700);
    const messages = [[1, 2, 0, 50n, 70n, false], [1, 5, 3, 60n, 70n, false]];
    expect([told.splice(0), unit().held, unit().at, t.deadline(c)]).toEqual([messages, 9, 17, Number.POSITIVE_INFINITY]);
    t.expire(c, 9999);
    expect(told).toEqual([]);
    const other = timers();
    other.it.restore(structuredClone(t.save()));
    Object.assign(other.state, { now: 80n });
    other.it.retry(c);
    other.it.retry(c);
    other.it.retry(at(0, 0));
    expect([other.told, other.unit().held, other.it.config(c, 0) & ENABLE]).toEqual([[...messages.map((m) => [...m.slice(0, 4), 80n, false]), 'changed 1'], 0, 0n]);
    t.setCount(c, 3, 90n);
    expect([unit().held, t.deadline(c)]).toEqual([1, 900]);
    t.reset();
    expect([t.save(), t.deadline(c)]).toEqual([{ units: [] }, Number.POSITIVE_INFINITY]);
  });
  it('begin anew when time is set, if they run', () => {
    const { it: t, state, told, at, unit } = timers();
    const c = at(0, 0);
    for (const n of [0, 1, 2, 3]) {
      t.setConfig(c, n, (n === 2 ? 0n : ENABLE) | (n === 1 ? 0n : PERIODIC) | vector(0x40n));
      t.setCount(c, n, 10n + BigInt(n));
    }
    told.length = 0;
    state.now = 1000n;
    t.timeChanged(c);
    expect([[...unit().due], told.length, t.deadline(c)]).toEqual([[1010n, 11n, 0n, 1013n], 3, 110]);
    const other = timers();
    other.it.setConfig(other.at(0, 1), 0, ENABLE | vector(0x50n));
    other.it.restore(structuredClone(t.save()));
    expect([other.it.save(), other.it.deadline(c), other.it.deadline(at(0, 1))]).toEqual([t.save(), 110, Number.POSITIVE_INFINITY]);
  });
});

describe('overlay pages as their memory sees them', () => {
  const make = (limit = 100) => {
    const told: unknown[] = [];
    let next = 0;
    const memory = { frames: { allocate: () => (next < limit ? next++ : NO_FRAME), byteOf: (frame: number) => frame * 4096, release: (frame: number) => told.push(`free ${frame}`) }, placeOverlay: (...args: unknown[]) => told.push(args), takeOverlay: (...args: unknown[]) => told.push(args), overlays: [{ find: (gpn: number) => gpn - 5 }, { find: () => -1 }] };
    return { told, pages: new OverlayChapter({ machine: { memory }, arch: { registers: { features: { physicalBits: 36 } } } } as never) };
  };
  const KINDS: readonly OverlayKind[] = ['hypercall', 'tsc', 'assist', 'simp', 'siefp'];
  it('have a frame for each kind, VTL and, where they are private, VP', () => {
    const { pages } = make();
    const all = [0, 1, 2].flatMap((vp) => [0, 1, 2].flatMap((vtl) => KINDS.map((kind) => pages.frameByte(kind, vp, vtl) / 4096)));
    // Two kinds of three VTLs, and three of nine.
    expect(new Set(all).size).toBe(2 * 3 + 3 * 9);
    expect([0, 1, 2].flatMap((vp) => [0, 1, 2].flatMap((vtl) => KINDS.map((kind) => pages.frameByte(kind, vp, vtl) / 4096)))).toEqual(all);
    for (const kind of [0, 1]) for (const vtl of [0, 1, 2]) expect(new Set([0, 1, 2].map((vp) => all[(vp * 3 + vtl) * 5 + kind])).size).toBe(1);
  });
  it('lie where they are put while there is memory and address space', () => {
    const { pages, told } = make(2);
    expect([pages.place('simp', 1, 1, null), pages.place('simp', 1, 1, 2 ** 24), pages.place('simp', 1, 1, 2 ** 24 - 1), pages.place('assist', 0, 1, 7), pages.place('tsc', 0, 0, 7), pages.frameByte('tsc', 0, 0), pages.place('tsc', 0, 0, null)]).toEqual([-1, -1, 0, 4096, -1, -1, -1]);
    expect(told).toEqual([[1, 2 ** 24 - 1, 0, 3, true], [1, 7, 1, 3, true]]);
    expect([pages.isInSpace(2 ** 24 - 1), pages.isInSpace(2 ** 24), pages.isOverlay(0, 4), pages.isOverlay(0, 5), pages.isOverlay(1, 5)]).toEqual([true, false, false, true, false]);
    told.length = 0;
    expect([pages.place('assist', 0, 1, 7), told]).toEqual([4096, []]);
    pages.reset();
    expect([told, pages.save()]).toEqual([[[1, 7], [1, 2 ** 24 - 1], 'free 1', 'free 0'].sort((a, b) => Number(typeof a === 'string') - Number(typeof b === 'string')), { pages: [] }]);
  });
  it('forget what they were when a state is restored', () => {
    const { pages } = make(), other = make();
    pages.place('simp', 0, 1, 7);
    pages.frameByte('siefp', 0, 1);
    other.pages.place('assist', 0, 1, 7);
    other.pages.frameByte('tsc', 0, 1);
    other.pages.restore(structuredClone(pages.save()));
    expect(other.pages.save()).toEqual(pages.save());
    expect((pages.save() as { pages: readonly { gpn: number }[] }).pages.map(({ gpn }) => gpn)).toEqual([7, -1]);
    other.told.length = 0;
    other.pages.place('assist', 0, 1, null);
    expect(other.told).toEqual([]);
  });
});
