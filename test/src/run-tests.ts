import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { RunReport } from './support/run-report.ts';
import { root } from './support/source.ts';

// What `npm test` and `npm run test:long` do. Arguments other than `--long` go to the test runner, so a path runs a part.
const args = process.argv.slice(2);
const isLong = args.includes('--long');
const filters = args.filter((arg) => arg !== '--long');

const tool = (name: string): string => join(root, 'node_modules', name);
const runNode = (script: string, scriptArgs: readonly string[], env: NodeJS.ProcessEnv = {}): boolean =>
  spawnSync(process.execPath, [script, ...scriptArgs], { cwd: root, stdio: 'inherit', env: { ...process.env, ...env } }).status === 0;

/** A whole check that counts as one test. */
function check(name: string, script: string, scriptArgs: readonly string[]): boolean {
  const started = Date.now();
  const isGood = runNode(script, scriptArgs);
  console.log(`${isGood ? 'ok' : 'FAILED'}: ${name} (${((Date.now() - started) / 1000).toFixed(1)} s)`);
  return isGood;
}

/** Runs the test runner; a run that ends without a report is one failure. */
function runTests(config: string): RunReport & { readonly isWhole: boolean } {
  const folder = mkdtempSync(join(tmpdir(), 'vmplanes-test-'));
  const report = join(folder, 'report.json');
  try {
    const isGood = runNode(tool('vitest/vitest.mjs'), ['run', '--config', config, ...filters], { VMPLANES_TEST_REPORT: report });
    if (!existsSync(report)) return { passed: 0, failed: 1, skipped: [], suites: [], isWhole: false };
    const found = JSON.parse(readFileSync(report, 'utf8')) as RunReport;
    return { ...found, failed: found.failed + (!isGood && found.failed === 0 ? 1 : 0), isWhole: filters.length === 0 && found.suites.length > 0 };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const git = (...gitArgs: readonly string[]): string => spawnSync('git', gitArgs, { cwd: root, encoding: 'utf8' }).stdout?.trim() ?? '';

/** Records a finished long run; the file is committed, so that a reader sees what was last shown and on which commit. */
function writeLongResult(report: RunReport, seconds: number): void {
  const changes = git('status', '--porcelain', '--untracked-files=no', '--', '.', ':!test/long-result.json');
  const result = {
    commit: `${git('rev-parse', 'HEAD')}${changes === '' ? '' : ' with changes'}`,
    date: new Date().toISOString(),
    node: process.version,
    passed: report.passed,
    failed: report.failed,
    skipped: report.skipped.length,
    seconds: Math.round(seconds),
    suites: report.suites,
  };
  writeFileSync(join(root, 'test/long-result.json'), `${JSON.stringify(result, null, 2)}\n`);
}

const started = Date.now();
const checks = isLong
  ? []
  : [check('type check', tool('typescript/bin/tsc'), ['-b']), check('lint', tool('oxlint/bin/oxlint'), ['--deny-warnings', '--report-unused-disable-directives-severity=error'])];
const report = runTests(isLong ? 'test/vitest.long.config.ts' : 'test/vitest.config.ts');
const seconds = (Date.now() - started) / 1000;
if (isLong && report.isWhole) writeLongResult(report, seconds);

for (const { name, note } of report.skipped) console.log(`skipped: ${name}: ${note}`);
const passed = report.passed + checks.filter((isGood) => isGood).length;
const failed = report.failed + checks.filter((isGood) => !isGood).length;
console.log(`${seconds.toFixed(1)} s`);
console.log(`${passed} passed, ${failed} failed, ${report.skipped.length} skipped`);
process.exitCode = failed === 0 ? 0 : 1;
