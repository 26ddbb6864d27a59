import type { Coverage, Run } from './harness.ts';

/** A test file as it runs unchanged. */
export interface TestFile {
  readonly file: string;
  readonly script: string;
  /** Cases that its property tests draw at most. */
  readonly cases: number;
  /** Processor time of a run, and time on the clock. */
  readonly milliseconds: number;
  readonly elapsed: number;
  readonly loops: number;
  /** Places that are reached while it loads: any of its tests may depend on them. */
  readonly always: ReadonlySet<number>;
  /** Numbers of all its tests. */
  readonly all: readonly number[];
  /** Other places: the numbers of the tests that reach them. */
  readonly testsOf: ReadonlyMap<number, readonly number[]>;
  /** Processor time until its first test runs, ms. */
  readonly load: number;
  /** Processor time of one of its tests, ms. */
  costOf(test: number): number;
}

/** Puts together what is known of a test file. */
export function measured(file: string, script: string, cases: number, run: Run, coverage: Coverage): TestFile {
  const testsOf = new Map<number, number[]>();
  const costs: number[] = [];
  for (const [index, { reached, milliseconds }] of [...coverage.tests.entries()].filter(([, test]) => test !== undefined)) {
    costs[index] = milliseconds;
    for (const site of reached) {
      const list = testsOf.get(site);
      if (list) list.push(index);
      else testsOf.set(site, [index]);
    }
  }
  const inTests = costs.reduce((sum, cost) => sum + cost, 0);
  const { milliseconds, elapsed, loops } = run;
  // Time outside tests is the load of all modules; tests are scaled to the second, warm run.
  const load = Math.max(1, milliseconds - inTests), scale = Math.min(1, milliseconds / (inTests + 1));
  return { file, script, cases, milliseconds, elapsed, loops, always: new Set(coverage.always), all: [...coverage.tests.keys()].filter((test) => coverage.tests[test] !== undefined), testsOf, load, costOf: (test) => scale * (costs[test] ?? 0) };
}

interface Counts {
  runs: number;
  kills: number;
}
const folderOf = (source: string): string => source.slice(0, source.lastIndexOf('/'));
/** Tests slower than this, ms, are given up for a source file after this many runs in vain. */
const SLOW = 400, VAIN = 12;

/** How often a test file noticed changes of a source file and its folder, to run the likely one first and the hopeless one never. */
export class Odds {
  readonly #counts = new Map<string, Counts>();

  #counted(source: string, test: string): Counts {
    const key = `${source}\n${test}`;
    let found = this.#counts.get(key);
    if (!found) this.#counts.set(key, (found = { runs: 0, kills: 0 }));
    return found;
  }
  note(source: string, test: string, isKill: boolean): void {
    for (const counts of [this.#counted(source, test), this.#counted(folderOf(source), test)]) {
      counts.runs++;
      if (isKill) counts.kills++;
    }
  }
  /** How likely it notices the next one, 0 to 1: what its file says, with some weight on its folder. */
  of(source: string, test: string): number {
    const own = this.#counted(source, test), folder = this.#counted(folderOf(source), test);
    return (own.kills + (2 * (folder.kills + 0.5)) / (folder.runs + 2)) / (own.runs + 2);
  }
  isHopeless(source: string, test: string, cost: number): boolean {
    const { runs, kills } = this.#counted(source, test);
    return cost > SLOW && runs >= VAIN && kills === 0;
  }
}
