import { MAX_PLANES } from './ids.ts';
import type { MachineOptions } from './machine-options.ts';
import type { TimerPort } from './ports.ts';
import type { Vp } from './vp.ts';

const NANOSECONDS = 1_000_000_000;

/** Nanoseconds of a tick count. */
export const nanosecondsOf = (ticks: number, ticksPerSecond: number): number => {
  // Whole seconds apart, so that the product stays exact however long the machine runs.
  const seconds = Math.floor(ticks / ticksPerSecond);
  return seconds * NANOSECONDS + Math.floor(((ticks - seconds * ticksPerSecond) * NANOSECONDS) / ticksPerSecond);
};

/** The timers of all planes: those of their event sources and those that ports add. */
export class Timers {
  /** @param ports - borrowed; may grow. @param whose - those of all planes of a VP count, or only of its current plane. */
  constructor(
    readonly ports: readonly TimerPort[],
    readonly whose: MachineOptions['timers'],
  ) {}

  /** Stores the events of the timers of a VP that are due. @param now - machine time of the VP, ticks. */
  expire(vp: Vp, now: number): void {
    const { ports } = this;
    const only = this.whose === 'running' ? vp.current : -1;
    for (let p = 0; p < MAX_PLANES; p++) {
      const context = vp.planes[p];
      if (!context || (only >= 0 && p !== only)) continue;
      if (context.events.deadline() <= now) context.events.expire(now);
      for (let i = 0; i < ports.length; i++) if (ports[i]!.deadline(context) <= now) ports[i]!.expire(context, now);
    }
    this.refresh(vp);
  }

  /** Computes the next deadline of a VP. */
  refresh(vp: Vp): void {
    const { ports } = this;
    let nearest = Number.POSITIVE_INFINITY;
    const only = this.whose === 'running' ? vp.current : -1;
    for (let p = 0; p < MAX_PLANES; p++) {
      const context = vp.planes[p];
      if (!context || (only >= 0 && p !== only)) continue;
      nearest = Math.min(nearest, context.events.deadline());
      for (let i = 0; i < ports.length; i++) nearest = Math.min(nearest, ports[i]!.deadline(context));
    }
    vp.deadline = nearest;
  }
}
