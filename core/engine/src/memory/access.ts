import type { Arena } from '../arena.ts';
import { PAGE_SIZE } from '../ids.ts';
import { NO_FRAME } from './frames.ts';
import type { GuestMemory } from './guest-memory.ts';
import type { MemoryFaultInfo } from './memory-fault.ts';
import { ALL_RIGHTS, Right, type Rights } from './permissions.ts';
import type { Slot } from './slots.ts';
import { Side, type Subject, SubjectKind } from './subject.ts';

/** How an access ended. Only `Ok` moved bytes; every other outcome left memory as it was. */
export const AccessResult = {
  Ok: 0,
  /** No slot and no overlay: a device access, or nothing there. */
  Absent: 1,
  /** The permission table of the plane refuses. */
  Denied: 2,
  /** A write to a read-only slot. */
  ReadOnly: 3,
  /** The overlay of the plane refuses. */
  OverlayRefused: 4,
  /** The access meant the private side of a shared page, or the reverse. */
  Mismatch: 5,
  /** No frame is left to back the page. */
  NoMemory: 6,
  /** A frame watcher holds the accessor: wait and try again. */
  Held: 7,
} as const;
export type AccessResult = (typeof AccessResult)[keyof typeof AccessResult];

/** Where another VP may run in tests. */
export type PreemptionPoint = 'pages-checked' | 'read-piece' | 'fetched';

const { Ok, Absent, Denied, ReadOnly, OverlayRefused, Mismatch, NoMemory, Held } = AccessResult;
const GPA_LIMIT = 2 ** 52;
/** Byte within a page; exact for doubles too, and cheaper than a remainder. */
const OFFSET = PAGE_SIZE - 1;
/** Copies up to this many bytes go byte by byte: a view object would cost more. */
const SMALL = 128;

/**
 * The one way to guest memory. Every access names its subject and is checked page by page before any byte moves:
 * it has its whole effect or none.
 *
 * Order of checks per page: overlay or slot present, side, permission table, slot or overlay rights; then, for all pages together, backing
 * and watches. An access that fails leaves its reason in {@link Accessor.failedGpa} and {@link Accessor.missing}.
 */
export class Accessor {
  /** First byte of the failed access that was refused. */
  failedGpa = 0;
  /** Rights that were missing; 0 when no right was. */
  missing: Rights = 0;
  /** Result of {@link Accessor.readU8} and its kin, low 32 bits. */
  lo = 0;
  /** High 32 bits after {@link Accessor.readU64}. */
  hi = 0;
  /** After {@link Accessor.compareAndSwap}: the old value was there and is replaced. */
  swapped = false;
  /** After {@link Accessor.fill}: byte of the arena where the frame starts. */
  fillByte = 0;
  fillFrame = NO_FRAME;
  /** After {@link Accessor.fill}: rights a cached translation may carry. */
  fillRights: Rights = 0;

  /** Tests may run another VP or apply a write here; null in product code. */
  preempt: ((point: PreemptionPoint) => void) | null = null;
  /** Recorder port: bytes a call of a plane read. The array is borrowed. */
  onCallRead: ((plane: number, gpa: number, bytes: Uint8Array, offset: number, length: number) => void) | null = null;
  /** Recorder port: bytes written on behalf of a call of a plane. The array is borrowed. */
  onCallWrite: ((plane: number, gpa: number, bytes: Uint8Array, offset: number, length: number) => void) | null = null;

  readonly #arena: Arena;
  readonly #memory: GuestMemory;
  readonly #word = new Uint8Array(8);
  readonly #wordView = new DataView(this.#word.buffer);
  // What #resolve found; valid until other code runs.
  #slot: Slot | null = null;
  #page = 0;
  #frame = NO_FRAME;
  #rights: Rights = 0;
  #isPrivate = false;

  constructor(arena: Arena, memory: GuestMemory) {
    this.#arena = arena;
    this.#memory = memory;
  }

  /**
   * Whether an access would pass permissions, without side effects: watches are not asked, nothing is backed.
   * @param gpa - in bytes. @param length - in bytes; 0 passes.
   * @param access - rights it needs, a mask of {@link Right}.
   */
  check(subject: Subject, gpa: number, length: number, access: Rights): AccessResult {
    if (length === 0) return Ok;
    if (!(gpa >= 0) || gpa + length > GPA_LIMIT) return this.#fail(Absent, gpa, 0);
    const last = Math.floor((gpa + length - 1) / PAGE_SIZE);
    for (let gpn = Math.floor(gpa / PAGE_SIZE); gpn <= last; gpn++) {
      const result = this.#resolve(subject, gpn, access);
      if (result !== Ok) return this.#fail(result, Math.max(gpa, gpn * PAGE_SIZE), this.missing);
    }
    return Ok;
  }

