import type { WaitCondition } from './answers.ts';
import { Activity, type PlaneContext, type Vp } from './vp.ts';

/** What held planes wait for needs of their machine. */
export interface WaitWorld {
  readonly vps: readonly Vp[];
  timeOf(vp: Vp): number;
}

/** When held planes may go on. */
export class Waits {
  readonly #world: WaitWorld;
  readonly #released = new Set<string>();

  constructor(world: WaitWorld) {
    this.#world = world;
  }

  /** Ends every wait for `key`, now and the next one that is already on its way to it. */
  release(key: string): void {
    this.#released.add(key);
  }
  /** Makes `key` something to wait for again. */
  hold(key: string): void {
    this.#released.delete(key);
  }

  isMet(context: PlaneContext, condition: WaitCondition | null): boolean {
    switch (condition?.kind) {
      case undefined:
        return true;
      case 'time':
        return this.#world.timeOf(context.vp) >= condition.at;
      case 'key':
        return this.#released.has(condition.key);
      case 'left': {
        const vp = this.#world.vps[condition.vp];
        return !vp || vp.running !== condition.plane;
      }
    }
  }

  /** Machine time at which a held current plane goes on by itself; Infinity when it does not. */
  deadline(vp: Vp): number {
    // A VP that may not run at all does not go on by itself, whatever its plane waits for.
    if (vp.suspended || vp.runnable === 0) return Number.POSITIVE_INFINITY;
    const { activity, wait } = vp.context;
    return activity === Activity.Held && wait?.kind === 'time' ? wait.at : Number.POSITIVE_INFINITY;
  }

  save(): readonly string[] {
    return [...this.#released];
  }
  restore(released: readonly string[]): void {
    this.#released.clear();
    for (const key of released) this.#released.add(key);
  }
}
