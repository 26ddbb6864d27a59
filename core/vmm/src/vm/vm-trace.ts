import type { Machine } from '@vmplanes/engine';
import { type LineSink, recordTrace, type TraceRecorder, type TraceSubject } from '@vmplanes/trace';
import { FileSink } from '../trace-sink.ts';

/** The trace of one VM on its way to a file or a function. */
export class VmTrace {
  readonly #recorder: TraceRecorder;
  readonly #file: FileSink | null;
  #isOver = false;

  /** @param to - a file name, or a function that takes each line. @throws {HostError} BadFile. */
  constructor(machine: Machine, subject: TraceSubject, to: string | LineSink) {
    const file = typeof to === 'string' ? new FileSink(to) : null;
    this.#file = file;
    this.#recorder = recordTrace(machine, subject, file === null ? (to as LineSink) : (line) => file.line(line));
  }

  /** Writes what is recorded so far. */
  flush(): void {
    if (!this.#isOver) this.#file?.flush();
  }

  /** Leaves the trace without an end, as of a machine that is in no state that could be compared. */
  abandon(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#recorder.detach();
    this.#file?.close();
  }

  /** Ends the trace; what was recorded reaches the file even when its end cannot be written. */
  finish(why: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    try {
      this.#recorder.finish(why);
    } finally {
      this.#file?.close();
    }
  }
}
