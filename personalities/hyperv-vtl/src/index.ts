export type { CallIo } from './dispatcher/call-io.ts';
export { PageIo } from './dispatcher/page-io.ts';
export type { FlushPort } from './flush.ts';
export { HypervVtl } from './hyperv-vtl.ts';
export { defaultOptions, type HvOptions, profiles } from './options.ts';
export { guestTypes, personality } from './plugin.ts';
