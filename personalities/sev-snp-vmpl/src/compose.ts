import { HostError } from '@vmplanes/engine';
import type { ApCreation, Chapter, Features, Ghcb, GuestRequests, Injection, Rmp, SnpChapters, SnpContext, Svsm, Switching, Vmsas } from './ports.ts';

/** How each chapter of a machine is made. */
export interface ChapterMakers {
  readonly features: (snp: SnpContext) => Features;
  readonly rmp: (snp: SnpContext) => Rmp;
  readonly vmsas: (snp: SnpContext) => Vmsas;
  readonly injection: (snp: SnpContext) => Injection;
  readonly switching: (snp: SnpContext) => Switching;
  readonly aps: (snp: SnpContext) => ApCreation;
  readonly ghcb: (snp: SnpContext) => Ghcb;
  readonly requests: (snp: SnpContext) => GuestRequests;
  readonly svsm: (snp: SnpContext) => Svsm;
}

/**
 * Makes the chapters of one machine. They find each other through `snp.chapters` once all are made; they are restored in the order given here, pages
 * before what lives in them.
 * @throws {HostError} BadConfig names the chapters without a maker.
 */
export const composeChapters = (snp: SnpContext, makers: Partial<ChapterMakers>): { readonly chapters: SnpChapters; readonly stateful: readonly Chapter[] } => {
  const needed = ['features', 'rmp', 'switching', 'vmsas', 'injection', 'aps', 'ghcb', 'requests', ...(snp.options.svsm === 'builtin' ? ['svsm' as const] : [])] as const;
  const missing = needed.filter((name) => makers[name] === undefined);
  if (missing.length > 0) throw new HostError('BadConfig', `sev-snp-vmpl: nothing makes the chapters ${missing.join(', ')}`);
  const { features, rmp, vmsas, injection, switching, aps, ghcb, requests, svsm } = makers as ChapterMakers;
  const chapters: SnpChapters = {
    features: features(snp),
    rmp: rmp(snp),
    switching: switching(snp),
    vmsas: vmsas(snp),
    injection: injection(snp),
    aps: aps(snp),
    ghcb: ghcb(snp),
    requests: requests(snp),
    svsm: snp.options.svsm === 'builtin' ? svsm(snp) : null,
  };
  return { chapters, stateful: Object.values<Chapter | null>({ ...chapters }).filter((c) => c !== null) };
};
