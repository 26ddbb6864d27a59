import {
  Activity, ClaimTable, ContextLayout, DeliverableRule, HighestRunnablePolicy, highestPlane, type Hooks, HostError, IrrRule, LowestRunnablePolicy, lowestPlane, type Personality,
  Random, Schedule, Sharing, UserspacePolicy,
} from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { bareVp } from './toy.ts';

const codeOf = (act: () => unknown): string => {
  try {
    act();
    return 'none';
  } catch (error) {
    return error instanceof HostError ? error.code : 'other';
  }
};
const handler = (name: string, ...claims: Personality['claims'][number][]): Personality => ({ name, stateName: name, stateVersion: 1, claims, handle: () => null, save: () => null, restore() {} });

describe('planes of a mask', () => {
  it('lowest and highest of every pair of planes, -1 for none', () => {
    expect([lowestPlane(0), highestPlane(0)]).toEqual([-1, -1]);
    for (let a = 0; a < 16; a++)
      for (let b = a; b < 16; b++) expect([lowestPlane((1 << a) | (1 << b)), highestPlane((1 << a) | (1 << b))]).toEqual([a, b]);
  });
});

describe('policies', () => {
  it('userspace: the named plane, made runnable; alone the only one whatever was named (LKML 20250401 22/29)', () => {
    const policy = new UserspacePolicy();
    const { vp } = bareVp(0, 2, 3);
    vp.named = 2;
    expect([policy.select(vp), vp.runnable, policy.preempts()]).toEqual([2, 0b100, false]);
    expect([policy.select(vp), vp.runnable]).toEqual([2, 0b100]);
    vp.named = 1;
    expect([policy.select(vp), vp.runnable]).toEqual([1, 0b100]);
    const alone = bareVp(0).vp;
    alone.named = 3;
    expect([policy.select(alone), alone.runnable]).toEqual([0, 1]);
    const pair = bareVp(0, 1).vp;
    pair.named = 1;
    expect(policy.select(pair)).toBe(1);
  });

  it('userspace: a switch names the plane', () => {
    const { vp } = bareVp(0, 2);
    vp.setSchedule(vp.plane(0), Schedule.Runnable);
    new UserspacePolicy().switchTo(vp, vp.plane(2), 'stopped');
    expect([vp.named, vp.runnable]).toEqual([2, 0b100]);
  });

  it.each([new LowestRunnablePolicy(), new HighestRunnablePolicy()])('$name: a switch makes the target runnable and stops who leaves, unless it stays runnable or is the target', (policy) => {
    const { vp } = bareVp(0, 1, 2);
    vp.setSchedule(vp.plane(0), Schedule.Runnable);
    policy.switchTo(vp, vp.plane(2), 'runnable');
    expect(vp.runnable).toBe(0b101);
    policy.switchTo(vp, vp.plane(0), 'stopped');
    expect(vp.runnable).toBe(0b101);
    policy.switchTo(vp, vp.plane(1), 'stopped');
    expect([vp.runnable, vp.plane(0).schedule, vp.plane(1).schedule]).toEqual([0b110, Schedule.Stopped, Schedule.Runnable]);
  });

  it('lowest-runnable: the lowest, plane 0 when there is none, -1 without plane 0 (LKML 20260608 47/60)', () => {
    const policy = new LowestRunnablePolicy();
    const { vp } = bareVp(0, 1, 2);
    expect([policy.select(vp), vp.runnable]).toEqual([0, 1]);
    vp.setSchedule(vp.plane(0), Schedule.Stopped);
    vp.setSchedule(vp.plane(2), Schedule.Runnable);
    vp.setSchedule(vp.plane(1), Schedule.Runnable);
    expect([policy.select(vp), vp.runnable]).toEqual([1, 0b110]);
    expect(policy.select(bareVp().vp)).toBe(-1);
  });

  it('lowest-runnable: pending events of plane 0 alone preempt, and not plane 0 itself (LKML 20260608 52/60)', () => {
    const policy = new LowestRunnablePolicy();
    const { vp } = bareVp(0, 1, 2);
    vp.setSchedule(vp.plane(1), Schedule.Runnable);
    const table: [current: number, pending: number, preempts: boolean][] = [[0, 0b111, false], [1, 0b110, false], [2, 0b010, false], [1, 0, false], [1, 0b001, true], [2, 0b101, true]];
    for (const [current, pending, preempts] of table) {
      vp.setSchedule(vp.plane(0), Schedule.Stopped);
      vp.current = current;
      vp.pending = pending;
      expect([policy.preempts(vp), vp.runnable]).toEqual([preempts, preempts ? 0b011 : 0b010]);
    }
    const without = bareVp(1).vp;
    without.current = 1;
    without.pending = 1;
    expect(policy.preempts(without)).toBe(false);
  });

  it('highest-runnable: pending events of planes above preempt, the highest of several that exist (TLFS, interrupt priority between levels)', () => {
    const policy = new HighestRunnablePolicy();
    for (const [current, pending, made] of [[0, 0b0001, 0], [0, 0b0010, 0b0010], [1, 0b0011, 0], [1, 0b1101, 0b1000], [1, 0b0101, 0b0100], [3, 0b1111, 0], [0, 0b10000, 0], [2, 0b1000, 0b1000], [2, 0b0111, 0]] as const) {
      const { vp } = bareVp(0, 1, 2, 3);
      vp.current = current;
      vp.pending = pending;
      expect([policy.preempts(vp), vp.runnable], `${current} ${pending.toString(2)}`).toEqual([made !== 0, made]);
    }
    const { vp } = bareVp(0, 1, 2, 3);
    expect(policy.select(vp)).toBe(-1);
    vp.runnable = 0b0110;
    expect(policy.select(vp)).toBe(2);
  });
});

