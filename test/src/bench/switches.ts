import { callingRig, mostShared, runCalls } from './rigs.ts';

// Run under `--trace-gc`: what the collector prints between the two marks happened during the switches.
const SWITCHES = 10_000_000;
const rig = callingRig('switch', mostShared);
runCalls(rig, 2_000_000);
// What start-up and warm-up left must not be collected during the switches.
globalThis.gc?.();
const before = rig.vp.statistics.switches;
process.stdout.write('begin\n');
runCalls(rig, SWITCHES);
process.stdout.write(`end ${rig.vp.statistics.switches - before}\n`);
