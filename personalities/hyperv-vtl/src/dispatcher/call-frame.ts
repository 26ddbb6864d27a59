import { type Answer, CallBuffer, type PlaneContext, type Vp, type WaitCondition } from '@vmplanes/engine';
import type { HvContext } from '../ports.ts';
import { BlockBytes } from './block.ts';

/** What a handler returns instead of a status. No such number is a status. */
export const Special = {
  /** Not done: the VP waits for {@link CallFrame.condition} and issues the call again. */
  Parked: -1,
  /** {@link CallFrame.answer} says how the call goes on; no result is written now. */
  Answered: -2,
} as const;

/** Bytes that a parameter block may have: it lies in one page. @spec TLFS v6.0b (PDF) 3.12 */
const BLOCK_BYTES = 4096;

/**
 * One call of one virtual processor, as handlers see it: who calls, what the control word says, and the buffers with the
 * private copies of input and output. One per VP, used again for every call.
 */
export class CallFrame {
  context!: PlaneContext;
  /** VTL of the caller. */
  vtl = 0;
  /** Registers are used as 64-bit code does. */
  wide = false;

  // The control word.
  controlLo = 0;
  controlHi = 0;
  code = 0;
  isFast = false;
  /** Units of 8 bytes of the variable header. */
  units = 0;
  /** Elements of the whole call, and the first to do now. */
  count = 0;
  start = 0;

  // Operands of a slow call, bytes.
  inputGpa = 0;
  outputGpa = 0;
  /** Bytes of input in the buffer: 0 until they are there. */
  inputBytes = 0;
  /** Bytes of the header without its variable part: where the variable part starts. */
  headerBytes = 0;
  /** Index of the element at hand. */
  index = 0;

  /** VPs that a call with a mask or a set names, as far as they exist. */
  targetsLo = 0;
  targetsHi = 0;

  // What a handler asks for besides its status.
  condition: WaitCondition | null = null;
  answer: Answer | null = null;

  readonly fetched = new CallBuffer(BLOCK_BYTES);
  readonly input = new BlockBytes(this.fetched.bytes);
  readonly output = new BlockBytes(new Uint8Array(BLOCK_BYTES));

  constructor(
    readonly hv: HvContext,
    readonly vp: Vp,
  ) {}

  /** Low word of a unit of the variable header. */
  unitLo(index: number): number {
    return this.input.words[(this.headerBytes + 8 * index) >>> 2]!;
  }
  /** High word of a unit of the variable header. */
  unitHi(index: number): number {
    return this.input.words[((this.headerBytes + 8 * index) >>> 2) + 1]!;
  }

  /** Ends the handler: the VP waits, with the call not done. @param key - what somebody releases with `machine.release`. */
  park(key: string): number {
    this.hv.machine.hold(key);
    this.condition = { kind: 'key', key };
    return Special.Parked;
  }

  /** Ends the handler: the call is done later, or elsewhere. A handler that only sets {@link answer} has its result written first. */
  answered(answer: Answer): number {
    this.answer = answer;
    return Special.Answered;
  }
}
