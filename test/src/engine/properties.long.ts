import { expect, it } from 'vitest';
import { runWorlds } from './random-runs.ts';

it.each([1, 2, 3, 4, 5, 6, 7, 8])('random programs, long: seed %i', (seed) => {
  const tally = runWorlds(500, 10, 200, seed);
  expect(tally.cuts).toBeGreaterThanOrEqual(5000);
});
