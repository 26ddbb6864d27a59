import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CpuidTable, deriveFeatures, type Feature, featureNames, xsaveComponents } from '@vmplanes/x86';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { requirement, systemTool } from '../support/system-tool.ts';

const cpu = existsSync('/proc/cpuinfo') ? readFileSync('/proc/cpuinfo', 'latin1') : '';
const flags = new Set(/^flags\s*:\s*(.*)$/m.exec(cpu)?.[1]?.split(' ') ?? []);
const host = requirement(process.arch === 'x64' && flags.size > 0, 'the host is not x86-64 Linux', 'run on x86-64 Linux');
const gcc = systemTool('the C compiler', { debianPackage: 'gcc', command: 'gcc' });
const oracle = host.isMet ? gcc : host;

/** Names of the Linux kernel where they are not ours in lower case. @spec Linux arch/x86/include/asm/cpufeatures.h */
const kernelName: Partial<Record<Feature, string>> = {
  sse3: 'pni', sse41: 'sse4_1', sse42: 'sse4_2', tscDeadline: 'tsc_deadline_timer', htt: 'ht', tscAdjust: 'tsc_adjust', sha: 'sha_ni', cetSs: 'user_shstk', cetIbt: 'ibt',
  lahfLm: 'lahf_lm', cmpLegacy: 'cmp_legacy', cr8Legacy: 'cr8_legacy', prefetchw: '3dnowprefetch', topologyExtensions: 'topoext', dataBreakpointExtension: 'bpext', mmxExt: 'mmxext',
  ffxsr: 'fxsr_opt', page1Gb: 'pdpe1gb', rstrFpErrPtrs: 'xsaveerptr', virtSsbd: 'virt_ssbd', archCapabilities: 'arch_capabilities',
};
/** The kernel shows these under conditions of its own, renames them by vendor, or hides them. */
const unlike: ReadonlySet<Feature> = new Set<Feature>([
  'osxsave', 'ospke', 'specCtrl', 'stibp', 'ssbd', 'ibrs', 'ibpb', 'amdStibp', 'amdSsbd', 'invariantTsc', 'lfenceSerializing', 'nullSelectorClearsBase', 'automaticIbrs', 'cetSs', 'cetIbt',
  'pku', 'pks', 'svm', 'vmx', 'arat', 'la57', 'hypervisor', 'monitor', 'umip', 'rdrand', 'rdseed', 'pcid', 'invpcid', 'erms', 'fsrm', 'mtrr', 'xsaves',
]);
const leaves: readonly (readonly [number, number])[] = [
  [0, 0], [1, 0], [6, 0], [7, 0], ...Array.from({ length: 20 }, (_, i) => [0xd, i] as const), [0x8000_0000, 0], [0x8000_0001, 0], [0x8000_0007, 0], [0x8000_0008, 0], [0x8000_0021, 0],
];

describe('feature tables against the host processor', () => {
  let directory = '';
  let table = new CpuidTable([]);
  beforeAll(() => {
    if (!oracle.isMet) return;
    directory = mkdtempSync(join(tmpdir(), 'vmplanes-cpuid-'));
    const program = join(directory, 'host');
    expect(spawnSync(gcc.command, ['-O1', '-o', program, fileURLToPath(new URL('./host.c', import.meta.url))], { encoding: 'utf8' }).stderr).toBe('');
    const run = spawnSync(program, { input: leaves.map(([l, s]) => `${l.toString(16)} ${s.toString(16)}\n`).join(''), encoding: 'utf8' });
    table = new CpuidTable(run.stdout.trim().split('\n').map((line, i) => {
      const [eax, ebx, ecx, edx] = line.split(' ').map((x) => Number.parseInt(x, 16)) as [number, number, number, number];
      const [leaf, subleaf] = leaves[i]!;
      return { leaf, subleaf, indexed: leaf === 0xd || leaf === 7, eax, ebx, ecx, edx };
    }));
  });
  afterAll(() => void (directory && rmSync(directory, { recursive: true, force: true })));

  oracle.it('name the bits that the kernel names', () => {
    const features = deriveFeatures(table);
    const compared = featureNames.filter((f) => !unlike.has(f));
    const shown = (f: Feature): boolean => flags.has(kernelName[f] ?? f.toLowerCase());
    expect(compared.filter((f) => shown(f) && !features[f])).toEqual([]);
    // A kernel may be told to hide some features.
    expect(compared.filter((f) => features[f] && !shown(f)).length).toBeLessThanOrEqual(3);
    expect(compared.filter((f) => features[f]).length).toBeGreaterThan(30);
    expect(table.vendor).toBe(/^vendor_id\s*:\s*(\S+)$/m.exec(cpu)?.[1]);
    expect(features.physicalBits).toBe(Number(/^address sizes\s*:\s*(\d+) bits physical/m.exec(cpu)?.[1]));
  });

  oracle.it('give the state components that the processor has their size and place', () => {
    const out = new Uint32Array(4);
    let seen = 0;
    for (const c of xsaveComponents) {
      table.find(0xd, c.id, out);
      if (out[0] === 0) continue;
      seen++;
      expect([c.name, out[0], out[2]]).toEqual([c.name, c.size, (c.supervisor ? 1 : 0) | (c.aligned ? 2 : 0)]);
      // The place of PKRU depends on which components lie before it.
      if (c.id === 2) expect(out[1]).toBe(c.offset);
    }
    table.find(0xd, 0, out);
    if (out[0]! & 4) expect(seen).toBeGreaterThan(0);
  });
});