describe('schedules and masks of a VP', () => {
  it('the runnable mask follows each plane', () => {
    const { vp } = bareVp(0, 3);
    expect([vp.plane(0).mask, vp.plane(3).mask]).toEqual([1, 8]);
    vp.setSchedule(vp.plane(3), Schedule.Runnable);
    vp.setSchedule(vp.plane(0), Schedule.Runnable);
    expect([vp.runnable, vp.plane(3).schedule]).toEqual([0b1001, 1]);
    vp.setSchedule(vp.plane(3), Schedule.Stopped);
    expect([vp.runnable, vp.plane(3).schedule]).toEqual([1, 0]);
  });

  it('a new VP and a new plane have counted nothing, wait for nothing and have nothing pending', () => {
    const { vp } = bareVp(0);
    expect(vp.statistics).toEqual({ switches: 0, exits: 0, halts: 0, wakes: 0, faults: 0, vmExits: 0, planeEvents: 0 });
    expect([vp.running, vp.current, vp.named, vp.pending, vp.asked, vp.reqExit, vp.recheck, vp.building, vp.runnable, vp.retired, vp.sliceEnd, vp.sliceExits, vp.timeBase, vp.timeRetired, vp.busLocks, vp.busLockUntil]).toEqual([-1, ...new Array<number>(15).fill(0)]);
    expect([vp.deadline, vp.immediateExit, vp.suspended, vp.exit, vp.planes.length]).toEqual([Number.POSITIVE_INFINITY, false, false, null, 16]);
    expect(vp.planeEvent).toEqual({ kind: 'planeEvent', cause: '', pending: 0, target: 0, flags: 0 });
    const c = vp.plane(0);
    expect([c.schedule, c.activity, c.wait, c.completion, c.edges, c.retired, c.instructionLength, c.clockOffset]).toEqual([Schedule.Stopped, Activity.Running, null, null, 0, 0, 0, 0]);
    expect(Activity).toEqual({ Running: 0, Halted: 1, WaitForSipi: 2, Held: 3 });
    expect(codeOf(() => vp.plane(1))).toBe('NoSuchPlane');
  });
});

/** Hooks that write down where a rule gives way, with the masks at that moment. */
const watched = (): { readonly hooks: Hooks; readonly points: string[] } => {
  const points: string[] = [];
  return { points, hooks: { trace: null, preemption: { at: (point, vp) => void points.push(`${point} ${vp!.pending.toString(2)} ${vp!.recheck.toString(2)}`) } } };
};

