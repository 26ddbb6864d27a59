import type { Arena } from '../arena.ts';
import { HostError } from '../errors.ts';
import { MAX_PLANES, PAGE_SIZE } from '../ids.ts';
import { Accessor } from './access.ts';
import { type Backing, Backings, type BackingsState } from './backing.ts';
import { hashMemory, type StateHash } from './content-hash.ts';
import { DirtyLog, type DirtyLogState } from './dirty-log.ts';
import { Frames, type FramesState, NO_FRAME } from './frames.ts';
import { type OverlayState, PlaneOverlays } from './overlays.ts';
import { PAGE_LIMIT, PageTree } from './page-tree.ts';
import { ALL_PLANES, ALL_RIGHTS, type MemoryObserver, PlanePermissions, type PermissionsState, Right, type Rights } from './permissions.ts';
import { Slot, Slots } from './slots.ts';
import { type PlaneSubjects, planeSubjects } from './subject.ts';
import { type FrameWatcher, type WatchKinds, Watches, type WatchState } from './watch.ts';

/** What guest memory is made of. */
export interface GuestMemoryConfig {
  /** Start of the frame region in the arena, in bytes, a multiple of 4096. */
  readonly firstByte: number;
  /** Frames in the region: memory of both sides of all pages, overlays and pages of owners. */
  readonly frames: number;
  /** Planes with a permission table, 1..16. */
  readonly maxPlanes: number;
  /** Accept slots whose pages cannot all be backed; default false: each page is promised a frame. */
  readonly overcommit?: boolean;
  /** Whether pages are private until told otherwise; default false. */
  readonly privateByDefault?: boolean;
}

/** A new slot. Addresses and sizes in bytes, multiples of 4096. */
export interface SlotConfig {
  readonly id: number;
  readonly gpa: number;
  readonly size: number;
  readonly readonly?: boolean;
  readonly logDirty?: boolean;
  /** Kept memory to show, from {@link GuestMemory.createBacking}; default: memory of its own that goes with the slot. */
  readonly backing?: number;
  /** First byte of the backing to show, a multiple of 4096. */
  readonly backingOffset?: number;
}

/** Version of {@link MemoryState}. */
export const MEMORY_STATE_VERSION = 1;

/** Saved guest memory: plain data, fit for structured cloning. */
export interface MemoryState {
  readonly version: number;
  readonly frames: FramesState;
  readonly frameCount: number;
  readonly backings: BackingsState;
  readonly slots: readonly { readonly id: number; readonly first: number; readonly pages: number; readonly isReadonly: boolean; readonly backing: number; readonly backingPage: number }[];
  readonly privacy: Float64Array;
  readonly permissions: readonly PermissionsState[];
  readonly overlays: readonly (readonly OverlayState[])[];
  readonly watches: readonly WatchState[];
  readonly dirty: DirtyLogState;
}

/**
 * Guest memory of one machine: slots over frames, the private attribute, and for each plane permissions and overlays.
 * Accesses go through {@link GuestMemory.access}; this class changes what they meet.
 */
export class GuestMemory {
  readonly frames: Frames;
  readonly slots = new Slots();
  /** Permission table of each plane. */
  readonly permissions: readonly PlanePermissions[];
  readonly overlays: readonly PlaneOverlays[];
  readonly watches: Watches;
  readonly dirty: DirtyLog;
  readonly access: Accessor;
  /** The usual subjects of each plane. */
  readonly subjects: readonly PlaneSubjects[];
  readonly maxPlanes: number;
  readonly #arena: Arena;
  readonly #observers: MemoryObserver[] = [];
  readonly #backings: Backings;
  /** Bit 0: private. One for all planes. @spec LKML 20250401 RFC KVM planes 06/29 */
  readonly #privacy: PageTree;

