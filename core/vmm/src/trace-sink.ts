import { HostError } from '@vmplanes/engine';
import { closeSync, openSync, writeSync } from 'node:fs';

/** Text kept before it is written: large enough to make writes rare, small enough to lose little to a power cut. */
const BUFFER_CHARS = 64 * 1024;

/** Files that are open: what ends the process on the way writes them first. */
const open = new Set<FileSink>();
const closeAll = (): void => {
  for (const sink of [...open]) sink.close();
};
const register = (sink: FileSink): void => {
  if (open.size === 0) process.on('exit', closeAll);
  open.add(sink);
};
const unregister = (sink: FileSink): void => {
  open.delete(sink);
  if (open.size === 0) process.off('exit', closeAll);
};

/**
 * A file that lines are appended to. Writes are buffered and synchronous, so that whatever ends a run, what was recorded
 * before reaches the file by {@link flush}.
 */
export class FileSink {
  readonly #path: string;
  readonly #file: number;
  #parts: string[] = [];
  #chars = 0;
  /** Bytes that a failed write left over. */
  #rest: Uint8Array = new Uint8Array(0);
  #open = true;
  /** Lines accepted so far. */
  lines = 0;

  /** Creates or empties the file. @throws {HostError} BadFile. */
  constructor(path: string) {
    this.#path = path;
    try {
      this.#file = openSync(path, 'w');
    } catch (error) {
      throw this.#failure(error);
    }
    register(this);
  }

  #failure(error: unknown): HostError {
    return new HostError('BadFile', `${this.#path} cannot be written: ${error instanceof Error ? error.message : String(error)}`, { path: this.#path, fix: 'name a file in a directory that may be written' });
  }

  /** Appends one line; the line break is added. @throws {HostError} BadFile. */
  line(text: string): void {
    this.#parts.push(text, '\n');
    this.#chars += text.length + 1;
    this.lines++;
    if (this.#chars >= BUFFER_CHARS) this.flush();
  }

  /** Writes what is kept. @throws {HostError} BadFile; what could not be written stays kept. */
  flush(): void {
    if (!this.#open) return;
    const bytes = Buffer.concat([this.#rest, Buffer.from(this.#parts.join(''))]);
    this.#parts = [];
    this.#chars = 0;
    let done = 0;
    try {
      while (done < bytes.length) done += writeSync(this.#file, bytes, done);
    } catch (error) {
      throw this.#failure(error);
    } finally {
      this.#rest = bytes.subarray(done);
    }
  }

  /** Flushes and closes the file. May be called twice. */
  close(): void {
    if (!this.#open) return;
    try {
      this.flush();
    } finally {
      this.#open = false;
      unregister(this);
      closeSync(this.#file);
    }
  }
}
