import type { Trace } from './format.ts';

/** Switches of one VP of one kind. */
export interface SwitchCount {
  readonly from: number;
  readonly to: number;
  readonly reason: string;
  readonly count: number;
}

/** How much one plane of one VP ran. */
export interface PlaneStats {
  readonly plane: number;
  readonly entries: number;
  /** Instructions retired. */
  readonly retired: number;
  /** Machine ticks it ran. */
  readonly ticks: number;
  /** Events it accepted. */
  readonly events: number;
}

/** Counts of one VP. Names are in the order of their first appearance. */
export interface VpStats {
  readonly vp: number;
  readonly planes: readonly PlaneStats[];
  readonly switches: readonly SwitchCount[];
  /** Calls by the kind and key of their exit, such as `call 0x1`. */
  readonly calls: Readonly<Record<string, number>>;
  readonly exits: Readonly<Record<string, number>>;
  readonly answers: Readonly<Record<string, number>>;
  readonly vmExits: Readonly<Record<string, number>>;
  readonly notes: Readonly<Record<string, number>>;
  readonly inputs: Readonly<Record<string, number>>;
}

/** Counts of a trace. */
export interface TraceStats {
  readonly records: number;
  /** Machine time of the last record, in ticks. */
  readonly ticks: number;
  readonly permissions: number;
  /** By VP index; what belongs to no VP is not counted here. */
  readonly vps: readonly VpStats[];
}

const add = (counts: Record<string, number>, name: string): void => {
  counts[name] = (counts[name] ?? 0) + 1;
};
// No prototype: names come from files.
const counter = (): Record<string, number> => Object.create(null) as Record<string, number>;

class VpCounts {
  readonly planes = new Map<number, { entries: number; retired: number; ticks: number; events: number }>();
  readonly switches = new Map<string, { readonly from: number; readonly to: number; readonly reason: string; count: number }>();
  readonly calls = counter();
  readonly exits = counter();
  readonly answers = counter();
  readonly vmExits = counter();
  readonly notes = counter();
  readonly inputs = counter();
  entered = { n: 0, t: 0 };

  plane(id: number): { entries: number; retired: number; ticks: number; events: number } {
    const found = this.planes.get(id) ?? { entries: 0, retired: 0, ticks: 0, events: 0 };
    this.planes.set(id, found);
    return found;
  }

  switched(from: number, to: number, reason: string): void {
    const key = `${from} ${to} ${reason}`;
    const found = this.switches.get(key) ?? { from, to, reason, count: 0 };
    this.switches.set(key, found);
    found.count++;
  }

  result(vp: number): VpStats {
    const { calls, exits, answers, vmExits, notes, inputs } = this;
    const planes = [...this.planes].sort(([a], [b]) => a - b).map(([plane, c]) => ({ plane, ...c }));
    return { vp, planes, switches: [...this.switches.values()], calls: { ...calls }, exits: { ...exits }, answers: { ...answers }, vmExits: { ...vmExits }, notes: { ...notes }, inputs: { ...inputs } };
  }
}

/**
 * Counts what happened in a trace.
 * @param calls - kinds of exits that are calls.
 */
export const traceStats = (trace: Trace, calls: readonly string[] = ['call']): TraceStats => {
  const vps = new Map<number, VpCounts>();
  let ticks = 0;
  let permissions = 0;
  for (const r of trace.records) {
    ticks = Math.max(ticks, r.t);
    if (r.k === 'permission') permissions++;
    if (r.v < 0) continue;
    const c = vps.get(r.v) ?? new VpCounts();
    vps.set(r.v, c);
    switch (r.k) {
      case 'enter':
        c.plane(r.p).entries++;
        c.entered = { n: r.n, t: r.t };
        break;
      case 'exit': {
        const plane = c.plane(r.p);
        plane.retired += r.n - c.entered.n;
        plane.ticks += r.t - c.entered.t;
        add(c.exits, r.x);
        if (calls.includes(r.x)) add(c.calls, `${r.x} 0x${r.key.toString(16)}`);
        break;
      }
      case 'answer':
        add(c.answers, r.a);
        break;
      case 'switch':
        c.switched(r.from, r.to, r.why);
        break;
      case 'event':
        c.plane(r.p).events++;
        break;
      case 'vmexit':
        add(c.vmExits, r.x);
        break;
      case 'note':
        add(c.notes, r.name);
        break;
      case 'input':
        add(c.inputs, r.name);
        break;
      case 'permission':
      case 'read':
      case 'write':
      case 'end':
        break;
    }
  }
  return { records: trace.records.length, ticks, permissions, vps: [...vps].sort(([a], [b]) => a - b).map(([vp, c]) => c.result(vp)) };
};
