import { HvStatus } from '@vmplanes/abi-hyperv';
import { AccessResult, type Answer, Right, type Subject } from '@vmplanes/engine';
import type { HvContext } from '../ports.ts';
import type { CallFrame } from './call-frame.ts';
import type { CallIo } from './call-io.ts';

/**
 * Operands in a page that the caller shares with the host, and the result for that page. There is no instruction to
 * hold: a call whose time is used up shows its caller the status timeout with the elements done so far, and the control word
 * as it was; the caller issues it again with that start index.
 */
export class PageIo implements CallIo {
  readonly switches = false;
  readonly intercepts = false;
  /** Result of the last call, as two words. */
  resultLo = 0;
  resultHi = 0;
  readonly #hv: HvContext;
  #controlLo = 0;
  #controlHi = 0;
  #input: Uint8Array = new Uint8Array(0);
  #outputGpa = 0;
  #subject!: Subject;

  constructor(hv: HvContext) {
    this.#hv = hv;
  }

  /**
   * Names the operands of the next call.
   * @param input - the parameter block: a copy that nobody else changes; borrowed until the call ends.
   * @param outputGpa - where output goes, bytes. @param subject - whose rights that access has, and on which side of the page.
   */
  open(controlLo: number, controlHi: number, input: Uint8Array, outputGpa: number, subject: Subject): void {
    this.#controlLo = controlLo;
    this.#controlHi = controlHi;
    this.#input = input;
    this.#outputGpa = outputGpa;
    this.#subject = subject;
  }

  fastBytes(): number {
    return 0;
  }
  fastOutputBytes(): number {
    return 0;
  }
  load(call: CallFrame): void {
    call.controlLo = this.#controlLo;
    call.controlHi = this.#controlHi;
  }
  loadAddresses(call: CallFrame): void {
    // The block starts at the beginning of the page that it came in.
    call.inputGpa = 0;
    call.outputGpa = this.#outputGpa;
  }
  loadFast(): void {}
  storeFast(): void {}

  fetch(call: CallFrame, bytes: number): AccessResult {
    if (bytes > this.#input.length) return AccessResult.Absent;
    call.input.bytes.set(this.#input.subarray(0, bytes));
    return AccessResult.Ok;
  }
  admitsOutput(call: CallFrame, bytes: number): AccessResult {
    return this.#hv.machine.memory.access.check(this.#subject, call.outputGpa, bytes, Right.Write);
  }
  store(call: CallFrame, from: number, to: number): AccessResult {
    return this.#hv.machine.memory.access.write(this.#subject, call.outputGpa + from, call.output.bytes, from, to - from);
  }

  finish(call: CallFrame, status: number, reps: number): Answer {
    this.resultLo = status;
    this.resultHi = reps;
    return call.vp.replies.resume();
  }
  interrupted(call: CallFrame, reps: number): Answer {
    return this.finish(call, HvStatus.Timeout, reps);
  }
}
