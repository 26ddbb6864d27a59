import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Job, Report, Step } from './execute.ts';
import type { Coverage } from './harness.ts';
import { type Mutation, withoutMarks } from './instrument.ts';
import { measured, Odds, type TestFile } from './test-file.ts';
import type { Executor } from './pool.ts';
import { MutatedSources } from './program.ts';

/** How a change fared: a test failed, a test did not end, all passed, or no test runs it. */
export type Verdict = 'killed' | 'timeout' | 'survived' | 'uncovered';
export interface Judged {
  readonly mutation: Mutation;
  readonly verdict: Verdict;
  /** The test file that noticed. */
  readonly by?: string;
  /** Number of the test in it. */
  readonly test?: number;
}
/** A test that noticed a change before. */
export interface Hint {
  readonly by: string;
  readonly test: number;
}
/** Names a change across runs, as long as its line stays. */
export const nameOf = ({ file, source, change, nth }: Mutation): string => `${file}\n${source}\n${change}\n${nth}`;

export interface Options {
  readonly sources: readonly string[];
  readonly tests: readonly string[];
  /** Which changes to try, all of them by default. */
  readonly choose?: (all: readonly Mutation[]) => readonly Mutation[];
  readonly executors: readonly Executor[];
  /** Test time that one change may take before it counts as survived, ms of processor time of the unchanged tests; those likely to notice run first. */
  readonly budget: number;
  /** Tests that noticed changes in an earlier run, by {@link nameOf}: tried first. Nothing else follows from them. */
  readonly hints?: ReadonlyMap<string, Hint>;
  readonly log?: (line: string) => void;
  readonly onJudged?: (judged: Judged, done: number, of: number) => void;
}
export interface Result {
  /** Every change there is, tried or not. */
  readonly all: readonly Mutation[];
  readonly judged: readonly Judged[];
  /** Test files that fail as they are, outside the runner they were written for. */
  readonly leftOut: readonly string[];
  readonly seconds: number;
}

/** Loop rounds of the unchanged program are multiplied by this, and this many are added. */
const ROUNDS = [3, 200_000] as const;
/** The same for time, ms: for what has no loop of ours. */
const TIME = [10, 5_000] as const;
/** Cases that a property test draws at most: what a change breaks shows in the first of them, or hardly ever. */
const CASES = 40;
/** Processor time of a long test file, ms. */
const LONG = 1_000;
const inTests = (coverage: Coverage): number => coverage.tests.filter((test) => test !== undefined).reduce((sum, test) => sum + test.milliseconds, 0);
/** Time for an unchanged test file, ms. */
const UNCHANGED = 300_000;

/** Tries changes one at a time against the tests that reach them. */
export async function campaign(options: Options): Promise<Result> {
  const folder = mkdtempSync(join(tmpdir(), 'vmplanes-mutants-'));
  const close = (): void => {
    for (const executor of options.executors) executor.close();
    rmSync(folder, { recursive: true, force: true });
  };
  // A worker in an endless loop would outlive this process.
  const interrupted = (): never => {
    close();
    process.exit(130);
  };
  const signals = ['SIGINT', 'SIGTERM'] as const;
  for (const signal of signals) process.once(signal, interrupted);
  try {
    return await new Campaign(options, folder).run();
  } finally {
    for (const signal of signals) process.off(signal, interrupted);
    close();
  }
}

/** Tests of one file to run for one change. */
interface Plan {
  readonly test: TestFile;
  readonly only: ReadonlySet<number> | null;
  readonly cost: number;
  /** How many cheaper parts of the file run before: what they miss is less likely to be noticed here. */
  readonly part: number;
}
/** The cheapest tests of a file run first, for as long as loading it takes or this, ms; each further part takes longer by the factor. */
const PART = 60, GROWTH = 6;

