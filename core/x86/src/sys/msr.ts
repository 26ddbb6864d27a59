import { type Arena, HostError } from '@vmplanes/engine';
import type { RegisterName } from '../state/layout.ts';
import { readRegister, writeRegister } from '../state/registers.ts';
import { isFault, type Legalized } from './fault.ts';
import type { CpuFeatures, Feature } from './features.ts';

/** One access to an MSR: whose, and by whom. */
export interface MsrAccess {
  readonly arena: Arena;
  /** Byte offset of the context block of the plane that is accessed. */
  readonly base: number;
  readonly features: CpuFeatures;
  /** The machine monitor reads or sets state: feature and read-only checks do not apply, values are still checked. */
  readonly byHost: boolean;
  /** Machine time in unscaled ticks, from which the plane's TSC follows. */
  readonly machineTicks: bigint;
}

/** Why an access failed: no such MSR here, or a value or direction that the MSR refuses. Either is #GP(0) unless an exit is asked for. */
export const MsrRefusal = { unknown: 'unknown', invalid: 'invalid' } as const;
export type MsrRefusal = keyof typeof MsrRefusal;

/** One MSR. */
export interface MsrRow {
  readonly index: number;
  readonly name: string;
  readonly spec: string;
  readonly access: 'rw' | 'ro' | 'wo';
  /** The MSR exists for the guest when the model has any of these. */
  readonly features?: readonly Feature[];
  /** The cell that holds it; otherwise `read` and `write` are given. */
  readonly cell?: RegisterName;
  readonly read?: (access: MsrAccess) => bigint;
  /** Checks a value; without it every value is legal. */
  readonly legalize?: (old: bigint, written: bigint, access: MsrAccess) => Legalized;
  /** Stores a checked value; without it the cell is written. */
  readonly write?: (access: MsrAccess, value: bigint) => void;
}

/** A range of indices that another component answers: the local APIC, a guest interface. */
export interface MsrClaim<A extends MsrAccess = MsrAccess> {
  /** Who asks for it, named in errors. */
  readonly owner: string;
  readonly first: number;
  readonly last: number;
  read(access: A, index: number): bigint | MsrRefusal;
  write(access: A, index: number, value: bigint): 'ok' | MsrRefusal;
}

/** The MSRs of a machine: declared rows and claimed ranges. */
export class MsrTable<A extends MsrAccess = MsrAccess> {
  readonly #rows = new Map<number, MsrRow>();
  readonly #claims: MsrClaim<A>[] = [];

  /** @throws {HostError} BadConfig when two rows have one index or a row has nowhere to read from. */
  constructor(readonly rows: readonly MsrRow[]) {
    for (const row of rows) {
      if (this.#rows.has(row.index)) throw new HostError('BadConfig', `MSR 0x${row.index.toString(16)}: declared twice`);
      if (!row.cell && !row.read) throw new HostError('BadConfig', `MSR ${row.name}: neither a cell nor a read function`);
      this.#rows.set(row.index, row);
    }
  }

  /** @throws {HostError} DoubleClaim when a row or another claim has an index in the range; BadRange when it is empty. */
  claim(claim: MsrClaim<A>): void {
    if (claim.first > claim.last) throw new HostError('BadRange', `${claim.owner}: MSR range ends before it begins`);
    const row = this.rows.find((r) => r.index >= claim.first && r.index <= claim.last);
    const other = this.#claims.find((c) => c.first <= claim.last && claim.first <= c.last)?.owner ?? row?.name;
    if (other) throw new HostError('DoubleClaim', `MSR 0x${claim.first.toString(16)}-0x${claim.last.toString(16)}: claimed by ${other} and by ${claim.owner}`);
    this.#claims.push(claim);
  }

  lookup(index: number): MsrRow | undefined {
    return this.#rows.get(index);
  }

  #claimOf(index: number): MsrClaim<A> | undefined {
    return this.#claims.find((c) => index >= c.first && index <= c.last);
  }

  /**
   * Reads an MSR.
   * @param index - ECX, unsigned
   * @spec SDM 2B RDMSR
   */
  read(access: A, index: number): bigint | MsrRefusal {
    const row = this.#rows.get(index);
    if (!row) return this.#claimOf(index)?.read(access, index) ?? 'unknown';
    if (!isPresent(row, access) || (row.access === 'wo' && !access.byHost)) return 'invalid';
    return row.read ? row.read(access) : readRegister(access.arena, access.base, row.cell!);
  }

  /**
   * Writes an MSR, if its value is legal.
   * @param index - ECX, unsigned
   * @param value - EDX:EAX, unsigned
   * @spec SDM 2B WRMSR
   */
  write(access: A, index: number, value: bigint): 'ok' | MsrRefusal {
    const row = this.#rows.get(index);
    if (!row) return this.#claimOf(index)?.write(access, index, value) ?? 'unknown';
    if (!isPresent(row, access)) return 'invalid';
    const old = row.cell ? readRegister(access.arena, access.base, row.cell) : (row.read?.(access) ?? 0n);
    // The host may write back what a constant register reads as, so that a saved list can be restored whole.
    if (row.access === 'ro' && !(access.byHost && (row.cell || value === old))) return 'invalid';
    const legal = row.legalize ? row.legalize(old, value, access) : { value };
    if (isFault(legal)) return 'invalid';
    if (row.write) row.write(access, legal.value);
    else if (row.cell) writeRegister(access.arena, access.base, row.cell, legal.value);
    return 'ok';
  }

  /** Indices of the rows that a model has, rising: what a machine monitor saves. */
  indices(features: CpuFeatures): readonly number[] {
    return this.rows
      .filter((r) => r.access !== 'wo' && (!r.features || r.features.some((f) => features[f])))
      .map((r) => r.index)
      .sort((a, b) => a - b);
  }
}

const isPresent = (row: MsrRow, access: MsrAccess): boolean => access.byHost || !row.features || row.features.some((f) => access.features[f]);
