import { HostError, type PlainRecord } from '@vmplanes/engine';
import { compileAt, type CompiledStep, compileTable } from './compile.ts';
import { isTable, type GeneratorScript, type Script, type ScriptArgs, type Step, type StepResult, type TableScript } from './steps.ts';

/** Frame of the program itself, as against a handler's, whose number is its vector. */
export const MAIN = -1;
/** Key of the table for every vector without one of its own. */
const DEFAULT = -2;

/**
 * One activation of a script: the program, or a handler it was interrupted by. A generator is restored by running it
 * again against the results it has received; a table by its program counter.
 */
export interface Frame {
  readonly vector: number;
  /** Interrupt flag of what this handler interrupted, given back at its end. */
  interruptFlag: number;
  /** The step to run next or in progress; null at the end. */
  readonly step: CompiledStep | null;
  /** Takes the result of the step (generators) and moves to the next one. */
  advance(result: StepResult | null): void;
  /** Continues at a table's step; generators refuse. */
  jump(to: number): void;
  /** Whether results are needed at all: tables read registers instead. */
  readonly wantsResults: boolean;
  save(): PlainRecord;
}

class TableFrame implements Frame {
  readonly wantsResults = false;
  interruptFlag = 0;
  pc = 0;
  constructor(
    readonly vector: number,
    readonly table: readonly CompiledStep[],
  ) {}
  get step(): CompiledStep | null {
    return this.pc < this.table.length ? this.table[this.pc]! : null;
  }
  advance(): void {
    this.pc++;
  }
  jump(to: number): void {
    this.pc = to;
  }
  restore(pc: number, id: string): void {
    if (!Number.isInteger(pc) || pc < 0 || pc > this.table.length) throw new HostError('BadSnapshot', `${id}: the saved run is at step ${String(pc)} of a table with ${this.table.length}`);
    this.pc = pc;
  }
  save(): PlainRecord {
    return { vector: this.vector, interruptFlag: this.interruptFlag, pc: this.pc };
  }
}

/** Text of a step for comparison: two runs of one script must yield the same. */
const stepText = (step: Step): string => JSON.stringify(step, (_key, value: unknown) => (typeof value === 'bigint' ? `0x${value.toString(16)}` : value));

class GeneratorFrame implements Frame {
  readonly wantsResults = true;
  interruptFlag = 0;
  readonly #steps: Iterator<Step, void, StepResult>;
  readonly #results: StepResult[] = [];
  readonly #yielded: string[] = [];
  step: CompiledStep | null = null;

  constructor(
    readonly id: string,
    readonly vector: number,
    steps: Iterator<Step, void, StepResult>,
  ) {
    this.#steps = steps;
    this.#take([]);
  }

  /** @throws {HostError} BadScript when the script throws: it names script and step. */
  #take(result: [] | [StepResult]): void {
    let next: IteratorResult<Step, void>;
    try {
      next = this.#steps.next(...result);
    } catch (error) {
      throw error instanceof HostError ? error : new HostError('BadScript', `${this.id}, step ${this.#yielded.length}: the script throws ${String(error)}`, { cause: error });
    }
    if (next.done) {
      this.step = null;
      return;
    }
    this.step = compileAt(this.id, this.#yielded.length, next.value);
    this.#yielded.push(stepText(next.value));
  }

  advance(result: StepResult | null): void {
    if (result === null) throw new HostError('Internal', 'a generator needs the result of its step');
    this.#results.push(result);
    this.#take([result]);
  }

  jump(): void {
    throw new HostError('BadScript', `${this.id}: jumps belong to step tables; a generator uses its own control flow`);
  }

  save(): PlainRecord {
    return { vector: this.vector, interruptFlag: this.interruptFlag, results: [...this.#results], yielded: [...this.#yielded] };
  }

  /** Feeds the saved results to a fresh generator and checks that it asks for the same steps. */
  replay(results: readonly StepResult[], yielded: readonly string[]): void {
    for (let i = 0; ; i++) {
      if (this.#yielded[i] !== yielded[i]) {
        throw new HostError('BadSnapshot', `${this.id}: step ${i} is ${this.#yielded[i] ?? 'the end'}, the saved run had ${yielded[i] ?? 'the end'}`);
      }
      if (i >= results.length) return;
      const result: unknown = results[i];
      if (typeof result !== 'object' || result === null) throw new HostError('BadSnapshot', `${this.id}: the saved result of step ${i} is ${String(result)}`);
      this.advance(results[i]!);
    }
  }
}

/** Makes the frames of one script on one plane. Tables are compiled once. */
export class FrameMaker {
  readonly #tables = new Map<number, readonly CompiledStep[]>();

  constructor(
    readonly script: Script,
    readonly args: ScriptArgs,
  ) {
    if (!isTable(script)) return;
    this.#tables.set(MAIN, compileTable(script.id, script.steps));
    for (const [key, steps] of Object.entries(script.handlers ?? {})) this.#compileHandler(script, key, steps);
  }

  #compileHandler(script: TableScript, key: string, steps: readonly Step[]): void {
    const vector = key === 'default' ? DEFAULT : Number(key);
    if (vector !== DEFAULT && !(/^\d+$/.test(key) && vector <= 255)) throw new HostError('BadScript', `${script.id}: handler '${key}' is no vector in 0..255`);
    this.#tables.set(vector, compileTable(`${script.id}, handler ${key}`, steps));
  }

  main(): Frame {
    return isTable(this.script) ? new TableFrame(MAIN, this.#tables.get(MAIN)!) : new GeneratorFrame(this.script.id, MAIN, this.script.main(this.args));
  }

  /** @returns null when the script has no handler for this vector. */
  handler(vector: number): Frame | null {
    if (!isTable(this.script)) return this.#generatorHandler(this.script, vector);
    const table = this.#tables.get(vector) ?? this.#tables.get(DEFAULT);
    return table ? new TableFrame(vector, table) : null;
  }

  #generatorHandler(script: GeneratorScript, vector: number): Frame | null {
    return script.handler ? new GeneratorFrame(script.id, vector, script.handler(vector, this.args)) : null;
  }

  /** @throws {HostError} BadSnapshot when the script no longer yields the saved steps. */
  restore(state: PlainRecord): Frame {
    const vector = state['vector'] as number;
    const frame = vector === MAIN ? this.main() : this.handler(vector);
    if (frame !== null) frame.interruptFlag = state['interruptFlag'] as number;
    if (frame instanceof TableFrame) frame.restore(state['pc'] as number, this.script.id);
    else if (frame instanceof GeneratorFrame) frame.replay(state['results'] as StepResult[], state['yielded'] as string[]);
    else throw new HostError('BadSnapshot', `${this.script.id}: has no handler for vector ${vector}, the saved run was in one`);
    return frame;
  }
}
