import type { TraceRecord } from './format.ts';

/** The first place (with `all`, each place) where a model and a trace part. */
export interface Divergence {
  /** Number and line of the record in the trace; -1 and 1 for the header. Behind the last record: its number plus one. */
  readonly seq: number;
  readonly line: number;
  /** -1 where the record belongs to no VP or plane. */
  readonly vp: number;
  readonly plane: number;
  /** Path of the field, such as `r.rax`; `record` when another record was expected altogether. */
  readonly field: string;
  readonly expected: string;
  readonly actual: string;
  /** Records in front of it, at most ten, oldest first. */
  readonly before: readonly TraceRecord[];
  /** Section of a specification that decides it, where a personality names one. */
  readonly hint: string | null;
}

/** What a replay found. */
export interface ReplayReport {
  /** True when something was checked, nothing diverged and the replay came to the end of the trace. */
  readonly ok: boolean;
  /** One sentence: why it is not ok, or what was checked. */
  readonly summary: string;
  readonly divergences: readonly Divergence[];
  /** Records that the model made itself and that agree in every field. */
  readonly checked: number;
  /** Records that the model made itself, with a value the trace or the ABI leaves open. */
  readonly unchecked: number;
  /** Records that were given to the model: exits, inputs, what calls read. */
  readonly fed: number;
  /** Records of the trace that the model did not make; only with `all`. */
  readonly skipped: number;
  /** Records of the trace. */
  readonly records: number;
  /** The trace has no `end`, so its last state was not compared. */
  readonly isComplete: boolean;
}

/** One divergence in a few lines for people. */
export const divergenceText = (d: Divergence): string =>
  [
    `line ${d.line} (record ${d.seq}), VP ${d.vp} plane ${d.plane}: ${d.field}: expected ${d.expected}, got ${d.actual}`,
    ...(d.hint === null ? [] : [`  decided by ${d.hint}`]),
    ...d.before.map((r) => `  before: ${JSON.stringify(r)}`),
  ].join('\n');
