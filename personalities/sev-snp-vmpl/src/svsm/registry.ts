import { SVSM_CALLING_AREA_HEAD } from '@vmplanes/abi-svsm';
import { PAGE_SIZE, type PlainState } from '@vmplanes/engine';

/** A VMSA page of the guest that the provider made, with its calling area. Plain data. */
export interface VcpuPages {
  readonly vmsa: number;
  /** Moves with REMAP_CA. */
  area: number;
  readonly apicId: number;
  /** Made by a call: the first VMSA of the first processor is not, and stays. */
  readonly isMade: boolean;
}

/** The VMSA pages and calling areas of all virtual processors: memory that no call may name. @spec coconut-svsm kernel/src/cpu/percpu.rs, PERCPU_VMSAS */
export class Registry {
  #rows: VcpuPages[] = [];

  add(row: VcpuPages): void {
    this.#rows.push(row);
  }
  find(vmsa: number): VcpuPages | undefined {
    return this.#rows.find((r) => r.vmsa === vmsa);
  }
  remove(vmsa: number): void {
    this.#rows = this.#rows.filter((r) => r.vmsa !== vmsa);
  }
  move(from: number, to: number): void {
    for (const row of this.#rows) if (row.area === from) row.area = to;
  }
  get all(): readonly VcpuPages[] {
    return this.#rows;
  }

  /** Whether a region touches a VMSA page or the head of a calling area. Bytes, `end` exclusive. */
  overlaps(gpa: number, end: number): boolean {
    for (const { vmsa, area } of this.#rows) {
      if (gpa < vmsa + PAGE_SIZE && end > vmsa) return true;
      if (area >= 0 && gpa < area + SVSM_CALLING_AREA_HEAD && end > area) return true;
    }
    return false;
  }

  save(): PlainState {
    return this.#rows.map((r) => ({ ...r }));
  }
  restore(state: PlainState): void {
    this.#rows = (state as VcpuPages[]).map((r) => ({ ...r }));
  }
}
