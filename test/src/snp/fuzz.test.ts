import { describe, expect, it } from 'vitest';
import { emptyTally, runSession, summaryOf } from './fuzz.ts';

const SESSIONS = 24;
const ACTS = 120;

describe('random guests of two VPs with up to three VMPLs', () => {
  it('never cause an error of the host, never break an invariant, and do the same again', { timeout: 300_000 }, () => {
    const tally = emptyTally();
    for (let seed = 1; seed <= SESSIONS; seed++) {
      const end = runSession(seed, ACTS, 1, tally);
      if (seed % 6 === 0) expect(runSession(seed, ACTS, 1000, emptyTally()), `seed ${seed} a second time`).toBe(end);
    }
    console.log(summaryOf(tally));
    // What they do is not silence.
    expect(tally.done).toBeGreaterThan(SESSIONS * ACTS * 0.5);
    expect(tally.switches).toBeGreaterThan(SESSIONS * 5);
    expect(tally.met.size).toBeGreaterThan(10);
  });
});
