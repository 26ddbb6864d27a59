import type { PlainRecord, PlainState } from '@vmplanes/engine';

const WORDS = 8;

/** What the APIC protocol keeps for the whole machine, and the vectors that the host may inject, by virtual processor. */
export class Apics {
  /** Registrations; the guest begins with one. @spec coconut-svsm kernel/src/cpu/apic.rs */
  registrations = 1;
  readonly #allowed: Uint32Array[] = [];

  #bits(vp: number): Uint32Array {
    return (this.#allowed[vp] ??= new Uint32Array(WORDS));
  }
  allow(vp: number, from: number, to: number, on: boolean): void {
    const bits = this.#bits(vp);
    for (let v = from; v <= to; v++) bits[v >>> 5] = on ? bits[v >>> 5]! | (1 << (v & 31)) : bits[v >>> 5]! & ~(1 << (v & 31));
  }
  isAllowed(vp: number, vector: number): boolean {
    return (this.#bits(vp)[vector >>> 5]! & (1 << (vector & 31))) !== 0;
  }

  save(): PlainState {
    return { registrations: this.registrations, allowed: Array.from(this.#allowed, (b) => (b ?? new Uint32Array(WORDS)).slice()) };
  }
  restore(state: PlainState): void {
    const s = state as PlainRecord;
    this.registrations = s['registrations'] as number;
    (s['allowed'] as Uint32Array[]).forEach((b, vp) => this.#bits(vp).set(b));
  }
}
