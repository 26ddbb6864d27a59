import { describe, expect, it } from 'vitest';
import type { CallFrame } from './dispatcher/call-frame.ts';
import { isTarget, targetAll, targetMask, targetSet } from './vp-set.ts';

/** A call in a machine with so many VPs, with a set at byte 16 of its input and banks behind it. */
const call = (vps: number, set: readonly number[] = [], banks: readonly (readonly [lo: number, hi: number])[] = []): CallFrame =>
  ({
    hv: { machine: { vps: { length: vps } } },
    targetsLo: 0xdead,
    targetsHi: 0xbeef,
    units: banks.length,
    input: { words: Uint32Array.from([9, 9, 9, 9, ...set]) },
    unitLo: (i: number) => banks[i]![0],
    unitHi: (i: number) => banks[i]![1],
  }) as never;
const targets = (c: CallFrame): readonly number[] => Array.from({ length: 70 }, (_, vp) => vp).filter((vp) => isTarget(c, vp));
const upTo = (n: number): readonly number[] => Array.from({ length: n }, (_, vp) => vp);

describe('masks', () => {
  it.each([1, 2, 31, 32, 33, 63, 64])('of a machine with %i VPs name those that exist', (vps) => {
    const c = call(vps);
    targetAll(c);
    expect(targets(c)).toEqual(upTo(vps));
    targetMask(c, 0xffff_ffff, 0xffff_ffff);
    expect(targets(c)).toEqual(upTo(vps));
    targetMask(c, 0, 0);
    expect(targets(c)).toEqual([]);
  });
  it('name each VP by its bit', () => {
    const c = call(64);
    targetMask(c, 0x8000_0005, 0x8000_0001);
    expect(targets(c)).toEqual([0, 2, 31, 32, 63]);
  });
});

describe('sets', () => {
  // Format low and high, bank mask low and high; then the banks. @spec TLFS HV_VP_SET
  it.each([
    ['all VPs', [1, 0, 0, 0], [], 0, [0, 1, 2, 3]],
    ['all VPs, whatever the banks', [1, 0, 7, 7], [[0, 0]], 0, [0, 1, 2, 3]],
    ['one bank', [0, 0, 1, 0], [[6, 0]], 0, [1, 2]],
    ['no bank', [0, 0, 0, 0], [], 0, []],
    ['a bank that does not exist', [0, 0, 2, 0], [[0xf, 0]], 0, []],
    ['three banks, the first counts', [0, 0, 0x8000_0001, 1], [[5, 0], [0xf, 0], [0xf, 0]], 0, [0, 2]],
    ['32 banks', [0, 0, 0xffff_ffff, 0], Array.from({ length: 32 }, (_, i) => [i === 0 ? 8 : 7, 0]), 0, [3]],
    ['an unknown format', [2, 0, 0, 0], [], 5, null],
    ['a format of 64 bits', [0, 1, 0, 0], [], 5, null],
    ['all VPs of 64 bits', [1, 1, 0, 0], [], 5, null],
    ['too few banks', [0, 0, 3, 0], [[1, 0]], 5, null],
    ['too many banks', [0, 0, 1, 0], [[1, 0], [1, 0]], 5, null],
    ['a bank of the upper half missing', [0, 0, 1, 1], [[1, 0]], 5, null],
  ] as const)('%s', (_what, set, banks, status, expected) => {
    const c = call(4, set, banks as readonly (readonly [number, number])[]);
    expect(targetSet(c, 16, 0)).toBe(status);
    if (expected !== null) expect(targets(c)).toEqual(expected);
  });
  it('may have other units before their banks', () => {
    const c = call(64, [0, 0, 1, 0], [[9, 9], [1, 2]]);
    expect([targetSet(c, 16, 1), targets(c), targetSet(c, 16, 0), targetSet(call(64, [0, 0, 1, 0], [[9, 9]]), 16, 1)]).toEqual([0, [0, 33], 5, 5]);
  });
});
