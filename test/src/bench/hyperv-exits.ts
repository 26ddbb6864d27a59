import { runGuest, simpleCallGuest, switchingGuest } from './hyperv-rows.ts';

// Run under `--trace-gc --expose-gc`: what the collector prints between the two marks happened during the calls or switches.
const EXITS = 10_000_000;
const guests = { fast: () => simpleCallGuest(false), slow: () => simpleCallGuest(true), switch: switchingGuest } as const;

for (const [name, make] of Object.entries(guests)) {
  const guest = make();
  runGuest(guest, 1_000_000);
  // What start and warm-up left is not the calls'.
  globalThis.gc?.();
  const before = guest.vp.statistics.exits;
  process.stdout.write(`begin ${name}\n`);
  runGuest(guest, EXITS);
  process.stdout.write(`end ${name} ${guest.vp.statistics.exits - before}\n`);
}
