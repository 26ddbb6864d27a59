import { describe, expect, it } from 'vitest';
import { explore, summary } from '../explore/explorer.ts';
import { policies } from './bench.ts';
import { type ScenarioName, scenarios } from './worlds.ts';

const depths: readonly (readonly [name: ScenarioName, depth: number])[] = [['enable', 10], ['call and return', 9], ['intercept', 14], ['IPI', 14], ['TLB lock until the return', 10], ['TLB lock until it is taken off', 10]];

describe.each(policies)('two VPs with two VTLs under %s', (policy) => {
  it.each(depths)('%s, depth %i', (name, depth) => {
    const report = explore(scenarios[name](policy), { depth, intrusions: 0, resumeOneIn: 256 });
    console.log(summary(report));
    expect(report.failure).toBeNull();
  });
});
