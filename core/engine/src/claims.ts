import { HostError } from './errors.ts';
import type { Personality } from './ports.ts';

interface Row {
  readonly from: number;
  readonly to: number;
  readonly owner: Personality;
}

/** A range that one personality took over from another. */
interface CoveredRow extends Row {
  readonly by: Personality;
}

/** Who answers an exit: per exit kind a sorted list of key ranges, searched without allocation. */
export class ClaimTable {
  readonly #rows = new Map<string, Row[]>();
  /** What extenders took over, the latest first. */
  readonly #covered = new Map<string, readonly CoveredRow[]>();
  /** Derived: the rows of the kind asked for last; most exits follow one of their own kind. */
  #lastKind = '';
  #lastRows: readonly Row[] = [];

  constructor(readonly exitKinds: readonly string[]) {}

  /**
   * Adds all claims of a personality.
   * @param mayReplace - names of personalities whose ports this one extends: their claims yield where both overlap.
   * @throws {HostError} DoubleClaim names both claimants and the range; BadConfig an unknown exit kind or empty range.
   */
  add(owner: Personality, mayReplace: readonly string[] = []): void {
    // On copies, so that a refused claim leaves no trace of those before it.
    const changed = new Map<string, Row[]>();
    const covered = new Map<string, CoveredRow[]>();
    for (const claim of owner.claims) {
      if (!this.exitKinds.includes(claim.exit)) throw new HostError('BadConfig', `${owner.name}: claims '${claim.exit}', which is not an exit of this architecture`);
      if (!(claim.from <= claim.to)) throw new HostError('BadConfig', `${owner.name}: claim of '${claim.exit}' from ${claim.from} to ${claim.to} is empty`);
      const rows = changed.get(claim.exit) ?? [...(this.#rows.get(claim.exit) ?? [])];
      for (let i = rows.length - 1; i >= 0; i--) {
        const other = rows[i]!;
        if (other.to < claim.from || other.from > claim.to) continue;
        if (!mayReplace.includes(other.owner.name)) {
          const low = Math.max(other.from, claim.from);
          throw new HostError('DoubleClaim', `${owner.name} and ${other.owner.name} both claim '${claim.exit}' 0x${low.toString(16)}`, { exit: claim.exit, key: low, claimants: [other.owner.name, owner.name] });
        }
        const under = covered.get(claim.exit) ?? [];
        under.push({ from: Math.max(other.from, claim.from), to: Math.min(other.to, claim.to), owner: other.owner, by: owner });
        covered.set(claim.exit, under);
        // The extender takes the overlap; what is left of the extended range on either side stays with its owner.
        const rest: Row[] = [];
        if (other.from < claim.from) rest.push({ from: other.from, to: claim.from - 1, owner: other.owner });
        if (other.to > claim.to) rest.push({ from: claim.to + 1, to: other.to, owner: other.owner });
        rows.splice(i, 1, ...rest);
      }
      rows.push({ from: claim.from, to: claim.to, owner });
      rows.sort((a, b) => a.from - b.from);
      changed.set(claim.exit, rows);
    }
    for (const [exit, rows] of changed) this.#rows.set(exit, rows);
    for (const [exit, rows] of covered) this.#covered.set(exit, [...rows, ...(this.#covered.get(exit) ?? [])]);
    this.#lastKind = '';
    this.#lastRows = [];
  }

  /** @returns the personality that answers `key` of exit kind `kind`, or null. */
  find(kind: string, key: number): Personality | null {
    if (kind !== this.#lastKind) {
      const found = this.#rows.get(kind);
      if (found === undefined) return null;
      this.#lastKind = kind;
      this.#lastRows = found;
    }
    const rows = this.#lastRows;
    for (let i = 0; i < rows.length; i++) {
      const row = rows[i]!;
      if (key <= row.to) return key >= row.from ? row.owner : null;
    }
    return null;
  }

  /** @returns the personality that would answer `key` without the claim of `owner`, or null. */
  under(kind: string, key: number, owner: Personality): Personality | null {
    const rows = this.#covered.get(kind);
    if (rows === undefined) return null;
    for (let i = 0; i < rows.length; i++) {
      const row = rows[i]!;
      if (row.by === owner && key >= row.from && key <= row.to) return row.owner;
    }
    return null;
  }

  /** All rows, sorted by exit kind and key: what listings print. */
  list(): readonly { readonly exit: string; readonly from: number; readonly to: number; readonly owner: string }[] {
    return [...this.#rows.entries()]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .flatMap(([exit, rows]) => rows.map((r) => ({ exit, from: r.from, to: r.to, owner: r.owner.name })));
  }
}
