import { msrGuest, naeGuest } from './snp-rows.ts';

// Run under `--trace-gc --expose-gc`: what the collector prints between the two marks happened during the requests.
const EXITS = 2_000_000;
const guests = { msr: msrGuest, nae: naeGuest } as const;

for (const [name, make] of Object.entries(guests)) {
  const { machine, vp } = make();
  const run = (n: number): void => {
    vp.sliceEnd = vp.retired + n;
    machine.runVp(vp);
  };
  run(200_000);
  // What start and warm-up left is not the requests'.
  globalThis.gc?.();
  const before = vp.statistics.exits;
  process.stdout.write(`begin ${name}\n`);
  run(EXITS);
  process.stdout.write(`end ${name} ${vp.statistics.exits - before}\n`);
}
