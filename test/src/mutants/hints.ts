import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { root } from '../support/source.ts';
import { type Hint, type Judged, nameOf } from './campaign.ts';

const PATH = join(root, 'node_modules/.cache/vmplanes/mutant-hints.json');

/** Which test noticed which change in earlier runs on this machine: a hint for what to run first, never a verdict. */
export function readHints(path: string = PATH): Map<string, Hint> {
  try {
    return new Map(Object.entries(JSON.parse(readFileSync(path, 'utf8')) as Record<string, Hint>));
  } catch {
    return new Map();
  }
}

/** Keeps what was learned beside what was known. */
export function writeHints(known: ReadonlyMap<string, Hint>, judged: readonly Judged[], path: string = PATH): void {
  const hints = new Map(known);
  for (const { mutation, by, test } of judged) if (by !== undefined && test !== undefined) hints.set(nameOf(mutation), { by, test });
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, JSON.stringify(Object.fromEntries(hints)));
}
