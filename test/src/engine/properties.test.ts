import { expect, it } from 'vitest';
import { runWorlds } from './random-runs.ts';

it('random programs over 3 VPs and 4 planes never break an invariant; 1,000 random cut points restore to the same rest of the run', { timeout: 120_000 }, () => {
  const tally = runWorlds(100, 10, 60, 20250401);
  expect(tally.cuts).toBeGreaterThanOrEqual(1000);
  // The programs do something: what is compared is not silence.
  expect(tally.switches).toBeGreaterThan(1000);
  expect(tally.exits).toBeGreaterThan(500);
  expect(tally.faults).toBeGreaterThan(500);
  expect(tally.events).toBeGreaterThan(50_000);
});
