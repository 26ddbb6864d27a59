import { type RegisterDef, Sharing } from './context-layout.ts';
import { MAX_PLANES } from './ids.ts';
import type { Machine } from './machine.ts';
import { auditMemory } from './memory/audit.ts';
import { Activity, Schedule, type PlaneContext, type Vp } from './vp.ts';

/** One property that holds at every event boundary of every machine. */
export interface Invariant {
  /** Stable id, such as `I-ONE`. */
  readonly id: string;
  /** Sentences for what does not hold; empty when all is well. */
  check(machine: Machine, memo: InvariantMemo): readonly string[];
}

/** What the checks remember between events. */
export interface InvariantMemo {
  /** Blocks of planes that did not run in the last event, by context. */
  readonly blocks: Map<PlaneContext, Uint32Array>;
  /** What a plane owns of its block, compiled from the declaration of what planes share. */
  bank: Bank | null;
  /** The same for what planes share. */
  shared: Bank | null;
  /** The context that ran in the event. */
  ran: PlaneContext | null;
  /** Contexts that a write was addressed to in the event. */
  readonly authorised: Set<PlaneContext>;
  /** Generation of each plane's permission table that its observers were last told of. */
  readonly told: number[];
  /** Events until guest memory as a whole is looked at again. */
  untilAudit: number;
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

/** The registers that all planes share, whatever the switch copies. */
const sharedOf = (m: Machine, memo: InvariantMemo): Bank => {
  if (memo.shared?.sharing === m.sharing) return memo.shared;
  const { layout } = m.arch;
  const registers = layout.registers.filter((r) => m.sharing.isShared(r.name));
  memo.shared = { sharing: m.sharing, registers, ranges: new Sharing(layout, { shared: registers.map((r) => r.name) }).ranges };
  return memo.shared;
};

/** What the switch that was just made did not carry over: a sentence for each shared register that differs between the two blocks. */
export const lostInSwitch = (m: Machine, memo: InvariantMemo, from: PlaneContext, to: PlaneContext): readonly string[] => {
  const { u32 } = m.arena;
  return sharedOf(m, memo).registers.flatMap((r) => {
    for (let w = r.offset / 4; w < (r.offset + r.size) / 4; w++) {
      if (u32[(from.base >>> 2) + w] !== u32[(to.base >>> 2) + w]) return [`${label(to)}: the shared ${r.name} is not what plane ${from.plane} left`];
    }
    return [];
  });
};

/** What holds up a machine that says that nothing is left to do: work that a waiting VP could take. */
export const overslept = (m: Machine): readonly string[] =>
  m.vps.flatMap((vp) => {
    const c = vp.planes[vp.current];
    if (!c || vp.immediateExit || vp.suspended) return [];
    if (c.activity === Activity.Held) return m.isMet(c, c.wait) || c.events.resets?.() === true ? [`${label(c)} waits for what has come`] : [];
    if (Math.min(vp.deadline, m.waitDeadline(vp)) !== Number.POSITIVE_INFINITY) return [`VP ${vp.index} sleeps with a timer set`];
    if (vp.runnable & c.mask && c.events.wakes()) return [`${label(c)} sleeps over an event of its own`];
    const asked = vp.pending & vp.asked & ~c.mask;
    // Who answers plane events itself may have let them pass.
    const isTold = m.options.eventCheck === 'first' && !m.personalities.some((p) => p.planeEvent);
    return asked !== 0 && isTold ? [`VP ${vp.index} sleeps over events of planes ${asked.toString(2)}, which were asked about`] : [];
  });

const isSame = (words: Uint32Array, at: number, before: Uint32Array, first: number, count: number): boolean => {
  for (let w = first; w < first + count; w++) if (words[at + w] !== before[w]) return false;
  return true;
};

/** Guest frames up to which memory is audited after every event, and events between audits of more. */
const SMALL_MEMORY = 256;
const AUDIT_EVERY = 256;

/** Exits in a row that retire nothing before {@link I-LIVE} calls it a loop. */
const LIVE_LIMIT = 10_000;

export const contexts = (m: Machine): PlaneContext[] => {
  const found: PlaneContext[] = [];
  for (const vp of m.vps) {
    for (let p = 0; p < MAX_PLANES; p++) {
      const c = vp.planes[p];
      if (c) found.push(c);
    }
  }
  return found;
};
export const label = (c: PlaneContext): string => `VP ${c.vp.index} plane ${c.plane}`;

/** Register banks that more than one context runs on. */
const sharedBanks = (m: Machine): string[] => {
  const owners = new Map<number, PlaneContext>();
  const found: string[] = [];
  for (const c of contexts(m)) {
    const other = owners.get(c.base);
    if (other) found.push(`${label(c)} has the register bank of ${label(other)}`);
    else owners.set(c.base, c);
  }
  return found;
};

/** Checks of the engine itself, run after every event. */
export const engineInvariants: readonly Invariant[] = [
  {
    id: 'I-ONE',
    check: (m) => [
      ...sharedBanks(m),
      ...m.vps.flatMap((vp) => {
        if (vp.running < 0) return [];
        const c = vp.planes[vp.running];
        if (!c) return [`VP ${vp.index} runs plane ${vp.running}, which it has not`];
        return vp.running === vp.current ? [] : [`VP ${vp.index} runs plane ${vp.running} with the registers of plane ${vp.current}`];
      }),
    ],
  },
  {
    id: 'I-BANK',
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
    id: 'I-SHARE',
    check: (m, memo) => {
      const { registers, ranges } = sharedOf(m, memo);
      const found: string[] = [];
      for (const vp of m.vps) {
        const c = vp.planes[vp.current];
        const before = c ? memo.blocks.get(c) : undefined;
        if (!c || !before || vp === memo.ran?.vp || memo.authorised.has(c)) continue;
        const at = c.base >>> 2;
        for (let i = 0; i < ranges.length; i += 2) {
          if (isSame(m.arena.u32, at, before, ranges[i]!, ranges[i + 1]!)) continue;
          for (const r of registers) if (!isSame(m.arena.u32, at, before, r.offset / 4, r.size / 4)) found.push(`VP ${vp.index}: the shared ${r.name} changed while none of its planes ran`);
          break;
        }
      }
      return found;
    },
  },
  {
    id: 'I-ADDR',
    check: (m) =>
      m.vps.flatMap((vp) => {
        const found: string[] = [];
        if (!vp.planes[vp.current]) found.push(`VP ${vp.index}: its current plane ${vp.current} does not exist`);
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
    check: (m) =>
      contexts(m).flatMap((c) => {
        const b = c.events.balance();
        // Counts are modulo 2^32. More accepted than accounted for: lost; the reverse is I-DUP.
        return ((b.accepted - b.delivered - b.merged - b.pending - b.discarded) | 0) <= 0 ? [] : [`${label(c)}: ${b.accepted} events accepted, but ${b.delivered} delivered + ${b.merged} merged + ${b.pending} pending + ${b.discarded} discarded`];
      }),
  },
  {
    id: 'I-DUP',
    check: (m) =>
      contexts(m).flatMap((c) => {
        const b = c.events.balance();
        return ((b.delivered + b.merged + b.pending + b.discarded - b.accepted) | 0) <= 0 ? [] : [`${label(c)}: ${b.delivered} delivered + ${b.merged} merged + ${b.pending} pending + ${b.discarded} discarded are more than the ${b.accepted} events accepted`];
      }),
  },
  {
    id: 'I-WAKE',
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
    id: 'I-PERM',
    check: (m, memo) => {
      if (--memo.untilAudit > 0) return [];
      // The whole of a large memory is not looked at after every event.
      memo.untilAudit = m.memory.frames.count <= SMALL_MEMORY ? 1 : AUDIT_EVERY;
      return auditMemory(m.memory);
    },
  },
  {
    id: 'I-TLB',
    check: (m, memo) => m.memory.permissions.flatMap((p, plane) => (p.generation === memo.told[plane] ? [] : [`plane ${plane}: permissions changed and nobody who caches translations was told`])),
  },
  {
    id: 'I-STATE',
    check: (m) => contexts(m).flatMap((c) => ((c.activity === Activity.Held) === (c.wait !== null) ? [] : [`${label(c)}: activity and wait condition disagree`])),
  },
];
