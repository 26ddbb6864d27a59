import { bytes, i64, struct, u32, u64 } from '@vmplanes/binary';
import { Source } from './sources.ts';

/** The page is not valid; the counter MSR must be read. @spec TLFS Timers, partition reference TSC mechanism */
export const HV_REFERENCE_TSC_SEQUENCE_INVALID = 0;
/** Unit of reference time. @spec TLFS Timers */
export const REFERENCE_TIME_NANOSECONDS = 100;

/** Reference time = ((TSC * tscScale) >> 64) + tscOffset. @spec TLFS Timers, HV_REFERENCE_TSC_PAGE; openvmm vm/hv1/hvdef/src/lib.rs */
export const HvReferenceTscPage = struct('HvReferenceTscPage', `TLFS Timers, HV_REFERENCE_TSC_PAGE; ${Source.Hvdef}`, 4096, {
  tscSequence: [0, u32, '0: not valid; changes with every update'],
  reserved1: [4, u32],
  tscScale: [8, u64, '100 ns per tick, times 2^64'],
  tscOffset: [16, i64, '100 ns'],
  timelineBias: [24, u64],
  tscMultiplier: [32, u64],
  reserved2: [40, bytes(4056)],
});
