import { existsSync, readdirSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, expect, it } from 'vitest';
import { filesBelow, parseSource, readText, root } from './support/source.ts';

/** One package: its folder and the workspace folders it may import. */
type Row = readonly [folder: string, mayImport: readonly string[], extra?: { readonly npm?: readonly string[]; readonly typesOnly?: boolean }];

const abi = ['hypercalls/hyperv', 'hypercalls/sev-snp', 'hypercalls/svsm', 'hypercalls/kvm-planes'] as const;
const personalities = ['personalities/hyperv-vtl', 'personalities/sev-snp-vmpl', 'personalities/kvm-pv'] as const;
const ground = ['core/binary', 'core/di', 'core/engine', 'core/x86'] as const;
const belowVmm = [...ground, 'core/machine', 'core/boot', 'core/kvm', 'core/trace'] as const;
const all = [...belowVmm, 'core/viewer', 'core/vmm', 'core/cli', ...abi, ...personalities] as const;

/** Who may import whom; the table of ARCHITECTURE, also for packages that do not exist yet. `npm` undefined: any. */
const rows: readonly Row[] = [
  ...abi.map((folder): Row => [folder, ['core/binary'], { npm: [] }]),
  ['core/binary', [], { npm: [] }],
  ['core/di', [], { npm: ['reflect-metadata', 'tsyringe'] }],
  ['core/engine', ['core/binary', 'core/di']],
  ['core/x86', ['core/binary', 'core/di', 'core/engine']],
  ['core/machine', ground],
  ['core/boot', ['core/binary', 'core/engine', 'core/x86']],
  ['core/kvm', [...ground, 'hypercalls/kvm-planes']],
  ['core/trace', ['core/binary', 'core/di', 'core/engine', ...abi]],
  ['core/viewer', ['core/trace'], { typesOnly: true }],
  ['core/vmm', belowVmm],
  ['core/cli', all],
  ['personalities/hyperv-vtl', [...ground, 'hypercalls/hyperv']],
  ['personalities/sev-snp-vmpl', [...ground, 'hypercalls/sev-snp', 'hypercalls/svsm']],
  ['personalities/kvm-pv', [...ground, 'hypercalls/kvm-planes']],
  ['test', all],
];

const prefixes: Readonly<Record<string, string>> = { core: '', hypercalls: 'abi-', personalities: 'personality-', test: '' };
const nameOf = (folder: string): string => `@vmplanes/${prefixes[folder.split('/')[0]!]!}${folder.split('/').at(-1)!}`;
const folderOf = new Map(rows.map(([folder]) => [nameOf(folder), folder]));

interface Manifest {
  readonly name: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
}
interface Config {
  readonly references?: readonly { readonly path: string }[];
}
const manifestOf = (folder: string): Manifest => JSON.parse(readText(join(folder, 'package.json')));
const configOf = (folder: string): Config => JSON.parse(readText(join(folder, 'tsconfig.json')));
const dependenciesOf = (manifest: Manifest): Readonly<Record<string, string>> => ({ ...manifest.dependencies, ...manifest.devDependencies });
const packageOf = (specifier: string): string => specifier.split('/').slice(0, specifier.startsWith('@') ? 2 : 1).join('/');

const present = ['core', 'hypercalls', 'personalities']
  .flatMap((group) => (existsSync(join(root, group)) ? readdirSync(join(root, group)).map((name) => `${group}/${name}`) : []))
  .concat('test')
  .filter((folder) => existsSync(join(root, folder, 'package.json')));
const built = rows.filter(([folder]) => present.includes(folder));

/** What one source file may import; returns a sentence for each import that breaks the table. */
function brokenImports([folder, mayImport, extra]: Row, path: string, text: string, declared: Readonly<Record<string, string>>): readonly string[] {
  const broken: string[] = [];
  for (const { specifier, isTypeOnly } of parseSource(text).imports) {
    if (specifier.startsWith('.')) {
      if (!`${normalize(join(dirname(path), specifier))}/`.startsWith(`${folder}/`)) broken.push(`${path}: ${specifier} leaves the package`);
      continue;
    }
    const name = packageOf(specifier);
    if (name.startsWith('node:')) continue;
    if (name.startsWith('@vmplanes/')) {
      const target = folderOf.get(name);
      if (target === undefined || !mayImport.includes(target)) broken.push(`${path}: may not import ${specifier}`);
      else if (extra?.typesOnly === true && !isTypeOnly) broken.push(`${path}: may import only types from ${specifier}`);
    }
    // The test runner is a tool of the workspace, not a dependency of each package.
    const isTestTool = ['vite', 'vitest'].includes(name) && (folder === 'test' || path.endsWith('.test.ts'));
    if (!isTestTool && !(name in declared)) broken.push(`${path}: ${name} is not declared in package.json`);
  }
  return broken;
}

