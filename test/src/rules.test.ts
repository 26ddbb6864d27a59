import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { filesBelow, parseSource, readText, root } from './support/source.ts';

/** What the linter must refuse in every package under rule R1, by the name of its rule. */
const linted: readonly (readonly [code: string, rule: string])[] = [
  ['export const a = Date.now();', 'no-restricted-globals'],
  ['export const a = new Date();', 'no-restricted-globals'],
  ['export const a = performance.now();', 'no-restricted-globals'],
  ['setTimeout(() => 1, 1);', 'no-restricted-globals'],
  ['setInterval(() => 1, 1);', 'no-restricted-globals'],
  ['setImmediate(() => 1);', 'no-restricted-globals'],
  ['queueMicrotask(() => 1);', 'no-restricted-globals'],
  ['export const a = crypto.getRandomValues(new Uint8Array(1));', 'no-restricted-globals'],
  ["export const a = fetch('x');", 'no-restricted-globals'],
  ['export const a = process.hrtime();', 'no-restricted-globals'],
  ["console.log('x');", 'no-restricted-globals'],
  ['export const a = globalThis.Date;', 'no-restricted-globals'],
  ["export const a = require('x');", 'no-restricted-globals'],
  ['export const a = new WeakRef({});', 'no-restricted-globals'],
  ['export const a = Math.random();', 'no-restricted-properties'],
  ["export const a = Math['random']();", 'no-restricted-properties'],
  ['export const { random } = Math;', 'no-restricted-properties'],
  ["export const a = 'a'.localeCompare('b');", 'no-restricted-properties'],
  ...['fs', 'fs/promises', 'net', 'child_process', 'worker_threads', 'timers', 'timers/promises', 'os', 'http', 'https', 'dgram', 'perf_hooks', 'process', 'vm'].flatMap((name) => [
    [`import * as a from 'node:${name}'; export const b = a;`, 'no-restricted-imports'] as const,
    [`import * as a from '${name}'; export const b = a;`, 'no-restricted-imports'] as const,
  ]),
  ["export { readFileSync } from 'node:fs';", 'no-restricted-imports'],
  ["export const a = import('node:fs');", 'no-restricted-imports'],
  ["import { randomBytes } from 'node:crypto'; export const a = randomBytes;", 'no-restricted-imports'],
  ["import { sign } from 'node:crypto'; export const a = sign;", 'no-restricted-imports'],
  ["import * as a from 'node:crypto'; export const b = a;", 'no-restricted-imports'],
  ["import a from 'node:crypto'; export const b = a;", 'no-restricted-imports'],
  ["import { createHash } from 'crypto'; export const a = createHash;", 'no-restricted-imports'],
  ["import { container } from 'tsyringe'; export const a = container;", 'no-restricted-imports'],
];
const allowed = [
  "import { createHash, createHmac, hkdfSync, verify } from 'node:crypto'; export const a = [createHash, createHmac, hkdfSync, verify];",
  'export const a = Math.floor(1.5);',
  'export const a = structuredClone({});',
];
const bound = ['core/binary', 'core/engine', 'core/x86', 'core/kvm', 'core/trace', 'core/machine', 'core/boot', 'hypercalls/hyperv', 'personalities/kvm-pv'];
const free = ['core/vmm', 'core/cli', 'core/viewer', 'test'];

interface Diagnostic {
  readonly filename: string;
  readonly code?: string;
}

describe('rule R1 in the linter', () => {
  let folder = '';
  const found = new Map<string, Set<string>>();
  const put = (path: string, text: string): void => {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), `${text}\n`);
  };

  // One run over a tree of violations: the linter starts once, and its path patterns are tested too.
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmplanes-rules-'));
    cpSync(join(root, '.oxlintrc.json'), join(folder, '.oxlintrc.json'));
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
    linted.forEach(([code], i) => put(`core/engine/src/sub/bad${i}.ts`, code));
    allowed.forEach((code, i) => put(`core/engine/src/good${i}.ts`, code));
    for (const path of [...bound, 'core/di', ...free]) put(`${path}/src/clock.ts`, 'export const a = Date.now();');
    put('core/engine/src/clock.test.ts', 'export const a = Date.now();');
    put('core/di/src/fs.ts', "import * as a from 'node:fs'; export const b = a;");
    put('core/di/src/container.ts', "import { container } from 'tsyringe'; export const a = container;");
    put('core/vmm/src/container.ts', "import { container } from 'tsyringe'; export const a = container;");
    const run = spawnSync(process.execPath, [join(root, 'node_modules/oxlint/bin/oxlint'), '-f', 'json'], { cwd: folder, encoding: 'utf8' });
    const report = JSON.parse(run.stdout) as { readonly diagnostics: readonly Diagnostic[] };
    for (const { filename, code = '' } of report.diagnostics) found.set(filename, (found.get(filename) ?? new Set()).add(code));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const rulesAt = (path: string): string => [...(found.get(path) ?? [])].join(' ');

  it.each(linted.map(([code, rule], i) => [code, rule, i] as const))('refuses %s', (_code, rule, i) => expect(rulesAt(`core/engine/src/sub/bad${i}.ts`)).toContain(rule));
  it.each(allowed.map((code, i) => [code, i] as const))('allows %s', (_code, i) => expect(rulesAt(`core/engine/src/good${i}.ts`)).toBe(''));
  it.each([...bound, 'core/di'])('binds %s', (path) => expect(rulesAt(`${path}/src/clock.ts`)).toContain('no-restricted-globals'));
  it.each(free)('leaves %s free', (path) => expect(rulesAt(`${path}/src/clock.ts`)).toBe(''));
  it('leaves unit tests free', () => expect(rulesAt('core/engine/src/clock.test.ts')).toBe(''));
  it('allows the container in core/di alone, and no I/O there', () => {
    expect(rulesAt('core/di/src/container.ts')).toBe('');
    expect(rulesAt('core/vmm/src/container.ts')).toContain('no-restricted-imports');
    expect(rulesAt('core/di/src/fs.ts')).toContain('no-restricted-imports');
  });
});

