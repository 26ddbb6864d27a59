/** Something a file descriptor refers to. */
export interface KvmFile {
  readonly kind: 'system' | 'vm' | 'plane' | 'vcpu' | 'planeVcpu' | 'stats' | 'other';
  /** Name of the file, for anonymous inodes as /proc shows it. */
  readonly label: string;
}

/** First number given out: 0 to 2 are the standard streams. */
const FIRST = 3;

/** Open file descriptors of one process, inherited by its forks. */
export class FdTable<F extends KvmFile> {
  readonly #files = new Map<number, F>();
  readonly #limit: number;

  /** @param limit - descriptors that may be open at once besides the standard streams, as RLIMIT_NOFILE would leave. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  get count(): number {
    return this.#files.size;
  }
  get isFull(): boolean {
    return this.#files.size >= this.#limit;
  }

  /** Installs a file at the lowest free number. @returns the number, -1 when the table is full. */
  open(file: F): number {
    if (this.isFull) return -1;
    let fd = FIRST;
    while (this.#files.has(fd)) fd++;
    this.#files.set(fd, file);
    return fd;
  }

  /** Installs a file at a given number, for restore. */
  put(fd: number, file: F): void {
    this.#files.set(fd, file);
  }

  get(fd: number): F | undefined {
    return this.#files.get(fd);
  }

  /** @returns false when the descriptor is not open. */
  close(fd: number): boolean {
    return this.#files.delete(fd);
  }

  /** Open descriptors with their files, in rising order. */
  list(): readonly (readonly [fd: number, file: F])[] {
    return [...this.#files].sort(([a], [b]) => a - b);
  }
}
