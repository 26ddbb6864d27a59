import { describe, expect, it } from 'vitest';
import { wanderOnce } from './svsm-fuzz.ts';

describe('guests that do anything below the built-in SVSM', () => {
  it.each([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])('seed %i: no error of the host, every invariant holds', async (seed) => {
    const { result, calls, checks } = await wanderOnce(seed, 60);
    expect(['finished', 'idle', 'exit', 'shutdown', 'slices']).toContain(result.reason);
    expect(calls).toBeGreaterThan(2);
    expect(checks).toBeGreaterThan(100);
  }, 60_000);
  it.each([13, 14, 15])('seed %i with the deviations of COCONUT', async (seed) => {
    const deviations = ['remapCurrent', 'tpmOversize', 'attestationCall', 'attestationOrder', 'runError', 'firstEntry', 'uncheckedPages'];
    const { result } = await wanderOnce(seed, 60, { deviations });
    expect(['finished', 'idle', 'exit', 'shutdown', 'slices']).toContain(result.reason);
  }, 60_000);
  it.each([21, 22])('seed %i: twice the same', async (seed) => {
    const [a, b] = [await wanderOnce(seed, 40, { check: false }), await wanderOnce(seed, 40, { check: false })];
    expect(Buffer.compare(a.last, b.last)).toBe(0);
  }, 60_000);
  it.each([[1, 1], [2, 2], [4, 3], [5, 5], [6, 9], [7, 12], [8, 17], [11, 25]])('seed %i: saved after %i slices it goes on the same', async (seed, cut) => {
    const straight = await wanderOnce(seed, 40, { check: false });
    const broken = await wanderOnce(seed, 40, { check: false, cut });
    expect(Buffer.compare(straight.last, broken.last)).toBe(0);
  }, 60_000);
});
