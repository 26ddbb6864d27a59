import type { AccessResult, Answer } from '@vmplanes/engine';
import type { CallFrame } from './call-frame.ts';

/** Where the operands of a call are, and where its result goes: registers, or a page shared with the host. */
export interface CallIo {
  /** Bytes of parameters that this form carries in registers; 0 where there is no such form. */
  fastBytes(call: CallFrame): number;
  /** Bytes of output, counted from the start of the parameters, that registers can carry. */
  fastOutputBytes(call: CallFrame): number;
  /** VTL call and return can be made here. */
  readonly switches: boolean;
  /** An access that is refused is told as an intercept or an exit; otherwise by a status. */
  readonly intercepts: boolean;

  /** Reads the control word. */
  load(call: CallFrame): void;
  /** Reads the addresses of the blocks of a slow call. */
  loadAddresses(call: CallFrame): void;
  /** Copies the parameters of a fast call into the input buffer. */
  loadFast(call: CallFrame, bytes: number): void;
  /** Copies the block of a slow call into the input buffer. */
  fetch(call: CallFrame, bytes: number): AccessResult;
  /** Whether `bytes` of output could be stored; asked before the call is served. */
  admitsOutput(call: CallFrame, bytes: number): AccessResult;
  /** Gives output bytes `from` up to `to` of a slow call to the guest. */
  store(call: CallFrame, from: number, to: number): AccessResult;
  /** The same in registers; `at` is where the output starts among the parameters. */
  storeFast(call: CallFrame, at: number, from: number, to: number): void;
  /** The call is done: gives the result. @param reps - elements done, those before the start index included. */
  finish(call: CallFrame, status: number, reps: number): Answer;
  /** The time for one run is used up: the call goes on behind `reps` elements. */
  interrupted(call: CallFrame, reps: number): Answer;
}
