import { HostError, type PlainRecord, type PlainState } from '@vmplanes/engine';
import { Msr, msrs } from './abi/index.ts';

/** What must be done around each run of a plane, as bits. */
export const Live = { Clock: 1, Steal: 2, Eoi: 4 } as const;

/** Old and new index of a clock MSR name one register. */
const sameCell: Readonly<Partial<Record<number, Msr>>> = { [Msr.WallClockOld]: Msr.WallClock, [Msr.SystemTimeOld]: Msr.SystemTime };

/** Word of the low half of an MSR in {@link PvPlane.cells}. */
export const cellOf: ReadonlyMap<number, number> = new Map(msrs.map((m) => [m.index, 2 * msrs.findIndex((other) => other.index === (sameCell[m.index] ?? m.index))]));

const initialCells = Uint32Array.from(msrs.flatMap((m) => [m.initial, 0]));

/** What this interface keeps for one plane of one virtual processor. */
export class PvPlane {
  /** The MSRs as (low, high) words; see {@link cellOf}. */
  readonly cells: Uint32Array = initialCells.slice();
  /** Bits of {@link Live}. */
  live = 0;
  /** The clock page does not show what it should: it was just named, or a write to it failed. */
  clockStale = false;
  /** TSC offset and scale that the clock page was computed from: four words. */
  readonly clockBasis = new Uint32Array(4);
  /** Ticks of machine time that the plane was ready and another one ran. */
  stolen = 0;
  /** Machine time since when that is so; -1 when it is not. */
  preemptedSince = -1;
  stealStale = false;
  /** The guest may end the interrupt in service through memory. */
  eoiOffered = false;
  /** A kick came while the plane did not halt: its next halt ends at once. */
  kicked = false;

  low(index: Msr): number {
    return this.cells[cellOf.get(index)!]!;
  }
  /** Guest physical address in an MSR whose bit 0 enables, in bytes. */
  address(index: Msr): number {
    const at = cellOf.get(index)!;
    return this.cells[at + 1]! * 2 ** 32 + ((this.cells[at]! & ~1) >>> 0);
  }
  setLive(bit: number, on: boolean): void {
    this.live = on ? this.live | bit : this.live & ~bit;
  }

  /** Forgets the memory that was named, and what was under way with it; the time stolen so far is history and stays. */
  reset(): void {
    this.cells.set(initialCells);
    this.live = 0;
    this.clockStale = false;
    this.clockBasis.fill(0);
    this.preemptedSince = -1;
    this.stealStale = false;
    this.eoiOffered = false;
    this.kicked = false;
  }

  save(): PlainRecord {
    const { cells, live, clockStale, clockBasis, stolen, preemptedSince, stealStale, eoiOffered, kicked } = this;
    return { cells: cells.slice(), live, clockStale, clockBasis: clockBasis.slice(), stolen, preemptedSince, stealStale, eoiOffered, kicked };
  }

  /** @throws {HostError} BadSnapshot when the record has another shape. */
  restore(state: PlainState): void {
    const s = state as PlainRecord;
    const { cells, clockBasis } = s;
    if (!(cells instanceof Uint32Array) || cells.length !== this.cells.length || !(clockBasis instanceof Uint32Array)) throw new HostError('BadSnapshot', 'kvm-pv: state of a plane has another shape');
    this.cells.set(cells);
    this.clockBasis.set(clockBasis);
    this.live = s['live'] as number;
    this.clockStale = s['clockStale'] as boolean;
    this.stolen = s['stolen'] as number;
    this.preemptedSince = s['preemptedSince'] as number;
    this.stealStale = s['stealStale'] as boolean;
    this.eoiOffered = s['eoiOffered'] as boolean;
    this.kicked = s['kicked'] as boolean;
  }
}
