import { spawnSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { readText, root } from '../support/source.ts';
import { type Acceptance, parseAccepted, staleEntries } from './accepted.ts';
import { campaign, type Judged } from './campaign.ts';
import { readHints, writeHints } from './hints.ts';
import type { Mutation } from './instrument.ts';
import { WorkerProcess } from './pool.ts';
import { merged, type MutantsResult, recordOf } from './record.ts';
import { printed, rowOf, survivorsOf } from './report.ts';
import { sampleOf } from './sample.ts';
import { AREAS, sourcesOf, testFiles } from './scope.ts';

const HELP = `npm run test:mutants -- [options]

Changes the engine and its tables in one place at a time and counts the changes that no test notices.

  --only PATH     only sources below PATH (may be repeated), such as core/engine or core/x86/src/apic/timer.ts
  --tests PATH    only test files below PATH (may be repeated), to see quickly what they notice
  --sample N      only N changes, drawn by the seed
  --seed S        seed of the sample; 1 by default
  --budget MS     test time that one change may take; 4000 by default
  --jobs N        processes; as many as there are processors by default
  --json          one JSON object on stdout

Exit code: 0 when at least 90 % are noticed, 1 when not or when an accepted survivor matches nothing, 2 for wrong arguments.
Areas of which a run tries every change are recorded in test/mutants-result.json, each with its commit, date and tests.
`;
const NEEDED = 90;
const BUDGET = 4_000;

const say = (line: string): boolean => process.stderr.write(`${line}\n`);
const number = (text: string | undefined, otherwise: number): number => {
  const n = text === undefined ? otherwise : Number(text);
  if (!Number.isInteger(n) || n < 0) throw new TypeError(`'${text}' is not a whole number`);
  return n;
};

const folders = (paths: readonly string[] = []): readonly string[] => paths.map((path) => path.replace(/\/$/, ''));
const isBelow = (path: string, list: readonly string[]): boolean => list.length === 0 || list.some((folder) => path === folder || path.startsWith(`${folder}/`));

function readArguments() {
  const { values } = parseArgs({
    options: { only: { type: 'string', multiple: true }, tests: { type: 'string', multiple: true }, sample: { type: 'string' }, seed: { type: 'string' }, budget: { type: 'string' }, jobs: { type: 'string' }, json: { type: 'boolean' }, help: { type: 'boolean' } },
  });
  return {
    only: folders(values.only),
    tests: folders(values.tests),
    sample: values.sample === undefined ? null : number(values.sample, 0),
    seed: number(values.seed, 1),
    budget: number(values.budget, BUDGET),
    jobs: Math.max(1, number(values.jobs, availableParallelism())),
    isJson: values.json ?? false,
    isHelp: values.help ?? false,
  };
}

const git = (...args: readonly string[]): string => spawnSync('git', args, { cwd: root, encoding: 'utf8' }).stdout?.trim() ?? '';

/** Keeps what a run says of whole areas. */
function record(tests: readonly string[], areas: readonly { readonly name: string; readonly judged: readonly Judged[] }[], accepted: readonly Acceptance[]): void {
  if (areas.length === 0) return;
  const path = 'test/mutants-result.json';
  const changes = git('status', '--porcelain', '--untracked-files=no', '--', '.', `:!${path}`);
  const origin = { commit: `${git('rev-parse', 'HEAD')}${changes === '' ? '' : ' with changes'}`, date: new Date().toISOString(), node: process.version, tests };
  const old = existsSync(join(root, path)) ? (JSON.parse(readText(path)) as MutantsResult).areas : [];
  const fresh = areas.map(({ name, judged }) => recordOf(rowOf(name, judged), survivorsOf(judged, accepted), origin));
  writeFileSync(join(root, path), `${JSON.stringify(merged(AREAS.map(({ name }) => name), old, fresh), null, 2)}\n`);
}

async function main(): Promise<number> {
  const { only, tests, sample, seed, budget, jobs, isJson, isHelp } = readArguments();
  if (isHelp) {
    process.stdout.write(HELP);
    return 0;
  }
  const isChosen = (path: string): boolean => isBelow(path, only);
  const accepted = parseAccepted(readText('test/src/mutants/accepted.json'));
  const areas = AREAS.map((area) => ({ ...area, sources: sourcesOf(area) }));
  if (!areas.some((area) => area.sources.some(isChosen))) throw new TypeError(`no source below ${only.join(', ')}`);

  const hints = readHints();
  let shown = 0, began = 0;
  const counts = { unnoticed: 0 };
  const { all, judged, leftOut, seconds } = await campaign({
    sources: areas.flatMap((area) => area.sources),
    tests: testFiles().filter((path) => isBelow(path, tests)),
    choose: (mutations: readonly Mutation[]) => {
      const chosen = mutations.filter((mutation) => isChosen(mutation.file));
      return sample === null ? chosen : sampleOf(chosen, sample, seed);
    },
    executors: Array.from({ length: jobs }, () => new WorkerProcess()),
    budget,
    hints,
    log: say,
    onJudged: ({ mutation, verdict }, done, of) => {
      began ||= Date.now();
      if (verdict === 'survived' || verdict === 'uncovered') {
        counts.unnoticed++;
        // At once: a long run may be ended before its report.
        say(`${mutation.file}:${mutation.line}  ${mutation.change}  (${verdict})  ${mutation.source}`);
      }
      if (Date.now() - shown < 5_000 && done !== of) return;
      shown = Date.now();
      say(`${done}/${of}, ${counts.unnoticed} not noticed, ${((1000 * done) / (shown - began)).toFixed(1)} per second`);
    },
  });

  const rows = areas.map((area) => rowOf(area.name, judged.filter(({ mutation }) => area.sources.includes(mutation.file)))).filter((row) => row.mutants > 0);
  const total = rowOf('all', judged);
  const survivors = survivorsOf(judged, accepted);
  const stale = staleEntries(accepted, all);
  for (const line of stale) say(`accepted.json: ${line}`);
  const needless = judged.filter(({ mutation, verdict }) => verdict === 'killed' && accepted.some((a) => a.file === mutation.file && a.source === mutation.source && a.change === mutation.change && a.nth === mutation.nth));
  for (const { mutation, by } of needless) say(`accepted.json: ${mutation.file}:${mutation.line} '${mutation.change}' is noticed by ${by}`);
  if (isJson) process.stdout.write(`${JSON.stringify({ rows, total, seconds, survivors, stale, leftOut })}\n`);
  else process.stdout.write(`${printed([...rows, total], survivors)}\n${survivors.filter((s) => s.reason !== null).length} of ${survivors.length} survivors have a reason on record; ${seconds.toFixed(0)} s\n`);

  writeHints(hints, judged);
  if (sample === null) record(tests, areas.filter((area) => area.sources.every(isChosen)).map((area) => ({ name: area.name, judged: judged.filter(({ mutation }) => area.sources.includes(mutation.file)) })), accepted);
  return total.score >= NEEDED && stale.length === 0 ? 0 : 1;
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(`test:mutants: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(2);
  },
);