/** Divides the tests of a file that reach a place into parts, cheap ones first. */
function partsOf(test: TestFile, tests: readonly number[]): readonly Plan[] {
  const byCost = tests.toSorted((a, b) => test.costOf(a) - test.costOf(b));
  const plans: Plan[] = [];
  let limit = Math.max(PART, test.load);
  for (let at = 0; at < byCost.length; limit *= GROWTH) {
    const only = new Set<number>();
    let cost = 0;
    while (at < byCost.length && (only.size === 0 || cost + test.costOf(byCost[at]!) <= limit)) {
      cost += test.costOf(byCost[at]!);
      only.add(byCost[at++]!);
    }
    plans.push({ test, only, cost: test.load + cost, part: plans.length });
  }
  return plans;
}

class Campaign {
  readonly #program: MutatedSources;
  readonly #odds = new Odds();
  /** Tests that pass unchanged without the others of their file. */
  readonly #independent = new Map<string, boolean>();
  readonly #leftOut: string[] = [];
  constructor(
    readonly options: Options,
    readonly folder: string,
  ) {
    this.#program = new MutatedSources(options.sources);
  }

  #job(mutation: number, steps: readonly Step[], isCoverage = false): Job {
    return { mutation, mutations: this.#program.mutations.length, externals: [...this.#program.externals.values()], steps, isCoverage };
  }

