import { HostError } from '../errors.ts';
import { type Frames, NO_FRAME } from './frames.ts';

/** Pages of one backing at most: 1 TiB, so that its frame table stays reasonable. */
const MAX_PAGES = 2 ** 28;

/** Saved frame table of a backing. */
export interface BackingState {
  readonly id: number;
  readonly shared: Int32Array;
  readonly private: Int32Array | null;
  readonly windows: number;
  readonly isKept: boolean;
}

/**
 * Memory that slots show to the guest: per page a frame on the shared and one on the private side, each made when first needed.
 * Several slots may show the same backing, and a kept backing outlives its slots.
 */
export class Backing {
  readonly #frames: Frames;
  readonly #promises: boolean;
  readonly #shared: Int32Array;
  /** Made with the first private page. */
  #private: Int32Array | null = null;
  /** Slots that show it. */
  windows = 0;

  /**
   * @param pages - its size.
   * @param promises - whether each page is promised one frame, so that first use cannot fail.
   * @param isKept - whether it stays when its last slot goes.
   * @throws {HostError} NoMemory when the promise cannot be given.
   */
  constructor(
    readonly id: number,
    readonly pages: number,
    frames: Frames,
    promises: boolean,
    readonly isKept: boolean,
  ) {
    if (promises) frames.promise(pages, `memory of ${pages} pages`);
    if (pages > MAX_PAGES) throw new HostError('NoMemory', `memory of ${pages} pages: the limit is ${MAX_PAGES}`);
    this.#frames = frames;
    this.#promises = promises;
    this.#shared = new Int32Array(pages).fill(NO_FRAME);
  }

  /** The frame of a page on one side, or {@link NO_FRAME} while it has never been needed. */
  frame(page: number, isPrivate: boolean): number {
    if (!isPrivate) return this.#shared[page]!;
    return this.#private === null ? NO_FRAME : this.#private[page]!;
  }

  /** The frame of a page on one side, made now if needed; {@link NO_FRAME} when there is none left. */
  ensure(page: number, isPrivate: boolean): number {
    const found = this.frame(page, isPrivate);
    if (found !== NO_FRAME) return found;
    const frame = this.#frames.allocate(this.#promises && this.frame(page, !isPrivate) === NO_FRAME);
    if (frame === NO_FRAME) return NO_FRAME;
    if (isPrivate) (this.#private ??= new Int32Array(this.pages).fill(NO_FRAME))[page] = frame;
    else this.#shared[page] = frame;
    return frame;
  }

  /** Forgets the content of a page on one side: its next use finds zeros. @returns the frame let go, or {@link NO_FRAME}. */
  discard(page: number, isPrivate: boolean): number {
    const frame = this.frame(page, isPrivate);
    if (frame === NO_FRAME) return NO_FRAME;
    (isPrivate ? this.#private! : this.#shared)[page] = NO_FRAME;
    this.#frames.release(frame);
    if (this.#promises && this.frame(page, !isPrivate) === NO_FRAME) this.#frames.restorePromise(1);
    return frame;
  }

  /** Gives all frames and promises back. */
  dispose(): void {
    for (let page = 0; page < this.pages; page++) {
      this.discard(page, false);
      this.discard(page, true);
    }
    if (this.#promises) this.#frames.restorePromise(-this.pages);
  }

  /** Calls `visit` for each frame, page by page, the shared side first. */
  forEachFrame(visit: (page: number, isPrivate: boolean, frame: number) => void): void {
    for (let page = 0; page < this.pages; page++) {
      if (this.#shared[page] !== NO_FRAME) visit(page, false, this.#shared[page]!);
      const frame = this.frame(page, true);
      if (frame !== NO_FRAME) visit(page, true, frame);
    }
  }

  save(): BackingState {
    return { id: this.id, shared: this.#shared.slice(), private: this.#private?.slice() ?? null, windows: this.windows, isKept: this.isKept };
  }

  /** Takes over a saved table into a new backing; the frames were restored before. */
  restore(state: BackingState): void {
    this.#shared.set(state.shared);
    this.#private = state.private?.slice() ?? null;
    this.windows = state.windows;
    if (!this.#promises) return;
    for (let page = 0; page < this.pages; page++) {
      if (this.#shared[page] !== NO_FRAME || this.frame(page, true) !== NO_FRAME) this.#frames.restorePromise(-1);
    }
  }
}

/** Saved backings of a machine. */
export interface BackingsState {
  readonly next: number;
  readonly backings: readonly BackingState[];
}

/** All backings of a machine by number. Numbers are not used again. */
export class Backings {
  readonly #frames: Frames;
  readonly #promises: boolean;
  readonly #byId = new Map<number, Backing>();
  #next = 0;

  /** @param promises - whether each page is promised a frame, see {@link Backing}. */
  constructor(frames: Frames, promises: boolean) {
    this.#frames = frames;
    this.#promises = promises;
  }

  /** @throws {HostError} NoMemory when the frames cannot hold it. */
  create(pages: number, isKept: boolean): Backing {
    const backing = new Backing(this.#next, pages, this.#frames, this.#promises, isKept);
    this.#byId.set(this.#next++, backing);
    return backing;
  }

  /** Frames that the pages without a frame are promised. */
  get owed(): number {
    if (!this.#promises) return 0;
    let owed = 0;
    for (const b of this.#byId.values()) for (let page = 0; page < b.pages; page++) if (b.frame(page, false) === NO_FRAME && b.frame(page, true) === NO_FRAME) owed++;
    return owed;
  }

  get(id: number): Backing | undefined {
    return this.#byId.get(id);
  }

  /** In order of creation. */
  get all(): Iterable<Backing> {
    return this.#byId.values();
  }

  delete(backing: Backing): void {
    backing.dispose();
    this.#byId.delete(backing.id);
  }

  save(): BackingsState {
    return { next: this.#next, backings: [...this.#byId.values()].map((b) => b.save()) };
  }

  /**
   * Makes the saved backings anew. The frames must be empty before, so that promises can be given;
   * `frames` restores them in between, and the tables then take their frames back.
   */
  restore(state: BackingsState, frames: () => void): void {
    this.#byId.clear();
    for (const b of state.backings) this.#byId.set(b.id, new Backing(b.id, b.shared.length, this.#frames, this.#promises, b.isKept));
    frames();
    for (const b of state.backings) this.#byId.get(b.id)!.restore(b);
    this.#next = state.next;
  }
}
