import { runExits, runVmplGuest } from './vmpl-rows.ts';

// Run under `--trace-gc --expose-gc`: what the collector prints between the two marks happened during the switches.
const ROUND_TRIPS = 1_000_000;
const guest = runVmplGuest();
runExits(guest, 400_000);
// What start and warm-up left is not the switches'.
globalThis.gc?.();
const before = guest.vp.statistics.switches;
process.stdout.write('begin\n');
runExits(guest, 2 * ROUND_TRIPS);
process.stdout.write(`end ${guest.vp.statistics.switches - before}\n`);
