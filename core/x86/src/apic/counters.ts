import { type ApicBlock, ApicFlag, Extra } from './block.ts';
import { ApicReg } from './registers.ts';

/** Classes of events an APIC accepts: fixed and lowest-priority vectors, and the latches beside IRR. */
export const ApicEvent = { interrupt: 0, nmi: 1, smi: 2, init: 3, sipi: 4, extInt: 5 } as const;
export type ApicEvent = (typeof ApicEvent)[keyof typeof ApicEvent];

/** Why pending events were thrown away: machine reset, INIT, disable in IA32_APIC_BASE, state loaded from outside. */
export const ApicReset = { reset: 0, init: 1, disable: 2, load: 3 } as const;
export type ApicReset = (typeof ApicReset)[keyof typeof ApicReset];

/** Latch of each event class, indexed by {@link ApicEvent}; vectors have IRR instead. */
export const latchOf: readonly number[] = [0, ApicFlag.nmi, ApicFlag.smi, ApicFlag.init, ApicFlag.sipi, ApicFlag.extInt];

const FIELD = { accepted: 0, delivered: 1, merged: 2, discarded: 3, refused: 4 } as const;

const cellOf = (event: ApicEvent, field: keyof typeof FIELD): number => Extra.counters + (event * 5 + FIELD[field]) * 4;

/** The history of one event class. Counts are modulo 2^32. */
export interface EventCounts {
  /** Messages taken, including those merged. */
  readonly accepted: number;
  readonly delivered: number;
  /** Taken into a latch that was set already. */
  readonly merged: number;
  readonly discarded: number;
  /** Messages the APIC did not respond to: not part of the balance. */
  readonly refused: number;
  readonly pending: number;
}

/** Counts a change of one event class. */
export const tally = (block: ApicBlock, event: ApicEvent, field: keyof typeof FIELD, n = 1): void => {
  block.add(cellOf(event, field), n);
};

/** Events of one class that are accepted and neither delivered nor discarded. */
export const pendingCount = (block: ApicBlock, event: ApicEvent): number =>
  event === ApicEvent.interrupt ? block.count(ApicReg.irr) : block.has(latchOf[event]!) ? 1 : 0;

/** Counts what is pending of one class as discarded, for a reset that is about to clear it. */
export const discardPending = (block: ApicBlock, event: ApicEvent, cause: ApicReset): void => {
  const n = pendingCount(block, event);
  if (n === 0) return;
  tally(block, event, 'discarded', n);
  block.add(Extra.discardedBy + cause * 4, n);
};

/** Reads the history of one event class. */
export const readCounts = (block: ApicBlock, event: ApicEvent): EventCounts => ({
  accepted: block.get(cellOf(event, 'accepted')),
  delivered: block.get(cellOf(event, 'delivered')),
  merged: block.get(cellOf(event, 'merged')),
  discarded: block.get(cellOf(event, 'discarded')),
  refused: block.get(cellOf(event, 'refused')),
  pending: pendingCount(block, event),
});

/** History of all event classes together. */
export const readTotals = (block: ApicBlock): EventCounts => {
  const sum = { accepted: 0, delivered: 0, merged: 0, discarded: 0, refused: 0, pending: 0 };
  for (const event of Object.values(ApicEvent)) {
    const c = readCounts(block, event);
    sum.accepted += c.accepted;
    sum.delivered += c.delivered;
    sum.merged += c.merged;
    sum.discarded += c.discarded;
    sum.refused += c.refused;
    sum.pending += c.pending;
  }
  return sum;
};

/** Events thrown away by one cause, of all classes. */
export const readDiscardedBy = (block: ApicBlock, cause: ApicReset): number => block.get(Extra.discardedBy + cause * 4);

/** True when no event was lost: accepted = delivered + merged + pending + discarded, modulo 2^32. */
export const isBalanced = (c: EventCounts): boolean => ((c.delivered + c.merged + c.pending + c.discarded - c.accepted) | 0) === 0;
