import { expect, it } from 'vitest';
import { emptyTally, runSession, summaryOf } from './fuzz.ts';

const STEPS = 1_000_000;
const ACTS = 400;
const FIRST_SEED = 1000;
/** Parts of the run, each a test of its own. */
const PARTS = 20;

it.each(Array.from({ length: PARTS }, (_, part) => part))('random SEV-SNP guests, long: part %i', (part) => {
  const tally = emptyTally();
  for (let seed = FIRST_SEED + part; tally.done < STEPS / PARTS; seed += PARTS) {
    const end = runSession(seed, ACTS, 16, tally);
    if (tally.sessions % 16 === 0) expect(runSession(seed, ACTS, 16, emptyTally()), `seed ${seed} a second time`).toBe(end);
  }
  console.log(summaryOf(tally));
});
