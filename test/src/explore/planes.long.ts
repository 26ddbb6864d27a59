import { expect, it } from 'vitest';
import { type Bounds, explore, summary } from './explorer.ts';
import { oneVp, settings, twoVps } from './plane-rows.ts';

const vpPoints = ['deliver:stored', 'deliver:marked', 'enter:published', 'leave:unpublished'] as const;
const rows: readonly (readonly [make: typeof oneVp, bounds: Bounds])[] = [
  [oneVp, { depth: 12, intrusions: 3, nesting: 3, resumeOneIn: 16 }],
  [twoVps, { depth: 12, intrusions: 0, resumeOneIn: 64 }],
  [twoVps, { depth: 7, intrusions: 1, vpPoints, resumeOneIn: 256 }],
  [twoVps, { depth: 5, intrusions: 2, nesting: 2, vpPoints, resumeOneIn: 256 }],
];

it.each(
  rows.flatMap(([make, bounds]) =>
    settings
      .filter(([, s]) => make === oneVp || s.policy !== 'lowest-runnable')
      .map(([name, setting]) => [make(name, setting).name, bounds.depth, bounds.intrusions, () => explore(make(name, setting), bounds)] as const),
  ),
)('%s: depth %i, %i acts in between', (_name, _depth, _intrusions, run) => {
  const report = run();
  console.log(summary(report));
  expect(report.failure).toBeNull();
});
