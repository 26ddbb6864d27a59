import Table from 'cli-table3';
import { type Acceptance, reasonFor } from './accepted.ts';
import type { Judged, Verdict } from './campaign.ts';

/** Counts of one area. */
export interface Row {
  readonly name: string;
  readonly mutants: number;
  readonly killed: number;
  readonly timeout: number;
  readonly survived: number;
  readonly uncovered: number;
  /** Killed or stopped, of all; percent with one decimal. */
  readonly score: number;
}

const score = (noticed: number, of: number): number => (of === 0 ? 100 : Math.floor((1000 * noticed) / of) / 10);

/** Counts verdicts. */
export function rowOf(name: string, judged: readonly Judged[]): Row {
  const count = (verdict: Verdict): number => judged.filter((one) => one.verdict === verdict).length;
  const killed = count('killed'), timeout = count('timeout');
  return { name, mutants: judged.length, killed, timeout, survived: count('survived'), uncovered: count('uncovered'), score: score(killed + timeout, judged.length) };
}

/** A change that no test noticed. */
export interface Survivor {
  readonly at: string;
  readonly source: string;
  readonly change: string;
  readonly nth: number;
  readonly operator: string;
  readonly isCovered: boolean;
  readonly reason: string | null;
}

/** All that no test noticed, with the reasons that are on record. */
export const survivorsOf = (judged: readonly Judged[], accepted: readonly Acceptance[]): readonly Survivor[] =>
  judged
    .filter(({ verdict }) => verdict === 'survived' || verdict === 'uncovered')
    .map(({ mutation, verdict }) => ({
      at: `${mutation.file}:${mutation.line}`,
      source: mutation.source,
      change: mutation.change,
      nth: mutation.nth,
      operator: mutation.operator,
      isCovered: verdict === 'survived',
      reason: reasonFor(accepted, mutation) ?? null,
    }));

/** The report for people. */
export function printed(rows: readonly Row[], survivors: readonly Survivor[]): string {
  const table = new Table({ head: ['sources', 'mutants', 'killed', 'timed out', 'survived', 'no coverage', 'score'], style: { head: [], border: [] }, colAligns: ['left', 'right', 'right', 'right', 'right', 'right', 'right'] });
  for (const row of rows) table.push([row.name, row.mutants, row.killed, row.timeout, row.survived, row.uncovered, `${row.score.toFixed(1)} %`]);
  const lines = survivors.map((s) => `${s.at}  ${s.change}  (${s.operator}${s.isCovered ? '' : ', no coverage'})\n    ${s.source.slice(0, 160)}\n    ${s.reason === null ? 'no reason on record' : `accepted: ${s.reason}`}`);
  return [...lines, table.toString()].join('\n');
}
