import type { ChapterMakers } from './compose.ts';
import { SvsmProvider } from './svsm/provider.ts';

/** What the chapters of a machine are made by. */
export const makers: Partial<ChapterMakers> = {
  svsm: (snp) => new SvsmProvider(snp),
};
