import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The repository. */
export const root = fileURLToPath(new URL('../../../', import.meta.url));

/** One module that a source file names. */
export interface Import {
  readonly specifier: string;
  readonly isTypeOnly: boolean;
}

/** A source file taken apart far enough for rules that no type checker knows. */
export interface Source {
  /** Code with comments and the content of string literals blanked; line breaks stay. */
  readonly code: string;
  readonly comments: string;
  readonly imports: readonly Import[];
}

const TRIVIA = /\/\*[\s\S]*?\*\/|\/\/[^\n]*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`/g;
const blank = (text: string): string => text.replace(/[^\n]/g, ' ');
const isComment = (token: string): boolean => token.startsWith('/*') || token.startsWith('//');
const IMPORTS = /\b(?:import|export)\s+(type\s+)?(?:[^'";]*?\sfrom\s*)?['"]([^'"\n]+)['"]|\bimport\(\s*['"]([^'"\n]+)['"]\s*[,)]/g;

/** Takes a TypeScript source apart. Template literals count as strings, expressions inside them too. */
export function parseSource(text: string): Source {
  const comments: string[] = [];
  const withStrings = text.replace(TRIVIA, (token) => {
    if (!isComment(token)) return token;
    comments.push(token);
    return blank(token);
  });
  const code = withStrings.replace(TRIVIA, (token) => token[0] + blank(token.slice(1, -1)) + token.at(-1));
  // A keyword that `code` does not show stands inside a string.
  const imports = [...withStrings.matchAll(IMPORTS)].filter((m) => code.startsWith(m[0].slice(0, 6), m.index)).map((m) => ({ specifier: m[2] ?? m[3] ?? '', isTypeOnly: m[1] !== undefined }));
  return { code, comments: comments.join('\n'), imports };
}

const SKIPPED = new Set(['node_modules', 'dist', '.git']);

/** All files below a folder whose names end in one of the given ways, sorted, relative to the repository; empty when there is no such folder. */
export function filesBelow(folder: string, endings: readonly string[] = ['.ts', '.mjs']): readonly string[] {
  const found: string[] = [];
  const visit = (path: string): void => {
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      if (SKIPPED.has(entry.name)) continue;
      const child = join(path, entry.name);
      if (entry.isDirectory()) visit(child);
      else if (endings.some((e) => entry.name.endsWith(e))) found.push(relative(root, child));
    }
  };
  try {
    visit(join(root, folder));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  return found.sort();
}

/** Reads a file of the repository. */
export const readText = (path: string): string => readFileSync(join(root, path), 'utf8');
