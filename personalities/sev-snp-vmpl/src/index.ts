export { makers as chapterMakers } from './chapters.ts';
export type { ChapterMakers } from './compose.ts';
export { defaultOptions, optionsOf, type SnpOptions } from './options.ts';
export { guestTypes, personality } from './plugin.ts';
export { type ApCreation, type Chapter, type Features, type Ghcb, type GuestRequests, type Injection, type Rmp, RmpCause, type RmpEntry, type SnpChapters, type SnpContext, type SnpPlane, type Switching, type Svsm, type Vmsas } from './ports.ts';
export { SevSnpVmpl } from './sev-snp-vmpl.ts';
