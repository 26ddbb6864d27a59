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
  constructor(readonly body: Hook) {}
}
class Skipped extends Error {}

/** The words that a test file imports from vitest, and the tests that it declared with them. */
export class Declarations {
  readonly root = new Suite();
  #current = this.root;
  readonly #pending: Promise<unknown>[] = [];

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
      new Test(async () => {
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

  /** Runs all tests. @returns how many ran. @throws what the first failing test throws. */
  async run(): Promise<number> {
    await Promise.all(this.#pending);
    return runSuite(this.root, [], []);
  }
}

async function runSuite(suite: Suite, beforeEach: readonly Hook[], afterEach: readonly Hook[]): Promise<number> {
  const first = [...beforeEach, ...suite.beforeEach], last = [...suite.afterEach, ...afterEach];
  let ran = 0;
  try {
    for (const hook of suite.before) await hook();
    for (const item of suite.items) {
      if (item instanceof Suite) {
        ran += await runSuite(item, first, last);
        continue;
      }
      try {
        for (const hook of first) await hook();
        await item.body();
        ran++;
      } catch (error) {
        if (!(error instanceof Skipped)) throw error;
      } finally {
        for (const hook of last) await hook();
      }
    }
  } finally {
    for (const hook of suite.after) await hook();
  }
  return ran;
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
  readonly tests: number;
  readonly loops: number;
  readonly milliseconds: number;
  readonly message: string;
}

/** A test file and all it imports, as a function of the switchboard. */
export type Program = ($m: Switchboard) => void;

/**
 * Runs a test file once, on a fresh copy of every module.
 * @param rounds - loop rounds after which the run counts as endless.
 */
export async function runProgram(program: Program, active: number, rounds: number, external: Readonly<Record<string, unknown>>, mutations: number): Promise<Run & { readonly reached: Uint8Array }> {
  const declarations = new Declarations();
  const $m = new Switchboard({ ...external, vitest: declarations.words }, mutations);
  $m.a = active;
  $m.n = rounds;
  const from = performance.now();
  let outcome: Run['outcome'] = 'passed', tests = 0, message = '';
  try {
    program($m);
    tests = await declarations.run();
  } catch (error) {
    outcome = 'failed';
    message = String(error instanceof Error ? error.message : error).slice(0, 300);
  }
  // A test may have caught the stop; the count still tells.
  if ($m.n < 0) outcome = 'endless';
  return { outcome, tests, loops: rounds - $m.n, milliseconds: performance.now() - from, message, reached: $m.h };
}