describe('rule irr (LKML 20250401 25/29)', () => {
  it('delivery: stored, then marked, then asked, and only a new bit that the running plane was asked about', () => {
    const { hooks, points } = watched();
    const rule = new IrrRule(hooks);
    const { vp } = bareVp(0, 1, 2);
    vp.running = 2;
    vp.reqExit = 0b010;
    rule.accepted(vp.plane(1), true);
    expect(points).toEqual(['deliver:stored 0 0', 'deliver:marked 10 0', 'deliver:asked 10 0']);
    expect([vp.pending, vp.recheck]).toEqual([0b010, 0b100]);
    vp.recheck = 0;
    rule.accepted(vp.plane(1), true);
    expect([vp.pending, vp.recheck]).toEqual([0b010, 0]);
    rule.accepted(vp.plane(0), true);
    expect([vp.pending, vp.recheck]).toEqual([0b011, 0]);
    rule.changed();
    expect(vp.pending).toBe(0b011);
  });

  it('delivery: unmaskable events, and a VP with one plane, mark nothing; running plane 0 is asked, no running plane is not', () => {
    const rule = new IrrRule({ trace: null, preemption: null });
    const { vp } = bareVp(0, 1);
    vp.reqExit = 0b11;
    rule.accepted(vp.plane(1), false);
    expect(vp.pending).toBe(0);
    rule.accepted(vp.plane(1), true);
    expect([vp.pending, vp.recheck]).toEqual([0b10, 0]);
    vp.running = 0;
    vp.pending = 0;
    rule.accepted(vp.plane(1), true);
    expect([vp.pending, vp.recheck]).toEqual([0b10, 1]);
    const alone = bareVp(0);
    alone.vp.reqExit = 1;
    alone.vp.running = 0;
    alone.events[0]!.isRequested = true;
    rule.accepted(alone.vp.plane(0), true);
    rule.leave(alone.vp.plane(0));
    expect([alone.vp.pending, alone.vp.recheck]).toEqual([0, 0]);
    alone.vp.pending = alone.vp.recheck = 1;
    rule.enter(alone.vp.plane(0));
    expect(alone.vp.pending).toBe(1);
    rule.leave(alone.vp.plane(0));
    expect(alone.vp.pending).toBe(1);
  });

  it('entry clears the own bit and asks for a look when an asked one was set before it', () => {
    for (const [pending, reqExit, after, recheck] of [[0b110, 0b100, 0b100, 0b010], [0b010, 0b100, 0, 0], [0b011, 0b010, 0b001, 0b010], [0, 0b111, 0, 0], [0b101, 0b010, 0b101, 0]] as const) {
      const { hooks, points } = watched();
      const { vp } = bareVp(0, 1, 2);
      vp.pending = pending;
      vp.reqExit = reqExit;
      new IrrRule(hooks).enter(vp.plane(1));
      expect([vp.pending, vp.recheck]).toEqual([after, recheck]);
      expect(points).toEqual([`enter:published ${pending.toString(2)} 0`, `enter:cleared ${after.toString(2)} ${recheck.toString(2)}`]);
    }
  });

  it('leaving computes the own bit again from the requests and keeps the others', () => {
    for (const isRequested of [false, true]) {
      const { hooks, points } = watched();
      const { vp, events } = bareVp(0, 1);
      vp.pending = 0b11;
      events[1]!.isRequested = isRequested;
      new IrrRule(hooks).leave(vp.plane(1));
      expect(vp.pending).toBe(isRequested ? 0b11 : 0b01);
      expect(points).toEqual(['leave:unpublished 11 0', 'leave:cleared 1 0']);
    }
  });

  it('due once, when the plane was asked to look: the pending planes that were asked about', () => {
    const rule = new IrrRule({ trace: null, preemption: null });
    const { vp } = bareVp(0, 1, 2);
    vp.pending = 0b110;
    vp.reqExit = 0b101;
    vp.recheck = 0b101;
    expect([rule.due(vp.plane(1)), vp.recheck]).toEqual([0, 0b101]);
    expect([rule.due(vp.plane(0)), vp.recheck]).toEqual([0b100, 0b100]);
    expect(rule.due(vp.plane(0))).toBe(0);
  });
});

