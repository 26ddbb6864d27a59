import { HostError, type HostErrorCode } from './errors.ts';
import { type InvariantId, type InvariantRow, invariantTable } from './invariant-table.ts';
import { contexts, engineInvariants, type Invariant, type InvariantMemo, label, lostInSwitch, overslept } from './invariants.ts';
import type { Machine } from './machine.ts';
import { ALL_PLANES } from './memory/permissions.ts';
import { type PlaneContext, Schedule, type Vp } from './vp.ts';

/** Errors that the VMM, a script or a trace causes, or that checks found: no guest input leads to them. */
const notOfTheGuest: ReadonlySet<HostErrorCode> = new Set<HostErrorCode>(['BadState', 'BadScript', 'BadSnapshot', 'BadTrace', 'Divergence', 'Invariant']);

/** Runs invariants after every event and throws at the first that does not hold. */
export class InvariantChecks {
  readonly #machine: Machine;
  readonly #invariants: readonly Invariant[];
  readonly #memo: InvariantMemo;
  readonly #hooks = new Map<InvariantId, { readonly by: string; readonly check: () => readonly string[] }[]>();
  /** Checks made, for summaries. */
  count = 0;

  constructor(machine: Machine, invariants: readonly Invariant[] = engineInvariants) {
    this.#machine = machine;
    this.#invariants = invariants;
    const { memory } = machine;
    const told = memory.permissions.map((p) => p.generation);
    this.#memo = { blocks: new Map(), bank: null, shared: null, idle: new Map(), ran: null, authorised: new Set(), told, untilAudit: 1 };
    memory.observe({
      permissionsChanged: (plane) => void (told[plane] = memory.permissions[plane]!.generation),
      translationsRevoked: (plane) => {
        if (plane === ALL_PLANES) memory.permissions.forEach((p, i) => (told[i] = p.generation));
      },
      frameRevoked: () => {},
    });
    this.#remember();
  }

  /**
   * Fills the hook of an invariant: run after every event from now on.
   * @param by - who fills it, for the table.
   * @param check - gives a sentence for each thing that does not hold.
   */
  fill(id: InvariantId, by: string, check: () => readonly string[]): void {
    const filled = this.#hooks.get(id) ?? [];
    filled.push({ by, check });
    this.#hooks.set(id, filled);
  }

  /** The table of all invariants with who checks each of them in this machine. */
  table(): readonly (InvariantRow & { readonly checkedBy: readonly string[] })[] {
    return invariantTable.map((row) => ({ ...row, checkedBy: [...(row.where === 'engine' ? ['engine'] : []), ...(this.#hooks.get(row.id) ?? []).map((h) => h.by)] }));
  }

  /** Says that a write addressed to this context was allowed: its bank may change in the event at hand. */
  authorise(context: PlaneContext): void {
    this.#memo.authorised.add(context);
  }

  /** A context is entered; it may take events on the way. @throws {HostError} Invariant when it is stopped. */
  entering(context: PlaneContext): void {
    this.#memo.authorised.add(context);
    this.#judge('I-ONE', context.schedule === Schedule.Runnable ? [] : [`${label(context)} is entered, but is stopped`]);
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
    for (const invariant of this.#invariants) this.#judge(invariant.id, invariant.check(m, this.#memo));
    for (const [id, filled] of this.#hooks) for (const hook of filled) this.#judge(id, hook.check());
    for (const p of m.personalities) {
      const found = p.checkInvariants?.() ?? [];
      if (found.length > 0) throw new HostError('Invariant', `${p.name}: ${found.join('; ')}`, { personality: p.name });
    }
    this.#memo.authorised.clear();
    this.#remember();
  }

  /** A switch was made. @throws {HostError} Invariant when a shared register did not come along. */
  afterSwitch(from: PlaneContext, to: PlaneContext): void {
    this.#judge('I-SHARE', lostInSwitch(this.#machine, this.#memo, from, to));
  }

  /** The scheduler found nothing to do. @throws {HostError} Invariant when there is something. */
  atIdle(): void {
    this.#judge('I-WAKE', overslept(this.#machine));
  }

  /** A plane was reset. @throws {HostError} Invariant when something of before is left. */
  afterReset(context: PlaneContext, kind: string): void {
    const left: string[] = [];
    const { pending } = context.events.balance();
    if (pending > 0 && kind === this.#machine.arch.freshReset) left.push(`${label(context)}: ${pending} events are pending after a reset`);
    if (context.events.requested()) left.push(`${label(context)}: interrupts are requested after a reset`);
    if (context.events.deadline() !== Number.POSITIVE_INFINITY) left.push(`${label(context)}: a timer is set after a reset`);
    if (context.completion !== null || context.wait !== null) left.push(`${label(context)}: work is left after a reset`);
    this.#judge('I-RESET', left);
  }

  /** An error leaves a run. @returns what to throw: the error, or a broken I-SAFE when a guest may have caused it. */
  escaped(vp: Vp, error: unknown): unknown {
    if (error instanceof HostError && notOfTheGuest.has(error.code)) return error;
    const text = error instanceof Error ? error.message : String(error);
    return new HostError('Invariant', `I-SAFE: VP ${vp.index} stopped the host: ${text}`, { id: 'I-SAFE', cause: error });
  }

  #judge(id: string, found: readonly string[]): void {
    this.count++;
    if (found.length > 0) throw new HostError('Invariant', `${id}: ${found.join('; ')}`, { id });
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
