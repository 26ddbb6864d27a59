import { type Accessor, AccessResult } from './access.ts';
import type { Subject } from './subject.ts';

/**
 * A private copy of what a call refers to. Input is copied once, then validated and used from here:
 * a guest that changes its memory meanwhile changes nothing.
 */
export class CallBuffer {
  /** Valid up to `length`; replaced when a longer input comes. */
  bytes: Uint8Array;
  /** The same bytes. */
  view: DataView;
  /** Bytes of the last fetch; 0 after a failed one. */
  length = 0;

  /** @param capacity - bytes to begin with: the longest usual input, so that the buffer never grows in practice. */
  constructor(capacity = 4096) {
    this.bytes = new Uint8Array(capacity);
    this.view = new DataView(this.bytes.buffer);
  }

  /** Copies guest memory here, on behalf of `subject`. One buffer serves one VP: another VP may run at the end of this call. */
  fetch(access: Accessor, subject: Subject, gpa: number, length: number): AccessResult {
    this.length = 0;
    if (length > this.bytes.length) {
      this.bytes = new Uint8Array(length);
      this.view = new DataView(this.bytes.buffer);
    }
    const result = access.read(subject, gpa, this.bytes, 0, length);
    if (result !== AccessResult.Ok) return result;
    this.length = length;
    if (access.preempt !== null) access.preempt('fetched');
    return result;
  }
}
