import { HostError } from '@vmplanes/engine';
import type { Command } from 'commander';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { pages } from '../docs/pages.ts';
import type { Outcome } from '../output.ts';

/** Where the generated pages are. */
export const docsDirectory = fileURLToPath(new URL('../../docs', import.meta.url));

const currentText = (file: string): string | null => {
  try {
    return readFileSync(join(docsDirectory, file), 'utf8');
  } catch {
    return null;
  }
};

const filesThere = (): readonly string[] => {
  try {
    return readdirSync(docsDirectory);
  } catch {
    return [];
  }
};

/** Writes the reference pages, or tells which of them are out of date. */
export async function docs(program: Command, { check = false }: { readonly check?: boolean }): Promise<Outcome> {
  const all = await pages(program);
  const changed = all.filter(({ file, text }) => currentText(file) !== text).map((p) => p.file);
  const extra = filesThere().filter((file) => !all.some((p) => p.file === file));
  if (check) {
    const stale = [...changed, ...extra];
    if (stale.length > 0) throw new HostError('BadFile', `out of date: ${stale.map((f) => `core/cli/docs/${f}`).join(', ')}`, { fix: 'run npm run docs and commit the result' });
    return { exit: 'Ok', json: { pages: all.map((p) => p.file), changed: [] }, text: `${all.length} pages are up to date` };
  }
  mkdirSync(docsDirectory, { recursive: true });
  for (const { file, text } of all) writeFileSync(join(docsDirectory, file), text);
  for (const file of extra) rmSync(join(docsDirectory, file));
  return { exit: 'Ok', json: { pages: all.map((p) => p.file), changed, removed: extra }, text: `${all.length} pages written, ${changed.length} of them changed, ${extra.length} removed` };
}
