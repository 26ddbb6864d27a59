import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Mutation } from './instrument.ts';
import type { Job, Report } from './execute.ts';
import type { Executor } from './pool.ts';
import { MutatedSources } from './program.ts';

/** How a change fared: a test failed, a test did not end, all passed, or no test runs it. */
export type Verdict = 'killed' | 'timeout' | 'survived' | 'uncovered';
export interface Judged {
  readonly mutation: Mutation;
  readonly verdict: Verdict;
  /** The test file that noticed. */
  readonly by?: string;
}

export interface Options {
  readonly sources: readonly string[];
  readonly tests: readonly string[];
  /** Which changes to try, all of them by default. */
  readonly choose?: (all: readonly Mutation[]) => readonly Mutation[];
  readonly executors: readonly Executor[];
  /** Test time that one change may take before it counts as survived, ms of the unchanged tests; those likely to notice run first. */
  readonly budget: number;
  readonly log?: (line: string) => void;
  readonly onJudged?: (judged: Judged, done: number, of: number) => void;
}
export interface Result {
  /** Every change there is, tried or not. */
  readonly all: readonly Mutation[];
  readonly judged: readonly Judged[];
  readonly seconds: number;
}

interface TestFile {
  readonly file: string;
  readonly reached: ReadonlySet<number>;
  script: string;
  milliseconds: number;
  loops: number;
}

/** Loop rounds of the unchanged program are multiplied by this, and this many are added. */
const ROUNDS = [3, 200_000] as const;
/** The same for time, ms: for what has no loop of ours. */
const TIME = [10, 5_000] as const;

/** How often a test file noticed changes of a source file, to run the likely one first. */
class Odds {
  readonly #counts = new Map<string, { runs: number; kills: number }>();
  #of(source: string, test: string): { runs: number; kills: number } {
    const key = `${source}\n${test}`;
    let found = this.#counts.get(key);
    if (!found) this.#counts.set(key, (found = { runs: 0, kills: 0 }));
    return found;
  }
  note(source: string, test: string, isKill: boolean): void {
    const counts = this.#of(source, test);
    counts.runs++;
    if (isKill) counts.kills++;
  }
  /** Expected time until this file notices, ms. */
  cost(source: string, test: TestFile): number {
    const { runs, kills } = this.#of(source, test.file);
    return ((1 + test.milliseconds) * (runs + 2)) / (kills + 0.5);
  }
}

/** Tries changes one at a time against the tests that reach them. */
export async function campaign(options: Options): Promise<Result> {
  const folder = mkdtempSync(join(tmpdir(), 'vmplanes-mutants-'));
  try {
    return await new Campaign(options, folder).run();
  } finally {
    for (const executor of options.executors) executor.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

class Campaign {
  readonly #program: MutatedSources;
  readonly #odds = new Odds();
  constructor(
    readonly options: Options,
    readonly folder: string,
  ) {
    this.#program = new MutatedSources(options.sources);
  }

  #job(mutation: number, steps: Job['steps'], isCoverage = false): Job {
    return { mutation, mutations: this.#program.mutations.length, externals: [...this.#program.externals.values()], steps, isCoverage };
  }

  async #script(file: string, kind: 'coverage' | 'mutants'): Promise<string> {
    const path = join(this.folder, `${file.replaceAll('/', '-')}.${kind}.js`);
    writeFileSync(path, await this.#program.script(file, kind));
    return path;
  }

  /** Runs a test file as it is. @returns undefined when it fails that way; it can then judge nothing. */
  async #measure(file: string): Promise<TestFile | undefined> {
    const executor = this.options.executors[0]!;
    const alone = async (kind: 'coverage' | 'mutants'): Promise<{ script: string; report: Report } | undefined> => {
      const script = await this.#script(file, kind);
      const step = { script, rounds: Number.MAX_SAFE_INTEGER };
      const report = await executor.run(this.#job(0, kind === 'coverage' ? [step] : [step, step], kind === 'coverage'), [120_000, 120_000]);
      const bad = report?.runs.find((run) => run.outcome !== 'passed');
      if (report && !bad) return { script, report };
      this.options.log?.(`${file} is left out, it fails unchanged: ${bad?.message ?? 'its process ended'}`);
      return undefined;
    };
    try {
      const coverage = await alone('coverage');
      if (!coverage || coverage.report.reached.length === 0) return undefined;
      const mutants = await alone('mutants');
      const last = mutants?.report.runs.at(-1);
      if (!mutants || !last) return undefined;
      return { file, reached: new Set(coverage.report.reached), script: mutants.script, milliseconds: last.milliseconds, loops: last.loops };
    } catch (error) {
      this.options.log?.(`${file} is left out: ${String(error).slice(0, 300)}`);
      return undefined;
    }
  }

  async run(): Promise<Result> {
    const started = Date.now();
    const all = this.#program.mutations;
    const chosen = this.options.choose?.(all) ?? all;
    this.options.log?.(`${chosen.length} of ${all.length} changes in ${this.options.sources.length} files`);
    const tests: TestFile[] = [];
    for (const file of this.options.tests) {
      const test = await this.#measure(file);
      if (test) tests.push(test);
    }
    this.options.log?.(`${tests.length} test files, ${((Date.now() - started) / 1000).toFixed(0)} s to prepare`);
    const reaching = this.#reaching(tests);
    const judged: Judged[] = [];
    const queue = [...chosen];
    const work = async (executor: Executor): Promise<void> => {
      for (let mutation = queue.shift(); mutation; mutation = queue.shift()) {
        const verdict = await this.#judge(executor, mutation, reaching.get(mutation.id) ?? []);
        judged.push(verdict);
        this.options.onJudged?.(verdict, judged.length, chosen.length);
      }
    };
    await Promise.all(this.options.executors.map(work));
    judged.sort((a, b) => a.mutation.id - b.mutation.id);
    return { all, judged, seconds: (Date.now() - started) / 1000 };
  }

  #reaching(tests: readonly TestFile[]): ReadonlyMap<number, readonly TestFile[]> {
    const found = new Map<number, TestFile[]>();
    for (const { id, site } of this.#program.mutations) found.set(id, tests.filter((test) => test.reached.has(site)));
    return found;
  }

  async #judge(executor: Executor, mutation: Mutation, reaching: readonly TestFile[]): Promise<Judged> {
    if (reaching.length === 0) return { mutation, verdict: 'uncovered' };
    const byCost = [...reaching].sort((a, b) => this.#odds.cost(mutation.file, a) - this.#odds.cost(mutation.file, b));
    let spent = 0;
    const order = byCost.filter((test, i) => i === 0 || (spent += test.milliseconds) <= this.options.budget);
    const steps = order.map((test) => ({ script: test.script, rounds: test.loops * ROUNDS[0] + ROUNDS[1] }));
    const report = await executor.run(this.#job(mutation.id, steps), order.map((test) => test.milliseconds * TIME[0] + TIME[1]));
    if (report === undefined) return { mutation, verdict: 'timeout' };
    for (const [i, run] of report.runs.entries()) this.#odds.note(mutation.file, order[i]!.file, run.outcome !== 'passed');
    const last = report.runs.at(-1)!, by = order[report.runs.length - 1]!.file;
    return last.outcome === 'passed' ? { mutation, verdict: 'survived' } : { mutation, verdict: last.outcome === 'failed' ? 'killed' : 'timeout', by };
  }
}
