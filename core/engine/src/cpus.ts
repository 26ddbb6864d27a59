import { HostError } from './errors.ts';
import type { Cpu } from './ports.ts';
import type { PlainState } from './state.ts';
import type { Vp } from './vp.ts';

/** What drives each VP, with the states that wait for a processor to take them. */
export class Cpus {
  readonly #cpus: (Cpu | undefined)[] = [];
  /** Saved states of processors that are not set yet, by VP. */
  readonly #states = new Map<number, PlainState>();

  /** Sets what drives a VP. It takes over a state that was restored before it came. */
  set(vp: Vp, cpu: Cpu): void {
    const kept = this.#states.get(vp.index);
    if (kept !== undefined) cpu.restore(kept);
    this.#states.delete(vp.index);
    this.#cpus[vp.index] = cpu;
  }

  save(vp: Vp): PlainState {
    return this.#cpus[vp.index]?.save() ?? this.#states.get(vp.index) ?? null;
  }

  /** Restores the processor of a VP now, or when it is set. */
  restore(vp: Vp, state: PlainState): void {
    this.#states.delete(vp.index);
    const cpu = this.#cpus[vp.index];
    if (cpu) cpu.restore(state);
    else if (state !== null) this.#states.set(vp.index, state);
  }

  /** @throws {HostError} BadState when no processor drives this VP. */
  of(vp: Vp): Cpu {
    const cpu = this.#cpus[vp.index];
    if (!cpu) throw new HostError('BadState', `no processor drives VP ${vp.index}`);
    return cpu;
  }
}
