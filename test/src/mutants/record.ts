import type { Row, Survivor } from './report.ts';

/** The last full judgement of one area. */
export interface AreaRecord extends Row {
  readonly commit: string;
  readonly date: string;
  readonly node: string;
  /** Folders whose tests judged; empty for all tests. Fewer tests can only notice less. */
  readonly tests: readonly string[];
  /** Survivors with a reason in accepted.json. */
  readonly accepted: number;
  /** The others: place and change. */
  readonly unexplained: readonly string[];
}
/** test/mutants-result.json: one record per area, of the last run that tried every change in it. */
export interface MutantsResult {
  readonly mutants: number;
  readonly noticed: number;
  /** Noticed of all, percent with one decimal. */
  readonly score: number;
  /** Areas that no run has judged whole yet. */
  readonly missing: readonly string[];
  readonly areas: readonly AreaRecord[];
}

/** Puts new records of areas beside the old ones, in the order of the areas there are now. */
export function merged(names: readonly string[], old: readonly AreaRecord[], fresh: readonly AreaRecord[]): MutantsResult {
  const areas = names.flatMap((name) => fresh.find((area) => area.name === name) ?? old.find((area) => area.name === name) ?? []);
  const mutants = areas.reduce((sum, area) => sum + area.mutants, 0), noticed = areas.reduce((sum, area) => sum + area.killed + area.timeout, 0);
  return { mutants, noticed, score: mutants === 0 ? 0 : Math.floor((1000 * noticed) / mutants) / 10, missing: names.filter((name) => !areas.some((area) => area.name === name)), areas };
}

/** The record of an area from its row and its survivors. */
export const recordOf = (row: Row, survivors: readonly Survivor[], origin: Pick<AreaRecord, 'commit' | 'date' | 'node' | 'tests'>): AreaRecord => ({
  ...row,
  ...origin,
  accepted: survivors.filter((s) => s.reason !== null).length,
  unexplained: survivors.filter((s) => s.reason === null).map((s) => `${s.at} ${s.change}`),
});
