import { hexBytes } from '@vmplanes/binary';
import { Arch, HostError, Machine, PERSONALITY_API, type PersonalityPlugin, type PlainRecord, type PlaneMeaning, SharedCalls } from '@vmplanes/engine';
import { X86Arch } from '@vmplanes/x86';
import { makers } from './chapters.ts';
import { optionsOf, optionsSchema } from './options.ts';
import { PLATFORM_SEED_BYTES } from './psp/platform.ts';
import { SevSnpVmpl } from './sev-snp-vmpl.ts';
import { support } from './support.ts';
import { TPM_SERVICE } from './svsm/vtpm.ts';

/** All registers are in the VMSA: VMPLs of a VP share none. @spec APM vol. 2, 15.36.7, 15.36.8 */
const meaning: PlaneMeaning = {
  sharing: { shared: [] },
  dominates: (a, b) => a < b,
  planeName: (plane) => `VMPL${plane}`,
};

/** The plug-in that a guest configuration names `sev-snp-vmpl`. */
export const personality: PersonalityPlugin = {
  name: 'sev-snp-vmpl',
  version: '0.1.0',
  api: PERSONALITY_API,
  summary: 'SEV, SEV-ES and SEV-SNP guests: encrypted state, page ownership, VMPLs, the GHCB protocol and an SVSM.',
  options: optionsSchema,
  over: ['hyperv-vtl', 'kvm-pv'],
  meaning: () => meaning,
  policy: 'lowest-runnable',
  rule: 'deliverable',
  services: (options) => (optionsOf(options).svsm === 'builtin' && optionsOf(options).vtpm ? [TPM_SERVICE] : []),
  support,
  // A guest's secrets are its own: nobody else's machine has them.
  hostInputs: ({ platformSeed }, random) => (platformSeed === '' ? { platformSeed: hexBytes(random(PLATFORM_SEED_BYTES)) } : {}),
  install(scope, options): SevSnpVmpl {
    const machine = scope.resolve(Machine.token);
    const arch = scope.resolve(Arch);
    if (!(arch instanceof X86Arch)) throw new HostError('BadConfig', `sev-snp-vmpl: needs the x86 architecture, this machine has ${arch.name}`);
    return new SevSnpVmpl(machine, arch, optionsOf(options), makers, scope.has(SharedCalls) ? scope.resolve(SharedCalls) : null);
  },
};

const guest = (summary: string, planes: number, options: PlainRecord): PlainRecord => ({ summary, cpuModel: 'epyc-like', planes, personalities: [{ use: 'sev-snp-vmpl', options }] });

/** Guest types of this package. */
export const guestTypes: Readonly<Record<string, PlainRecord>> = {
  sev: guest('A guest whose memory is hidden from its host.', 1, { level: 'sev' }),
  'sev-es': guest('A guest whose memory and registers are hidden from its host.', 1, { level: 'sev-es', start: 'reset' }),
  'sev-snp': guest('A SEV-SNP guest at VMPL0.', 4, { level: 'sev-snp', start: 'reset' }),
  'sev-snp-svsm': guest('A SEV-SNP guest below an SVSM image of its own at VMPL0.', 4, { level: 'sev-snp', svsm: 'guest', start: 'reset', features: ['RestrictedInjection', 'DebugSwap'] }),
  'sev-snp-builtin-svsm': { ...guest('A SEV-SNP guest at VMPL2, below the SVSM of this program.', 4, { level: 'sev-snp', svsm: 'builtin' }), memory: '160MiB' },
};
