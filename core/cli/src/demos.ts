import { type GuestConfig, hasSwtpm } from '@vmplanes/vmm';
import { fileURLToPath } from 'node:url';

/** What this host adds to a demonstration, and what it says of what it lacks. */
export interface DemoHost {
  readonly overrides: GuestConfig;
  readonly notice: string | null;
}
/** A guest that `vmplanes start` can run: a file of the repository, with what this host adds, or a configuration. */
export type Demo = { readonly file: string; readonly host?: () => DemoHost } | { readonly config: GuestConfig };

/** The guest below an SVSM has a TPM where the program that is one is installed. */
const withTpm = (): DemoHost =>
  hasSwtpm()
    ? { overrides: { personalities: [{ use: 'sev-snp-vmpl', options: { vtpm: true } }] }, notice: null }
    : { overrides: {}, notice: 'swtpm is not installed, so this guest has no TPM and leaves its TPM commands out (to see them: apt-get install -y swtpm)' };

const systemTime = 0x4b564d01;

/** One guest per guest type. */
export const demos: Readonly<Record<string, Demo>> = {
  example: { file: fileURLToPath(new URL('../../../test/src/example-personality/guest.json', import.meta.url)) },
  'hyperv-vsm': { file: fileURLToPath(new URL('../../../test/src/hyperv-demo/guest.json', import.meta.url)) },
  'kvm-pv': {
    config: {
      type: 'kvm-pv',
      name: 'two clocks',
      vps: 2,
      startVps: 'all',
      scripts: {
        tables: {
          clock: {
            steps: [
              { op: 'cpuid', leaf: 0x4000_0001 },
              { op: 'wrmsr', index: systemTime, value: '0x2001' },
              { op: 'apicWrite', register: 0x0f, value: '0x1ff' },
              { op: 'sti' },
              { op: 'work', cost: 30_000 },
              { op: 'call', regs: { rax: 10, rbx: 2, rcx: 0, rdx: 0, rsi: 0x51 } },
              { op: 'expect', register: 'rax', equals: 1 },
              { op: 'read', gpa: 0x2018, size: 4 },
              { op: 'expect', register: 'rax', equals: '0x80000000' },
            ],
          },
          sleeper: { steps: [{ op: 'apicWrite', register: 0x0f, value: '0x1ff' }, { op: 'sti' }, { op: 'hlt' }, { op: 'work' }], handlers: { default: [{ op: 'eoi' }] } },
        },
        run: [
          { vp: 0, script: 'clock' },
          { vp: 1, script: 'sleeper' },
        ],
      },
    },
  },
  'sev-snp-builtin-svsm': { file: fileURLToPath(new URL('../../../test/src/snp-demo/guest.json', import.meta.url)), host: withTpm },
  plain: {
    config: { type: 'plain', name: 'one plane', scripts: { tables: { main: { steps: [{ op: 'cpuid', leaf: 0 }, { op: 'work', cost: 100 }] } }, run: [{ vp: 0, script: 'main' }] } },
  },
};
