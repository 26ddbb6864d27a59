import type { Machine } from './machine.ts';
import type { PlainRecord, PlainState } from './state.ts';
import { Outcome, type Vp } from './vp.ts';

/** Why {@link VpScheduler.run} came back. */
export type SchedulerStop =
  /** `vp.exit` holds what the VMM is told. */
  | { readonly kind: 'exit'; readonly vp: Vp }
  /** A VP was asked to return before its next instruction. */
  | { readonly kind: 'interrupted'; readonly vp: Vp }
  /** The number of slices that was asked for has run. */
  | { readonly kind: 'slices' }
  /** Every VP waits and no timer is set: only outside input can go on. */
  | { readonly kind: 'idle' };

/**
 * Runs all virtual processors of a machine on its virtual time. In each round every VP gets the slice [T, T + quantum);
 * T then advances by the quantum, or to the next timer when all wait. Events for other VPs take effect at the end of
 * the sender's slice, in VP order. A seed other than 0 cuts slices short at random, which interleaves more finely.
 */
export class VpScheduler {
  readonly #machine: Machine;
  /** Next VP of the round in progress. */
  #next = 0;
  /** The VP at {@link #next} has started its slice and came back with an exit. */
  #inSlice = false;
  /** Parts of the round left, when the seed cuts it. */
  #sliceTicks = 0;
  #anyRan = false;
  /** Slices that have ended: places outside input exactly, between records that say nothing of VPs that wait. */
  slices = 0;

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  /**
   * Runs until something is for the VMM, or `slices` slices have ended. Where that cut falls changes nothing in the guest.
   * @param slices - at least 1.
   */
  run(slices = Number.POSITIVE_INFINITY): SchedulerStop {
    const m = this.#machine;
    let left = slices;
    for (;;) {
      if (this.#next >= m.vps.length) {
        if (!this.#advance()) {
          m.checks?.atIdle();
          return { kind: 'idle' };
        }
        continue;
      }
      if (left <= 0) return { kind: 'slices' };
      const vp = m.vps[this.#next]!;
      if (!this.#inSlice) this.#begin(vp);
      const outcome = this.#slice(vp);
      if (outcome === Outcome.Exit) return { kind: 'exit', vp };
      if (outcome === Outcome.Interrupted) return { kind: 'interrupted', vp };
      // What ran may have woken another VP even if it waits now itself.
      if (vp.statistics.exits !== vp.sliceExits) this.#anyRan = true;
      if (outcome === Outcome.Blocked && this.#warpInside(vp)) continue;
      this.#inSlice = false;
      this.#next++;
      this.slices++;
      left--;
      m.flushOutbox();
    }
  }

  #slice(vp: Vp): Outcome {
    const m = this.#machine;
    m.activeVp = vp.index;
    try {
      return m.runVp(vp);
    } finally {
      m.activeVp = -1;
    }
  }

  #begin(vp: Vp): void {
    const { options, random } = this.#machine;
    if (this.#next === 0) {
      this.#sliceTicks = options.seed === 0 ? options.quantum : 1 + random.below(options.quantum);
    }
    vp.timeBase = this.#machine.time;
    vp.timeRetired = vp.retired;
    vp.sliceEnd = vp.retired + Math.max(1, Math.floor(this.#sliceTicks / options.ticksPerInstruction));
    vp.sliceExits = vp.statistics.exits;
    this.#inSlice = true;
  }

  /** Machine time at which a VP that waits goes on by itself: its next timer, or the end of a timed wait. */
  #nextDeadline(vp: Vp): number {
    return Math.min(vp.deadline, this.#machine.waitDeadline(vp));
  }

  /** A VP that waits goes on inside its slice when that is due before the slice ends. */
  #warpInside(vp: Vp): boolean {
    const m = this.#machine;
    const end = m.time + this.#sliceTicks;
    const deadline = this.#nextDeadline(vp);
    if (!(deadline < end)) return false;
    const now = m.timeOf(vp);
    if (deadline > now) {
      vp.timeBase += deadline - now;
      // The ticks that passed asleep are gone from the slice.
      const { ticksPerInstruction } = m.options;
      vp.sliceEnd = vp.retired + Math.max(1, Math.floor((end - deadline) / ticksPerInstruction));
    }
    m.expireTimers(vp);
    this.#anyRan = true;
    return true;
  }

  /** Ends a round. @returns false when every VP waits and no timer can wake one. */
  #advance(): boolean {
    const m = this.#machine;
    let time = m.time + this.#sliceTicks;
    if (!this.#anyRan) {
      let nearest = Number.POSITIVE_INFINITY;
      for (const vp of m.vps) nearest = Math.min(nearest, this.#nextDeadline(vp));
      if (nearest === Number.POSITIVE_INFINITY) {
        this.#next = 0;
        return false;
      }
      time = Math.max(time, nearest);
    }
    m.time = time;
    this.#next = 0;
    this.#anyRan = false;
    return true;
  }

  save(): PlainState {
    return { next: this.#next, inSlice: this.#inSlice, sliceTicks: this.#sliceTicks, anyRan: this.#anyRan, slices: this.slices };
  }

  restore(state: PlainState): void {
    const s = state as PlainRecord;
    this.#next = s['next'] as number;
    this.#inSlice = s['inSlice'] as boolean;
    this.#sliceTicks = s['sliceTicks'] as number;
    this.#anyRan = s['anyRan'] as boolean;
    this.slices = s['slices'] as number;
  }
}