describe('rule deliverable', () => {
  it('every notice but entry computes the own bit, and only that', () => {
    const { hooks, points } = watched();
    const rule = new DeliverableRule(hooks);
    const { vp, events } = bareVp(0, 1, 2);
    const c = vp.plane(1);
    vp.pending = 0b100;
    for (const notice of ['accepted', 'changed', 'leave'] as const) {
      events[1]!.isDeliverable = true;
      rule[notice](c);
      expect(vp.pending).toBe(0b110);
      events[1]!.isDeliverable = false;
      rule.enter(c);
      expect(vp.pending).toBe(0b110);
      rule[notice](c);
      expect(vp.pending).toBe(0b100);
    }
    const [stored, marked, enter, leave] = ['deliver:stored', 'deliver:marked', 'enter:published', 'leave:unpublished'];
    expect(points).toEqual([`${stored} 100 0`, `${marked} 110 0`, `${enter} 110 0`, `${stored} 110 0`, `${marked} 100 0`, `${enter} 110 0`, `${leave} 100 0`, `${enter} 110 0`, `${leave} 110 0`]);
  });

  it('due: pending planes that were asked about, never the own one', () => {
    const { vp } = bareVp(0, 1, 2);
    vp.pending = 0b111;
    vp.reqExit = 0b110;
    const rule = new DeliverableRule({ trace: null, preemption: null });
    expect([rule.due(vp.plane(0)), rule.due(vp.plane(1)), rule.due(vp.plane(2))]).toEqual([0b110, 0b100, 0b010]);
    vp.pending = 0b001;
    expect(rule.due(vp.plane(1))).toBe(0);
  });
});

describe('claims', () => {
  const table = (): ClaimTable => new ClaimTable(['call', 'io']);
  const owners = (claims: ClaimTable, ...keys: number[]): (string | null)[] => keys.map((key) => claims.find('call', key)?.name ?? null);

  it('both ends of a range are included, in every order of adding', () => {
    const rows = [{ exit: 'call', from: 10, to: 20 }, { exit: 'call', from: 21, to: 21 }, { exit: 'call', from: 30, to: 40 }];
    for (const order of [[0, 1, 2], [2, 1, 0], [1, 2, 0]]) {
      const claims = table();
      for (const i of order) claims.add(handler(`p${i}`, rows[i]!));
      expect(owners(claims, 9, 10, 20, 21, 22, 29, 30, 40, 41)).toEqual([null, 'p0', 'p0', 'p1', null, null, 'p2', 'p2', null]);
      expect(claims.find('io', 10)).toBeNull();
      expect(claims.list()).toEqual(rows.map((row, i) => ({ ...row, owner: `p${i}` })));
    }
  });

  it.each([[5, 10, 10], [20, 25, 20], [12, 15, 12], [5, 25, 10], [10, 10, 10], [20, 20, 20]])('from %i to %i overlaps 10 to 20 and names the first key that both claim, and leaves nothing', (from, to, key) => {
    const claims = table();
    claims.add(handler('first', { exit: 'call', from: 10, to: 20 }));
    expect(() => claims.add(handler('second', { exit: 'io', from: 1, to: 1 }, { exit: 'call', from, to }))).toThrow(expect.objectContaining({ code: 'DoubleClaim', details: { exit: 'call', key, claimants: ['first', 'second'] } }));
    expect(claims.find('io', 1)).toBeNull();
    expect(owners(claims, 9, 10, 20, 21)).toEqual([null, 'first', 'first', null]);
    expect(() => claims.add(handler('second', { exit: 'call', from, to }))).toThrow(`0x${key.toString(16)}`);
  });

  it.each([
    [5, 9], [5, 10], [21, 25], [9, 9], [21, 21],
  ])('beside or on the edge: %i to %i', (from, to) => {
    const claims = table();
    claims.add(handler('low', { exit: 'call', from: 10, to: 20 }));
    claims.add(handler('top', { exit: 'call', from, to }), ['low']);
    for (let key = 0; key < 30; key++) expect(owners(claims, key), `${key}`).toEqual([key >= from && key <= to ? 'top' : key >= 10 && key <= 20 ? 'low' : null]);
  });

  it.each([[10, 20], [12, 15], [10, 15], [15, 20], [8, 22], [11, 19], [10, 10], [20, 20], [10, 19], [11, 20], [5, 12], [19, 23]])('an extension takes %i to %i of 10 to 20 and of its neighbours; the rest stays', (from, to) => {
    const claims = table();
    claims.add(handler('low', { exit: 'call', from: 0, to: 9 }, { exit: 'call', from: 10, to: 20 }, { exit: 'call', from: 21, to: 40 }));
    claims.add(handler('top', { exit: 'call', from, to }), ['other', 'low']);
    for (let key = 0; key <= 41; key++) expect(owners(claims, key), `${key}`).toEqual([key >= from && key <= to ? 'top' : key <= 40 ? 'low' : null]);
    const rows = claims.list();
    for (const [i, row] of rows.entries()) {
      expect(row.from).toBeLessThanOrEqual(row.to);
      if (i > 0) expect(row.from).toBe(rows[i - 1]!.to + 1);
    }
  });

  it('an unknown exit kind and a range that ends before it begins are refused', () => {
    expect(codeOf(() => table().add(handler('p', { exit: 'cal', from: 1, to: 2 })))).toBe('BadConfig');
    expect(codeOf(() => table().add(handler('p', { exit: 'call', from: 3, to: 2 })))).toBe('BadConfig');
    expect(codeOf(() => table().add(handler('p', { exit: 'call', from: Number.NaN, to: 2 })))).toBe('BadConfig');
    expect(codeOf(() => table().add(handler('p', { exit: 'call', from: 2, to: 2 })))).toBe('none');
    const both = table();
    both.add(handler('p', { exit: 'io', from: 1, to: 2 }, { exit: 'call', from: 1, to: 2 }));
    expect(both.list().map((row) => row.exit)).toEqual(['call', 'io']);
    const three = new ClaimTable(['a', 'b', 'c', 'd']);
    three.add(handler('p', ...['b', 'd', 'a', 'c'].map((exit) => ({ exit, from: 1, to: 2 }))));
    expect(three.list().map((row) => row.exit)).toEqual(['a', 'b', 'c', 'd']);
    expect(codeOf(() => table().add(handler('p', { exit: 'call', from: 1, to: 2 }, { exit: 'call', from: 2, to: 3 })))).toBe('DoubleClaim');
  });
});

