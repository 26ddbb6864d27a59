import { ALL_RIGHTS, HostError, PAGE_LIMIT, PageTree } from '@vmplanes/engine';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

/** Page numbers that matter: small, around powers of 64, at the end of the space. */
const pages = fc.oneof(
  fc.nat(300),
  fc.tuple(fc.constantFrom(64, 4096, 2 ** 18, 2 ** 24, 2 ** 30, 2 ** 31, 2 ** 32, 2 ** 36), fc.integer({ min: -70, max: 70 })).map(([a, b]) => Math.max(0, a + b)),
  fc.nat(200).map((n) => PAGE_LIMIT - 1 - n),
);
const counts = fc.oneof(fc.integer({ min: 1, max: 200 }), fc.constantFrom(64, 4096, 2 ** 18, 2 ** 31, 2 ** 33, PAGE_LIMIT));
const updates = fc.array(fc.record({ first: pages, count: counts, keep: fc.constantFrom(0, 0, 0, 31, 29, 3), bits: fc.nat(31) }), { minLength: 1, maxLength: 30 });

/** The same map as a list of edges: naive and obviously right. */
class Model {
  runs: { first: number; value: number }[] = [{ first: 0, value: ALL_RIGHTS }];
  get(gpn: number): number {
    return this.runs.findLast((r) => r.first <= gpn)!.value;
  }
  update(first: number, end: number, keep: number, bits: number): boolean {
    const edges = [...new Set([...this.runs.map((r) => r.first), first, ...(end < PAGE_LIMIT ? [end] : [])])].sort((a, b) => a - b);
    const next = edges.map((e) => ({ first: e, value: e >= first && e < end ? (this.get(e) & keep) | bits : this.get(e) }));
    const changed = edges.some((e, i) => this.get(e) !== next[i]!.value);
    this.runs = next.filter((r, i) => i === 0 || r.value !== next[i - 1]!.value);
    return changed;
  }
}

describe('page tree', () => {
  it('is the same map as a list of ranges, whatever the order of updates', () => {
    fc.assert(
      fc.property(updates, (steps) => {
        const tree = new PageTree(ALL_RIGHTS);
        const model = new Model();
        for (const { first, count, keep, bits } of steps) {
          const end = Math.min(first + count, PAGE_LIMIT);
          const generation = tree.generation;
          const changed = tree.update(first, end - first, keep, bits);
          expect(changed).toBe(model.update(first, end, keep, bits));
          expect(tree.generation).toBe(generation + (changed ? 1 : 0));
          for (const { first: edge, value } of model.runs) {
            expect(tree.get(edge)).toBe(value);
            if (edge > 0) expect(tree.get(edge - 1)).toBe(model.get(edge - 1));
          }
        }
        expect([...tree.save()]).toEqual(model.runs.flatMap((r) => [r.first, r.value]));
        model.runs.forEach((r, i) => expect(tree.runEnd(r.first)).toBe(model.runs[i + 1]?.first ?? PAGE_LIMIT));
        const copy = new PageTree(0);
        copy.restore(tree.save());
        expect(copy.save()).toEqual(tree.save());
        tree.set(0, PAGE_LIMIT, 7);
        expect(tree.size).toBe(0);
        expect(tree.depth(12345)).toBe(0);
      }),
      { numRuns: 300 },
    );
  });

  it('says which bits some page lost and gained', () => {
    const tree = new PageTree(ALL_RIGHTS);
    tree.set(100, 10, 1);
    expect([tree.removed, tree.added]).toEqual([30, 0]);
    tree.set(105, 10, 2);
    expect([tree.removed, tree.added]).toEqual([29, 2]);
    expect(tree.set(105, 10, 2)).toBe(false);
    expect([tree.removed, tree.added]).toEqual([0, 0]);
  });

  it('folds equal neighbours back into one entry', () => {
    const tree = new PageTree(ALL_RIGHTS);
    for (let gpn = 0; gpn < 8192; gpn++) tree.set(gpn, 1, gpn & 1 ? 3 : 1);
    expect(tree.size).toBeGreaterThan(128);
    for (let gpn = 0; gpn < 8192; gpn++) tree.set(gpn, 1, 1);
    expect(tree.size).toBeLessThan(5);
    tree.set(0, 8192, ALL_RIGHTS);
    expect(tree.size).toBe(0);
  });

  it('looks up a page among 10^6 ranges in at most twice the steps it takes among 10^3', () => {
    const steps = (ranges: number): number => {
      const tree = new PageTree(ALL_RIGHTS);
      for (let i = 0; i < ranges; i++) tree.set(i * 2, 1, 1 + (i % 30));
      let most = 0;
      for (let gpn = 0; gpn < ranges * 2; gpn += 997) most = Math.max(most, tree.depth(gpn));
      expect(tree.get(2 * 500)).toBe(1 + (500 % 30));
      expect(tree.size).toBeLessThan((ranges * 2) / 64 * 1.1 + 5);
      return most;
    };
    const few = steps(1e3);
    const many = steps(1e6);
    expect(few).toBe(2);
    expect(many).toBe(4);
  });

  it.each([
    ['1 page', 0, 1],
    ['2 MiB', 512, 512],
    ['1 GiB', 2 ** 18, 2 ** 18],
    ['1 PiB', 2 ** 30, 2 ** 38],
  ])('a range of %s touches a few nodes only', (_name, first, count) => {
    const tree = new PageTree(ALL_RIGHTS);
    tree.set(first, count, 1);
    expect(tree.size).toBeLessThan(15);
    expect(tree.get(first + count - 1)).toBe(1);
    expect(tree.get(first + count)).toBe(ALL_RIGHTS);
  });

  it.each([
    [0, 0],
    [-1, 2],
    [0.5, 1],
    [PAGE_LIMIT - 1, 2],
    [PAGE_LIMIT, 1],
    [NaN, 1],
  ])('refuses the range %d + %d', (first, count) => {
    expect(() => new PageTree(0).set(first, count, 1)).toThrow(HostError);
  });
});