  /** Copies guest memory into `into` at `offset`. On failure `into` may hold bytes that must not be used. */
  read(subject: Subject, gpa: number, into: Uint8Array, offset: number, length: number): AccessResult {
    return this.#readAs(subject, gpa, into, offset, length, Right.Read);
  }

  /** Copies instruction bytes. @param right - {@link Right.ExecSupervisor} or {@link Right.ExecUser}, by the mode of the CPU. */
  fetch(subject: Subject, gpa: number, into: Uint8Array, offset: number, length: number, right: Rights): AccessResult {
    return this.#readAs(subject, gpa, into, offset, length, right);
  }

  /** Copies bytes of `from` at `offset` to guest memory. */
  write(subject: Subject, gpa: number, from: Uint8Array, offset: number, length: number): AccessResult {
    const result = this.#admit(subject, gpa, length, Right.Write);
    if (result === Ok) this.#moveIn(subject, gpa, from, offset, length);
    return result;
  }

  /** Reads a byte into `lo`. */
  readU8(subject: Subject, gpa: number): AccessResult {
    return this.#readWord(subject, gpa, 1);
  }

  /** Reads 16 bits into `lo`. */
  readU16(subject: Subject, gpa: number): AccessResult {
    return this.#readWord(subject, gpa, 2);
  }

  /** Reads 32 bits into `lo`. */
  readU32(subject: Subject, gpa: number): AccessResult {
    return this.#readWord(subject, gpa, 4);
  }

  /** Reads 64 bits into `lo` and `hi`. */
  readU64(subject: Subject, gpa: number): AccessResult {
    return this.#readWord(subject, gpa, 8);
  }

  writeU8(subject: Subject, gpa: number, value: number): AccessResult {
    return this.#writeWord(subject, gpa, value, 0, 1);
  }

  writeU16(subject: Subject, gpa: number, value: number): AccessResult {
    return this.#writeWord(subject, gpa, value, 0, 2);
  }

  writeU32(subject: Subject, gpa: number, value: number): AccessResult {
    return this.#writeWord(subject, gpa, value, 0, 4);
  }

  writeU64(subject: Subject, gpa: number, lo: number, hi: number): AccessResult {
    return this.#writeWord(subject, gpa, lo, hi, 8);
  }

  /**
   * Replaces a word if it still holds the old value: nothing runs between the comparison and the store. {@link Accessor.swapped} tells.
   * @param gpa - a multiple of `length`. @param length - 4 or 8 bytes; with 4 the high halves do not count.
   */
  compareAndSwap(subject: Subject, gpa: number, length: number, oldLo: number, oldHi: number, newLo: number, newHi: number): AccessResult {
    this.swapped = false;
    const result = this.#admit(subject, gpa, length, Right.Read | Right.Write);
    if (result !== Ok) return result;
    const view = this.#arena.view;
    const at = this.#memory.frames.byteOf(this.#frame) + (gpa % PAGE_SIZE);
    if (view.getUint32(at, true) !== oldLo >>> 0 || (length === 8 && view.getUint32(at + 4, true) !== oldHi >>> 0)) return Ok;
    view.setUint32(at, newLo, true);
    if (length === 8) view.setUint32(at + 4, newHi, true);
    this.#markDirty(subject);
    this.swapped = true;
    return Ok;
  }

