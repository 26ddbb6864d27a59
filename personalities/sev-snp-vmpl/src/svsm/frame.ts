import { CallBuffer, type PlaneContext, type Vp } from '@vmplanes/engine';
import type { SnpPlane } from '../ports.ts';

/** What the provider keeps of one virtual processor. Plain fields: saved as they are. */
export interface SvsmCpu {
  /** VMSA that calls are read from; -1 for none. */
  vmsa: number;
  /** Calling area in use; -1 for none. */
  area: number;
  /** VMSA and calling area from the next entry of the guest on; -1 for no change. */
  nextVmsa: number;
  nextArea: number;
  /** The guest was entered at least once. */
  hasEntered: boolean;
  /** Emulates the APIC of this processor's guest. */
  hasApic: boolean;
  /** The guest was told that it may leave out its next EOI. */
  owesEoi: boolean;
}

export const freshCpu = (): SvsmCpu => ({ vmsa: -1, area: -1, nextVmsa: -1, nextArea: -1, hasEntered: false, hasApic: false, owesEoi: false });

/** One call under way: arguments and results. One per virtual processor, since others may run at its preemption points. */
export class SvsmFrame {
  protocol = 0;
  number = 0;
  /** In: arguments. Out: results; what a call does not set comes back as it was. */
  rcx = 0n;
  rdx = 0n;
  r8 = 0n;
  /** Structures of the guest, copied once. */
  readonly buffer = new CallBuffer(4096);

  constructor(
    readonly vp: Vp,
    readonly cpu: SvsmCpu,
    /** Plane 0, where the provider works. */
    readonly context: PlaneContext,
    /** The caller. */
    public guest: SnpPlane,
  ) {}
}
