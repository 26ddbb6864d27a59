import { describe, expect, it } from 'vitest';
import { emptyTally, runSession } from './fuzz.ts';

const SESSIONS = 40;
const ACTS = 120;

describe('random guests of two VPs with up to three VTLs', () => {
  it('never cause an error of the host, never break an invariant, and do the same again', { timeout: 120_000 }, () => {
    const tally = emptyTally();
    for (let seed = 1; seed <= SESSIONS; seed++) {
      const end = runSession(seed, ACTS, { checkOneIn: 1 }, tally);
      if (seed % 8 === 0) expect(runSession(seed, ACTS, { checkOneIn: 1000 }, emptyTally()), `seed ${seed} a second time`).toBe(end);
    }
    console.log(JSON.stringify(tally));
    // What they do is not silence.
    expect(tally.done).toBeGreaterThan(SESSIONS * ACTS * 0.5);
    expect(tally.switches).toBeGreaterThan(SESSIONS * 10);
    expect(tally.successes).toBeGreaterThan(SESSIONS * 5);
  });
});
