import { ALL_VMPL_PERMISSIONS } from '@vmplanes/abi-sev-snp';
import { HostError, PAGE_LIMIT, PageTree, type PlainState } from '@vmplanes/engine';
import type { RmpEntry } from './ports.ts';

/** Bits of an entry beside its permissions. */
export const RmpBit = {
  Assigned: 1,
  Validated: 2,
  Immutable: 4,
  Vmsa: 8,
  /** Part of a 2 MiB entry; all its pages carry the same bits and permissions. */
  Large: 16,
  /** Another guest or another address than that of this page, given apart. */
  Foreign: 32,
} as const;

/** VMPLs whose permissions are stored; VMPL0 has them all. */
const STORED = 3;

/** Whose page it is and where it stands, where that is not this guest at the page's own address. */
export interface ForeignOwner {
  readonly asid: number;
  readonly gpa: bigint;
}

interface TableState {
  readonly bits: Float64Array;
  readonly perms: readonly Float64Array[];
  readonly foreign: readonly { readonly gpn: number; readonly asid: number; readonly gpa: string }[];
}

/** The reverse map table as data: ranges of equal entries are stored once. @spec APM vol. 2, 15.36.3 */
export class RmpTable {
  readonly #bits = new PageTree(0);
  readonly #perms = Array.from({ length: STORED }, () => new PageTree(0));
  readonly #foreign = new Map<number, ForeignOwner>();
  readonly #entry: { -readonly [K in keyof RmpEntry]: RmpEntry[K] } = { assigned: false, validated: false, immutable: false, vmsa: false, large: false, foreign: false, perms: [0, 0, 0] };

  bits(gpn: number): number {
    return this.#bits.get(gpn);
  }
  /** @param vmpl - 0..3. */
  permissions(gpn: number, vmpl: number): number {
    return vmpl === 0 ? ALL_VMPL_PERMISSIONS : this.#perms[vmpl - 1]!.get(gpn);
  }
  foreign(gpn: number): ForeignOwner | null {
    return this.#foreign.get(gpn) ?? null;
  }

  /** Borrowed until the next call. */
  entry(gpn: number): Readonly<RmpEntry> {
    const bits = this.bits(gpn);
    const e = this.#entry;
    e.assigned = (bits & RmpBit.Assigned) !== 0;
    e.validated = (bits & RmpBit.Validated) !== 0;
    e.immutable = (bits & RmpBit.Immutable) !== 0;
    e.vmsa = (bits & RmpBit.Vmsa) !== 0;
    e.large = (bits & RmpBit.Large) !== 0;
    e.foreign = (bits & RmpBit.Foreign) !== 0;
    for (let i = 0; i < STORED; i++) e.perms[i] = this.#perms[i]!.get(gpn);
    return e;
  }

  setBits(first: number, count: number, bits: number): void {
    this.#bits.set(first, count, bits);
    if ((bits & RmpBit.Foreign) === 0) this.#forget(first, count);
  }
  /** Changes some bits and leaves the others. */
  change(first: number, count: number, clear: number, set: number): void {
    this.#bits.update(first, count, 0xff & ~clear, set);
  }
  setPermissions(first: number, count: number, vmpl: number, mask: number): void {
    this.#perms[vmpl - 1]!.set(first, count, mask);
  }
  clearPermissions(first: number, count: number): void {
    for (const tree of this.#perms) tree.set(first, count, 0);
  }
  setForeign(gpn: number, owner: ForeignOwner): void {
    this.#foreign.set(gpn, owner);
  }

  #forget(first: number, count: number): void {
    if (this.#foreign.size === 0) return;
    for (const gpn of this.#foreign.keys()) if (gpn >= first && gpn < first + count) this.#foreign.delete(gpn);
  }

  /** The first page behind `gpn` whose entry differs, at most `limit`. */
  runEnd(gpn: number, limit: number): number {
    let end = Math.min(limit, this.#bits.runEnd(gpn, limit));
    for (const tree of this.#perms) end = Math.min(end, tree.runEnd(gpn, end));
    return end;
  }

  /** Calls `visit` for each run of equal entries that are not all zero. */
  forEachRun(visit: (first: number, count: number) => void): void {
    for (let gpn = 0; gpn < PAGE_LIMIT; ) {
      const end = this.runEnd(gpn, PAGE_LIMIT);
      if (this.bits(gpn) !== 0) visit(gpn, end - gpn);
      gpn = end;
    }
  }

  save(): PlainState {
    const foreign = [...this.#foreign].sort(([a], [b]) => a - b).map(([gpn, { asid, gpa }]) => ({ gpn, asid, gpa: `0x${gpa.toString(16)}` }));
    return { bits: this.#bits.save(), perms: this.#perms.map((t) => t.save()), foreign } satisfies TableState;
  }

  /** @throws {HostError} BadSnapshot on a table that does not start with page 0. */
  restore(state: PlainState): void {
    const { bits, perms, foreign } = state as PlainState & TableState;
    for (const rows of [bits, ...perms]) if (rows.length < 2 || rows.length % 2 || rows[0] !== 0) throw new HostError('BadSnapshot', 'sev-snp-vmpl: rows of the reverse map table must start with page 0');
    this.#bits.restore(bits);
    this.#perms.forEach((tree, i) => tree.restore(perms[i]!));
    this.#foreign.clear();
    for (const { gpn, asid, gpa } of foreign) this.#foreign.set(gpn, { asid, gpa: BigInt(gpa) });
  }
}
