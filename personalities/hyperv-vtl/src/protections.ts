import { HvStatus } from '@vmplanes/abi-hyperv';
import { ALL_RIGHTS, MAX_PLANES, PAGE_LIMIT, type PlainState, PlanePermissions, type Rights } from '@vmplanes/engine';
import type { HvContext, Protections } from './ports.ts';

/**
 * The rights of lower VTLs to memory. Each VTL above 0 has a map of its own; what a VTL may do is the intersection of the maps of all VTLs
 * above it, and lies in the permission table of its plane, from where translations take it. The maps say who refused an access.
 * @spec TLFS Virtual Secure Mode, memory access protections
 */
export class ProtectionChapter implements Protections {
  readonly stateName = 'protections';
  /** By owning VTL; nobody looks at that of VTL0. */
  readonly #maps: readonly PlanePermissions[];

  constructor(readonly hv: HvContext) {
    this.#maps = Array.from({ length: hv.options.maximumVtl + 1 }, (_, vtl) => new PlanePermissions(vtl, []));
  }

  modify(owner: number, gpn: number, rights: Rights): number {
    const { memory } = this.hv.machine;
    // Devices, read-only memory and holes cannot be protected.
    const slot = gpn < PAGE_LIMIT ? memory.slots.find(gpn) : null;
    if (slot === null || slot.isReadonly) return this.hv.options.nonRamStatus;
    for (let vtl = 0; vtl < owner; vtl++) if (this.hv.chapters.overlays.isOverlay(vtl, gpn)) return HvStatus.OperationDenied;
    if (this.#maps[owner]!.set(gpn, 1, rights)) this.#apply(owner, gpn, 1);
    return HvStatus.Success;
  }

  setDefault(owner: number, rights: Rights): void {
    this.#maps[owner]!.set(0, PAGE_LIMIT, rights);
    this.#apply(owner, 0, PAGE_LIMIT);
  }

  deniedBy(vtl: number, gpn: number, rights: Rights): number {
    for (let owner = vtl + 1; owner < this.#maps.length; owner++) if ((rights & ~this.#maps[owner]!.get(gpn)) !== 0) return owner;
    return -1;
  }

  /** Rights to a page that one VTL leaves those below it. */
  rightsFrom(owner: number, gpn: number): Rights {
    return this.#maps[owner]!.get(gpn);
  }
  /** Rights to a page that all VTLs above one leave it. */
  rightsOf(vtl: number, gpn: number): Rights {
    let rights: Rights = ALL_RIGHTS;
    for (let owner = vtl + 1; owner < this.#maps.length; owner++) rights &= this.#maps[owner]!.get(gpn);
    return rights;
  }

  /** The map of `owner` changed: computes the tables of all VTLs below it anew. Cached translations are gone when this returns. */
  #apply(owner: number, first: number, count: number): void {
    for (let vtl = 0; vtl < owner; vtl++) this.#intersect(vtl, vtl + 1, first, count, ALL_RIGHTS);
  }
  #intersect(vtl: number, owner: number, first: number, count: number, rights: Rights): void {
    if (owner >= this.#maps.length) {
      this.hv.machine.memory.permissions[vtl]!.set(first, count, rights);
      return;
    }
    this.#maps[owner]!.forEachRange(first, count, (from, pages, own) => this.#intersect(vtl, owner + 1, from, pages, rights & own));
  }

  /** Says for each page where map and table may differ that they do not, for the invariants. @returns pages of VTLs whose table is not the intersection. */
  differences(): readonly string[] {
    const found: string[] = [];
    for (let vtl = 0; vtl < this.#maps.length - 1; vtl++) {
      this.hv.machine.memory.permissions[vtl]!.forEachRange(0, PAGE_LIMIT, (first, count, rights) => {
        for (const gpn of [first, first + count - 1]) if (this.rightsOf(vtl, gpn) !== rights) found.push(`VTL${vtl} page 0x${gpn.toString(16)}`);
      });
    }
    return found;
  }

  reset(): void {
    for (const map of this.#maps) map.set(0, PAGE_LIMIT, ALL_RIGHTS);
    for (let vtl = 0; vtl < Math.min(this.hv.machine.options.maxPlanes, MAX_PLANES); vtl++) this.hv.machine.memory.permissions[vtl]!.set(0, PAGE_LIMIT, ALL_RIGHTS);
  }
  /** The tables of planes are saved with the memory of the machine. */
  save(): PlainState {
    return this.#maps.map((map) => map.save().rows);
  }
  restore(state: PlainState): void {
    (state as readonly Float64Array[]).forEach((rows, vtl) => this.#maps[vtl]!.restore({ rows, defaultRights: ALL_RIGHTS, isDefaultSet: false, generation: 0 }));
  }
}
