export type { ApCreation, Chapter, Features, Ghcb, GuestRequests, Injection, Rmp, RmpEntry, SnpChapters, SnpContext, SnpPlane, Switching, Svsm, Vmsas } from './ports.ts';
