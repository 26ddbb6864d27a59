import { afterAll, describe, expect, it } from 'vitest';
import { broken, exploreRace, settings, to } from './race-rows.ts';
import { RaceWorld } from './rule-world.ts';

const total = { states: 0, transitions: 0, depth: 0 };

/**
 * Every order of one or two deliveries against the entries and epilogues of a VP's runs, on the run loop, policies and
 * rules of the product. Nothing bounds the depth: a run of the VMM is followed to where nothing can go on.
 * @spec LKML 2025-04-01 "KVM: VM planes" 25/29, with the corrections of 2025-04-21
 */
describe('delivery against run entry and epilogue, all orders', () => {
  const targets = [to(0), to(1), to(2), to(0, 1), to(0, 2), to(1, 2)];
  it.each(settings.flatMap(([name, setting]) => targets.map((deliveries) => [name, deliveries.map((d) => d.plane).join(' and '), setting, deliveries] as const)))(
    '%s: interrupts for plane %s are neither lost nor slept over',
    (name, _planes, setting, deliveries) => {
      const report = exploreRace(name, setting, deliveries);
      expect(report.failure).toBeNull();
      expect(report.settled).toBeGreaterThan(0);
      total.states += report.states;
      total.transitions += report.transitions;
      total.depth = Math.max(total.depth, report.depth);
    },
  );

  afterAll(() => console.log(`explored ${total.states} states, ${total.transitions} transitions, longest order ${total.depth}`));
});

describe('the same with one line of the order broken', () => {
  it.each(broken)('%s: %s reports it', (name, invariant, setting, deliveries) => {
    const { failure } = exploreRace(name, setting, deliveries);
    expect(failure?.why.join('\n')).toContain(invariant);
    const world = new RaceWorld({ ...setting, name, deliveries });
    // The order alone reproduces it.
    expect(world.weaver.replay(world.weave(), failure!.order).why).toEqual(failure!.why);
  });
});
