import { Side, subject, type Subject, SubjectKind } from '@vmplanes/engine';
import type { PlaneContext } from '@vmplanes/engine';

/**
 * Which side of guest memory an access means, for guests that say so themselves: by a bit of their page-table entries or by the address. Page walks and
 * fetches always mean the private side.
 * @spec APM vol. 2, 15.34.5, 15.36.8
 */
export interface MemorySides {
  /** Position 32..51 of the bit, in page-table entries, CR3 and physical addresses of steps: no part of an address. */
  readonly bit: number;
  /** Both sides of a page can be reached at any time; otherwise only that which its attribute names. */
  readonly areOpen: boolean;
  /** @param marked - the entry or address had the bit; true, too, where the mode has no such bit. @returns whether data at `gpa` means the private side. */
  isPrivate(context: PlaneContext, gpa: number, marked: boolean): boolean;
}

/** The subjects of one plane under {@link MemorySides}. */
export class SidedSubjects {
  readonly walk: Subject;
  readonly #private: Subject;
  readonly #shared: Subject;

  constructor(
    readonly context: PlaneContext,
    readonly sides: MemorySides,
  ) {
    const { plane } = context;
    this.walk = subject(SubjectKind.Walk, plane, sides.areOpen ? Side.OpenPrivate : Side.Private);
    this.#private = subject(SubjectKind.Cpu, plane, sides.areOpen ? Side.OpenPrivate : Side.Private);
    this.#shared = subject(SubjectKind.Cpu, plane, sides.areOpen ? Side.OpenShared : Side.Shared);
  }

  /** Who makes an access of an instruction. */
  cpu(gpa: number, marked: boolean, isFetch: boolean): Subject {
    return isFetch || this.sides.isPrivate(this.context, gpa, marked) ? this.#private : this.#shared;
  }
}
