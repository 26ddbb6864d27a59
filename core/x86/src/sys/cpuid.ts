import { type Arena, HostError } from '@vmplanes/engine';
import { compactedSize, standardSize } from '../fpu/components.ts';
import { X86 } from '../state/layout.ts';
import { CpuidOutput, featureBits } from './features.ts';

/** One row of a CPUID table: all values unsigned 32-bit. */
export interface CpuidEntry {
  readonly leaf: number;
  readonly subleaf: number;
  /** The leaf depends on ECX; otherwise `subleaf` is 0 and ECX is ignored. */
  readonly indexed: boolean;
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}

/** Version of the saved form of a {@link CpuidTable}. */
const VERSION = 1;

/** Saved form of a {@link CpuidTable}. */
export interface CpuidState {
  readonly version: number;
  readonly entries: readonly CpuidEntry[];
}

/** The CPUID table of one virtual processor, common to all its planes. Immutable: a change is a new table. */
export class CpuidTable {
  readonly #entries = new Map<number, CpuidEntry[]>();
  readonly #maxBasic: number;
  /** Twelve characters of leaf 0, such as `AuthenticAMD`; empty without that leaf. */
  readonly vendor: string;

  /**
   * @param entries - in any order; of two rows for the same leaf and sub-leaf the first counts
   */
  constructor(readonly entries: readonly CpuidEntry[]) {
    for (const entry of entries) {
      const rows = this.#entries.get(entry.leaf);
      if (rows) rows.push(entry);
      else this.#entries.set(entry.leaf, [entry]);
    }
    const zero = this.#entries.get(0)?.[0];
    this.#maxBasic = zero?.eax ?? 0;
    this.vendor = zero ? text([zero.ebx, zero.edx, zero.ecx]) : '';
  }

  /**
   * Finds the row for a leaf and sub-leaf.
   * @param out - receives EAX, EBX, ECX, EDX; zeros when there is no row
   * @returns whether there is a row
   */
  find(leaf: number, subleaf: number, out: Uint32Array): boolean {
    for (const entry of this.#entries.get(leaf) ?? []) {
      if (entry.indexed && entry.subleaf !== subleaf) continue;
      out[0] = entry.eax;
      out[1] = entry.ebx;
      out[2] = entry.ecx;
      out[3] = entry.edx;
      return true;
    }
    out.fill(0);
    return false;
  }

