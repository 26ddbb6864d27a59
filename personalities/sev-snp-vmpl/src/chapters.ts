import type { ChapterMakers } from './compose.ts';

/** What the chapters of a machine are made by. */
export const makers: Partial<ChapterMakers> = {};