describe('the context layout', () => {
  const layout = (size: number, ...registers: [name: string, offset: number, size: number, group?: string][]): ContextLayout =>
    new ContextLayout(size, registers.map(([name, offset, bytes, group]) => ({ name, offset, size: bytes, ...(group === undefined ? {} : { groups: [group] }) })));

  it.each<[string, () => ContextLayout]>([
    ['an offset that is no multiple of 4', () => layout(64, ['a', 2, 4])],
    ['a size that is no multiple of 4', () => layout(64, ['a', 4, 6])],
    ['an empty register', () => layout(64, ['a', 4, 0])],
    ['a negative size', () => layout(64, ['a', 4, -4])],
    ['an overlap', () => layout(64, ['a', 0, 8], ['b', 4, 4])],
    ['falling offsets', () => layout(64, ['a', 8, 4], ['b', 0, 4])],
    ['a name twice', () => layout(64, ['a', 0, 4], ['a', 4, 4])],
    ['a block too small', () => layout(64, ['a', 0, 68])],
    ['a block that is no multiple of 64', () => layout(96, ['a', 0, 4])],
    ['a block of 65', () => layout(65, ['a', 0, 4])],
    ['a negative offset', () => layout(64, ['a', -4, 4])],
    ['an unknown name', () => new ContextLayout(64, []).select('a').length as never],
    ['an unknown register', () => layout(64, ['a', 0, 4, 'g']).register('g') as never],
  ])('refuses %s', (_title, make) => {
    expect(codeOf(make)).toBe('BadConfig');
  });

  it('takes registers side by side up to the last byte', () => {
    const l = layout(64, ['a', 0, 8, 'g'], ['b', 8, 4], ['c', 12, 52, 'g']);
    expect([l.register('b').offset, l.has('b'), l.has('g'), l.select('g').map((r) => r.name), l.select('b').map((r) => r.name)]).toEqual([8, true, false, ['a', 'c'], ['b']]);
  });

  it('shared registers side by side are one range, in words; a gap or a private one between makes two', () => {
    const l = layout(128, ['a', 4, 8, 'g'], ['b', 12, 4, 'g'], ['c', 16, 4], ['d', 24, 12, 'g'], ['e', 36, 4, 'g'], ['f', 40, 8]);
    const ranges = (shared: string[], except?: string[]): number[] => [...new Sharing(l, except ? { shared, except } : { shared }).ranges];
    expect(ranges(['g'])).toEqual([1, 3, 6, 4]);
    expect(ranges(['g', 'c'])).toEqual([1, 4, 6, 4]);
    expect(ranges(['g'], ['b'])).toEqual([1, 2, 6, 4]);
    expect(ranges(['g'], ['a', 'd'])).toEqual([3, 1, 9, 1]);
    expect(ranges(['f', 'e'])).toEqual([9, 3]);
    expect(ranges([])).toEqual([]);
    expect(ranges(['g'], ['g'])).toEqual([]);
    const sharing = new Sharing(l, { shared: ['g'], except: ['b'] });
    expect(['a', 'b', 'c', 'd'].map((name) => sharing.isShared(name))).toEqual([true, false, false, true]);
  });
});