  /**
   * The static answer of CPUID. A leaf beyond the highest basic one reads as the highest basic leaf, except on AMD processors, where it reads as zeros.
   * @spec SDM 2A CPUID ("INPUT EAX"); APM3 Appendix E.3
   */
  lookup(leaf: number, subleaf: number, out: Uint32Array): void {
    if (this.find(leaf, subleaf, out) || leaf <= this.#maxBasic) return;
    if (this.vendor === 'AuthenticAMD' || this.vendor === 'HygonGenuine' || !this.#isBeyond(leaf)) return;
    this.find(this.#maxBasic, subleaf, out);
  }

  /** Leaf is in no implemented class: above the highest basic leaf and not below the highest leaf of its own 16-bit class. */
  #isBeyond(leaf: number): boolean {
    const classLeaf = (leaf & 0xffff_0000) >>> 0;
    const first = this.#entries.get(classLeaf)?.[0];
    return classLeaf === 0 || first === undefined || leaf > first.eax;
  }

  /** @returns whether both tables give the same rows in the same order. */
  equals(other: CpuidTable): boolean {
    return JSON.stringify(this.entries.map(canonical)) === JSON.stringify(other.entries.map(canonical));
  }

  save(): CpuidState {
    return { version: VERSION, entries: this.entries.map((e) => ({ ...e })) };
  }

  /** @throws {HostError} BadSnapshot on a version that is not known. */
  static restore(state: CpuidState): CpuidTable {
    if (state.version !== VERSION) throw new HostError('BadSnapshot', `CPUID table: version ${state.version}`);
    return new CpuidTable(state.entries.map((e) => ({ ...e })));
  }
}

const canonical = (e: CpuidEntry): readonly (number | boolean)[] => [e.leaf, e.indexed ? e.subleaf : 0, e.indexed, e.eax, e.ebx, e.ecx, e.edx];

function text(words: readonly number[]): string {
  return words.map((w) => String.fromCharCode(w & 0xff, (w >>> 8) & 0xff, (w >>> 16) & 0xff, w >>> 24)).join('');
}

/** A range of leaves whose answers a guest interface adds or changes. */
export interface CpuidOverlay {
  /** Who asks for it, named in errors. */
  readonly owner: string;
  readonly first: number;
  readonly last: number;
  /**
   * Changes an answer.
   * @param out - holds EAX, EBX, ECX, EDX as the plane would see them without the overlay; borrowed
   * @param base - byte offset of the asking plane's context block
   */
  apply(leaf: number, subleaf: number, out: Uint32Array, arena: Arena, base: number): void;
}

/** The overlays of a machine, sorted; no two overlap. */
export class CpuidOverlays {
  readonly #overlays: CpuidOverlay[] = [];

  /** @throws {HostError} DoubleClaim when the range meets one that is claimed; BadRange when it is empty. */
  claim(overlay: CpuidOverlay): void {
    if (overlay.first > overlay.last) throw new HostError('BadRange', `${overlay.owner}: CPUID range ends before it begins`);
    const other = this.#overlays.find((o) => o.first <= overlay.last && overlay.first <= o.last);
    if (other) throw new HostError('DoubleClaim', `CPUID 0x${overlay.first.toString(16)}-0x${overlay.last.toString(16)}: claimed by ${other.owner} and by ${overlay.owner}`);
    this.#overlays.push(overlay);
  }

  find(leaf: number): CpuidOverlay | undefined {
    const overlays = this.#overlays;
    for (let i = 0; i < overlays.length; i++) if (leaf >= overlays[i]!.first && leaf <= overlays[i]!.last) return overlays[i];
    return undefined;
  }
}

/** Bits that follow from the state of the plane that executes CPUID: the feature that must be there, the bit, the cell and the bit in it. */
const dynamicBits = [
  { needs: featureBits.xsave, bit: featureBits.osxsave, cell: X86.cr4, from: 18 },
  { needs: featureBits.pku, bit: featureBits.ospke, cell: X86.cr4, from: 22 },
  // Null: the enable bit of the plane's local APIC.
  { needs: featureBits.apic, bit: featureBits.apic, cell: null, from: 0 },
  { needs: [0x8000_0001, 0, CpuidOutput.edx, 9], bit: [0x8000_0001, 0, CpuidOutput.edx, 9], cell: null, from: 0 },
  { needs: featureBits.monitor, bit: featureBits.monitor, cell: X86.miscEnable, from: 18 },
] as const;

/**
 * Executes CPUID in a plane: the table of the processor, then the bits that depend on the plane's registers, then an overlay.
 * Dynamic: OSXSAVE and OSPKE (CR4), APIC (IA32_APIC_BASE), MONITOR (IA32_MISC_ENABLE), the area sizes of leaf 0DH (XCR0, IA32_XSS).
 *
 * @param base - byte offset of the plane's context block
 * @param leaf - EAX, unsigned
 * @param subleaf - ECX, unsigned
 * @param apicEnabled - bit 11 of the plane's IA32_APIC_BASE
 * @param out - receives EAX, EBX, ECX, EDX
 * @spec SDM 2A CPUID; SDM 1 §13.2; APM3 Appendix E
 */
export function executeCpuid(arena: Arena, base: number, table: CpuidTable, overlays: CpuidOverlays | null, leaf: number, subleaf: number, apicEnabled: boolean, out: Uint32Array): void {
  table.lookup(leaf, subleaf, out);
  for (const { needs, bit, cell, from } of dynamicBits) {
    if (bit[0] !== leaf || (leaf === 7 && subleaf !== bit[1]) || ((out[needs[2]]! >>> needs[3]) & 1) === 0) continue;
    const set = cell === null ? Number(apicEnabled) : (arena.u32[(base + cell) >>> 2]! >>> from) & 1;
    out[bit[2]] = (out[bit[2]]! & ~(1 << bit[3])) | (set << bit[3]);
  }
  if (leaf === 0xd && (subleaf === 0 || subleaf === 1)) {
    const xcr0 = arena.u32[(base + X86.xcr0) >>> 2]!;
    if (subleaf === 0 && out[0] !== 0) out[1] = standardSize(xcr0);
    // XSAVEC or XSAVES.
    if (subleaf === 1 && out[0]! & 0xa) out[1] = compactedSize(xcr0 | arena.u32[(base + X86.xss) >>> 2]!);
  }
  overlays?.find(leaf)?.apply(leaf, subleaf, out, arena, base);
}
