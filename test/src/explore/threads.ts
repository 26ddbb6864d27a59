import { StateHash } from '@vmplanes/engine';

/**
 * Threads over shared cells, interleaved in every order. A thread is ordinary code that reaches shared data through
 * {@link Weaver.get} and {@link Weaver.set}. It is suspended by an exception and resumed by running its operation again
 * with the recorded values, so that code of the product is explored as it is, without being written as a state machine.
 */

/** Where a thread may be interrupted. */
export const Grain = {
  /** Before every access to another cell than the last one: one cell is read, changed or written at a time, as with atomic words. */
  Word: 'word',
  /** Only at {@link Weaver.at}: what lies between two named points is one critical section. */
  Section: 'section',
} as const;
export type Grain = (typeof Grain)[keyof typeof Grain];

/** One thread: operations that run one after another. Between two operations it keeps no state but the cells. */
export interface Thread {
  readonly name: string;
  readonly operations: readonly (() => void)[];
}

/** What is explored. */
export interface Weave {
  readonly name: string;
  readonly grain: Grain;
  readonly cells: Int32Array;
  readonly threads: readonly Thread[];
  /** Sentences for what does not hold when no thread can go on. @param asleep - threads that wait. */
  settled(cells: Int32Array, asleep: readonly string[]): readonly string[];
}

/** What an exploration found. */
export interface WeaveReport {
  readonly states: number;
  readonly transitions: number;
  readonly settled: number;
  /** Longest order, in transitions. */
  readonly depth: number;
  readonly failure: WeaveFailure | null;
}

export interface WeaveFailure {
  /** Sentences of the property that does not hold. */
  readonly why: readonly string[];
  /** Index of the thread that ran, by transition: input of {@link Weaver.replay}. */
  readonly order: readonly number[];
  /** The same for readers: thread and what it did. */
  readonly steps: readonly string[];
}

interface Progress {
  readonly operation: number;
  /** Values that the operation in progress has read, in order; 0 for writes, points and waits. */
  readonly log: readonly number[];
}
interface State {
  readonly cells: Int32Array;
  readonly threads: readonly Progress[];
}

/** Thrown to leave an operation; not an error, so it carries no stack. */
const SUSPEND = Symbol('suspend');
const MARK = 0;
const NO_CELL = -1;

/** Explores one {@link Weave}; also the port through which its threads reach the cells. */
export class Weaver {
  /** The thread running now; what it may read besides cells must not change under it. */
  running = -1;
  #cells: Int32Array = new Int32Array(0);
  #grain: Grain = Grain.Word;
  #names: readonly string[] = [];
  #log: number[] = [];
  #at = 0;
  #cell = NO_CELL;
  #moved = false;
  /** Outside a step, and while an operation is being left, nothing reaches the cells. */
  #dead = true;
  #blocked = false;
  #note: string[] | null = null;

  /** @param names - of the cells, for counterexamples. */
  constructor(names: readonly string[]) {
    this.#names = names;
  }

