import { type Frames, NO_FRAME } from './frames.ts';
import type { Rights } from './permissions.ts';

/** One saved overlay. */
export interface OverlayState {
  readonly plane: number;
  readonly gpn: number;
  readonly frame: number;
  readonly rights: Rights;
  readonly owners: number;
  /** The permission table of the plane does not count here. */
  readonly ignoresTable: boolean;
}

/**
 * The overlays of one plane: guest pages that this plane sees as another frame.
 * Several owners may place the same frame at the same page; it stays until the last of them takes it away.
 */
export class PlaneOverlays {
  readonly #frames: Frames;
  /** Parallel arrays, rising page numbers; overlays are few. */
  #gpns = new Float64Array(8);
  #entries = new Int32Array(8 * 4);
  #count = 0;

  constructor(
    readonly plane: number,
    frames: Frames,
  ) {
    this.#frames = frames;
  }

  get count(): number {
    return this.#count;
  }

  /** Index of the overlay at a page, or -1. */
  find(gpn: number): number {
    const at = this.#position(gpn);
    return at < this.#count && this.#gpns[at] === gpn ? at : -1;
  }

  frame(index: number): number {
    return this.#entries[index * 4]!;
  }

  rights(index: number): Rights {
    return this.#entries[index * 4 + 1]!;
  }

  /** The permission table of the plane does not count at this page. */
  ignoresTable(index: number): boolean {
    return this.#entries[index * 4 + 3] !== 0;
  }

  /**
   * Places a frame, or counts one more owner of the same frame with the same rights.
   * @returns false when another frame or other rights are there; nothing changed.
   */
  place(gpn: number, frame: number, rights: Rights, ignoresTable: boolean): boolean {
    const at = this.#position(gpn);
    if (at < this.#count && this.#gpns[at] === gpn) {
      if (this.frame(at) !== frame || this.rights(at) !== rights || this.ignoresTable(at) !== ignoresTable) return false;
      this.#entries[at * 4 + 2]!++;
      return true;
    }
    this.#insert(at, gpn, frame, rights, 1, ignoresTable);
    this.#frames.retain(frame);
    return true;
  }

  /** One owner takes its overlay away. @returns the frame when it was the last owner, else {@link NO_FRAME}. */
  take(gpn: number): number {
    const at = this.find(gpn);
    if (at < 0 || --this.#entries[at * 4 + 2]! > 0) return NO_FRAME;
    const frame = this.frame(at);
    this.#gpns.copyWithin(at, at + 1, this.#count);
    this.#entries.copyWithin(at * 4, (at + 1) * 4, this.#count * 4);
    this.#count--;
    this.#frames.release(frame);
    return frame;
  }

  save(): OverlayState[] {
    return Array.from({ length: this.#count }, (_, i) => ({ plane: this.plane, gpn: this.#gpns[i]!, frame: this.frame(i), rights: this.rights(i), owners: this.#entries[i * 4 + 2]!, ignoresTable: this.ignoresTable(i) }));
  }

  /** Replaces all overlays; the holders of their frames were restored before. */
  restore(rows: readonly OverlayState[]): void {
    this.#count = 0;
    for (const r of rows) this.#insert(this.#count, r.gpn, r.frame, r.rights, r.owners, r.ignoresTable);
  }

  #position(gpn: number): number {
    let low = 0;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#gpns[middle]! < gpn) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #insert(at: number, gpn: number, frame: number, rights: Rights, owners: number, ignoresTable: boolean): void {
    if (this.#count === this.#gpns.length) {
      const gpns = new Float64Array(this.#count * 2);
      gpns.set(this.#gpns);
      const entries = new Int32Array(this.#count * 8);
      entries.set(this.#entries);
      this.#gpns = gpns;
      this.#entries = entries;
    }
    this.#gpns.copyWithin(at + 1, at, this.#count);
    this.#entries.copyWithin((at + 1) * 4, at * 4, this.#count * 4);
    this.#gpns[at] = gpn;
    this.#entries[at * 4] = frame;
    this.#entries[at * 4 + 1] = rights;
    this.#entries[at * 4 + 2] = owners;
    this.#entries[at * 4 + 3] = ignoresTable ? 1 : 0;
    this.#count++;
  }
}
