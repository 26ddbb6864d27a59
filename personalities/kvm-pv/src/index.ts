export { layouts } from './abi/index.ts';
export { KvmPv } from './kvm-pv.ts';
export type { KvmPvOptions } from './options.ts';
export { guestTypes, personality } from './plugin.ts';
