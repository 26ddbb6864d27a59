import { HostError } from './errors.ts';

/** One register of a plane context: where it lies in the block. Offsets and sizes in bytes. */
export interface RegisterDef {
  readonly name: string;
  readonly offset: number;
  readonly size: number;
  /** Named sets a sharing declaration may use instead of single names, such as `gpr` or `fpu`. */
  readonly groups?: readonly string[];
  /** Part of the saved state and of traces; false for derived or scratch cells. Default true. */
  readonly architectural?: boolean;
}

/** The register block of a plane context, declared once by the architecture. */
export class ContextLayout {
  readonly #byName = new Map<string, RegisterDef>();

  /**
   * @param size - bytes of one block, a multiple of 64.
   * @param registers - rows in rising offset order; no two overlap; offsets and sizes are multiples of 4.
   * @throws {HostError} BadConfig names the first row that breaks a rule.
   */
  constructor(
    readonly size: number,
    readonly registers: readonly RegisterDef[],
  ) {
    let end = 0;
    for (const r of registers) {
      if (r.offset % 4 || r.size % 4 || r.size <= 0) throw new HostError('BadConfig', `${r.name}: offset and size must be multiples of 4`);
      if (r.offset < end) throw new HostError('BadConfig', `${r.name}: declared at 0x${r.offset.toString(16)}, previous register ends at 0x${end.toString(16)}`);
      if (this.#byName.has(r.name)) throw new HostError('BadConfig', `${r.name}: declared twice`);
      this.#byName.set(r.name, r);
      end = r.offset + r.size;
    }
    if (size % 64 || end > size) throw new HostError('BadConfig', `context block: ${end} bytes of registers in a block of ${size}`);
  }

  /** @throws {HostError} BadConfig on an unknown name. */
  register(name: string): RegisterDef {
    const found = this.#byName.get(name);
    if (!found) throw new HostError('BadConfig', `no register '${name}' in the context block`);
    return found;
  }

  has(name: string): boolean {
    return this.#byName.has(name);
  }

  /** All registers of a name or of a group. @throws {HostError} BadConfig when neither exists. */
  select(nameOrGroup: string): readonly RegisterDef[] {
    const one = this.#byName.get(nameOrGroup);
    if (one) return [one];
    const many = this.registers.filter((r) => r.groups?.includes(nameOrGroup));
    if (many.length === 0) throw new HostError('BadConfig', `no register or group '${nameOrGroup}' in the context block`);
    return many;
  }
}

/** Which registers all planes of a virtual processor share; everything else each plane owns. */
export interface SharingDeclaration {
  /** Register or group names. */
  readonly shared: readonly string[];
  /** Names taken out again, so that `gpr` minus `rsp` can be said. */
  readonly except?: readonly string[];
}

/** A sharing declaration compiled to the ranges that the switch function copies. */
export class Sharing {
  /** Pairs (first 32-bit word, number of words) relative to the block; adjacent registers are one range. */
  readonly ranges: Int32Array;
  readonly #shared: ReadonlySet<string>;

  constructor(layout: ContextLayout, declaration: SharingDeclaration) {
    const shared = new Set(declaration.shared.flatMap((n) => layout.select(n)).map((r) => r.name));
    for (const r of (declaration.except ?? []).flatMap((n) => layout.select(n))) shared.delete(r.name);
    const words: number[] = [];
    for (const r of layout.registers) {
      if (!shared.has(r.name)) continue;
      const first = r.offset / 4;
      const last = words.length - 2;
      if (last >= 0 && words[last]! + words[last + 1]! === first) words[last + 1]! += r.size / 4;
      else words.push(first, r.size / 4);
    }
    this.ranges = Int32Array.from(words);
    this.#shared = shared;
  }

  isShared(register: string): boolean {
    return this.#shared.has(register);
  }
}