  /**
   * Finds what a cached translation of a page may say, backing the page. A write that the translation may carry is noted as done.
   * Watchers are not asked: a right that is in force but missing in `fillRights` means this access goes through the accessor.
   * @param access - rights the access at hand needs.
   */
  fill(subject: Subject, gpn: number, access: Rights): AccessResult {
    let result = this.#resolve(subject, gpn, access);
    if (result === Ok && this.#frame === NO_FRAME) result = this.#back();
    if (result !== Ok) return this.#fail(result, gpn * PAGE_SIZE, this.missing);
    let rights = this.#rights & ~this.#memory.watches.guarded(this.#frame);
    const slot = this.#slot;
    if (slot !== null && slot.dirty !== null && (rights & Right.Write) !== 0) {
      if ((access & Right.Write) !== 0) this.#markDirty(subject);
      else if (!slot.isDirty(this.#page)) rights &= ~Right.Write;
    }
    this.fillFrame = this.#frame;
    this.fillByte = this.#memory.frames.byteOf(this.#frame);
    this.fillRights = rights;
    return Ok;
  }

  /** Writes the failed access into a fault record; GVA and instruction are the caller's to add. */
  describe(into: MemoryFaultInfo, subject: Subject, result: AccessResult, access: Rights): void {
    into.clear();
    into.gpa = this.failedGpa;
    into.access = access;
    into.missing = this.missing;
    into.plane = subject.plane;
    into.result = result;
    into.isWalk = subject.kind === SubjectKind.Walk;
    into.isPrivate = subject.side === Side.Current ? this.#memory.isPrivate(Math.floor(this.failedGpa / PAGE_SIZE)) : subject.side === Side.Private || subject.side === Side.OpenPrivate;
  }

  /** Resolves one page: permissions, then frame (may be {@link NO_FRAME}). On failure sets `missing`. */
  #resolve(subject: Subject, gpn: number, access: Rights): AccessResult {
    const memory = this.#memory;
    const isHost = subject.kind === SubjectKind.Host;
    this.missing = 0;
    this.#slot = null;
    if (subject.seesOverlays) {
      const overlays = memory.overlays[subject.plane]!;
      const at = overlays.count === 0 ? -1 : overlays.find(gpn);
      if (at >= 0) {
        this.#frame = overlays.frame(at);
        this.#rights = ALL_RIGHTS;
        if (isHost) return Ok;
        const table = overlays.ignoresTable(at) ? ALL_RIGHTS : memory.permissions[subject.plane]!.get(gpn);
        if ((this.missing = access & ~table) !== 0) return Denied;
        this.#rights = table & overlays.rights(at);
        if ((this.missing = access & ~this.#rights) !== 0) return OverlayRefused;
        return Ok;
      }
    }
    const slot = memory.slots.find(gpn);
    if (slot === null) return Absent;
    const { side } = subject;
    const isPrivate = side >= Side.OpenPrivate ? side === Side.OpenPrivate : memory.isPrivate(gpn);
    if ((side === Side.Private && !isPrivate) || (side === Side.Shared && isPrivate)) return Mismatch;
    let rights = ALL_RIGHTS;
    if (!isHost) {
      rights = memory.permissions[subject.plane]!.get(gpn);
      if ((this.missing = access & ~rights) !== 0) return Denied;
      if (slot.isReadonly) {
        rights &= ~Right.Write;
        if ((this.missing = access & ~rights) !== 0) return ReadOnly;
      }
    }
    this.#rights = rights;
    this.#slot = slot;
    this.#page = gpn - slot.first;
    this.#isPrivate = isPrivate;
    this.#frame = slot.backing.frame(this.#page + slot.backingPage, isPrivate);
    return Ok;
  }

  /** Backs the page just resolved. */
  #back(): AccessResult {
    const slot = this.#slot!;
    this.#frame = slot.backing.ensure(this.#page + slot.backingPage, this.#isPrivate);
    return this.#frame === NO_FRAME ? NoMemory : Ok;
  }

  /** All checks of an access. After `Ok` nothing can refuse it until other code runs. */
  #admit(subject: Subject, gpa: number, length: number, access: Rights): AccessResult {
    let result = this.check(subject, gpa, length, access);
    if (result !== Ok || length === 0) return result;
    const first = Math.floor(gpa / PAGE_SIZE);
    const last = Math.floor((gpa + length - 1) / PAGE_SIZE);
    if (first !== last && this.preempt !== null && subject.kind !== SubjectKind.Host) {
      this.preempt('pages-checked');
      result = this.check(subject, gpa, length, access);
      if (result !== Ok) return result;
    }
    let asked = false;
    for (let gpn = first; gpn <= last; gpn++) {
      if (first !== last || asked) result = this.#resolve(subject, gpn, access);
      if (result === Ok && this.#frame === NO_FRAME && (access & Right.Write) !== 0) result = this.#back();
      if (result !== Ok) return this.#fail(result, Math.max(gpa, gpn * PAGE_SIZE), this.missing);
      if (this.#frame === NO_FRAME || this.#memory.watches.guarded(this.#frame) === 0) continue;
      asked = true;
      if (!this.#memory.watches.pass(this.#frame, subject, access)) return this.#fail(Held, Math.max(gpa, gpn * PAGE_SIZE), 0);
    }
    // A watcher is code of an owner and may have changed anything, also the pages passed already.
    return asked ? this.#recheck(subject, gpa, length, access) : Ok;
  }

  #recheck(subject: Subject, gpa: number, length: number, access: Rights): AccessResult {
    const last = Math.floor((gpa + length - 1) / PAGE_SIZE);
    for (let gpn = Math.floor(gpa / PAGE_SIZE); gpn <= last; gpn++) {
      let result = this.#resolve(subject, gpn, access);
      if (result === Ok && this.#frame === NO_FRAME && (access & Right.Write) !== 0) result = this.#back();
      if (result !== Ok) return this.#fail(result, Math.max(gpa, gpn * PAGE_SIZE), this.missing);
    }
    return Ok;
  }

  #readAs(subject: Subject, gpa: number, into: Uint8Array, offset: number, length: number, right: Rights): AccessResult {
    const admitted = this.#admit(subject, gpa, length, right);
    if (admitted !== Ok || length === 0) return admitted;
    for (let done = 0; done < length; ) {
      const inPage = (gpa + done) & OFFSET;
      const n = Math.min(PAGE_SIZE - inPage, length - done);
      if (n !== length) this.#resolve(subject, Math.floor((gpa + done) / PAGE_SIZE), right);
      this.#copyOut(inPage, into, offset + done, n);
      done += n;
      if (done < length && this.preempt !== null && subject.kind !== SubjectKind.Host) {
        this.preempt('read-piece');
        const result = this.check(subject, gpa + done, length - done, right);
        if (result !== Ok) return result;
      }
    }
    if (this.onCallRead !== null && subject.kind === SubjectKind.Call) this.onCallRead(subject.plane, gpa, into, offset, length);
    return Ok;
  }

  #copyOut(inPage: number, into: Uint8Array, offset: number, n: number): void {
    if (this.#frame === NO_FRAME) {
      into.fill(0, offset, offset + n);
      return;
    }
    const from = this.#memory.frames.byteOf(this.#frame) + inPage;
    const u8 = this.#arena.u8;
    if (n > SMALL) into.set(u8.subarray(from, from + n), offset);
    else for (let i = 0; i < n; i++) into[offset + i] = u8[from + i]!;
  }

  /** Moves bytes of an admitted write; nothing may run in between. */
  #moveIn(subject: Subject, gpa: number, from: Uint8Array, offset: number, length: number): void {
    const u8 = this.#arena.u8;
    for (let done = 0; done < length; ) {
      const inPage = (gpa + done) & OFFSET;
      const n = Math.min(PAGE_SIZE - inPage, length - done);
      if (n !== length) this.#resolve(subject, Math.floor((gpa + done) / PAGE_SIZE), Right.Write);
      const to = this.#memory.frames.byteOf(this.#frame) + inPage;
      const start = offset + done;
      if (n > SMALL) u8.set(from.subarray(start, start + n), to);
      else for (let i = 0; i < n; i++) u8[to + i] = from[start + i]!;
      this.#markDirty(subject);
      done += n;
    }
    if (this.onCallWrite !== null && subject.kind === SubjectKind.Call) this.onCallWrite(subject.plane, gpa, from, offset, length);
  }

  #markDirty(subject: Subject): void {
    if (this.#slot !== null && this.#slot.dirty !== null) this.#memory.dirty.mark(this.#slot, this.#page, subject.kind < SubjectKind.Device);
  }

  #readWord(subject: Subject, gpa: number, length: number): AccessResult {
    const inPage = gpa & OFFSET;
    if (inPage + length > PAGE_SIZE || (this.onCallRead !== null && subject.kind === SubjectKind.Call)) {
      // Another VP may read a word at a preemption point inside: it must not get this one's cell.
      const bytes = this.preempt === null ? this.#word : new Uint8Array(8);
      const result = this.#readAs(subject, gpa, bytes, 0, length, Right.Read);
      if (result === Ok) this.#take(bytes === this.#word ? this.#wordView : new DataView(bytes.buffer), 0, length);
      return result;
    }
    const result = this.#admit(subject, gpa, length, Right.Read);
    if (result !== Ok) return result;
    if (this.#frame === NO_FRAME) this.lo = this.hi = 0;
    else this.#take(this.#arena.view, this.#memory.frames.byteOf(this.#frame) + inPage, length);
    return Ok;
  }

  #take(view: DataView, at: number, length: number): void {
    this.hi = 0;
    if (length === 4) this.lo = view.getUint32(at, true);
    else if (length === 8) {
      this.lo = view.getUint32(at, true);
      this.hi = view.getUint32(at + 4, true);
    } else this.lo = length === 2 ? view.getUint16(at, true) : view.getUint8(at);
  }

  #writeWord(subject: Subject, gpa: number, lo: number, hi: number, length: number): AccessResult {
    const result = this.#admit(subject, gpa, length, Right.Write);
    if (result !== Ok) return result;
    const view = this.#wordView;
    view.setUint32(0, lo, true);
    view.setUint32(4, hi, true);
    this.#moveIn(subject, gpa, this.#word, 0, length);
    return Ok;
  }

  #fail(result: AccessResult, gpa: number, missing: Rights): AccessResult {
    this.failedGpa = gpa;
    this.missing = missing;
    return result;
  }
}
