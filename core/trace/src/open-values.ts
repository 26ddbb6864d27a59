import type { Machine, PlaneContext } from '@vmplanes/engine';
import type { RecordOf, TraceRecord } from './format.ts';
import { isRecord, type Json } from './plain.ts';

/** Name of the note by which a personality says which registers the ABI leaves undefined: `{ registers: ['rax', …] }`. */
export const UNDEFINED_NOTE = 'undefined';

/**
 * Registers whose values the ABI leaves open, per context, from the note that says so to the next entry of a context
 * that shows them. A shared register follows its VP from plane to plane.
 */
export class OpenValues {
  readonly #machine: Machine;
  readonly #open = new Map<PlaneContext, Set<string>>();

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  #of(vp: number, plane: number): Set<string> | null {
    const context = this.#machine.vps[vp]?.planes[plane];
    if (!context) return null;
    const found = this.#open.get(context) ?? new Set<string>();
    this.#open.set(context, found);
    return found;
  }

  /** Looks at a record that the model made. */
  see(record: TraceRecord): void {
    if (record.k === 'note' && record.name === UNDEFINED_NOTE) {
      const names: Json | undefined = isRecord(record.d) ? record.d['registers'] : undefined;
      if (!Array.isArray(names)) return;
      for (const name of names as readonly Json[]) if (typeof name === 'string') this.#of(record.v, record.p)?.add(name);
    } else if (record.k === 'switch') {
      const from = this.#of(record.v, record.from);
      const to = this.#of(record.v, record.to);
      for (const name of from ?? []) {
        if (!this.#machine.sharing.isShared(name)) continue;
        from?.delete(name);
        to?.add(name);
      }
    }
  }

  /** The open registers of the context of an entry; they are closed by this call. */
  take(record: RecordOf<'enter'>): ReadonlySet<string> {
    const open = this.#of(record.v, record.p) ?? new Set<string>();
    const taken = new Set(open);
    open.clear();
    return taken;
  }
}
