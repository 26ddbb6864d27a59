import type { Profile } from './profile.ts';
import { rfc2025, series2026, Source } from './sources.ts';

/** Answers of KVM_CHECK_EXTENSION that depend on the machine, and what they mean. */
export const ExtensionRule = {
  planesUnlessProtected: 'the number of planes, or 1 on a VM with protected state',
  planesOfBackend: 'what the backend offers when the split irqchip is on, else 1',
  planesConfigured: 'the number of planes of this machine',
  fpuShared: '1 when planes share one FPU, else 0: the present setting, not the possibility',
  fpuSplit: '1 when every plane has its own FPU, else 0: the opposite polarity',
  attributesOfVm: 'PRIVATE when the VM type has private memory, else 0',
  attributesOfPlane: 'the permission attributes that the machine allows its planes',
  attributesConfigured: 'PRIVATE when the VM type has private memory, and the permission attributes that the machine allows',
  asKvm: 'what KVM answers without planes',
} as const;
export type ExtensionRule = keyof typeof ExtensionRule;
/** A number, a rule, or that the fd does not take the request. */
export type ExtensionAnswer = number | ExtensionRule | 'ENOTTY';

/** A row of the KVM_CHECK_EXTENSION table. */
export interface ExtensionRow {
  readonly capability: 'PLANES' | 'PLANES_FPU' | 'PLANE_FPU' | 'CHECK_EXTENSION_VM' | 'SIGNAL_MSI' | 'MEMORY_ATTRIBUTES' | 'other';
  readonly profile: Profile;
  readonly system: ExtensionAnswer;
  readonly vm: ExtensionAnswer;
  readonly plane: ExtensionAnswer;
  readonly source: string;
}
const row = (capability: ExtensionRow['capability'], profile: Profile, system: ExtensionAnswer, vm: ExtensionAnswer, plane: ExtensionAnswer, source: string): ExtensionRow =>
  ({ capability, profile, system, vm, plane, source });

/**
 * What each fd answers. The documentation of 2025-04 calls the value of PLANES the highest plane id; code and selftest, and so all rows here,
 * make it the number of planes.
 */
export const CHECK_EXTENSION: readonly ExtensionRow[] = [
  row('PLANES',             '2025-04',  16,        'planesUnlessProtected', 0,                   `${rfc2025(26)}; ${Source.SelftestGeneric}`),
  row('PLANES',             '2026-06',  1,         'planesOfBackend',       'ENOTTY',            series2026(54, 59)),
  row('PLANES',             'vmplanes', 16,        'planesConfigured',      0,                   'vmplanes: the limit is configurable, at most 16'),
  row('PLANES_FPU',         '2025-04',  1,         'fpuShared',             0,                   `${rfc2025(21)}; ${Source.SelftestX86}`),
  row('PLANES_FPU',         '2026-06',  0,         0,                       'ENOTTY',            series2026(0)),
  row('PLANES_FPU',         'vmplanes', 1,         'fpuShared',             0,                   rfc2025(21)),
  row('PLANE_FPU',          '2025-04',  0,         0,                       0,                   Source.Doc2024),
  row('PLANE_FPU',          '2026-06',  0,         0,                       'ENOTTY',            Source.Doc2024),
  row('PLANE_FPU',          'vmplanes', 1,         'fpuSplit',              0,                   Source.Doc2024),
  row('CHECK_EXTENSION_VM', '2025-04',  1,         1,                       1,                   Source.SelftestGeneric),
  row('CHECK_EXTENSION_VM', '2026-06',  1,         1,                       'ENOTTY',            series2026(54)),
  row('CHECK_EXTENSION_VM', 'vmplanes', 1,         1,                       1,                   Source.SelftestGeneric),
  row('SIGNAL_MSI',         '2025-04',  1,         1,                       1,                   rfc2025(9)),
  row('SIGNAL_MSI',         '2026-06',  1,         1,                       'ENOTTY',            series2026(54)),
  row('SIGNAL_MSI',         'vmplanes', 1,         1,                       1,                   rfc2025(9)),
  row('MEMORY_ATTRIBUTES',  '2025-04',  8,         'attributesOfVm',        0,                   rfc2025(6)),
  row('MEMORY_ATTRIBUTES',  '2026-06',  8,         'attributesOfVm',        'ENOTTY',            series2026(0)),
  row('MEMORY_ATTRIBUTES',  'vmplanes', 15,        'attributesConfigured',  'attributesOfPlane', Source.Vsm2024),
  row('other',              '2025-04',  'asKvm',   'asKvm',                 0,                   rfc2025(9)),
  row('other',              '2026-06',  'asKvm',   'asKvm',                 'ENOTTY',            series2026(54)),
  row('other',              'vmplanes', 'asKvm',   'asKvm',                 0,                   rfc2025(9)),
];

/** The row for a capability under a profile; capabilities without a row of their own fall to `other`. */
export function extensionRow(profile: Profile, capability: string): ExtensionRow | undefined {
  const of = (name: string): ExtensionRow | undefined => CHECK_EXTENSION.find((r) => r.profile === profile && r.capability === name);
  return of(capability) ?? of('other');
}
