import { HostError } from '../errors.ts';
import { PAGE_LIMIT, PageTree } from './page-tree.ts';

/** Rights to a guest page. The same bits say what an access needs: a read-modify-write needs `Read | Write`. */
export const Right = {
  Read: 1,
  Write: 2,
  /** Instruction fetch in supervisor mode. */
  ExecSupervisor: 4,
  /** Instruction fetch in user mode. */
  ExecUser: 8,
  /** Access through the supervisor shadow stack. */
  ShadowStack: 16,
} as const;
/** A mask of {@link Right} bits. */
export type Rights = number;
/** Every right: a page without restriction. */
export const ALL_RIGHTS: Rights = 31;
/** Fetches of both modes. */
export const EXEC_RIGHTS: Rights = Right.ExecSupervisor | Right.ExecUser;

/** Stands for every plane in a {@link MemoryObserver} call. */
export const ALL_PLANES = -1;

/**
 * Told of every change that can make a cached translation wrong, before the call that caused it returns.
 * An observer drops at least the entries that allow more than the new state does, so no access through the old state can follow.
 */
export interface MemoryObserver {
  /**
   * Rights in the table of a plane changed.
   * @param revoked - bits that some page of the range lost. @param granted - bits that some page gained.
   */
  permissionsChanged(plane: number, first: number, count: number, revoked: Rights, granted: Rights): void;
  /**
   * Pages map elsewhere (slot, overlay, private or shared), or the next write must be seen again (dirty log).
   * @param plane - or {@link ALL_PLANES}. @param rights - entries that allow one of these are stale.
   */
  translationsRevoked(plane: number, first: number, count: number, rights: Rights): void;
  /** Accesses to a frame that need one of these rights must come through the accessor again, by whatever page they reach it. */
  frameRevoked(frame: number, rights: Rights): void;
}

/** Saved permission table of one plane. */
export interface PermissionsState {
  readonly rows: Float64Array;
  readonly defaultRights: Rights;
  readonly isDefaultSet: boolean;
  readonly generation: number;
}

/**
 * The permission table of one plane: what it may do with each guest page, below what the slot allows.
 * A plane without restrictions has every right; ranges of any size and number stay cheap (see {@link PageTree}).
 * @spec LKML 20250401 RFC KVM planes 06/29
 */
export class PlanePermissions {
  readonly #tree = new PageTree(ALL_RIGHTS);
  readonly #observers: readonly MemoryObserver[];
  #default: Rights = ALL_RIGHTS;
  #isDefaultSet = false;

  /** @param observers - borrowed, read at each change. */
  constructor(
    readonly plane: number,
    observers: readonly MemoryObserver[],
  ) {
    this.#observers = observers;
  }

  /** Rights that pages have unless told otherwise. */
  get defaultRights(): Rights {
    return this.#default;
  }

  get isDefaultSet(): boolean {
    return this.#isDefaultSet;
  }

  /** Increases with each change of a page. */
  get generation(): number {
    return this.#tree.generation;
  }

  /** Rights of a page; no allocation, at most seven steps. */
  get(gpn: number): Rights {
    return this.#tree.get(gpn);
  }

  /**
   * Gives all pages their default rights, replacing what was set before. Possible once.
   * @returns false, and nothing changed, when a default was set before.
   */
  setDefault(rights: Rights): boolean {
    if (this.#isDefaultSet) return false;
    this.#isDefaultSet = true;
    this.#default = rights & ALL_RIGHTS;
    this.set(0, PAGE_LIMIT, rights);
    return true;
  }

  /** Gives a range exactly these rights. @returns whether a page changed. @throws {HostError} BadRange, see {@link PageTree.update}. */
  set(first: number, count: number, rights: Rights): boolean {
    return this.#update(first, count, 0, rights & ALL_RIGHTS);
  }

  /** Takes rights away from a range and leaves the others. @returns whether a page changed. */
  revoke(first: number, count: number, rights: Rights): boolean {
    return this.#update(first, count, ALL_RIGHTS & ~rights, 0);
  }

  /** Adds rights to a range and leaves the others. @returns whether a page changed. */
  grant(first: number, count: number, rights: Rights): boolean {
    return this.#update(first, count, ALL_RIGHTS, rights & ALL_RIGHTS);
  }

  #update(first: number, count: number, keep: number, bits: number): boolean {
    if (!this.#tree.update(first, count, keep, bits)) return false;
    const { removed, added } = this.#tree;
    for (const o of this.#observers) o.permissionsChanged(this.plane, first, count, removed, added);
    return true;
  }

  /**
   * Whether all pages of a range have the same rights in this plane, so that one large translation may cover them.
   * Each plane answers for itself: a shared answer would be overwritten by the next plane.
   * @spec LKML 20250401 RFC KVM planes 06/29
   */
  isUniform(first: number, count: number): boolean {
    return this.#tree.runEnd(first, first + count) === first + count;
  }

  /** The first page behind `gpn` with other rights; 2^40 when there is none. */
  nextChange(gpn: number): number {
    return this.#tree.runEnd(gpn);
  }

  /** Calls `visit` for each maximal range of equal rights inside a range, in rising order. */
  forEachRange(first: number, count: number, visit: (first: number, count: number, rights: Rights) => void): void {
    this.#tree.forEachRange(first, count, visit);
  }

  /** Steps a lookup takes, and nodes the table uses: its cost without a clock. */
  cost(gpn: number): { readonly steps: number; readonly nodes: number } {
    return { steps: this.#tree.depth(gpn), nodes: this.#tree.size };
  }

  save(): PermissionsState {
    return { rows: this.#tree.save(), defaultRights: this.#default, isDefaultSet: this.#isDefaultSet, generation: this.#tree.generation };
  }

  /** @throws {HostError} BadSnapshot on a table that does not start with page 0. */
  restore(state: PermissionsState): void {
    if (state.rows.length < 2 || state.rows.length % 2 || state.rows[0] !== 0) throw new HostError('BadSnapshot', `plane ${this.plane}: permission rows must start with page 0`);
    this.#tree.restore(state.rows);
    this.#tree.generation = state.generation;
    this.#default = state.defaultRights;
    this.#isDefaultSet = state.isDefaultSet;
  }
}
