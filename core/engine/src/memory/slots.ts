import { HostError } from '../errors.ts';
import { PAGE_SHIFT, PAGE_SIZE } from '../ids.ts';
import type { Backing } from './backing.ts';
import { PAGE_LIMIT } from './page-tree.ts';

/** A range of guest physical space that shows memory. @spec Linux Documentation/virt/kvm/api.rst KVM_SET_USER_MEMORY_REGION */
export class Slot {
  /** First guest page; changes when the slot moves. */
  first: number;
  /** Bit per page: written since it was last collected. Null while writes are not logged. */
  dirty: Uint32Array | null = null;

  constructor(
    readonly id: number,
    first: number,
    readonly pages: number,
    /** Guest writes leave as device accesses instead. */
    readonly isReadonly: boolean,
    readonly backing: Backing,
    /** Page of the backing that the first page of the slot shows. */
    readonly backingPage: number,
  ) {
    this.first = first;
  }

  get end(): number {
    return this.first + this.pages;
  }

  /** Starts or stops logging; starting begins with clean pages, starting again changes nothing. */
  log(on: boolean): void {
    if (on) this.dirty ??= new Uint32Array((this.pages + 31) >>> 5);
    else this.dirty = null;
  }

  isDirty(page: number): boolean {
    return this.dirty !== null && (this.dirty[page >>> 5]! & (1 << (page & 31))) !== 0;
  }
}

/** All slots of a machine, found by page in constant time as long as accesses stay in one slot. */
export class Slots {
  readonly #byId = new Map<number, Slot>();
  /** In rising order of `first`. */
  #sorted: Slot[] = [];
  #last: Slot | null = null;

  /** The slot that shows a page, or null where the guest reaches no memory. */
  find(gpn: number): Slot | null {
    const last = this.#last;
    if (last !== null && gpn >= last.first && gpn < last.end) return last;
    let low = 0;
    let high = this.#sorted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#sorted[middle]!.end <= gpn) low = middle + 1;
      else high = middle;
    }
    const found = this.#sorted[low];
    if (found === undefined || gpn < found.first) return null;
    this.#last = found;
    return found;
  }

  byId(id: number): Slot | undefined {
    return this.#byId.get(id);
  }

  /** @throws {HostError} BadState when there is no such slot. */
  get(id: number): Slot {
    const slot = this.#byId.get(id);
    if (!slot) throw new HostError('BadState', `no memory slot ${id}`, { slot: id });
    return slot;
  }

  /** In rising order of guest page. Borrowed. */
  get all(): readonly Slot[] {
    return this.#sorted;
  }

  /**
   * Checks a place for a slot.
   * @param gpa - in bytes. @param size - in bytes.
   * @param except - id of a slot that may be overlapped, because it is the one that moves.
   * @throws {HostError} BadRange on an unaligned, empty or too large range; ExistsAlready when another slot is in the way.
   */
  checkPlace(id: number, gpa: number, size: number, except = -1): void {
    if (!Number.isSafeInteger(gpa) || !Number.isSafeInteger(size) || gpa < 0 || size <= 0 || gpa % PAGE_SIZE || size % PAGE_SIZE || gpa + size > PAGE_LIMIT * PAGE_SIZE) {
      throw new HostError('BadRange', `memory slot ${id}: 0x${gpa.toString(16)} + 0x${size.toString(16)} is empty, unaligned or beyond the guest physical space`);
    }
    const first = gpa / PAGE_SIZE;
    const other = this.#sorted.find((s) => s.id !== except && s.first < first + size / PAGE_SIZE && s.end > first);
    if (other) throw new HostError('ExistsAlready', `memory slot ${id} overlaps slot ${other.id} at page 0x${Math.max(first, other.first).toString(16)}`, { slot: other.id });
  }

  insert(slot: Slot): void {
    this.#byId.set(slot.id, slot);
    this.#sorted.push(slot);
    this.#sort();
  }

  remove(slot: Slot): void {
    this.#byId.delete(slot.id);
    this.#sorted = this.#sorted.filter((s) => s !== slot);
    this.#last = null;
  }

  move(slot: Slot, gpa: number): void {
    slot.first = Math.floor(gpa / 2 ** PAGE_SHIFT);
    this.#sort();
  }

  clear(): void {
    this.#byId.clear();
    this.#sorted = [];
    this.#last = null;
  }

  #sort(): void {
    this.#sorted.sort((a, b) => a.first - b.first);
    this.#last = null;
  }
}
