import type { ChapterMakers } from './compose.ts';
import { FeaturesChapter } from './features.ts';
import { makeSecurityProcessor } from './psp/compose.ts';
import { RmpChapter } from './rmp.ts';
import { GhcbChapter } from './ghcb/chapter.ts';
import { SvsmProvider } from './svsm/provider.ts';
import { ApCreationChapter } from './vmsa/ap-creation.ts';
import { InjectionChapter } from './vmsa/injection.ts';
import { SwitchingChapter } from './vmsa/switching.ts';
import { VmsaChapter } from './vmsa/vmsas.ts';

/** What the chapters of a machine are made by. */
export const makers: Partial<ChapterMakers> = {
  aps: (snp) => new ApCreationChapter(snp),
  features: (snp) => new FeaturesChapter(snp),
  injection: (snp) => new InjectionChapter(snp),
  rmp: (snp) => new RmpChapter(snp),
  requests: makeSecurityProcessor,
  ghcb: (snp) => new GhcbChapter(snp, snp.sharedCalls),
  svsm: (snp) => new SvsmProvider(snp),
  switching: (snp) => new SwitchingChapter(snp),
  vmsas: (snp) => new VmsaChapter(snp),
};
