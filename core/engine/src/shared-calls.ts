import { type Token, token } from '@vmplanes/di';
import type { Answer, Completion } from './answers.ts';
import type { Subject } from './memory/index.ts';
import type { PlaneContext } from './vp.ts';

/**
 * Calls of one guest interface that arrive in a page which the guest shares with its host, for guests whose registers the host does not see. The
 * personality whose calls they are provides it to its machine; one installed after it, whose guests have such pages, asks for it.
 */
export interface SharedCalls {
  /** Result of the last call that was answered with `resume`, for the page. */
  readonly resultLo: number;
  readonly resultHi: number;
  /**
   * Serves a call.
   * @param controlLo - the control word, as two words. @param input - parameters: a copy that nobody else changes; borrowed until the call ends.
   * @param outputGpa - where output goes, in bytes. @param subject - on whose behalf, and which side of its memory.
   * @returns `resume`, or an exit without a completion: the result is there. Any other answer: no result yet; after an exit with a completion
   *   {@link finish} gives it, after what holds the instruction the same call comes again.
   */
  call(context: PlaneContext, controlLo: number, controlHi: number, input: Uint8Array, outputGpa: number, subject: Subject): Answer;
  /** Finishes a call that left to the VMM; the result is there afterwards. The parameters are those of the call. */
  finish(context: PlaneContext, completion: Completion, outputGpa: number, subject: Subject): void;
}
export const SharedCalls: Token<SharedCalls> = token<SharedCalls>('SharedCalls');
