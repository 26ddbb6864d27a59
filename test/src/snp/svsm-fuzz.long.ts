import { expect, it } from 'vitest';
import { wanderOnce } from './svsm-fuzz.ts';

const STEPS = 1_000_000;
const ACTS = 400;
const FIRST_SEED = 1000;
/** Parts of the run, each a test of its own. */
const PARTS = 20;

it.each(Array.from({ length: PARTS }, (_, part) => part))('guests that do anything below the built-in SVSM, long: part %i', async (part) => {
  let done = 0;
  let calls = 0;
  let seeds = 0;
  for (let seed = FIRST_SEED + part; done < STEPS / PARTS; seed += PARTS) {
    const one = await wanderOnce(seed, ACTS, { check: seed % 4 === 0 });
    done += one.retired;
    calls += one.calls;
    if (seeds++ % 16 === 0) expect(Buffer.compare((await wanderOnce(seed, ACTS, { check: seed % 4 === 0 })).last, one.last), `seed ${seed} a second time`).toBe(0);
  }
  console.log(`${seeds} guests, ${done} steps, ${calls} times at VMPL0`);
});