/** xorshift128 with the shifts 11, 8 and 19, over arbitrary integers. */
const xorshift = (state: readonly number[], count: number): number[] => {
  let [x, y, z, w] = [state[3]!, state[2]!, state[1]!, state[0]!].map((n) => BigInt(n)) as [bigint, bigint, bigint, bigint];
  return Array.from({ length: count }, () => {
    const t = (x ^ (x << 11n)) & 0xffff_ffffn;
    [x, y, z] = [y, z, w];
    w = w ^ (w >> 19n) ^ t ^ (t >> 8n);
    return Number(w);
  });
};

describe('random numbers (Marsaglia, Xorshift RNGs, 2003: xorshift128)', () => {
  it('the sequence of any state is that of xorshift128', () => {
    for (const seed of [0, 1, 2, 77, 0x8000_0000, 0xffff_ffff]) {
      const random = new Random(seed);
      const expected = xorshift([...random.save()], 40);
      expect(Array.from({ length: 40 }, () => random.next())).toEqual(expected);
    }
    const random = new Random(1);
    // The state of the paper: x, y, z, w; the first numbers follow from it.
    random.restore(Uint32Array.of(88675123, 521288629, 362436069, 123456789));
    expect([random.next(), random.next(), random.next()]).toEqual([3701687786, 458299110, 2500872618]);
  });

  it('below is the fraction of 2^32 times n', () => {
    const [a, b] = [new Random(5), new Random(5)];
    const seen = new Set<number>();
    for (let i = 0; i < 200; i++) {
      const n = 1 + (i % 7);
      const got = a.below(n);
      expect(got).toBe(Number((BigInt(b.next()) * BigInt(n)) >> 32n));
      seen.add(got);
    }
    expect([...seen].sort()).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });

  it('near seeds start apart, the state is never all zero, and a restored one goes on alike', () => {
    const states = [0, 1, 2, 3, 0xffff_ffff].map((seed) => [...new Random(seed).save()]);
    for (const [i, a] of states.entries()) {
      expect(a[3]! & 1).toBe(1);
      for (const b of states.slice(i + 1)) expect(a.filter((word, k) => word === b[k])).toEqual([]);
    }
    // A machine records only its seed: the state it stands for must stay the same from version to version.
    expect(states[0]).toEqual(seedState(0));
    expect(states[1]).toEqual(seedState(1));
    expect(states[4]).toEqual(seedState(0xffff_ffff));
    const random = new Random(9);
    random.next();
    const saved = random.save();
    const then = [random.next(), random.next()];
    random.restore(saved);
    expect([random.next(), random.next()]).toEqual(then);
  });
});

/** The documented spreading of a seed over four words, over arbitrary integers. */
const seedState = (seed: number): number[] => {
  const words: number[] = [];
  for (let x = BigInt(seed); words.length < 4; ) {
    x = ((((x ^ (x >> 15n)) * 0x2c1b3c6dn) & 0xffff_ffffn) + 0x9e3779b9n) & 0xffff_ffffn;
    words.push(Number(words.length === 3 ? x | 1n : x));
  }
  return words;
};
