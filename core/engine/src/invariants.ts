import { type RegisterDef, Sharing } from './context-layout.ts';
import { HostError } from './errors.ts';
import { MAX_PLANES } from './ids.ts';
import type { Machine } from './machine.ts';
import { Activity, Schedule, type PlaneContext, type Vp } from './vp.ts';

/** One property that holds at every event boundary of every machine. */
export interface Invariant {
  /** Stable id, such as `I-ONE`. */
  readonly id: string;
  readonly statement: string;
  /** Sentences for what does not hold; empty when all is well. */
  check(machine: Machine, memo: InvariantMemo): readonly string[];
}

/** What the checks remember between events. */
export interface InvariantMemo {
  /** Blocks of planes that did not run in the last event, by context. */
  readonly blocks: Map<PlaneContext, Uint32Array>;
  /** What a plane owns of its block, compiled from the declaration of what planes share. */
  bank: Bank | null;
  /** The context that ran in the event. */
  ran: PlaneContext | null;
  /** Contexts that a write was addressed to in the event. */
  readonly authorised: Set<PlaneContext>;
  /** Events without a retired instruction, a VM exit or a change of plane, per VP. */
  readonly idle: Map<Vp, { retired: number; vmExits: number; count: number }>;
}

/** The registers that only their own plane may change, and the words they cover. */
interface Bank {
  readonly sharing: Sharing;
  readonly registers: readonly RegisterDef[];
  /** Pairs (first word, number of words) of a block. */
  readonly ranges: Int32Array;
}

const bankOf = (m: Machine, memo: InvariantMemo): Bank => {
  if (memo.bank?.sharing === m.sharing) return memo.bank;
  const { layout } = m.arch;
  const registers = layout.registers.filter((r) => r.architectural !== false && !r.groups?.includes('events') && !m.sharing.isShared(r.name));
  memo.bank = { sharing: m.sharing, registers, ranges: new Sharing(layout, { shared: registers.map((r) => r.name) }).ranges };
  return memo.bank;
};

const isSame = (words: Uint32Array, at: number, before: Uint32Array, first: number, count: number): boolean => {
  for (let w = first; w < first + count; w++) if (words[at + w] !== before[w]) return false;
  return true;
};

/** Exits in a row that retire nothing before {@link I-LIVE} calls it a loop. */
const LIVE_LIMIT = 10_000;

const contexts = (m: Machine): PlaneContext[] => {
  const found: PlaneContext[] = [];
  for (const vp of m.vps) {
    for (let p = 0; p < MAX_PLANES; p++) {
      const c = vp.planes[p];
      if (c) found.push(c);
    }
  }
  return found;
};
const label = (c: PlaneContext): string => `VP ${c.vp.index} plane ${c.plane}`;

