import { Arch, HostError, Machine, PERSONALITY_API, type PersonalityPlugin, type PlainRecord } from '@vmplanes/engine';
import { X86Arch } from '@vmplanes/x86';
import { KvmPv } from './kvm-pv.ts';
import { optionsOf, optionsSchema } from './options.ts';
import { support } from './support.ts';

/** The plug-in that a guest configuration names `kvm-pv`. It gives planes no meaning: it serves whatever planes there are. */
export const personality: PersonalityPlugin = {
  name: 'kvm-pv',
  version: '0.1.0',
  api: PERSONALITY_API,
  summary: 'Paravirtual interface of KVM: clocks, interprocessor interrupts, steal time and end of interrupt, each per plane.',
  options: optionsSchema,
  support,
  install(scope, options): KvmPv {
    const machine = scope.resolve(Machine.token);
    const arch = scope.resolve(Arch);
    if (!(arch instanceof X86Arch)) throw new HostError('BadConfig', `kvm-pv: needs the x86 architecture, this machine has ${arch.name}`);
    return new KvmPv(machine, arch, optionsOf(options));
  },
};

/** Guest types of this package: plain data, checked by the plug-in host. */
export const guestTypes: Readonly<Record<string, PlainRecord>> = {
  'kvm-pv': { summary: 'A guest that finds the paravirtual interface of KVM in each of its planes.', personalities: ['kvm-pv'] },
};
