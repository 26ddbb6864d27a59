import type { Mutation } from './instrument.ts';

/** A change that may survive, and why: it changes nothing that can be observed, or nothing that is promised. */
export interface Acceptance {
  readonly file: string;
  /** The line of the source, trimmed. */
  readonly source: string;
  /** One change of that line; all of them when absent. */
  readonly change?: string;
  /** Which of several equal ones; all of them when absent. */
  readonly nth?: number;
  readonly reason: string;
}

const covers = (entry: Acceptance, mutation: Mutation): boolean =>
  entry.file === mutation.file && entry.source === mutation.source && (entry.change === undefined || entry.change === mutation.change) && (entry.nth === undefined || entry.nth === mutation.nth);

/** Why a change may survive; undefined when nobody has said so. */
export const reasonFor = (entries: readonly Acceptance[], mutation: Mutation): string | undefined => entries.find((entry) => covers(entry, mutation))?.reason;

/** Entries that match no change of the program any more, as sentences. */
export const staleEntries = (entries: readonly Acceptance[], all: readonly Mutation[]): readonly string[] =>
  entries.filter((entry) => !all.some((mutation) => covers(entry, mutation))).map(({ file, source, change = 'any change' }) => `${file}: nothing matches '${source}' (${change})`);

/** Reads the committed list. @throws {TypeError} when an entry lacks a part. */
export function parseAccepted(text: string): readonly Acceptance[] {
  const entries = JSON.parse(text) as readonly Acceptance[];
  for (const entry of entries) if (!entry.file || !entry.source || !entry.reason) throw new TypeError(`an accepted change lacks file, source or reason: ${JSON.stringify(entry)}`);
  return entries;
}
