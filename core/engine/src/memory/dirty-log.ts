import { HostError } from '../errors.ts';
import { MAX_VPS } from '../ids.ts';
import { DirtyRing, type DirtyRingState } from './dirty-ring.ts';
import { ALL_PLANES, type MemoryObserver, Right } from './permissions.ts';
import type { Slot, Slots } from './slots.ts';

/** Saved dirty state. */
export interface DirtyLogState {
  readonly slots: readonly { readonly id: number; readonly bitmap: Uint32Array }[];
  readonly rings: readonly { readonly vp: number; readonly size: number; readonly reserve: number; readonly state: DirtyRingState }[];
}

/**
 * Which pages were written: a bitmap per logging slot and, where configured, a ring per VP that all planes of the VP share.
 * A page enters a ring when its bit becomes set, and again only after a collection or a reset cleared the bit.
 */
export class DirtyLog {
  /** VP whose accesses are going on; -1 outside of VPs. Its ring takes what its planes write. */
  currentVp = -1;
  readonly #slots: Slots;
  readonly #observers: readonly MemoryObserver[];
  readonly #rings: (DirtyRing | null)[] = Array.from({ length: MAX_VPS }, () => null);

  constructor(slots: Slots, observers: readonly MemoryObserver[]) {
    this.#slots = slots;
    this.#observers = observers;
  }

  /** Gives a VP a ring; see {@link DirtyRing}. @throws {HostError} ExistsAlready when it has one. */
  addRing(vp: number, size: number, reserve: number): DirtyRing {
    if (this.#rings[vp]) throw new HostError('ExistsAlready', `VP ${vp} has a dirty ring already`);
    const ring = new DirtyRing(size, reserve);
    this.#rings[vp] = ring;
    return ring;
  }

  ring(vp: number): DirtyRing | null {
    return this.#rings[vp] ?? null;
  }

  /** Whether a VP must leave to the VMM because its ring is full. */
  isRingFull(vp: number): boolean {
    const ring = this.#rings[vp];
    return ring != null && ring.isFull;
  }

  /**
   * Notes a write to a page of a slot: the one place where bitmap and ring are written.
   * @param inRing - true for writes of VPs, false for devices and the VMM, which have no ring.
   */
  mark(slot: Slot, page: number, inRing: boolean): void {
    const bitmap = slot.dirty;
    if (bitmap === null) return;
    const bit = 1 << (page & 31);
    if ((bitmap[page >>> 5]! & bit) !== 0) return;
    bitmap[page >>> 5]! |= bit;
    if (!inRing || this.currentVp < 0) return;
    const ring = this.#rings[this.currentVp];
    if (ring != null) ring.push(slot.id, page);
  }

  /**
   * Copies the bitmap of a slot and clears it, so that the next write to each page is seen again.
   * @param into - one bit per page from `first` on; words are replaced.
   * @param first - first page, a multiple of 32. @param count - pages, a multiple of 32 or up to the end of the slot.
   * @returns pages that were dirty.
   * @throws {HostError} BadState when the slot does not exist or does not log; BadRange on a bad range.
   */
  collect(slotId: number, into: Uint32Array, first = 0, count?: number): number {
    const slot = this.#logging(slotId);
    const words = this.#words(slot, first, count ?? slot.pages - first);
    let found = 0;
    for (let i = 0; i < words; i++) {
      const word = slot.dirty![(first >>> 5) + i]!;
      into[i] = word;
      slot.dirty![(first >>> 5) + i] = 0;
      for (let w = word; w !== 0; w &= w - 1) found++;
    }
    if (found > 0) this.#rearm(slot.first + first, Math.min(words * 32, slot.pages - first));
    return found;
  }

  /** Copies the bitmap of a slot and leaves it. @throws see {@link collect}. */
  peek(slotId: number, into: Uint32Array): void {
    into.set(this.#logging(slotId).dirty!);
  }

  /** Clears the pages whose bits are set in `mask`, starting with page `first`. @throws see {@link collect}. */
  clear(slotId: number, mask: Uint32Array, first: number, count: number): void {
    const slot = this.#logging(slotId);
    const words = this.#words(slot, first, count);
    for (let i = 0; i < words; i++) slot.dirty![(first >>> 5) + i]! &= ~mask[i]!;
    this.#rearm(slot.first + first, Math.min(words * 32, slot.pages - first));
  }

  /** Frees the collected entries of all rings, after which the next write to their pages is seen again. @returns entries freed. */
  resetRings(): number {
    let freed = 0;
    for (const ring of this.#rings) {
      freed += ring?.reset((slotId, offset) => {
        const slot = this.#slots.byId(slotId);
        if (!slot?.dirty || offset >= slot.pages) return;
        slot.dirty[offset >>> 5]! &= ~(1 << (offset & 31));
        this.#rearm(slot.first + offset, 1);
      }) ?? 0;
    }
    return freed;
  }

  save(): DirtyLogState {
    return {
      slots: this.#slots.all.filter((s) => s.dirty).map((s) => ({ id: s.id, bitmap: s.dirty!.slice() })),
      rings: this.#rings.flatMap((r, vp) => (r ? [{ vp, size: r.size, reserve: r.reserve, state: r.save() }] : [])),
    };
  }

  /** Replaces rings and bitmaps; the slots were restored before. */
  restore(state: DirtyLogState): void {
    this.#rings.fill(null);
    for (const r of state.rings) this.addRing(r.vp, r.size, r.reserve).restore(r.state);
    for (const s of state.slots) {
      const slot = this.#slots.get(s.id);
      slot.log(true);
      slot.dirty!.set(s.bitmap);
    }
  }

  #rearm(first: number, count: number): void {
    for (const o of this.#observers) o.translationsRevoked(ALL_PLANES, first, count, Right.Write);
  }

  #logging(slotId: number): Slot {
    const slot = this.#slots.get(slotId);
    if (!slot.dirty) throw new HostError('BadState', `memory slot ${slotId} does not log writes`, { slot: slotId });
    return slot;
  }

  #words(slot: Slot, first: number, count: number): number {
    if (first < 0 || first % 32 || count <= 0 || first + count > slot.pages || (count % 32 && first + count !== slot.pages)) {
      throw new HostError('BadRange', `memory slot ${slot.id}: pages ${first} to ${first + count} are no range of whole bitmap words`);
    }
    return (count + 31) >>> 5;
  }
}
