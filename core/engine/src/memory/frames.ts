import type { Arena } from '../arena.ts';
import { HostError } from '../errors.ts';
import { PAGE_SHIFT, PAGE_SIZE } from '../ids.ts';

/** "No frame": an unbacked page, or an allocator with nothing left. */
export const NO_FRAME = -1;

/** Saved state of the allocator: which frames are held, and the content of those that are not all zero. */
export interface FramesState {
  /** Held frames in rising order. */
  readonly held: Int32Array;
  /** Holders of each frame of `held`. */
  readonly holders: Int32Array;
  /** Frames of `held` that contain a non-zero byte, in rising order. */
  readonly filled: Int32Array;
  /** Their bytes, 4096 each, in the order of `filled`. */
  readonly content: Uint8Array;
}

/**
 * Frames of 4096 bytes in one region of the arena, given out zeroed and counted by holder.
 * The lowest free frame is given first, so the next answer is a function of the set held and needs no saved order.
 */
export class Frames {
  readonly #arena: Arena;
  readonly #firstByte: number;
  readonly #holders: Int32Array;
  /** No frame below this one is free. */
  #lowest = 0;
  #free: number;
  /** Frames that backings will still ask for and must get. */
  #promised = 0;

  /**
   * @param firstByte - start of the region in the arena, in bytes, a multiple of 4096.
   * @param count - frames in the region.
   * @throws {HostError} BadRange on a bad start or count; NoMemory when the region ends behind the arena.
   */
  constructor(arena: Arena, firstByte: number, count: number) {
    if (firstByte < 0 || firstByte % PAGE_SIZE || !Number.isInteger(firstByte)) throw new HostError('BadRange', `guest memory at byte ${firstByte} of the machine buffer: not a multiple of ${PAGE_SIZE}`);
    if (count <= 0 || !Number.isInteger(count)) throw new HostError('BadRange', `guest memory of ${count} frames: need at least one`);
    const end = firstByte + count * PAGE_SIZE;
    if (end > arena.byteLength) throw new HostError('NoMemory', `guest memory of ${count} frames ends at byte ${end}, the machine buffer has ${arena.byteLength}`, { frames: count, firstByte });
    this.#arena = arena;
    this.#firstByte = firstByte;
    this.#holders = new Int32Array(count);
    this.#free = count;
  }

  get count(): number {
    return this.#holders.length;
  }

  get free(): number {
    return this.#free;
  }

  /** Frames put aside for pages not backed yet. */
  get promised(): number {
    return this.#promised;
  }

  /** Free frames that no backing has been promised. May be negative after an overlay kept the frame of a discarded page. */
  get spare(): number {
    return this.#free - this.#promised;
  }

  /** Puts frames aside for pages that will be backed on first use. @throws {HostError} NoMemory when not so many are spare. */
  promise(pages: number, what: string): void {
    if (pages > this.spare) {
      throw new HostError('NoMemory', `${what}: needs ${pages} frames, ${Math.max(0, this.spare)} of ${this.count} are left`, { needed: pages, left: this.spare });
    }
    this.#promised += pages;
  }

  /** Renews the promise of a page that was discarded, or (negative) withdraws promises that are needed no more. */
  restorePromise(pages: number): void {
    this.#promised += pages;
  }

  /**
   * Gives out a zeroed frame with one holder.
   * @param promised - true to use up one promised frame, false to take a spare one.
   * @returns the frame, or {@link NO_FRAME}.
   */
  allocate(promised = false): number {
    if (promised ? this.#free === 0 : this.spare <= 0) return NO_FRAME;
    let frame = this.#lowest;
    while (this.#holders[frame] !== 0) frame++;
    this.#lowest = frame + 1;
    this.#holders[frame] = 1;
    this.#free--;
    if (promised) this.#promised--;
    const at = this.byteOf(frame);
    this.#arena.u8.fill(0, at, at + PAGE_SIZE);
    return frame;
  }

  /** Adds a holder to a held frame. */
  retain(frame: number): void {
    this.#holders[frame]!++;
  }

  /** Removes a holder; the last one frees the frame. */
  release(frame: number): void {
    if (--this.#holders[frame]! > 0) return;
    this.#free++;
    if (frame < this.#lowest) this.#lowest = frame;
  }

  isHeld(frame: number): boolean {
    return frame >= 0 && frame < this.#holders.length && this.#holders[frame]! > 0;
  }

  /** Holders of a frame: its backing, overlays, watches and owners outside. */
  holders(frame: number): number {
    return this.#holders[frame] ?? 0;
  }

  /** Byte of the arena at which a frame starts. */
  byteOf(frame: number): number {
    return this.#firstByte + frame * PAGE_SIZE;
  }

  /** The frame that contains a byte of the arena. */
  frameAt(byte: number): number {
    return (byte - this.#firstByte) >>> PAGE_SHIFT;
  }

  /** The bytes of a frame. Borrowed: invalid after the arena grew. */
  bytes(frame: number): Uint8Array {
    const at = this.byteOf(frame);
    return this.#arena.u8.subarray(at, at + PAGE_SIZE);
  }

  isZero(frame: number): boolean {
    const first = this.byteOf(frame) >>> 2;
    const words = this.#arena.u32;
    for (let i = first; i < first + PAGE_SIZE / 4; i++) if (words[i] !== 0) return false;
    return true;
  }

  /** Frees everything and withdraws all promises. */
  clear(): void {
    this.#holders.fill(0);
    this.#free = this.count;
    this.#lowest = 0;
    this.#promised = 0;
  }

  save(): FramesState {
    const held: number[] = [];
    for (let f = 0; f < this.#holders.length; f++) if (this.#holders[f]! > 0) held.push(f);
    const filled = held.filter((f) => !this.isZero(f));
    const content = new Uint8Array(filled.length * PAGE_SIZE);
    filled.forEach((f, i) => content.set(this.bytes(f), i * PAGE_SIZE));
    return { held: Int32Array.from(held), holders: Int32Array.from(held, (f) => this.#holders[f]!), filled: Int32Array.from(filled), content };
  }

  /**
   * Takes over the frames of a state; promises stay as the backings made before have them.
   * @throws {HostError} BadSnapshot when a frame of the state is not in the region.
   */
  restore(state: FramesState): void {
    if (state.held.some((f) => f < 0 || f >= this.count)) throw new HostError('BadSnapshot', `the snapshot holds frames beyond the ${this.count} of this machine`);
    this.#holders.fill(0);
    state.held.forEach((f, i) => {
      this.#holders[f] = state.holders[i]!;
      this.bytes(f).fill(0);
    });
    state.filled.forEach((f, i) => this.bytes(f).set(state.content.subarray(i * PAGE_SIZE, (i + 1) * PAGE_SIZE)));
    this.#free = this.count - state.held.length;
    this.#lowest = 0;
  }
}
