import { MAX_PLANES, MAX_VPS, type PlainRecord, type PlainState, type PlaneContext } from '@vmplanes/engine';
import type { Chapter, HvContext } from './ports.ts';

/** Vectors of exceptions that can be intercepted; the NMI is none. */
const LAST_EXCEPTION = 31;
const NMI = 2;

/**
 * Exceptions and CPUID leaves of lower VTLs that higher ones intercept: one table for the partition. The processor tells of exceptions
 * only while somebody asks.
 * @spec TLFS HvCallInstallIntercept; TLFS v6.0b (PDF) 11.11
 */
export class ProcessorIntercepts implements Chapter {
  readonly stateName = 'processor-intercepts';
  /** By VTL, bit n for vector n. */
  readonly #exceptions = new Uint32Array(MAX_PLANES);
  /** By VTL. */
  readonly #leaves: Set<number>[] = Array.from({ length: MAX_PLANES }, () => new Set());

  /** By VP index * 16 + VTL: between the entry of a VTL and its first instruction, so it is no state. */
  readonly #given = new Uint8Array(MAX_VPS * MAX_PLANES);

  constructor(readonly hv: HvContext) {}

  /** @returns false for a vector that is no exception. */
  installException(vtl: number, vector: number, on: boolean): boolean {
    if (vector > LAST_EXCEPTION || vector === NMI) return false;
    if (on) this.#exceptions[vtl]! |= 1 << vector;
    else this.#exceptions[vtl]! &= ~(1 << vector);
    this.#derive();
    return true;
  }
  installLeaf(vtl: number, leaf: number, on: boolean): void {
    if (on) this.#leaves[vtl]!.add(leaf);
    else this.#leaves[vtl]!.delete(leaf);
  }

  /** The lowest VTL above `vtl` that intercepts an exception; -1 when none does. */
  ownerOfException(vtl: number, vector: number): number {
    for (let owner = vtl + 1; owner <= this.hv.options.maximumVtl; owner++) if (((this.#exceptions[owner]! >>> vector) & 1) !== 0) return owner;
    return -1;
  }
  ownerOfLeaf(vtl: number, leaf: number): number {
    for (let owner = vtl + 1; owner <= this.hv.options.maximumVtl; owner++) if (this.#leaves[owner]!.has(leaf)) return owner;
    return -1;
  }

  /** The exception that a VTL is about to take was given to it, not raised: nobody intercepts it. */
  give({ vp, plane }: PlaneContext): void {
    if (this.hv.arch.exceptionExits !== null) this.#given[vp.index * MAX_PLANES + plane] = 1;
  }

  #derive(): void {
    this.hv.arch.exceptionExits = this.#exceptions.some((vectors) => vectors !== 0) ? this.#isWanted : null;
  }
  readonly #isWanted = ({ vp, plane }: PlaneContext, vector: number): boolean => {
    const at = vp.index * MAX_PLANES + plane;
    const wasGiven = this.#given[at] !== 0;
    this.#given[at] = 0;
    return !wasGiven && this.ownerOfException(plane, vector) >= 0;
  };

  reset(): void {
    this.#exceptions.fill(0);
    for (const leaves of this.#leaves) leaves.clear();
    this.#derive();
  }
  save(): PlainState {
    return { exceptions: this.#exceptions.slice(), leaves: this.#leaves.map((leaves) => [...leaves]) };
  }
  restore(state: PlainState): void {
    const s = state as PlainRecord;
    this.#exceptions.set(s['exceptions'] as Uint32Array);
    (s['leaves'] as readonly (readonly number[])[]).forEach((leaves, vtl) => {
      this.#leaves[vtl]!.clear();
      for (const leaf of leaves) this.#leaves[vtl]!.add(leaf);
    });
    this.#derive();
  }
}