/** Checks of the engine itself. Personalities add theirs through `checkInvariants`. */
export const engineInvariants: readonly Invariant[] = [
  {
    id: 'I-ONE',
    statement: 'one running plane per VP; a stopped or destroyed context is never entered',
    check: (m) =>
      m.vps.flatMap((vp) => {
        if (vp.running < 0) return [];
        const c = vp.planes[vp.running];
        if (!c) return [`VP ${vp.index} runs plane ${vp.running}, which it has not`];
        return vp.running === vp.current ? [] : [`VP ${vp.index} runs plane ${vp.running} with the registers of plane ${vp.current}`];
      }),
  },
  {
    id: 'I-BANK',
    statement: 'the private bank of (VP, plane) changes only while it runs or by an authorised write addressed to it',
    check: (m, memo) => {
      const found: string[] = [];
      for (const c of contexts(m)) {
        const before = memo.blocks.get(c);
        if (!before || c === memo.ran || memo.authorised.has(c)) continue;
        const { ranges, registers } = bankOf(m, memo);
        const at = c.base >>> 2;
        for (let i = 0; i < ranges.length; i += 2) {
          if (isSame(m.arena.u32, at, before, ranges[i]!, ranges[i + 1]!)) continue;
          for (const r of registers) if (!isSame(m.arena.u32, at, before, r.offset / 4, r.size / 4)) found.push(`${label(c)}: ${r.name} changed while it did not run`);
          break;
        }
      }
      return found;
    },
  },
  {
    id: 'I-ADDR',
    statement: 'masks name only planes that exist; schedules and masks agree',
    check: (m) =>
      m.vps.flatMap((vp) => {
        const found: string[] = [];
        if ((vp.pending & ~vp.existing) !== 0) found.push(`VP ${vp.index}: pending mask ${vp.pending.toString(2)} names a plane it has not`);
        for (let p = 0; p < MAX_PLANES; p++) {
          const c = vp.planes[p];
          const exists = (vp.existing & (1 << p)) !== 0;
          const runnable = (vp.runnable & (1 << p)) !== 0;
          if (exists !== (c !== null)) found.push(`VP ${vp.index}: plane ${p} and the mask of planes disagree`);
          if (c && runnable !== (c.schedule === Schedule.Runnable)) found.push(`${label(c)}: schedule and runnable mask disagree`);
        }
        return found;
      }),
  },
  {
    id: 'I-IRQ',
    statement: 'accepted events = delivered + merged + pending + discarded by a named reset',
    check: (m) =>
      contexts(m).flatMap((c) => {
        const b = c.events.balance();
        const sum = b.delivered + b.merged + b.pending + b.discarded;
        return b.accepted === sum ? [] : [`${label(c)}: ${b.accepted} events accepted, but ${b.delivered} delivered + ${b.merged} merged + ${b.pending} pending + ${b.discarded} discarded`];
      }),
  },
  {
    id: 'I-WAKE',
    statement: 'no VP sleeps while deliverable work exists: pending masks cover what is deliverable',
    check: (m) =>
      m.rule.name !== 'deliverable'
        ? []
        : contexts(m).flatMap((c) => {
            const pending = (c.vp.pending & c.mask) !== 0;
            return pending === c.events.deliverable() ? [] : [`${label(c)}: pending bit ${String(pending)}, but deliverable ${String(!pending)}`];
          }),
  },
  {
    id: 'I-LIVE',
    statement: 'a bounded number of exits, switches or steps without progress',
    check: (_m, memo) => {
      const vp = memo.ran?.vp;
      if (!vp) return [];
      const idle = memo.idle.get(vp) ?? { retired: -1, vmExits: -1, count: 0 };
      const moved = vp.retired !== idle.retired || vp.statistics.vmExits !== idle.vmExits;
      memo.idle.set(vp, { retired: vp.retired, vmExits: vp.statistics.vmExits, count: moved ? 0 : idle.count + 1 });
      return !moved && idle.count >= LIVE_LIMIT ? [`VP ${vp.index}: ${LIVE_LIMIT} exits in a row without a retired instruction`] : [];
    },
  },
  {
    id: 'I-STATE',
    statement: 'a held plane has a condition, every other plane has none',
    check: (m) => contexts(m).flatMap((c) => ((c.activity === Activity.Held) === (c.wait !== null) ? [] : [`${label(c)}: activity and wait condition disagree`])),
  },
];

/** Runs invariants after every event and throws at the first that does not hold. */
export class InvariantChecks {
  readonly #machine: Machine;
  readonly #invariants: readonly Invariant[];
  readonly #memo: InvariantMemo;
  /** Checks made, for summaries. */
  count = 0;

  constructor(machine: Machine, invariants: readonly Invariant[] = engineInvariants) {
    this.#machine = machine;
    this.#invariants = invariants;
    this.#memo = { blocks: new Map(), bank: null, idle: new Map(), ran: null, authorised: new Set() };
    this.#remember();
  }

  /** Says that a write addressed to this context was allowed: its bank may change in the event at hand. */
  authorise(context: PlaneContext): void {
    this.#memo.authorised.add(context);
  }

  /** The VMM had its turn: what it wrote is authorised. */
  outside(): void {
    this.#remember();
  }

  /** Takes the machine as it is now for what was before the next event: after a restore, or after what no check looked at. */
  adopt(): void {
    this.#memo.authorised.clear();
    this.#memo.idle.clear();
    this.#remember();
  }

  /** @throws {HostError} Invariant with the id and every sentence. */
  afterEvent(ran: PlaneContext): void {
    this.#memo.ran = ran;
    const m = this.#machine;
    for (const invariant of this.#invariants) {
      const found = invariant.check(m, this.#memo);
      this.count++;
      if (found.length > 0) throw new HostError('Invariant', `${invariant.id}: ${found.join('; ')}`, { id: invariant.id });
    }
    for (const p of m.personalities) {
      const found = p.checkInvariants?.() ?? [];
      if (found.length > 0) throw new HostError('Invariant', `${p.name}: ${found.join('; ')}`, { personality: p.name });
    }
    this.#memo.authorised.clear();
    this.#remember();
  }

  #remember(): void {
    const m = this.#machine;
    for (const c of contexts(m)) {
      const size = m.arch.layout.size;
      const kept = this.#memo.blocks.get(c);
      const words = m.arena.u32.subarray(c.base >>> 2, (c.base + size) >>> 2);
      if (kept) kept.set(words);
      else this.#memo.blocks.set(c, words.slice());
    }
  }
}