  #write(name: string, script: string): string {
    const path = join(this.folder, name.replaceAll('/', '-'));
    writeFileSync(path, script);
    return path;
  }

  #leave(file: string, why: string): void {
    this.#leftOut.push(file);
    this.options.log?.(`${file} is left out: ${why}`);
  }

  /** Runs a test file as it is. @returns undefined when it reaches nothing, or fails and so can judge nothing. */
  async #measure(executor: Executor, file: string, isWanted: (site: number) => boolean): Promise<TestFile | undefined> {
    // Some property tests count what they have seen, and need all their cases.
    let cases = CASES;
    const alone = async (script: string, times: number, isCoverage: boolean): Promise<Report | undefined> => {
      const steps = Array.from({ length: times }, () => ({ script, rounds: Number.MAX_SAFE_INTEGER, only: null, cases }));
      const report = await executor.run(this.#job(0, steps, isCoverage), steps.map(() => UNCHANGED));
      const bad = report?.runs.find((run) => run.outcome !== 'passed');
      if (report && !bad) return report;
      if (report && cases === CASES) {
        cases = Number.MAX_SAFE_INTEGER;
        return alone(script, times, isCoverage);
      }
      this.#leave(file, `it fails unchanged: ${bad?.message ?? 'its process ended'}`);
      return undefined;
    };
    try {
      const marked = await this.#program.script(file);
      const coverage = (await alone(this.#write(`${file}.marked.js`, marked), 1, true))?.coverage;
      if (!coverage || ![coverage.always, ...coverage.tests.map((test) => test.reached)].some((sites) => sites.some(isWanted))) return undefined;
      const script = this.#write(`${file}.js`, withoutMarks(marked));
      // The second run is warm, as later ones are; where a run is long that makes no difference.
      const last = (await alone(script, inTests(coverage) > LONG ? 1 : 2, false))?.runs.at(-1);
      return last && measured(file, script, cases, last, coverage);
    } catch (error) {
      this.#leave(file, String(error).slice(0, 300));
      return undefined;
    }
  }

  /** Gives every executor work until none is left. */
  async #share<T>(items: readonly T[], work: (executor: Executor, item: T) => Promise<void>): Promise<void> {
    const queue = [...items];
    await Promise.all(
      this.options.executors.map(async (executor) => {
        for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(executor, item);
      }),
    );
  }

  async run(): Promise<Result> {
    const started = Date.now();
    const all = this.#program.mutations;
    const chosen = this.options.choose?.(all) ?? all;
    const sites = new Set(chosen.map((mutation) => mutation.site));
    this.options.log?.(`${chosen.length} of ${all.length} changes in ${this.options.sources.length} files`);
    const tests: TestFile[] = [];
    await this.#share(this.options.tests, async (executor, file) => {
      const test = await this.#measure(executor, file, (site) => sites.has(site));
      if (!test) return;
      tests.push(test);
      this.options.log?.(`${file}: ${test.milliseconds.toFixed(0)} ms`);
    });
    this.options.log?.(`${tests.length} test files, ${((Date.now() - started) / 1000).toFixed(0)} s to prepare`);
    if (tests.length === 0) throw new Error('no test file reaches these sources');
    const judged: Judged[] = [];
    await this.#share(chosen, async (executor, mutation) => {
      const verdict = await this.#judge(executor, mutation, tests);
      judged.push(verdict);
      this.options.onJudged?.(verdict, judged.length, chosen.length);
    });
    judged.sort((a, b) => a.mutation.id - b.mutation.id);
    return { all, judged, leftOut: this.#leftOut.sort(), seconds: (Date.now() - started) / 1000 };
  }

  /** The tests to run for a change, those that are likely to notice it soon first, as far as the budget goes. */
  #plans(mutation: Mutation, tests: readonly TestFile[]): readonly Plan[] {
    const plans: Plan[] = [];
    for (const test of tests) {
      // What is reached while a file loads may matter to any of its tests.
      const reaching = test.always.has(mutation.site) ? test.all : test.testsOf.get(mutation.site);
      if (reaching) plans.push(...partsOf(test, reaching));
    }
    const odds = ({ test, cost, part }: Plan): number => ((1 + cost) * 2 ** part) / this.#odds.of(mutation.file, test.file);
    plans.sort((a, b) => odds(a) - odds(b));
    const hint = this.options.hints?.get(nameOf(mutation));
    const known = hint && tests.find((test) => test.file === hint.by);
    if (known && plans.some((plan) => plan.test === known && plan.only?.has(hint.test))) plans.unshift({ test: known, only: new Set([hint.test]), cost: 0, part: 0 });
    let spent = 0;
    return plans.filter((plan, i) => i === 0 || (!this.#odds.isHopeless(mutation.file, plan.test.file, plan.cost) && (spent += plan.cost) <= this.options.budget));
  }

  async #try(executor: Executor, mutation: number, plans: readonly Plan[]): Promise<Report | undefined> {
    const steps = plans.map(({ test, only }) => ({ script: test.script, rounds: test.loops * ROUNDS[0] + ROUNDS[1], only, cases: test.cases }));
    return executor.run(this.#job(mutation, steps), plans.map(({ test }) => test.elapsed * TIME[0] + TIME[1]));
  }

  /** Whether a test passes unchanged without the others of its file; tests may lean on others before them. */
  async #isIndependent(executor: Executor, { test, cost, part }: Plan, failed: number): Promise<boolean> {
    if (failed < 0) return true;
    const key = `${test.file} ${failed}`;
    const known = this.#independent.get(key);
    if (known !== undefined) return known;
    const report = await this.#try(executor, 0, [{ test, only: new Set([failed]), cost, part }]);
    const isGood = report?.runs.at(-1)?.outcome === 'passed';
    this.#independent.set(key, isGood);
    return isGood;
  }

  async #judge(executor: Executor, mutation: Mutation, tests: readonly TestFile[]): Promise<Judged> {
    let plans = this.#plans(mutation, tests);
    if (plans.length === 0) return { mutation, verdict: 'uncovered' };
    for (;;) {
      const report = await this.#try(executor, mutation.id, plans);
      if (report === undefined) return { mutation, verdict: 'timeout' };
      const at = report.runs.length - 1;
      const { outcome, failed } = report.runs[at]!, plan = plans[at]!;
      for (const [i] of report.runs.entries()) this.#odds.note(mutation.file, plans[i]!.test.file, i === at && outcome !== 'passed');
      if (outcome === 'passed') return { mutation, verdict: 'survived' };
      if (plan.only === null || (await this.#isIndependent(executor, plan, failed))) return { mutation, verdict: outcome === 'failed' ? 'killed' : 'timeout', by: plan.test.file, ...(failed < 0 ? {} : { test: failed }) };
      plans = [{ ...plan, only: null }, ...plans.slice(at + 1).filter(({ test }) => test !== plan.test)];
    }
  }
}
