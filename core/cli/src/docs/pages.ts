import { LAYOUTS as hypervLayouts } from '@vmplanes/abi-hyperv';
import * as abi from '@vmplanes/abi-kvm-planes';
import * as abiSnp from '@vmplanes/abi-sev-snp';
import * as abiSvsm from '@vmplanes/abi-svsm';
import { type Described, referencePage } from '@vmplanes/binary';
import { HostErrorCode, type PersonalityPlugin } from '@vmplanes/engine';
import { personality as hypervVtl } from '@vmplanes/personality-hyperv-vtl';
import { layouts as kvmPvLayouts, personality as kvmPv } from '@vmplanes/personality-kvm-pv';
import { personality as sevSnpVmpl } from '@vmplanes/personality-sev-snp-vmpl';
import { formatReference } from '@vmplanes/trace';
import { guestTypes, jsonSchemas, PluginCatalogue, SnapshotHeader } from '@vmplanes/vmm';
import type { Command } from 'commander';
import { abiDiff } from '../abi-diff.ts';
import { bundled } from '../bundled.ts';
import { exitCodes, exitOfError } from '../exit-codes.ts';
import { jsonText } from '../output.ts';
import { markdownTable, page } from './markdown.ts';

/** A generated page: file name below `core/cli/docs` and content. */
export interface Page {
  readonly file: string;
  readonly text: string;
}

const isDescribed = (value: unknown): value is Described => typeof value === 'object' && value !== null && 'kind' in value && 'name' in value && ('read' in value || 'minSize' in value);

/** Layouts of the ABI whose name no other one has: those that all profiles share. */
function commonLayouts(): readonly Described[] {
  const all = [...new Set(Object.values<unknown>(abi).filter(isDescribed))];
  return all.filter(({ name }) => all.filter((l) => l.name === name).length === 1);
}

const describedIn = (...modules: readonly object[]): readonly Described[] => [...new Set(modules.flatMap((m) => Object.values<unknown>({ ...m }).filter(isDescribed)))];

const exitCodesPage = (): string =>
  page(
    'Exit codes',
    markdownTable(['code', 'name', 'meaning'], Object.entries(exitCodes).map(([name, { code, meaning }]) => [code, name, meaning])),
    'Errors are one line on stderr, `vmplanes: CODE: what and where (how to fix it)`. Their codes:',
    markdownTable(['error', 'meaning', 'exit code'], Object.entries(HostErrorCode).map(([name, meaning]) => [name, meaning, exitCodes[exitOfError[name as HostErrorCode]].code])),
  );

const supportPage = (plugin: PersonalityPlugin, layouts: readonly Described[]): string =>
  page(
    `Personality ${plugin.name}`,
    plugin.summary,
    `Options:\n\n\`\`\`json\n${jsonText(plugin.options)}\n\`\`\``,
    markdownTable(['kind', 'name', 'code', 'served', 'specification', 'note'], plugin.support.map((r) => [r.kind, r.name, r.code, r.support, r.spec, r.note ?? ''])),
    '## Layouts',
    referencePage(layouts).trimEnd(),
  );

const abiPage = (): string =>
  page(
    'KVM planes ABI: layouts',
    'Layouts of the calls and exits of KVM planes. Those that differ between the posted designs come first, by profile.',
    ...abi.PROFILES.flatMap((p) => [`## Profile ${p}`, referencePage(Object.values(abi.LAYOUTS[p])).trimEnd()]),
    '## All profiles',
    referencePage(commonLayouts()).trimEnd(),
  );

const abiDiffPage = (): string =>
  page(
    'KVM planes ABI: differences of the designs',
    'What two posted designs of KVM planes say differently; also `vmplanes planes-abi diff A B`.',
    ...([['2025-04', '2026-06'], ['2025-04', 'vmplanes']] as const).flatMap(([a, b]) => [
      `## ${a} and ${b}`,
      markdownTable(['topic', 'what', a, b, 'source'], abiDiff(a, b).map((d) => [d.topic, d.name, d.a, d.b, d.source])),
    ]),
  );

const tracePage = (): string =>
  page(
    'Trace format',
    'One JSON value per line: the header, then records. A field of role `checked` is made again by a replay and compared, `fed` is given to it.',
    markdownTable(['record', 'field', 'type', 'role', 'meaning'], formatReference().map((r) => [r.record, r.field, r.type, r.role, r.doc])),
  );

const snapshotPage = (): string => page('Snapshot file', 'A header, then one value in the structured-clone format of V8: `{ configHash, machine }`.', referencePage([SnapshotHeader]).trimEnd());

async function guestTypesPage(): Promise<string> {
  const loaded = await new PluginCatalogue({ directory: '.', plugins: bundled }).loadAll();
  const all = Object.entries({ ...guestTypes, ...Object.assign({}, ...loaded.map((p) => p.guestTypes)) } as typeof guestTypes);
  return page(
    'Guest types',
    'A guest type is data: what differs from its base. `plain` sets everything.',
    ...all.map(([name, { summary, ...deltas }]) => `## ${name}\n\n${summary}\n\n\`\`\`json\n${jsonText(deltas)}\n\`\`\``),
  );
}

/** Help of a command and of those below it. */
const helpOf = (command: Command, path: string): readonly string[] => [
  `## ${path}`,
  `\`\`\`text\n${command.helpInformation().trimEnd()}\n\`\`\``,
  ...command.commands.flatMap((c) => helpOf(c, `${path} ${c.name()}`)),
];

/** All generated reference pages. */
export async function pages(program: Command): Promise<readonly Page[]> {
  program.configureHelp({ helpWidth: 120 });
  for (const c of program.commands) for (const inner of [c, ...c.commands]) inner.configureHelp({ helpWidth: 120 });
  return [
    { file: 'commands.md', text: page('Commands', ...helpOf(program, 'vmplanes')) },
    { file: 'exit-codes.md', text: exitCodesPage() },
    { file: 'guest-types.md', text: await guestTypesPage() },
    { file: 'kvm-planes-abi.md', text: abiPage() },
    { file: 'kvm-planes-diff.md', text: abiDiffPage() },
    { file: 'personality-hyperv-vtl.md', text: supportPage(hypervVtl, hypervLayouts) },
    { file: 'personality-kvm-pv.md', text: supportPage(kvmPv, kvmPvLayouts) },
    { file: 'personality-sev-snp-vmpl.md', text: supportPage(sevSnpVmpl, describedIn(abiSnp, abiSvsm)) },
    { file: 'snapshot-file.md', text: snapshotPage() },
    { file: 'trace-format.md', text: tracePage() },
    ...Object.entries(jsonSchemas()).map(([name, schema]) => ({ file: `${name}.schema.json`, text: `${jsonText(schema)}\n` })),
  ];
}
