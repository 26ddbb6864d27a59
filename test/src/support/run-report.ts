import { writeFileSync } from 'node:fs';
import { relative } from 'node:path';
import type { Reporter, SerializedError, TestModule } from 'vitest/node';
import { root } from './source.ts';

/** Counts of one test file. */
export interface Suite {
  readonly name: string;
  readonly seconds: number;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}
/** What a run of the test runner comes to. */
export interface RunReport {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: readonly { readonly name: string; readonly note: string }[];
  readonly suites: readonly Suite[];
}

/** Sums up the test files of a run. A file that cannot be loaded and an error outside any test count as one failure each. */
export function summarize(modules: readonly TestModule[], unhandled: readonly SerializedError[]): RunReport {
  const skipped: { name: string; note: string }[] = [];
  const suites = modules.map((module): Suite => {
    const name = relative(root, module.moduleId);
    const counts = { passed: 0, failed: 0, skipped: 0 };
    for (const test of module.children.allTests()) {
      const result = test.result();
      if (result.state === 'passed') counts.passed++;
      else if (result.state === 'skipped') {
        counts.skipped++;
        skipped.push({ name: `${name} > ${test.fullName}`, note: result.note ?? 'no reason given' });
      } else counts.failed++;
    }
    if (counts.failed === 0 && module.state() === 'failed') counts.failed++;
    return { name, seconds: Math.round(module.diagnostic().duration) / 1000, ...counts };
  });
  suites.sort((a, b) => (a.name < b.name ? -1 : 1));
  const sum = (key: 'passed' | 'failed'): number => suites.reduce((n, suite) => n + suite[key], 0);
  return { passed: sum('passed'), failed: sum('failed') + unhandled.length, skipped, suites };
}

/** Writes the report of a finished run to a file; an interrupted run leaves none. */
export class ReportFile implements Reporter {
  constructor(readonly path: string) {}

  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[], reason: 'passed' | 'interrupted' | 'failed'): void {
    if (reason !== 'interrupted') writeFileSync(this.path, JSON.stringify(summarize(modules, unhandled)));
  }
}

/** Reporters of a test run: for people, and for the summary when `VMPLANES_TEST_REPORT` names a file. */
export const reporters = (): ('default' | ReportFile)[] => {
  const path = process.env['VMPLANES_TEST_REPORT'];
  return path === undefined ? ['default'] : ['default', new ReportFile(path)];
};
