import { describe, expect, it } from 'vitest';
import { policies } from './bench.ts';
import { emptyTally, runSession, summaryOf } from './fuzz.ts';

const SESSIONS = 40;
const ACTS = 100;

describe('random guests of two VPs with up to three VTLs', () => {
  it('never cause an error of the host, never break an invariant, do the same again, and cannot tell the policies apart', { timeout: 120_000 }, () => {
    const tally = emptyTally();
    for (let seed = 1; seed <= SESSIONS; seed++) {
      const end = runSession(seed, ACTS, { checkOneIn: 1 }, tally);
      if (seed % 8 === 0) expect(runSession(seed, ACTS, { checkOneIn: 1000 }, emptyTally()), `seed ${seed} a second time`).toEqual(end);
      if (seed % 8 === 4) {
        const [first, second] = policies.map((policy) => runSession(seed, ACTS, { checkOneIn: 1000 }, emptyTally(), policy).seen);
        expect(first, `seed ${seed} under the other policy`).toBe(second);
      }
    }
    console.log(summaryOf(tally));
    // What they do is not silence.
    expect(tally.done).toBeGreaterThan(SESSIONS * ACTS * 0.5);
    expect(tally.switches).toBeGreaterThan(SESSIONS * 10);
    expect(tally.succeeded.size).toBeGreaterThan(10);
  });
});
