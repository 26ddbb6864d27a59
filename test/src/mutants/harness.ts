import { expect, expectTypeOf, vi } from 'vitest';

// A small runner of test files written for vitest: names are ignored, the first failure ends the run. It exists because a
// change is run in milliseconds, which leaves no room for reports. What it does not know makes a test file fail unchanged,
// and then the campaign says so.

type Body = (...args: readonly unknown[]) => unknown;
type Hook = () => unknown;

class Suite {
  readonly items: (Suite | Test)[] = [];
  readonly before: Hook[] = [];
  readonly after: Hook[] = [];
  readonly beforeEach: Hook[] = [];
  readonly afterEach: Hook[] = [];
}
class Test {
  constructor(
    readonly index: number,
    readonly body: Hook,
  ) {}
}
class Skipped extends Error {}

/** The words that a test file imports from vitest, and the tests that it declared with them. */
export class Declarations {
  readonly root = new Suite();
  #current = this.root;
  readonly #pending: Promise<unknown>[] = [];
  #tests = 0;

  #test(body: Body | undefined, args: readonly unknown[] = []): void {
    const finished: Hook[] = [];
    const context = {
      expect,
      skip: (): never => {
        throw new Skipped('skipped');
      },
      onTestFinished: (hook: Hook) => finished.push(hook),
    };
    if (!body) return;
    this.#current.items.push(
      new Test(this.#tests++, async () => {
        try {
          await body(...args, ...(args.length === 0 ? [context] : []));
        } finally {
          for (const hook of finished) await hook();
        }
      }),
    );
  }

  #suite(body: Body, args: readonly unknown[] = []): void {
    const outer = this.#current;
    this.#current = new Suite();
    outer.items.push(this.#current);
    const result = body(...args);
    if (result instanceof Promise) this.#pending.push(result);
    this.#current = outer;
  }

  /** What a test file finds in `vitest`. */
  readonly words: Readonly<Record<string, unknown>> = (() => {
    const bodyOf = (args: readonly unknown[]): Body | undefined => args.find((a): a is Body => typeof a === 'function');
    const declare = (run: (body: Body | undefined, args?: readonly unknown[]) => void) => {
      const none = Object.assign(() => {}, { each: () => () => {} });
      const plain = (_name: unknown, ...rest: readonly unknown[]): void => run(bodyOf(rest));
      return Object.assign(plain, {
        each:
          (cases: readonly unknown[]) =>
          (_name: unknown, ...rest: readonly unknown[]): void => {
            if (!Array.isArray(cases) || 'raw' in cases) throw new TypeError('tables in template literals are not known here');
            for (const one of cases) run(bodyOf(rest), Array.isArray(one) ? one : [one]);
          },
        skip: none,
        todo: none,
        skipIf: (is: unknown) => (is ? none : plain),
        runIf: (is: unknown) => (is ? plain : none),
        sequential: plain,
        concurrent: plain,
      });
    };
    const it = declare((body, args) => this.#test(body, args));
    const describe = declare((body, args) => body && this.#suite(body, args));
    return {
      expect,
      expectTypeOf,
      vi,
      it,
      test: it,
      describe,
      suite: describe,
      beforeAll: (hook: Hook) => this.#current.before.push(hook),
      afterAll: (hook: Hook) => this.#current.after.push(hook),
      beforeEach: (hook: Hook) => this.#current.beforeEach.push(hook),
      afterEach: (hook: Hook) => this.#current.afterEach.push(hook),
    };
  })();

  /**
   * Runs the tests.
   * @param isChosen - by their number in the order of declaration.
   * @param onTest - told after each.
   * @throws what the first failing test throws.
   */
  async run(isChosen: (index: number) => boolean, watch: Watch): Promise<void> {
    await Promise.all(this.#pending);
    await runSuite(this.root, { isChosen, watch, beforeEach: [], afterEach: [] });
  }
}

/** Told about tests, with their hooks. */
export interface Watch {
  before(index: number): void;
  after(index: number): void;
}
interface Course {
  readonly isChosen: (index: number) => boolean;
  readonly watch: Watch;
  readonly beforeEach: readonly Hook[];
  readonly afterEach: readonly Hook[];
}

const hasChosen = (suite: Suite, isChosen: Course['isChosen']): boolean => suite.items.some((item) => (item instanceof Suite ? hasChosen(item, isChosen) : isChosen(item.index)));

async function runTest(test: Test, { watch, beforeEach, afterEach }: Course): Promise<void> {
  watch.before(test.index);
  try {
    for (const hook of beforeEach) await hook();
    await test.body();
  } catch (error) {
    if (!(error instanceof Skipped)) throw error;
  } finally {
    for (const hook of afterEach) await hook();
  }
  watch.after(test.index);
}

async function runSuite(suite: Suite, outer: Course): Promise<void> {
  if (!hasChosen(suite, outer.isChosen)) return;
  const course: Course = { ...outer, beforeEach: [...outer.beforeEach, ...suite.beforeEach], afterEach: [...suite.afterEach, ...outer.afterEach] };
  try {
    for (const hook of suite.before) await hook();
    for (const item of suite.items) {
      if (item instanceof Suite) await runSuite(item, course);
      else if (course.isChosen(item.index)) await runTest(item, course);
    }
  } finally {
    for (const hook of suite.after) await hook();
  }
}

/** What the script of a test file sees as `$m`. */
export class Switchboard {
  /** The active mutation. */
  a = 0;
  /** Loop rounds left. */
  n = 0;
  /** Mutations that were reached. */
  readonly h: Uint8Array;
  readonly external: Readonly<Record<string, unknown>>;
  constructor(external: Readonly<Record<string, unknown>>, mutations: number) {
    this.external = external;
    this.h = new Uint8Array(mutations + 1);
  }
  readonly stop = (): never => {
    throw new Error('a loop ran far longer than in the unchanged program');
  };
}

/** How one run of a test file ended. */
export interface Run {
  readonly outcome: 'passed' | 'failed' | 'endless';
  readonly loops: number;
  /** Processor time: what other processes do does not count. */
  readonly milliseconds: number;
  /** Time on the clock, which counts waiting too. */
  readonly elapsed: number;
  readonly message: string;
  /** Number of the test that failed; -1 for none, or when it failed outside of one. */
  readonly failed: number;
}
/** What one test reached. */
export interface TestCoverage {
  readonly reached: Uint32Array;
  readonly milliseconds: number;
}
/** What a test file reached: while it loaded and prepared, and in each test. */
export interface Coverage {
  readonly always: Uint32Array;
  readonly tests: readonly TestCoverage[];
}

/** A test file and all it imports, as a function of the switchboard. */
export type Program = ($m: Switchboard) => void;

/** How to run a test file. */
export interface RunOptions {
  /** The active mutation; 0 for none. */
  readonly active: number;
  /** Loop rounds after which the run counts as endless. */
  readonly rounds: number;
  readonly mutations: number;
  readonly modules: Readonly<Record<string, unknown>>;
  /** Numbers of the tests to run; all when null. */
  readonly only: ReadonlySet<number> | null;
}

const cpu = (since?: NodeJS.CpuUsage): number => {
  const { user, system } = process.cpuUsage(since);
  return (user + system) / 1000;
};

/** Runs a test file once, on a fresh copy of every module. */
export async function runProgram(program: Program, { active, rounds, mutations, modules, only }: RunOptions): Promise<{ readonly run: Run; readonly coverage: Coverage }> {
  const declarations = new Declarations();
  const $m = new Switchboard({ ...modules, vitest: declarations.words }, mutations);
  $m.a = active;
  $m.n = rounds;
  const from = performance.now(), used = process.cpuUsage();
  const marks = new Uint8Array(mutations + 1);
  const tests: TestCoverage[] = [];
  const listed = (hits: Uint8Array): Uint32Array => {
    const ids: number[] = [];
    for (let id = hits.indexOf(1); id >= 0; id = hits.indexOf(1, id + 1)) ids.push(id);
    return Uint32Array.from(ids);
  };
  let start = used;
  let running = -1;
  const collect = (): void => {
    for (let id = 0; id <= mutations; id++) marks[id]! |= $m.h[id]!;
    $m.h.fill(0);
  };
  const watch: Watch = {
    before(index) {
      running = index;
      collect();
      start = process.cpuUsage();
    },
    after(index) {
      running = -1;
      tests[index] = { reached: listed($m.h), milliseconds: cpu(start) };
      $m.h.fill(0);
    },
  };
  const none: Watch = {
    before(index) {
      running = index;
    },
    after() {
      running = -1;
    },
  };
  let outcome: Run['outcome'] = 'passed', message = '';
  try {
    program($m);
    await declarations.run((index) => only === null || only.has(index), active === 0 ? watch : none);
  } catch (error) {
    outcome = 'failed';
    message = String(error instanceof Error ? error.message : error).slice(0, 300);
  }
  collect();
  // A test may have caught the stop; the count still tells.
  if ($m.n < 0) outcome = 'endless';
  const run: Run = { outcome, loops: rounds - $m.n, milliseconds: cpu(used), elapsed: performance.now() - from, message, failed: outcome === 'failed' ? running : -1 };
  return { run, coverage: { always: listed(marks), tests } };
}
