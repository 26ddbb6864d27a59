import type { PluginTable } from '@vmplanes/vmm';

/** The personality of these guests. */
export const bundled: PluginTable = { 'sev-snp-vmpl': () => import('@vmplanes/personality-sev-snp-vmpl') };
