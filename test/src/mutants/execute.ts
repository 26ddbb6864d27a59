import { readFileSync } from 'node:fs';
import { constants, Script } from 'node:vm';
import { type External, importExternal } from './bundle.ts';
import { type Coverage, type Program, type Run, runProgram } from './harness.ts';

/** One script to run, and the loop rounds it may take. */
export interface Step {
  readonly script: string;
  readonly rounds: number;
  /** Numbers of the tests to run; all when null. */
  readonly only: ReadonlySet<number> | null;
  /** Cases that a property test draws at most. */
  readonly cases: number;
}
/** Runs scripts with one change active until one of them notices it. */
export interface Job {
  readonly mutation: number;
  readonly mutations: number;
  readonly externals: readonly External[];
  readonly steps: readonly Step[];
  /** Whether to say what was reached. */
  readonly isCoverage: boolean;
}
/** What each script did, up to the first that noticed; with coverage of the last one where that was asked for. */
export interface Report {
  readonly runs: readonly Run[];
  readonly coverage: Coverage | null;
}

const scripts = new Map<string, Script>();
const modules: Record<string, unknown> = {};

/** Property tests draw the same cases in every run, not more than their step allows, and stop at the first that fails. */
const SEED = 20_250_401;
const USUAL_CASES = 100;
let cases = Infinity;
interface Parameters {
  readonly numRuns?: number;
}
interface PropertyTesting {
  configureGlobal(options: { readonly seed: number; readonly endOnFailure: boolean }): void;
  assert(property: unknown, parameters?: Parameters): unknown;
}
const isPropertyTesting = (module: unknown): module is PropertyTesting => typeof module === 'object' && module !== null && 'configureGlobal' in module && 'assert' in module;

/** The property testing library as tests shall see it. */
function withFewCases(library: PropertyTesting): object {
  library.configureGlobal({ seed: SEED, endOnFailure: true });
  const assert = (property: unknown, parameters?: Parameters): unknown => library.assert(property, { ...parameters, numRuns: Math.min(parameters?.numRuns ?? USUAL_CASES, cases) });
  return { ...library, assert };
}

async function load(externals: readonly External[]): Promise<void> {
  for (const { name, url } of externals) {
    if (name in modules) continue;
    const module = await importExternal(url);
    const library: unknown = module['default'];
    modules[name] = isPropertyTesting(library) ? { ...withFewCases(library), default: withFewCases(library) } : module;
  }
}

function scriptAt(path: string): Script {
  const known = scripts.get(path);
  if (known) return known;
  const script = new Script(`(function($m){${readFileSync(path, 'utf8')}\n})`, { filename: path, importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER });
  scripts.set(path, script);
  return script;
}

/** Does a job in this process. @param onStep - told before each script. */
export async function execute(job: Job, onStep: (index: number) => void = () => {}): Promise<Report> {
  await load(job.externals);
  const runs: Run[] = [];
  let coverage: Coverage | null = null;
  for (const [index, { script, rounds, only, cases: most }] of job.steps.entries()) {
    cases = most;
    onStep(index);
    const program: Program = scriptAt(script).runInThisContext();
    const done = await runProgram(program, { active: job.mutation, rounds, mutations: job.mutations, modules, only });
    runs.push(done.run);
    if (job.isCoverage) coverage = done.coverage;
    if (done.run.outcome !== 'passed') break;
  }
  return { runs, coverage };
}