  /** @throws {HostError} BadRange, NoMemory (see {@link Frames}); BadConfig on a bad number of planes. */
  constructor(arena: Arena, config: GuestMemoryConfig) {
    if (!Number.isInteger(config.maxPlanes) || config.maxPlanes < 1 || config.maxPlanes > MAX_PLANES) throw new HostError('BadConfig', `guest memory for ${config.maxPlanes} planes: not 1..${MAX_PLANES}`);
    this.#arena = arena;
    this.maxPlanes = config.maxPlanes;
    this.#privacy = new PageTree(config.privateByDefault ? 1 : 0);
    this.frames = new Frames(arena, config.firstByte, config.frames);
    this.#backings = new Backings(this.frames, !(config.overcommit ?? false));
    this.watches = new Watches(this.frames);
    this.dirty = new DirtyLog(this.slots, this.#observers);
    const planes = Array.from({ length: config.maxPlanes }, (_, p) => p);
    this.permissions = planes.map((p) => new PlanePermissions(p, this.#observers));
    this.overlays = planes.map((p) => new PlaneOverlays(p, this.frames));
    this.subjects = planes.map(planeSubjects);
    this.access = new Accessor(arena, this);
  }

  /** Adds an observer of everything that can make a cached translation wrong. Observers are not saved. */
  observe(observer: MemoryObserver): void {
    this.#observers.push(observer);
  }

  // Slots and backings

  /** Makes memory that outlives slots and may be shown by several. @param size - in bytes. @returns its number. @throws {HostError} NoMemory, BadRange. */
  createBacking(size: number): number {
    if (!Number.isSafeInteger(size) || size <= 0 || size % PAGE_SIZE) throw new HostError('BadRange', `memory of ${size} bytes: not a positive multiple of ${PAGE_SIZE}`);
    return this.#backings.create(size / PAGE_SIZE, true).id;
  }

  /** Gives kept memory back. @throws {HostError} BadState while a slot shows it or when there is none of this number. */
  destroyBacking(id: number): void {
    const backing = this.#backings.get(id);
    if (!backing?.isKept || backing.windows > 0) throw new HostError('BadState', `memory ${id}: ${backing?.isKept ? 'a slot still shows it' : 'no such memory'}`);
    this.#backings.delete(backing);
  }

  /**
   * Lets the guest reach memory at a range.
   * @throws {HostError} ExistsAlready when the id or a part of the range is taken; BadRange; BadState on an unknown backing;
   *   NoMemory when the frames cannot hold it.
   * @spec Linux Documentation/virt/kvm/api.rst KVM_SET_USER_MEMORY_REGION
   */
  addSlot(config: SlotConfig): Slot {
    const { id, gpa, size } = config;
    if (this.slots.byId(id)) throw new HostError('ExistsAlready', `memory slot ${id} exists already`, { slot: id });
    this.slots.checkPlace(id, gpa, size);
    const pages = size / PAGE_SIZE;
    const from = (config.backingOffset ?? 0) / PAGE_SIZE;
    const kept = config.backing === undefined ? null : this.#backings.get(config.backing);
    if (kept === undefined || kept?.isKept === false) throw new HostError('BadState', `memory slot ${id}: no memory ${config.backing}`);
    const has = kept?.pages ?? pages;
    if (!Number.isInteger(from) || from < 0 || from + pages > has) throw new HostError('BadRange', `memory slot ${id}: shows pages ${from} to ${from + pages} of memory with ${has}`);
    const backing: Backing = kept ?? this.#backings.create(pages, false);
    const slot = new Slot(id, gpa / PAGE_SIZE, pages, config.readonly ?? false, backing, from);
    slot.log(config.logDirty ?? false);
    backing.windows++;
    this.slots.insert(slot);
    this.#revoke(ALL_PLANES, slot.first, slot.pages, ALL_RIGHTS);
    return slot;
  }

  /** Takes a slot away; memory of its own goes too. @throws {HostError} BadState when there is no such slot. */
  removeSlot(id: number): void {
    const slot = this.slots.get(id);
    this.slots.remove(slot);
    this.#revoke(ALL_PLANES, slot.first, slot.pages, ALL_RIGHTS);
    if (--slot.backing.windows === 0 && !slot.backing.isKept) {
      this.#backings.delete(slot.backing);
    }
  }

  /** Moves a slot with its content. @param gpa - in bytes. @throws {HostError} as {@link addSlot}; the slot then stays where it is. */
  moveSlot(id: number, gpa: number): void {
    const slot = this.slots.get(id);
    this.slots.checkPlace(id, gpa, slot.pages * PAGE_SIZE, id);
    const from = slot.first;
    this.slots.move(slot, gpa);
    this.#revoke(ALL_PLANES, from, slot.pages, ALL_RIGHTS);
    this.#revoke(ALL_PLANES, slot.first, slot.pages, ALL_RIGHTS);
  }

  /** Starts or stops the dirty log of a slot. @throws {HostError} BadState when there is no such slot. */
  logDirty(id: number, on: boolean): void {
    const slot = this.slots.get(id);
    if (on === (slot.dirty !== null)) return;
    slot.log(on);
    if (on) this.#revoke(ALL_PLANES, slot.first, slot.pages, Right.Write);
  }

  // Private and shared

  /** Whether a page is private, for all planes alike. */
  isPrivate(gpn: number): boolean {
    return this.#privacy.get(gpn) !== 0;
  }

  /** Makes a range private or shared. Each side keeps its content. @returns whether a page changed. @throws {HostError} BadRange. */
  setPrivate(first: number, count: number, isPrivate: boolean): boolean {
    if (!this.#privacy.set(first, count, isPrivate ? 1 : 0)) return false;
    this.#revoke(ALL_PLANES, first, count, ALL_RIGHTS);
    return true;
  }

  /** The private attribute of all pages as rows (first page, 0 or 1), equal for equal maps. */
  privacyRows(): Float64Array {
    return this.#privacy.save();
  }

  /** The first page behind `gpn` with the other attribute; 2^40 when there is none. */
  nextPrivacyChange(gpn: number): number {
    return this.#privacy.runEnd(gpn);
  }

  /** Calls `visit` for each maximal private or shared range inside a range. */
  forEachPrivacyRange(first: number, count: number, visit: (first: number, count: number, isPrivate: boolean) => void): void {
    this.#privacy.forEachRange(first, count, (f, n, value) => visit(f, n, value !== 0));
  }

  /** Forgets the content of one side of a range; its next use finds zeros. Pages outside of slots are skipped. */
  discard(first: number, count: number, isPrivate: boolean): void {
    for (const slot of this.slots.all) {
      const end = Math.min(slot.end, first + count);
      for (let gpn = Math.max(slot.first, first); gpn < end; gpn++) {
        const frame = slot.backing.discard(gpn - slot.first + slot.backingPage, isPrivate);
        if (frame !== NO_FRAME) for (const o of this.#observers) o.frameRevoked(frame, ALL_RIGHTS);
      }
    }
  }

  // Frames of owners, overlays, watches

  /** The frame under a page on its current side, made if needed; {@link NO_FRAME} when the page has no slot or no frame is left. */
  frameAt(gpn: number): number {
    const slot = this.slots.find(gpn);
    return slot === null ? NO_FRAME : slot.backing.ensure(gpn - slot.first + slot.backingPage, this.isPrivate(gpn));
  }

  /**
   * Lets one plane see a frame at a page, whatever lies under it. The same frame may be placed by several owners and counts.
   * @param frame - held by the caller or by a page; the overlay adds its own hold.
   * @param rights - what guests may do with it, below the permissions of the plane.
   * @param ignoresTable - the permission table of the plane does not count here: it speaks of what lies under the overlay.
   * @returns false, and nothing changed, when another frame or other rights are there.
   * @throws {HostError} BadState when nobody holds the frame.
   */
  placeOverlay(plane: number, gpn: number, frame: number, rights: Rights, ignoresTable = false): boolean {
    if (!this.frames.isHeld(frame)) throw new HostError('BadState', `frame ${frame} is free: no overlay at page 0x${gpn.toString(16)}`);
    const overlays = this.overlays[plane]!;
    const before = overlays.count;
    if (!overlays.place(gpn, frame, rights, ignoresTable)) return false;
    if (overlays.count !== before) this.#revoke(plane, gpn, 1, ALL_RIGHTS);
    return true;
  }

  /** One owner takes its overlay away. @returns whether the page shows what lies under it again. */
  takeOverlay(plane: number, gpn: number): boolean {
    const overlays = this.overlays[plane]!;
    const before = overlays.count;
    overlays.take(gpn);
    if (overlays.count === before) return false;
    this.#revoke(plane, gpn, 1, ALL_RIGHTS);
    return true;
  }

  /** Names a watcher, before frames are watched or a snapshot restored. @throws {HostError} ExistsAlready. */
  registerWatcher(watcherId: string, watcher: FrameWatcher): void {
    this.watches.register(watcherId, watcher);
  }

  /** Guards a frame, see {@link Watches.add}. @throws {HostError} BadState, BadConfig. */
  watchFrame(frame: number, kinds: WatchKinds, watcherId: string): void {
    this.watches.add(frame, kinds, watcherId);
    for (const o of this.#observers) o.frameRevoked(frame, this.watches.guarded(frame));
  }

  /** Takes one watch back. @returns false when there was none. */
  unwatchFrame(frame: number, kinds: WatchKinds, watcherId: string): boolean {
    return this.watches.remove(frame, kinds, watcherId);
  }

  /** Rights a plane has at a page now: those of its table and of the slot or overlay; 0 where it reaches nothing. */
  effectiveRights(plane: number, gpn: number): Rights {
    const overlays = this.overlays[plane]!;
    const table = this.permissions[plane]!.get(gpn);
    const at = overlays.find(gpn);
    if (at >= 0) return overlays.ignoresTable(at) ? overlays.rights(at) : table & overlays.rights(at);
    const slot = this.slots.find(gpn);
    if (slot === null) return 0;
    return slot.isReadonly ? table & ~Right.Write : table;
  }

  /** What slots show, and memory kept for slots to come. */
  get backings(): Pick<Backings, 'all' | 'owed'> {
    return this.#backings;
  }

  /** Adds everything that guests, owners and the VMM can see here to a hash. */
  hashInto(hash: StateHash): void {
    hashMemory(this.#arena, this, hash);
  }

  /** Everything that a fresh machine of the same configuration needs to go on from here. Ports and observers are not part of it. */
  save(): MemoryState {
    return {
      version: MEMORY_STATE_VERSION,
      frames: this.frames.save(),
      frameCount: this.frames.count,
      backings: this.#backings.save(),
      slots: this.slots.all.map((s) => ({ id: s.id, first: s.first, pages: s.pages, isReadonly: s.isReadonly, backing: s.backing.id, backingPage: s.backingPage })),
      privacy: this.#privacy.save(),
      permissions: this.permissions.map((p) => p.save()),
      overlays: this.overlays.map((o) => o.save()),
      watches: this.watches.save(),
      dirty: this.dirty.save(),
    };
  }

  /**
   * Replaces all state. Watchers must be registered before; observers are told that every translation is stale.
   * @throws {HostError} BadSnapshot when the state is of another version or does not fit this configuration.
   */
  restore(state: MemoryState): void {
    if (state.version !== MEMORY_STATE_VERSION) throw new HostError('BadSnapshot', `memory state of version ${state.version}: this reads version ${MEMORY_STATE_VERSION}`);
    if (state.frameCount !== this.frames.count || state.permissions.length !== this.maxPlanes) {
      throw new HostError('BadSnapshot', `memory state of ${state.frameCount} frames and ${state.permissions.length} planes: this machine has ${this.frames.count} and ${this.maxPlanes}`);
    }
    this.slots.clear();
    this.frames.clear();
    this.#backings.restore(state.backings, () => this.frames.restore(state.frames));
    for (const s of state.slots) this.slots.insert(new Slot(s.id, s.first, s.pages, s.isReadonly, this.#backings.get(s.backing)!, s.backingPage));
    this.#privacy.restore(state.privacy);
    this.permissions.forEach((p, i) => p.restore(state.permissions[i]!));
    this.overlays.forEach((o, i) => o.restore(state.overlays[i]!));
    this.watches.restore(state.watches);
    this.dirty.restore(state.dirty);
    this.#revoke(ALL_PLANES, 0, PAGE_LIMIT, ALL_RIGHTS);
  }

  #revoke(plane: number, first: number, count: number, rights: Rights): void {
    for (const o of this.#observers) o.translationsRevoked(plane, first, count, rights);
  }
}
