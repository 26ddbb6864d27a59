import type { Answer, CpuExit, ExitPayload, Machine, PlainState, PlaneContext, TracePort, Vp } from '@vmplanes/engine';

/** A switch as it happened. Times in nanoseconds of virtual time. */
export interface SwitchSeen {
  readonly time: number;
  readonly vp: number;
  readonly from: number;
  readonly to: number;
  readonly reason: string;
}

/** One line of a summary. */
export interface Counted<T> {
  readonly what: T;
  readonly count: number;
}

/** Counts equal things, in order of their first appearance. */
class Tally<T> {
  readonly #rows = new Map<string, { readonly what: T; count: number }>();
  add(key: string, what: T): void {
    const row = this.#rows.get(key);
    if (row) row.count++;
    else this.#rows.set(key, { what, count: 1 });
  }
  get rows(): readonly Counted<T>[] {
    return [...this.#rows.values()];
  }
}

/** Counts what a machine does, for summaries: switches, exits, and the calls that personalities note. Passes everything on to a recorder. */
export class RunCounts implements TracePort {
  readonly #machine: Machine;
  readonly #next: TracePort | null;
  readonly #keep: number;
  readonly #switches = new Tally<Omit<SwitchSeen, 'time'>>();
  readonly #exits = new Tally<{ readonly vp: number; readonly plane: number; readonly kind: string }>();
  readonly #notes = new Tally<{ readonly vp: number; readonly plane: number; readonly name: string; readonly data: PlainState }>();
  /** The first switches, one by one. */
  readonly first: SwitchSeen[] = [];

  /** Attaches to a machine, before its recorder if it has one. @param keep - how many switches to keep one by one. */
  constructor(machine: Machine, keep = 0) {
    this.#machine = machine;
    this.#keep = keep;
    this.#next = machine.hooks.trace;
    machine.hooks.trace = this;
  }

  get switches(): readonly Counted<Omit<SwitchSeen, 'time'>>[] {
    return this.#switches.rows;
  }
  get exits(): readonly Counted<{ readonly vp: number; readonly plane: number; readonly kind: string }>[] {
    return this.#exits.rows;
  }
  /** Calls by name, number and status, as personalities note them. */
  get notes(): readonly Counted<{ readonly vp: number; readonly plane: number; readonly name: string; readonly data: PlainState }>[] {
    return this.#notes.rows;
  }

  switched(vp: Vp, from: number, to: number, reason: string): void {
    const m = this.#machine;
    this.#switches.add(`${vp.index} ${from} ${to} ${reason}`, { vp: vp.index, from, to, reason });
    if (this.first.length < this.#keep) this.first.push({ time: m.nanoseconds(m.timeOf(vp)), vp: vp.index, from, to, reason });
    this.#next?.switched(vp, from, to, reason);
  }
  exit(context: PlaneContext, exit: CpuExit): void {
    if (exit.kind !== 'budget') this.#exits.add(`${context.vp.index} ${context.plane} ${exit.kind}`, { vp: context.vp.index, plane: context.plane, kind: exit.kind });
    this.#next?.exit(context, exit);
  }
  note(context: PlaneContext, name: string, data: PlainState): void {
    const { index } = context.vp;
    const what = identity(data);
    this.#notes.add(`${index} ${context.plane} ${name} ${JSON.stringify(what)}`, { vp: index, plane: context.plane, name, data: what });
    this.#next?.note(context, name, data);
  }
  entered(context: PlaneContext): void {
    this.#next?.entered(context);
  }
  answer(context: PlaneContext, answer: Answer): void {
    this.#next?.answer(context, answer);
  }
  accepted(context: PlaneContext, maskable: boolean): void {
    this.#next?.accepted(context, maskable);
  }
  vmExit(vp: Vp, payload: ExitPayload): void {
    this.#next?.vmExit(vp, payload);
  }
  input(vp: Vp | null, name: string, data: PlainState): void {
    this.#next?.input(vp, name, data);
  }
  permission(plane: number, gpn: number, count: number, rights: number): void {
    this.#next?.permission(plane, gpn, count, rights);
  }
}

/** Keys by which personalities say what a note is about; operands and values would make every note another one. */
const IDENTITY = ['nr', 'code', 'name', 'to', 'status'] as const;

const identity = (data: PlainState): PlainState => {
  if (typeof data !== 'object' || data === null) return data;
  const all = data as Readonly<Record<string, PlainState>>;
  const named = IDENTITY.filter((key) => Object.hasOwn(all, key));
  if (named.length > 0) return Object.fromEntries(named.map((key) => [key, all[key]!]));
  return Object.fromEntries(Object.entries(all).flatMap(([key, v]) => (typeof v === 'object' ? [] : [[key, typeof v === 'bigint' ? `0x${v.toString(16)}` : v]])));
};
