import type { PluginTable } from '@vmplanes/vmm';

/** The personalities that come with the program, by the name configurations use. Imported when a guest asks for them. */
export const bundled: PluginTable = {
  'hyperv-vtl': () => import('@vmplanes/personality-hyperv-vtl'),
  'kvm-pv': () => import('@vmplanes/personality-kvm-pv'),
  'sev-snp-vmpl': () => import('@vmplanes/personality-sev-snp-vmpl'),
};
