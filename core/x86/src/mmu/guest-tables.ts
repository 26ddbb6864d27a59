import { type Accessor, AccessResult, type PlaneSubjects, Right, type Rights, type Subject } from '@vmplanes/engine';
import { Access } from './access.ts';
import { type PageTableMemory, TableStatus } from './memory.ts';

/** What the second stage must grant for an access to a supervisor-mode address, by {@link Access}; a lookup does not ask. */
const SUPERVISOR: readonly Rights[] = [Right.Read, Right.Write, Right.ExecSupervisor, Right.Read | Right.ShadowStack, Right.Write | Right.ShadowStack];
/** The same for a user-mode address; user shadow stacks are ordinary writable pages of the second stage. */
const USER: readonly Rights[] = [Right.Read, Right.Write, Right.ExecUser, Right.Read, Right.Write];

/** Who walks, and who makes the access itself, where sides of memory differ. */
export interface LeafSubjects {
  readonly walk: Subject;
  cpu(gpa: number, marked: boolean, isFetch: boolean): Subject;
}

/**
 * Page tables of one plane in the machine's guest memory. Entries are accessed as the plane's walk subject, the leaf is asked for as its CPU.
 * A refusal leaves its details in the accessor until the next access; {@link refusalOf} gives its reason.
 */
export class GuestTables implements PageTableMemory {
  lo = 0;
  hi = 0;
  /** Who asked for the leaf last. */
  leafSubject: Subject;
  readonly #walk: Subject;

  /** @param sided - who accesses which side, for guests that say so. */
  constructor(
    private readonly accessor: Accessor,
    subjects: PlaneSubjects,
    private readonly sided: LeafSubjects | null = null,
  ) {
    this.#walk = sided === null ? subjects.walk : sided.walk;
    this.leafSubject = subjects.cpu;
  }

  get walkSubject(): Subject {
    return this.#walk;
  }

  read(gpa: number, bytes: number): number {
    const { accessor } = this;
    const result = bytes === 8 ? accessor.readU64(this.#walk, gpa) : accessor.readU32(this.#walk, gpa);
    this.lo = accessor.lo;
    this.hi = accessor.hi;
    return statusOf(result);
  }

  compareAndSwap(gpa: number, bytes: number, oldLo: number, oldHi: number, newLo: number, newHi: number): number {
    const result = this.accessor.compareAndSwap(this.#walk, gpa, bytes, oldLo, oldHi, newLo, newHi);
    if (result !== AccessResult.Ok) return statusOf(result);
    return this.accessor.swapped ? TableStatus.Ok : TableStatus.Changed;
  }

  leaf(gpa: number, access: Access, userPage: boolean, marked: boolean): number {
    if (this.sided !== null) this.leafSubject = this.sided.cpu(gpa, marked, access === Access.Fetch);
    if (access === Access.Lookup) return TableStatus.Ok;
    return statusOf(this.accessor.check(this.leafSubject, gpa, 1, (userPage ? USER : SUPERVISOR)[access]!));
  }
}

const statusOf = (result: AccessResult): number => (result === AccessResult.Ok ? TableStatus.Ok : TableStatus.Refused + result);

/** Why {@link GuestTables} refused: `Absent` at the leaf is a device access. @param status - of a `Stage2` answer. */
export const refusalOf = (status: number): AccessResult => (status - TableStatus.Refused) as AccessResult;
