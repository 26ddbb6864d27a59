import { afterAll, describe, expect, it } from 'vitest';
import { type Bounds, explore, replayChoices, summary } from '../explore/explorer.ts';
import { policies } from './bench.ts';
import { flushWaited, lockScenario, type ScenarioName, scenarios } from './worlds.ts';

const lines: string[] = [];
afterAll(() => console.log(lines.join('\n')));

const depths: readonly (readonly [name: ScenarioName, depth: number])[] = [['enable', 4], ['call and return', 3], ['intercept', 5], ['IPI', 5], ['TLB lock until the return', 4], ['TLB lock until it is taken off', 4]];
const bounds = (depth: number): Bounds => ({ depth, intrusions: 0, resumeOneIn: 64 });

describe.each(policies)('two VPs with two VTLs under %s', (policy) => {
  it.each(depths)('%s, depth %i: no order breaks an invariant, loses an interrupt or leaves anybody asleep', (name, depth) => {
    const report = explore(scenarios[name](policy), bounds(depth));
    lines.push(summary(report));
    expect(report.failure).toBeNull();
    expect(report.states).toBeGreaterThan(10);
  });
  it('a flush waits when VTL1 took the lock before', () => {
    // VP 0: the VTL call, then the lock; then the flush of VP 1.
    const { why, world } = replayChoices(lockScenario(policy, 'return'), bounds(4), [0, 0, 0, 1]);
    expect([why, flushWaited(world)]).toEqual([null, true]);
  });
  it('a lock that ends without a word is found: the flush is never done', () => {
    const { failure } = explore(lockScenario(policy, 'return', (guest) => void (guest.machine.release = () => {})), bounds(4));
    expect(failure?.why).toContain('the flush is not done');
  });
  it('a lock that holds nothing up is found: translations go while it is held', () => {
    const broken = lockScenario(policy, 'return', (guest) => void (guest.hv.chapters.vsm.isTlbLocked = () => false));
    expect(explore(broken, bounds(4)).failure?.why).toContain('under a lock');
  });
});
