import { hex } from '@vmplanes/binary';
import type { SupportRow } from '@vmplanes/engine';
import { calls, features, featureSpec, leaves, msrs } from './abi/index.ts';

const unserved = new Map<string, string>(features.flatMap((f) => ('why' in f ? [[f.name, f.why] as const] : [])));

const row = (kind: string, name: string, code: string, spec: string, why: string | undefined): SupportRow => ({
  kind,
  name,
  code,
  spec,
  support: why === undefined ? 'yes' : 'no',
  ...(why === undefined ? {} : { note: why }),
});

/** The support matrix, printed from the tables that the behaviour is bound to. */
export const support: readonly SupportRow[] = [
  ...leaves.map((l) => row('cpuid', l.name, hex(0x4000_0000 + l.offset), l.spec, undefined)),
  ...features.map((f) => row('feature', `KVM_FEATURE_${f.name}`, `bit ${f.bit}`, featureSpec, unserved.get(f.name))),
  ...msrs.map((m) => row('msr', m.name, hex(m.index), m.spec, unserved.get(m.feature))),
  ...calls.map((c) => row('call', c.name, String(c.nr), c.spec, 'why' in c ? c.why : undefined)),
];
