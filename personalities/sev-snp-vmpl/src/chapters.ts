import type { ChapterMakers } from './compose.ts';
import { FeaturesChapter } from './features.ts';
import { RmpChapter } from './rmp.ts';
import { GhcbChapter } from './ghcb/chapter.ts';
import { SvsmProvider } from './svsm/provider.ts';

/** What the chapters of a machine are made by. */
export const makers: Partial<ChapterMakers> = {
  features: (snp) => new FeaturesChapter(snp),
  rmp: (snp) => new RmpChapter(snp),
  ghcb: (snp) => new GhcbChapter(snp, snp.sharedCalls),
  svsm: (snp) => new SvsmProvider(snp),
};
