import { HostError } from '../errors.ts';

/** Flags of a dirty-ring entry. @spec Linux Documentation/virt/kvm/api.rst KVM_CAP_DIRTY_LOG_RING */
export const DirtyFlag = {
  /** The page was written and the entry waits to be collected. */
  Dirty: 1,
  /** The VMM collected the entry; a reset may reuse it. */
  Reset: 2,
} as const;

/** 32-bit words of one ring entry: flags, slot, offset low, offset high. */
const ENTRY_WORDS = 4;

/** Saved state of a dirty ring. */
export interface DirtyRingState {
  readonly entries: Uint32Array;
  readonly dirtyIndex: number;
  readonly resetIndex: number;
}

/**
 * The dirty ring of one VP, shared by all its planes: the pages it wrote first since their last reset, in order.
 * @spec Linux Documentation/virt/kvm/api.rst KVM_CAP_DIRTY_LOG_RING
 */
export class DirtyRing {
  /** As the VMM sees it: 16 bytes per entry. */
  readonly entries: Uint32Array;
  readonly #mask: number;
  readonly reserve: number;
  #dirtyIndex = 0;
  #resetIndex = 0;

  /**
   * @param size - entries, a power of two.
   * @param reserve - entries kept for writes between the full mark and the exit; the ring reports full that much earlier.
   * @throws {HostError} BadConfig on another size or a reserve that leaves nothing.
   */
  constructor(size: number, reserve: number) {
    if (size <= 0 || (size & (size - 1)) !== 0) throw new HostError('BadConfig', `dirty ring of ${size} entries: not a power of two`);
    if (reserve < 0 || reserve >= size) throw new HostError('BadConfig', `dirty ring of ${size} entries: cannot keep ${reserve} in reserve`);
    this.entries = new Uint32Array(size * ENTRY_WORDS);
    this.#mask = size - 1;
    this.reserve = reserve;
  }

  get size(): number {
    return this.#mask + 1;
  }

  /** Entries that are not reset yet. */
  get used(): number {
    return this.#dirtyIndex - this.#resetIndex;
  }

  /** The VP must exit to the VMM before it runs on. */
  get isFull(): boolean {
    return this.used >= this.size - this.reserve;
  }

  /** Appends a page. @returns false when even the reserve is used up; the page then stays in the bitmap of its slot. */
  push(slot: number, offset: number): boolean {
    if (this.used > this.#mask) return false;
    const at = (this.#dirtyIndex++ & this.#mask) * ENTRY_WORDS;
    this.entries[at + 1] = slot;
    this.entries[at + 2] = offset >>> 0;
    this.entries[at + 3] = Math.floor(offset / 2 ** 32);
    this.entries[at] = DirtyFlag.Dirty;
    return true;
  }

  /**
   * What a VMM does: visits the entries not collected yet, oldest first, and marks them for reset.
   * @returns entries visited.
   */
  collect(visit: (slot: number, offset: number) => void): number {
    let visited = 0;
    for (let i = this.#resetIndex; i < this.#dirtyIndex; i++) {
      const at = (i & this.#mask) * ENTRY_WORDS;
      if (this.entries[at] !== DirtyFlag.Dirty) continue;
      visit(this.entries[at + 1]!, this.entries[at + 2]! + this.entries[at + 3]! * 2 ** 32);
      this.entries[at]! |= DirtyFlag.Reset;
      visited++;
    }
    return visited;
  }

  /**
   * Frees the collected entries from the oldest on, up to the first that is not collected.
   * @param rearm - told each page whose next write must be seen again. @returns entries freed.
   */
  reset(rearm: (slot: number, offset: number) => void): number {
    let freed = 0;
    while (this.#resetIndex < this.#dirtyIndex) {
      const at = (this.#resetIndex & this.#mask) * ENTRY_WORDS;
      if ((this.entries[at]! & DirtyFlag.Reset) === 0) break;
      this.entries[at] = 0;
      this.#resetIndex++;
      freed++;
      rearm(this.entries[at + 1]!, this.entries[at + 2]! + this.entries[at + 3]! * 2 ** 32);
    }
    return freed;
  }

  save(): DirtyRingState {
    return { entries: this.entries.slice(), dirtyIndex: this.#dirtyIndex, resetIndex: this.#resetIndex };
  }

  /** @throws {HostError} BadSnapshot on a ring of another size. */
  restore(state: DirtyRingState): void {
    if (state.entries.length !== this.entries.length) throw new HostError('BadSnapshot', `dirty ring of ${this.size} entries: the snapshot has ${state.entries.length / ENTRY_WORDS}`);
    this.entries.set(state.entries);
    this.#dirtyIndex = state.dirtyIndex;
    this.#resetIndex = state.resetIndex;
  }
}
