import type { ContextPort, PlainState, PlaneContext } from '@vmplanes/engine';
import type { KvmVm } from './vm.ts';

/** What is counted. */
export const counterNames = ['exits', 'io_exits', 'mmio_exits', 'msr_exits', 'halt_exits', 'memory_faults', 'plane_events', 'entries'] as const;
export type CounterName = (typeof counterNames)[number];
export type Counters = Record<CounterName, number>;

/** Exit kinds of the processor that have a counter of their own. */
const byKind: Readonly<Record<string, CounterName>> = { io: 'io_exits', mmio: 'mmio_exits', msr: 'msr_exits', halt: 'halt_exits', memoryFault: 'memory_faults' };

/**
 * Counts exits and entries. The drafts differ in whose counters they are: plane 0's for all planes of a vCPU, one set per plane object of which only plane 0's
 * can be read, or one per plane with their sum as the vCPU's.
 * @spec LKML 2025-04-01 RFC KVM: VM planes 10/29; LKML 2025-06, S. Christopherson on 10/29
 */
export class PlaneCounters implements ContextPort {
  readonly #vm: KvmVm;
  /** By VP index * 16 + plane. */
  readonly #rows = new Map<number, Counters>();

  constructor(vm: KvmVm) {
    this.#vm = vm;
  }

  #row(context: PlaneContext): Counters {
    const key = context.vp.index * 16 + (this.#vm.behaviour.statistics === 'ofPlane0' ? 0 : context.plane);
    let row = this.#rows.get(key);
    if (!row) {
      row = Object.fromEntries(counterNames.map((n) => [n, 0])) as Counters;
      this.#rows.set(key, row);
    }
    return row;
  }

  entering(context: PlaneContext): null {
    this.#row(context).entries++;
    return null;
  }
  left(context: PlaneContext, cause: string): void {
    const row = this.#row(context);
    row.exits++;
    const own = byKind[cause];
    if (own) row[own]++;
  }
  planeEvent(context: PlaneContext): void {
    this.#row(context).plane_events++;
  }

  /** Counters that a plane vCPU counts into, a copy. */
  of(context: PlaneContext): Readonly<Counters> {
    return { ...this.#row(context) };
  }

  /** Counters of a vCPU id as its statistics fd shows them. */
  ofGroup(id: number): Readonly<Counters> {
    const sum = Object.fromEntries(counterNames.map((n) => [n, 0])) as Counters;
    const first = this.#vm.groups.get(id)?.vp.plane(0);
    if (!first) return sum;
    if (this.#vm.behaviour.statistics !== 'summed') return this.of(first);
    for (const context of first.vp.planes) {
      if (!context) continue;
      const row = this.#row(context);
      for (const n of counterNames) sum[n] += row[n];
    }
    return sum;
  }

  /** Counters of the whole VM. */
  ofVm(): Readonly<Counters> {
    const sum = Object.fromEntries(counterNames.map((n) => [n, 0])) as Counters;
    for (const row of this.#rows.values()) for (const n of counterNames) sum[n] += row[n];
    return sum;
  }

  save(): PlainState {
    return [...this.#rows].map(([key, row]) => [key, ...counterNames.map((n) => row[n])]);
  }
  restore(state: PlainState): void {
    this.#rows.clear();
    for (const [key, ...values] of state as readonly (readonly number[])[]) this.#rows.set(key!, Object.fromEntries(counterNames.map((n, i) => [n, values[i] ?? 0])) as Counters);
  }
}

const HEADER = 24;
const DESCRIPTOR = 64;
const NAME_SIZE = 48;

/**
 * Statistics in the binary form of a statistics fd: header, id, one cumulative counter descriptor each, values.
 * @spec Linux Documentation/virt/kvm/api.rst §4.133 KVM_GET_STATS_FD
 */
export const encodeStats = (id: string, counters: Readonly<Counters>): Uint8Array => {
  const descAt = HEADER + NAME_SIZE;
  const dataAt = descAt + counterNames.length * DESCRIPTOR;
  const bytes = new Uint8Array(dataAt + counterNames.length * 8);
  const view = new DataView(bytes.buffer);
  const text = (at: number, value: string): void => bytes.set([...value].slice(0, NAME_SIZE - 1).map((c) => c.charCodeAt(0)), at);
  [0, NAME_SIZE, counterNames.length, HEADER, descAt, dataAt].forEach((value, i) => view.setUint32(i * 4, value, true));
  text(HEADER, id);
  counterNames.forEach((name, i) => {
    const at = descAt + i * DESCRIPTOR;
    view.setUint16(at + 6, 1, true);
    view.setUint32(at + 8, i * 8, true);
    text(at + 16, name);
    view.setBigUint64(dataAt + i * 8, BigInt(counters[name]), true);
  });
  return bytes;
};

/** One counter out of what a statistics fd gives, by the name in its descriptor; undefined when it has none of it. */
export const statOf = (bytes: Uint8Array, name: CounterName): number | undefined => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [descAt, dataAt] = [view.getUint32(16, true), view.getUint32(20, true)];
  for (let i = 0; i < view.getUint32(8, true); i++) {
    const at = descAt + i * DESCRIPTOR;
    const text = String.fromCharCode(...bytes.subarray(at + 16, at + DESCRIPTOR)).replace(/\0.*$/s, '');
    if (text === name) return Number(view.getBigUint64(dataAt + view.getUint32(at + 8, true), true));
  }
  return undefined;
};
