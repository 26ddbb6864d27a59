import { provideValue } from '@vmplanes/di';
import { Arch, HostError, Machine, PERSONALITY_API, type PersonalityPlugin, type PlainRecord, type PlaneMeaning, SharedCalls } from '@vmplanes/engine';
import { X86Arch } from '@vmplanes/x86';
import { SharedPageCalls } from './dispatcher/shared-page-calls.ts';
import { HypervVtl } from './hyperv-vtl.ts';
import { optionsOf, optionsSchema } from './options.ts';
import { support } from './support.ts';

/** Registers all VTLs of a VP share. @spec TLFS, Virtual Secure Mode: Private State, Shared State */
const meaning = (options: PlainRecord): PlaneMeaning => ({
  sharing: { shared: ['gpr', 'cr2', 'breakpoints', 'xcr0', 'fpu', 'mtrr', 'mcg', ...(optionsOf(options).dr6Shared ? ['dr6'] : [])], except: ['rsp'] },
  dominates: (a, b) => a > b,
  planeName: (plane) => `VTL${plane}`,
});

/** The plug-in that a guest configuration names `hyperv-vtl`. */
export const personality: PersonalityPlugin = {
  name: 'hyperv-vtl',
  version: '0.1.0',
  api: PERSONALITY_API,
  summary: 'The Hyper-V hypervisor interface with virtual trust levels: hypercalls, VSM, SynIC, timers.',
  options: optionsSchema,
  meaning,
  policy: 'highest-runnable',
  rule: 'deliverable',
  support,
  install(scope, options): HypervVtl {
    const machine = scope.resolve(Machine.token);
    const arch = scope.resolve(Arch);
    if (!(arch instanceof X86Arch)) throw new HostError('BadConfig', `hyperv-vtl: needs the x86 architecture, this machine has ${arch.name}`);
    const hv = new HypervVtl(machine, arch, optionsOf(options));
    provideValue(scope, SharedCalls, new SharedPageCalls(hv));
    return hv;
  },
};

/** Guest types of this package. */
export const guestTypes: Readonly<Record<string, PlainRecord>> = {
  'hyperv-vsm': { summary: 'A Hyper-V guest with virtual secure mode: VTL0 and VTL1.', personalities: ['hyperv-vtl'], planes: 2 },
};
