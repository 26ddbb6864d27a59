import { MAX_VPS } from '@vmplanes/engine';
import { ApicMode, x2apicLogicalId } from './apic-base.ts';
import { Extra } from './block.ts';
import type { LocalApic } from './local-apic.ts';
import { ApicReg } from './registers.ts';

/** Destination that every APIC matches, in the two widths. @spec SDM 3A §10.6.2.1, §10.12.9 */
export const BROADCAST = { narrow: 0xff, wide: 0xffff_ffff } as const;

/** How an APIC compares a logical destination. */
const Logical = { none: 0, flat: 1, cluster: 2, x2apic: 3 } as const;

const SCAN = -2;

/** Logical model that the destination format register selects. Other values are reserved and match nothing. @spec SDM 3A §10.6.2.2 */
const logicalModel = (apic: LocalApic): number => {
  if (apic.mode === ApicMode.x2apic) return Logical.x2apic;
  const format = apic.block.get(ApicReg.dfr) >>> 28;
  return format === 15 ? Logical.flat : format === 0 ? Logical.cluster : Logical.none;
};

/**
 * Who matches a destination, inside one plane. Only APICs of this plane are in the map, so no message can reach
 * another one; a processor without this plane is not a destination at all. Lookups neither allocate nor search a
 * container: they run over columns rebuilt whenever an id, a mode or a logical destination changes.
 * @spec SDM 3A §10.6.2
 */
export class ApicMap {
  readonly #apics: (LocalApic | null)[] = new Array<LocalApic | null>(MAX_VPS).fill(null);
  #length = 0;
  readonly #vp = new Int32Array(MAX_VPS);
  readonly #id = new Uint32Array(MAX_VPS);
  readonly #initialId = new Uint32Array(MAX_VPS);
  readonly #logicalId = new Uint32Array(MAX_VPS);
  readonly #logical = new Uint8Array(MAX_VPS);
  /** Row of each 8-bit id: -1 none, -2 more than one. */
  readonly #byId = new Int8Array(256);

  constructor(readonly plane: number) {
    this.#byId.fill(-1);
  }

  /** Adds the APIC of a processor that got this plane, or replaces it. */
  add(apic: LocalApic): void {
    this.#apics[apic.vp] = apic;
    this.rebuild();
  }

  /** Takes the APIC of a processor out that lost this plane. */
  remove(apic: LocalApic): void {
    if (this.#apics[apic.vp] !== apic) return;
    this.#apics[apic.vp] = null;
    this.rebuild();
  }

  /** The APIC of a processor in this plane, or null. */
  apicOf(vp: number): LocalApic | null {
    return this.#apics[vp] ?? null;
  }

  /** Fills the columns anew from the registers: after a change of id, mode, LDR, DFR, and after a restore. */
  rebuild(): void {
    this.#byId.fill(-1);
    this.#length = 0;
    for (const apic of this.#apics) {
      if (!apic?.isHardwareEnabled) continue;
      const row = this.#length++;
      const isX2apic = apic.mode === ApicMode.x2apic;
      this.#vp[row] = apic.vp;
      this.#id[row] = apic.id;
      this.#initialId[row] = apic.initialId;
      this.#logicalId[row] = isX2apic ? x2apicLogicalId(apic.initialId) : apic.block.get(ApicReg.ldr) >>> 24;
      this.#logical[row] = logicalModel(apic);
      if (apic.id < 256) this.#byId[apic.id] = this.#byId[apic.id] === -1 ? row : SCAN;
    }
  }

  /** Processor with a given 32-bit id, whatever its APIC mode: ids are not processor indexes. @returns -1 when none. */
  vpOfInitialId(id: number): number {
    for (const apic of this.#apics) if (apic?.initialId === id) return apic.vp;
    return -1;
  }

  /**
   * Finds the destinations of a message.
   * @param destination - 8-bit or 32-bit destination.
   * @param isWide - the message carries 32 bits: sender in x2APIC mode, or an MSI in that format.
   * @param out - receives processor indexes in rising order; at least MAX_VPS long.
   * @returns how many.
   */
  match(destination: number, isLogical: boolean, isWide: boolean, out: Int32Array): number {
    if (destination === (isWide ? BROADCAST.wide : BROADCAST.narrow)) return this.others(-1, out);
    if (!isLogical && destination < 256) {
      const row = this.#byId[destination]!;
      if (row === -1) return 0;
      if (row >= 0) {
        out[0] = this.#vp[row]!;
        return 1;
      }
    }
    let n = 0;
    for (let row = 0; row < this.#length; row++) {
      if (isLogical ? this.#matchesLogical(row, destination) : this.#matchesPhysical(row, destination)) out[n++] = this.#vp[row]!;
    }
    return n;
  }

  /** All APICs of the plane but one. @param except - processor index, or -1 for none. @returns how many. */
  others(except: number, out: Int32Array): number {
    let n = 0;
    for (let row = 0; row < this.#length; row++) if (this.#vp[row] !== except) out[n++] = this.#vp[row]!;
    return n;
  }

  /** True when a message would reach the APIC of a processor in this plane. */
  reaches(vp: number, destination: number, isLogical: boolean, isWide: boolean): boolean {
    for (let row = 0; row < this.#length; row++) {
      if (this.#vp[row] !== vp) continue;
      if (destination === (isWide ? BROADCAST.wide : BROADCAST.narrow)) return true;
      return isLogical ? this.#matchesLogical(row, destination) : this.#matchesPhysical(row, destination);
    }
    return false;
  }

  /**
   * Picks the destination of a lowest-priority message: the software-enabled APIC with the lowest processor
   * priority; among equals the one chosen least often, then the one with the lowest processor index. The choice counts.
   * @param candidates - processor indexes.
   * @returns a processor index, or -1 when no candidate is software-enabled.
   * @spec SDM 3A §10.6.2.4
   */
  arbitrate(candidates: Int32Array, n: number): number {
    let best: LocalApic | null = null;
    let bestPriority = 0;
    for (let i = 0; i < n; i++) {
      const apic = this.#apics[candidates[i]!] ?? null;
      if (!apic?.isSoftwareEnabled) continue;
      const priority = apic.ppr() & 0xf0;
      if (best && (priority > bestPriority || (priority === bestPriority && apic.block.get(Extra.arbitration) >= best.block.get(Extra.arbitration)))) continue;
      best = apic;
      bestPriority = priority;
    }
    if (!best) return -1;
    best.block.add(Extra.arbitration, 1);
    return best.vp;
  }

  /** An APIC in xAPIC mode whose id has no 8-bit form can still be reached by its 32-bit id; in x2APIC mode the two are one. */
  #matchesPhysical(row: number, destination: number): boolean {
    return destination === (destination > 0xff ? this.#initialId[row] : this.#id[row]);
  }

  #matchesLogical(row: number, destination: number): boolean {
    const own = this.#logicalId[row]!;
    switch (this.#logical[row]) {
      case Logical.flat:
        return destination <= 0xff && (destination & own) !== 0;
      case Logical.cluster:
        return destination <= 0xff && destination >>> 4 === own >>> 4 && (destination & own & 15) !== 0;
      case Logical.x2apic:
        return destination >>> 16 === own >>> 16 && (destination & own & 0xffff) !== 0;
      default:
        return false;
    }
  }
}
