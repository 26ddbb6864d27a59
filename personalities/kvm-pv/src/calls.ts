import type { PlaneContext } from '@vmplanes/engine';
import { Call, Status } from './abi/index.ts';
import type { PvClock } from './clock.ts';
import type { PvIpi } from './ipi.ts';
import type { PvPlane } from './plane-state.ts';

/** The four arguments of a call as (low, high) words, and the mode it was made in; borrowed. */
export interface CallArguments {
  /** RBX, RCX, RDX, RSI: word 2n is the low half of argument n. High halves are zero outside of 64-bit mode. */
  readonly words: Uint32Array;
  readonly wide: boolean;
}

/** What calls act upon. */
export interface CallServices {
  readonly clock: PvClock;
  readonly ipi: PvIpi;
  readonly planeOf: (context: PlaneContext) => PvPlane;
}

/** Serves one call. @returns what goes into RAX: a count, or a status. */
export type CallHandler = (services: CallServices, context: PlaneContext, args: CallArguments) => number;

const addressOf = (words: Uint32Array, n: number): number => words[2 * n + 1]! * 2 ** 32 + words[2 * n]!;

/** Calls that are served, by number. Any other one answers -KVM_ENOSYS. */
export const callHandlers: ReadonlyMap<number, CallHandler> = new Map<number, CallHandler>([
  [Call.VapicPollIrq, () => Status.Ok],
  [Call.KickCpu, ({ ipi, planeOf }, context, { words }) => ipi.kick(context, words[2]!, planeOf)],
  [Call.ClockPairing, ({ clock }, context, { words }) => clock.pair(context, addressOf(words, 0), words[2]!)],
  [Call.SendIpi, ({ ipi }, context, { words, wide }) => ipi.send(context, words, wide)],
]);
