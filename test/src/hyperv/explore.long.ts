import { describe, expect, it } from 'vitest';
import { explore, summary } from '../explore/explorer.ts';
import { policies } from './bench.ts';
import { type ScenarioName, scenarios } from './worlds.ts';

const depths: readonly (readonly [name: ScenarioName, depth: number])[] = [['enable', 7], ['call and return', 6], ['intercept', 9], ['IPI', 9], ['TLB lock until the return', 7], ['TLB lock until it is taken off', 7]];

describe.each(policies)('two VPs with two VTLs under %s', (policy) => {
  it.each(depths)('%s, depth %i', (name, depth) => {
    const report = explore(scenarios[name](policy), { depth, intrusions: 0, resumeOneIn: 256 });
    console.log(summary(report));
    expect(report.failure).toBeNull();
  });
});
