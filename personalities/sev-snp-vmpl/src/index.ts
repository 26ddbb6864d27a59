export type { ChapterMakers } from './compose.ts';
export { defaultOptions, optionsOf, type SnpOptions } from './options.ts';
export { guestTypes, personality } from './plugin.ts';
export type { ApCreation, Chapter, Features, Ghcb, GuestRequests, Injection, Rmp, RmpEntry, SnpChapters, SnpContext, SnpPlane, Switching, Svsm, Vmsas } from './ports.ts';
export { SevSnpVmpl } from './sev-snp-vmpl.ts';