describe('packages', () => {
  it('each have a row in the table', () => {
    const known = new Set(rows.map(([folder]) => folder));
    expect(present.filter((folder) => !known.has(folder))).toEqual([]);
    expect(present.length).toBeGreaterThan(5);
  });

  it('are all in the root tsconfig', () => expect((configOf('.').references ?? []).map((r) => r.path).sort()).toEqual([...present].sort()));

  it.each(built.map((row) => [row[0], row] as const))('%s declares no more than its row allows', (folder, [, mayImport, extra]) => {
    const manifest = manifestOf(folder);
    expect(manifest.name).toBe(nameOf(folder));
    const declared = Object.entries(dependenciesOf(manifest));
    const workspace = declared.filter(([name]) => name.startsWith('@vmplanes/'));
    const npm = declared.filter(([name]) => !name.startsWith('@vmplanes/'));
    expect(workspace.filter(([name, version]) => version !== 'workspace:*' || !mayImport.includes(folderOf.get(name) ?? name))).toEqual([]);
    expect(npm.filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version)), 'exact versions').toEqual([]);
    if (extra?.npm) expect(npm.map(([name]) => name).sort()).toEqual(extra.npm);
    else expect(npm.map(([name]) => name)).not.toContain('tsyringe');
    const references = (configOf(folder).references ?? []).map((r) => nameOf(normalize(join(folder, r.path))));
    expect(references.sort()).toEqual(workspace.map(([name]) => name).sort());
  });

  it.each(built.map((row) => [row[0], row] as const))('%s imports no more than it declares', (folder, row) => {
    const declared = dependenciesOf(manifestOf(folder));
    const sources = [...filesBelow(join(folder, 'src')), ...filesBelow(join(folder, 'bin'))];
    expect(sources.flatMap((path) => brokenImports(row, path, readText(path), declared))).toEqual([]);
  });

  it.each<[string, string, string, readonly string[]]>([
    ['a relative path out', 'core/engine/src/a.ts', "import { x } from '../../binary/src/index.ts';", ['core/engine/src/a.ts: ../../binary/src/index.ts leaves the package']],
    ['a package of a higher layer', 'core/engine/src/a.ts', "export { x } from '@vmplanes/x86';", ['core/engine/src/a.ts: may not import @vmplanes/x86', 'core/engine/src/a.ts: @vmplanes/x86 is not declared in package.json']],
    ['a dynamic import', 'core/engine/src/a.ts', "const x = await import('@vmplanes/personality-kvm-pv');", ['core/engine/src/a.ts: may not import @vmplanes/personality-kvm-pv', 'core/engine/src/a.ts: @vmplanes/personality-kvm-pv is not declared in package.json']],
    ['an undeclared package', 'core/engine/src/a.ts', "import zod from 'zod/v4';", ['core/engine/src/a.ts: zod is not declared in package.json']],
    ['the test runner in product code', 'core/engine/src/a.ts', "import { it } from 'vitest';", ['core/engine/src/a.ts: vitest is not declared in package.json']],
    ['nothing in comments and strings', 'core/engine/src/a.ts', "// import 'zod';\nconst a = \"import 'zod'\";", []],
    ['nothing allowed', 'core/engine/src/a.test.ts', "import { it } from 'vitest';\nimport type { A } from '@vmplanes/binary';\nimport { b } from './b.ts';", []],
  ])('the check finds %s', (_name, path, text, found) => {
    const row = rows.find(([folder]) => folder === 'core/engine')!;
    expect(brokenImports(row, path, text, { '@vmplanes/binary': 'workspace:*' })).toEqual(found);
  });

  it('the check finds a value taken from a package whose types alone are allowed', () => {
    const row = rows.find(([folder]) => folder === 'core/viewer')!;
    const declared = { '@vmplanes/trace': 'workspace:*' };
    expect(brokenImports(row, 'core/viewer/src/a.ts', "import { x } from '@vmplanes/trace';", declared)).toEqual(['core/viewer/src/a.ts: may import only types from @vmplanes/trace']);
    expect(brokenImports(row, 'core/viewer/src/a.ts', "import type { X } from '@vmplanes/trace';", declared)).toEqual([]);
  });
});

/** Words of one guest interface, alone or as part of an identifier; the name of this project is not one of them. */
const PERSONALITY_WORD = /(?:(?<![A-Za-z])(?:vtl|vmpl|ghcb|rmp|VTL|VMPL|GHCB|RMP|Vtl|Vmpl|Ghcb|Rmp)|(?<=[a-z0-9])(?:VTL|VMPL|GHCB|RMP|Vtl|Vmpl|Ghcb|Rmp))(?!ANES)(?![a-rt-z]|s[a-z])/g;
const personalityWords = (text: string): readonly string[] => text.match(PERSONALITY_WORD) ?? [];

describe('the core knows no guest interface', () => {
  it.each(['core/binary', 'core/di', 'core/engine', 'core/x86', 'core/machine'])('%s names no VTL, VMPL, GHCB or RMP', (folder) => {
    const found = filesBelow(folder, ['.ts', '.mjs', '.json', '.md']).flatMap((path) => personalityWords(`${path}\n${readText(path)}`).map((word) => `${path}: ${word}`));
    expect(found).toEqual([]);
  });

  it.each(present.filter((folder) => folder.startsWith('core/') && folder !== 'core/cli'))('%s names no personality package', (folder) => {
    const found = filesBelow(folder, ['.ts', '.mjs', '.json']).flatMap((path) => (readText(path).match(/@vmplanes\/personality-[a-z-]+|\bpersonalities\/[a-z]/g) ?? []).map((name) => `${path}: ${name}`));
    expect(found).toEqual([]);
  });

  it.each(['VTL0', 'the VTLs', 'targetVtl', 'vtl', 'VMPL3', 'vmplMask', 'hasVMPLs', 'GHCB', 'ghcb_msr', 'RMP entry', 'rmp', 'readRmpEntry', 'RMPADJUST'])('the check finds a word in "%s"', (text) =>
    expect(personalityWords(text)).not.toEqual([]));
  it.each(['vmplanes', '@vmplanes/x86', 'VMPLANES', 'swarmp', 'trmp1', 'subtly', 'vtlx'])('the check finds none in "%s"', (text) => expect(personalityWords(text)).toEqual([]));
});
