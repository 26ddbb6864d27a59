import { filesBelow } from '../support/source.ts';

/** One row of the report: sources that are changed. */
export interface Area {
  readonly name: string;
  readonly folder: string;
  readonly except?: readonly string[];
}

/** What `npm run test:mutants` changes: the engine, the tables, the x86 state and the personalities; not what only words messages or re-exports. */
export const AREAS: readonly Area[] = [
  { name: 'core/engine', folder: 'core/engine/src', except: ['core/engine/src/memory/', 'core/engine/src/errors.ts'] },
  { name: 'core/engine/memory', folder: 'core/engine/src/memory' },
  { name: 'core/x86/apic', folder: 'core/x86/src/apic', except: ['core/x86/src/apic/fixture.ts'] },
  { name: 'core/x86/arch', folder: 'core/x86/src/arch' },
  { name: 'core/x86/mmu', folder: 'core/x86/src/mmu' },
  { name: 'core/x86/sys', folder: 'core/x86/src/sys' },
  { name: 'core/x86/scripted', folder: 'core/x86/src/scripted' },
  { name: 'core/kvm', folder: 'core/kvm/src' },
  { name: 'hypercalls/kvm-planes', folder: 'hypercalls/kvm-planes/src' },
  { name: 'hypercalls/hyperv', folder: 'hypercalls/hyperv/src' },
  { name: 'personalities/hyperv-vtl', folder: 'personalities/hyperv-vtl/src', except: ['personalities/hyperv-vtl/src/fixture.ts', 'personalities/hyperv-vtl/src/call-fixture.ts', 'personalities/hyperv-vtl/src/vsm-fixture.ts'] },
  { name: 'hypercalls/sev-snp', folder: 'hypercalls/sev-snp/src' },
  { name: 'hypercalls/svsm', folder: 'hypercalls/svsm/src' },
  { name: 'core/boot', folder: 'core/boot/src' },
  { name: 'personalities/sev-snp-vmpl', folder: 'personalities/sev-snp-vmpl/src' },
];

/** The sources of an area. */
export const sourcesOf = (area: Area): readonly string[] =>
  filesBelow(area.folder, ['.ts']).filter((path) => !path.endsWith('.test.ts') && !path.endsWith('/index.ts') && !(area.except ?? []).some((e) => path.startsWith(e)));

/** Test files that may notice a change: all but those of this tool and of the repository's own rules, which read sources as text. */
export const testFiles = (): readonly string[] =>
  ['core', 'hypercalls', 'personalities', 'test/src'].flatMap((folder) => filesBelow(folder, ['.test.ts'])).filter((path) => !/^test\/src\/(?:mutants|support|cli)\/|^test\/src\/(?:rules|layers)\.test\.ts$/.test(path));
