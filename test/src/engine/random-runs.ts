import { deepStrictEqual } from 'node:assert';
import { serialize } from 'node:v8';
import type { Snapshot } from '@vmplanes/engine';
import fc from 'fast-check';
import { build, type Play, step, type World, worlds } from './programs.ts';

const bytes = (snapshot: Snapshot): Buffer => serialize(snapshot);

/** Compares cheaply, and says what differs when it does. */
const same = (actual: Play, expected: Snapshot, expectedBytes: Buffer, what: string): void => {
  const snapshot = actual.machine.snapshot();
  if (!bytes(snapshot).equals(expectedBytes)) deepStrictEqual(snapshot, expected, what);
};

/** What a run of random worlds did, so that a test can see that it did something. */
export interface Tally {
  worlds: number;
  cuts: number;
  checks: number;
  switches: number;
  exits: number;
  events: number;
  faults: number;
}

/**
 * Runs one world with all invariants, then again without (the two must be equal), then from cut points in a fresh machine:
 * the rest must be equal too, event by event and in the final state.
 */
const check = (world: World, steps: number, cuts: readonly number[], tally: Tally): void => {
  const whole = build(world, true);
  const saved: { readonly at: number; readonly log: number; readonly driver: Play['driver']; readonly snapshot: Snapshot }[] = [];
  const points = new Set(cuts.map((c) => c % steps));
  for (let i = 0; i < steps; i++) {
    if (points.has(i)) saved.push({ at: i, log: whole.log.length, driver: { ...whole.driver }, snapshot: structuredClone(whole.machine.snapshot()) });
    step(whole);
  }
  const end = whole.machine.snapshot();
  const endBytes = bytes(end);
  const again = build(world, false);
  for (let i = 0; i < steps; i++) step(again);
  same(again, end, endBytes, 'the same world run twice');
  deepStrictEqual(again.log, whole.log);
  for (const cut of saved) {
    const rest = build(world, false);
    rest.machine.restore(cut.snapshot);
    Object.assign(rest.driver, cut.driver);
    rest.log.length = 0;
    for (let i = cut.at; i < steps; i++) step(rest);
    same(rest, end, endBytes, `restored at step ${cut.at}`);
    deepStrictEqual(rest.log, whole.log.slice(cut.log), `events after step ${cut.at}`);
    tally.cuts++;
  }
  tally.worlds++;
  tally.checks += whole.machine.checks!.count;
  tally.events += whole.log.length;
  for (const vp of whole.machine.vps) {
    tally.switches += vp.statistics.switches;
    tally.exits += vp.statistics.vmExits;
    tally.faults += vp.statistics.faults;
  }
};

/** @param cutsEach - cut points of every world. @throws with the smallest world that fails. */
export const runWorlds = (runs: number, cutsEach: number, steps: number, seed: number): Tally => {
  const tally: Tally = { worlds: 0, cuts: 0, checks: 0, switches: 0, exits: 0, events: 0, faults: 0 };
  fc.assert(
    fc.property(worlds, fc.uniqueArray(fc.nat(steps - 1), { minLength: cutsEach, maxLength: cutsEach }), (world, cuts) => check(world, steps, cuts, tally)),
    { numRuns: runs, seed, endOnFailure: false },
  );
  return tally;
};