  /** Reads a cell. */
  get(cell: number): number {
    if (this.#dead) return 0;
    if (this.#at < this.#log.length) return this.#log[this.#at++]!;
    this.#admit(cell);
    const value = this.#cells[cell]!;
    this.#push(value);
    this.#note?.push(`${this.#names[cell] ?? cell} is ${value}`);
    return value;
  }

  /** Writes a cell. */
  set(cell: number, value: number): void {
    if (this.#dead) return;
    if (this.#at < this.#log.length) {
      this.#at++;
      return;
    }
    this.#admit(cell);
    this.#cells[cell] = value;
    this.#push(MARK);
    this.#note?.push(`${this.#names[cell] ?? cell} := ${value}`);
  }

  /** A named point between two critical sections. */
  at(point: string): void {
    if (this.#dead || this.#grain !== Grain.Section) return;
    if (this.#at < this.#log.length) {
      this.#at++;
      return;
    }
    if (this.#moved) this.#leave();
    this.#push(MARK);
    this.#note?.push(point);
  }

  /** Sleeps until a condition over the cells holds. */
  wait(name: string, condition: (cells: Int32Array) => boolean): void {
    if (this.#dead) return;
    if (this.#at < this.#log.length) {
      this.#at++;
      return;
    }
    if (this.#moved) this.#leave();
    if (!condition(this.#cells)) {
      this.#blocked = true;
      this.#leave();
    }
    this.#push(MARK);
    this.#cell = NO_CELL;
    this.#moved = true;
    this.#note?.push(name);
  }

  /** Reads a cell that only the running thread writes, and only by {@link poke}: no step of its own. */
  peek(cell: number): number {
    return this.#cells[cell]!;
  }

  /** Writes a cell that only the running thread uses, at the end of an operation: no step of its own. */
  poke(cell: number, value: number): void {
    if (!this.#dead) this.#cells[cell] = value;
  }

  #admit(cell: number): void {
    if (this.#grain === Grain.Word && this.#moved && cell !== this.#cell) this.#leave();
    this.#cell = cell;
    this.#moved = true;
  }
  #push(value: number): void {
    this.#log.push(value);
    this.#at++;
  }
  #leave(): never {
    // Code that cleans up on the way out must not touch the cells.
    this.#dead = true;
    throw SUSPEND;
  }

  /** One transition of one thread. @returns null when it waits. */
  #step(weave: Weave, from: State, thread: number): State | null {
    const before = from.threads[thread]!;
    this.running = thread;
    this.#cells = from.cells.slice();
    this.#grain = weave.grain;
    this.#log = [...before.log];
    this.#at = 0;
    this.#cell = NO_CELL;
    this.#moved = false;
    this.#dead = false;
    this.#blocked = false;
    let after: Progress;
    try {
      weave.threads[thread]!.operations[before.operation]!();
      after = { operation: before.operation + 1, log: [] };
    } catch (error) {
      if (error !== SUSPEND) throw error;
      after = { operation: before.operation, log: this.#log };
    }
    this.#dead = true;
    if (this.#blocked) return null;
    return { cells: this.#cells, threads: from.threads.with(thread, after) };
  }

  #isDone(weave: Weave, state: State, thread: number): boolean {
    return state.threads[thread]!.operation >= weave.threads[thread]!.operations.length;
  }

  /** Runs every order of the threads, each distinct state once. Stops at the first failure. */
  explore(weave: Weave): WeaveReport {
    const seen = new Set<number>();
    const report = { states: 0, transitions: 0, settled: 0, depth: 0, failure: null as WeaveFailure | null };
    const order: number[] = [];
    const visit = (state: State): boolean => {
      const key = keyOf(state);
      if (seen.has(key)) return true;
      seen.add(key);
      report.states++;
      report.depth = Math.max(report.depth, order.length);
      let moved = false;
      const asleep: string[] = [];
      for (let t = 0; t < weave.threads.length; t++) {
        if (this.#isDone(weave, state, t)) continue;
        const next = this.#step(weave, state, t);
        if (next === null) {
          asleep.push(weave.threads[t]!.name);
          continue;
        }
        moved = true;
        report.transitions++;
        order.push(t);
        if (!visit(next)) return false;
        order.pop();
      }
      if (moved) return true;
      report.settled++;
      const why = weave.settled(state.cells, asleep);
      if (why.length === 0) return true;
      report.failure = { why, order: [...order], steps: this.replay(weave, order).steps };
      return false;
    };
    visit(initial(weave));
    return report;
  }

  /** Runs one order again, from the start. */
  replay(weave: Weave, order: readonly number[]): { readonly steps: readonly string[]; readonly cells: Int32Array; readonly why: readonly string[] } {
    let state = initial(weave);
    const steps: string[] = [];
    for (const thread of order) {
      this.#note = [];
      const next = this.#step(weave, state, thread);
      if (next === null) throw new Error(`${weave.name}: ${weave.threads[thread]!.name} cannot run at step ${steps.length}`);
      steps.push(`${weave.threads[thread]!.name}: ${this.#note.join(', ')}`);
      this.#note = null;
      state = next;
    }
    const asleep = weave.threads.filter((_, t) => !this.#isDone(weave, state, t)).map((t) => t.name);
    return { steps, cells: state.cells, why: weave.settled(state.cells, asleep) };
  }
}

const initial = (weave: Weave): State => ({ cells: weave.cells.slice(), threads: weave.threads.map(() => ({ operation: 0, log: [] })) });

/** 53 bits of a hash of a state: exact as a double, wide enough for a few million states. */
const keyOf = (state: State): number => {
  const hash = new StateHash();
  for (const c of state.cells) hash.add(c);
  for (const t of state.threads) {
    hash.add(t.operation);
    hash.add(t.log.length);
    for (const v of t.log) hash.add(v);
  }
  return keyOfHash(hash);
};

/** The part of a hash that fits a double. */
export const keyOfHash = (hash: StateHash): number => (hash.hi >>> 11) * 2 ** 32 + (hash.lo >>> 0);
