export { Call, calls, Status } from './calls.ts';
export { type Feature, featureMask, features, featureSpec, Leaf, leaves, signature } from './cpuid.ts';
export { ClockFlags, ClockPairing, layouts, StealTime, VcpuTimeInfo, WallClock } from './layouts.ts';
export { Msr, type MsrRow, msrs } from './msrs.ts';