/** What no linter rule expresses: a pattern in code or in comments, where it holds, and what to do instead. */
interface ScanRule {
  readonly what: string;
  readonly pattern: RegExp;
  readonly in: 'code' | 'comments' | 'text';
  /** Only under rule R1; otherwise everywhere. */
  readonly isR1?: boolean;
}
const scans: readonly ScanRule[] = [
  { what: 'Math used as a value, which hides Math.random', pattern: /\bMath\b(?!\s*\.)/, in: 'code', isR1: true },
  { what: 'a cipher other than AES-GCM', pattern: /\bcreate(?:C|Dec)ipheriv\((?!\s*['"`]aes-(?:128|192|256)-gcm['"`])/, in: 'text', isR1: true },
  { what: 'enum; use an `as const` object', pattern: /^\s*(?:export\s+)?(?:declare\s+)?(?:const\s+)?enum\s+\w/m, in: 'code' },
  { what: 'as unknown as', pattern: /\bas\s+unknown\s+as\b/, in: 'code' },
  { what: 'a directive that switches a check off', pattern: /@ts-(?:ignore|expect-error|nocheck)|(?:ox|es)lint-disable/, in: 'comments' },
  { what: 'a note about work not done', pattern: /\b(?:TODO|FIXME|XXX)\b/, in: 'comments' },
];
const isUnderR1 = (path: string): boolean => /^(?:core\/(?!vmm\/|cli\/|viewer\/)|hypercalls\/|personalities\/)/.test(path) && !path.endsWith('.test.ts');

/** Names the rules that one file breaks. */
function scan(path: string, text: string): readonly string[] {
  const source = parseSource(text);
  return scans.filter((rule) => (!rule.isR1 || isUnderR1(path)) && rule.pattern.test(rule.in === 'text' ? text : source[rule.in])).map((rule) => `${path}: ${rule.what}`);
}

describe('rules that the linter cannot express', () => {
  const sources = ['core', 'hypercalls', 'personalities', 'test'].flatMap((folder) => filesBelow(folder));
  it('hold in every source', () => {
    expect(sources.length).toBeGreaterThan(30);
    expect(sources.flatMap((path) => scan(path, readText(path)))).toEqual([]);
  });

  it.each([
    ['const m = Math; m.random();', 'Math used as a value, which hides Math.random'],
    ["createCipheriv('aes-256-cbc', k, iv);", 'a cipher other than AES-GCM'],
    ['createDecipheriv(name, k, iv);', 'a cipher other than AES-GCM'],
    ['export enum A { B }', 'enum; use an `as const` object'],
    ['const enum A { B }', 'enum; use an `as const` object'],
    ['const a = b as unknown as C;', 'as unknown as'],
    ['// @ts-expect-error because', 'a directive that switches a check off'],
    ['/* oxlint-disable */', 'a directive that switches a check off'],
    ['// TODO later', 'a note about work not done'],
  ])('find %s', (text, what) => expect(scan('core/engine/src/a.ts', text)).toEqual([`core/engine/src/a.ts: ${what}`]));

  it.each(['Math.floor(1);', "const a = 'as unknown as';", "createCipheriv('aes-256-gcm', k, iv);", 'const enumerable = 1;', "const t = 'TODO';"])('find nothing in %s', (text) =>
    expect(scan('core/engine/src/a.ts', text)).toEqual([]));
  it('bind only the packages under R1 where they say so', () => expect(scan('core/vmm/src/a.ts', 'const m = Math;')).toEqual([]));
});
