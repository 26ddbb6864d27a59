import type { PlaneContext } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { CpuidResults } from './cpuid-results.ts';

const at = (vp: number, plane: number): PlaneContext => ({ vp: { index: vp }, plane }) as never;
/** Value and mask of EAX, EBX, ECX, EDX. */
const words = (...pairs: number[]): readonly number[] => pairs;
const ONES = 0xffff_ffff;
const apply = (results: CpuidResults, c: PlaneContext, leaf: number, subleaf: number, start = [0x1111_1111, 0x2222_2222, 0x3333_3333, 0x4444_4444]): readonly number[] => {
  const out = Uint32Array.from(start);
  results.apply(c, leaf, subleaf, out);
  return [...out];
};
const OLD = [0x1111_1111, 0x2222_2222, 0x3333_3333, 0x4444_4444];

describe('registered results of CPUID', () => {
  it('change the bits of their masks, register by register', () => {
    const results = new CpuidResults();
    expect(results.isEmpty).toBe(true);
    results.register({ vp: -1, by: 1, leaf: 7, subleaf: -1, words: words(0xaaaa_aaaa, 0xff, 0xbbbb_bbbb, 0xff00, 0xcccc_cccc, 0xff_0000, 0xdddd_dddd, 0xff00_0000) });
    expect(results.isEmpty).toBe(false);
    expect(apply(results, at(0, 0), 7, 0)).toEqual([0x1111_11aa, 0x2222_bb22, 0x33cc_3333, 0xdd44_4444]);
    expect(apply(results, at(0, 0), 6, 0)).toEqual(OLD);
  });
  it('are for VTLs below, for one VP or all, for one sub-leaf or any', () => {
    const results = new CpuidResults();
    const full = (n: number): readonly number[] => words(n, ONES, 0, 0, 0, 0, 0, 0);
    results.register({ vp: 0, by: 1, leaf: 7, subleaf: 0, words: full(1) });
    results.register({ vp: 3, by: 2, leaf: 7, subleaf: 5, words: full(2) });
    const eax = (vp: number, plane: number, leaf: number, subleaf: number): number => apply(results, at(vp, plane), leaf, subleaf)[0]!;
    expect([eax(0, 0, 7, 0), eax(0, 1, 7, 0), eax(1, 0, 7, 0), eax(0, 0, 7, 1), eax(0, 0, 8, 0)]).toEqual([1, 0x1111_1111, 0x1111_1111, 0x1111_1111, 0x1111_1111]);
    expect([eax(3, 0, 7, 5), eax(3, 1, 7, 5), eax(3, 2, 7, 5), eax(3, 0, 7, 0), eax(0, 0, 7, 5)]).toEqual([2, 2, 0x1111_1111, 0x1111_1111, 0x1111_1111]);
  });
  it('of several VTLs are put in in the order they came', () => {
    const results = new CpuidResults();
    results.register({ vp: -1, by: 2, leaf: 1, subleaf: -1, words: words(0xff, 0xff, 0, 0, 0, 0, 0, 0) });
    results.register({ vp: -1, by: 1, leaf: 1, subleaf: -1, words: words(0, 0xf, 0, 0, 0, 0, 0, 0) });
    expect([apply(results, at(0, 0), 1, 0)[0], apply(results, at(0, 1), 1, 0)[0]]).toEqual([0x1111_11f0, 0x1111_11ff]);
  });
  it('replace only their own, and go one by one', () => {
    const results = new CpuidResults();
    const key = { vp: 1, by: 1, leaf: 2, subleaf: 3 };
    const near = [{ ...key, vp: 2 }, { ...key, by: 2 }, { ...key, leaf: 3 }, { ...key, subleaf: 4 }];
    for (const [n, row] of [key, ...near].entries()) results.register({ ...row, words: words(n, ONES, 0, 0, 0, 0, 0, 0) });
    results.register({ ...key, words: words(9, ONES, 0, 0, 0, 0, 0, 0) });
    expect((results.save() as readonly unknown[]).length).toBe(5);
    expect([results.unregister({ ...key, vp: 9 }), results.unregister(key), results.unregister(key)]).toEqual([false, true, false]);
    expect(near.map((row) => results.unregister(row))).toEqual([true, true, true, true]);
    expect(results.isEmpty).toBe(true);
  });
  it('are saved and restored as copies', () => {
    const results = new CpuidResults(), other = new CpuidResults();
    results.register({ vp: 1, by: 1, leaf: 2, subleaf: 3, words: words(1, 2, 3, 4, 5, 6, 7, 8) });
    const saved = results.save();
    other.restore(saved);
    expect(other.save()).toEqual([{ vp: 1, by: 1, leaf: 2, subleaf: 3, words: [1, 2, 3, 4, 5, 6, 7, 8] }]);
    results.reset();
    expect([results.isEmpty, other.isEmpty]).toEqual([true, false]);
  });
});
