import type { Vp } from '@vmplanes/engine';
import type { CpuidEntry } from '@vmplanes/x86';
import { RunPage } from './run-page.ts';

/** A KVM_RUN in progress: what it read from the run page when it began. */
export interface RunInProgress {
  readonly thread: number;
  /** Plane that was named; with kernel scheduling, the plane that was current. */
  readonly plane: number;
}

/**
 * All plane vCPUs with one id, and the only owner of what exists once per id. Nothing of this is ever looked up on one of the planes.
 * @spec LKML 2025-06, S. Christopherson on RFC KVM: VM planes 10/29
 */
export class VcpuGroup {
  readonly page: RunPage;
  /** The table given by SET_CPUID2, common to all planes. */
  cpuid: readonly CpuidEntry[] = [];
  /** Signals blocked during KVM_RUN, 64 bits; null: those that the thread blocks anyway. */
  signalMask: bigint | null = null;
  /** Control word of KVM_SET_GUEST_DEBUG. */
  guestDebug = 0;
  /** TSC frequency of plane 0 in kHz; the other planes keep that of the VM. */
  tscKhz = 0;
  hasRun = false;
  inRun: RunInProgress | null = null;
  /** Planes whose vCPU was made waiting for its first INIT and has not got it. */
  uninitialized = 0;
  /** Planes that were lent the answer in the run page for the run in progress. */
  lentReplies = 0;
  /** Plane whose exit the run page shows; its answer is read from there. */
  exitPlane = 0;

  /**
   * @param id - vCPU id, chosen by userspace; also the APIC id.
   * @param vp - its index is taken once, for plane 0, and is the same for all planes.
   */
  constructor(
    readonly id: number,
    readonly vp: Vp,
    hasPlaneFields: boolean,
  ) {
    this.page = new RunPage(hasPlaneFields);
  }

  /** The group has a plane besides 0; without one the whole mechanism is inert. */
  get hasPlanes(): boolean {
    return (this.vp.existing & ~1) !== 0;
  }

  save(): SavedGroup {
    const { id, signalMask, guestDebug, tscKhz, hasRun, exitPlane, uninitialized, lentReplies } = this;
    const inRun = this.inRun === null ? null : { ...this.inRun };
    return { id, vp: this.vp.index, page: this.page.bytes.slice(), cpuid: this.cpuid.map((e) => ({ ...e })), signalMask, guestDebug, tscKhz, hasRun, inRun, exitPlane, uninitialized, lentReplies };
  }

  restore(s: SavedGroup): void {
    this.page.bytes.set(s.page);
    this.cpuid = s.cpuid.map((e) => ({ ...e }));
    this.signalMask = s.signalMask;
    this.guestDebug = s.guestDebug;
    this.tscKhz = s.tscKhz;
    this.hasRun = s.hasRun;
    this.inRun = s.inRun === null ? null : { ...s.inRun };
    this.exitPlane = s.exitPlane;
    this.uninitialized = s.uninitialized;
    this.lentReplies = s.lentReplies;
  }
}

/** Saved form of a group. */
export type SavedGroup = {
  readonly id: number;
  readonly vp: number;
  readonly page: Uint8Array;
  readonly cpuid: readonly { readonly [K in keyof CpuidEntry]: CpuidEntry[K] }[];
  readonly signalMask: bigint | null;
  readonly guestDebug: number;
  readonly tscKhz: number;
  readonly hasRun: boolean;
  readonly inRun: { readonly thread: number; readonly plane: number } | null;
  readonly exitPlane: number;
  readonly uninitialized: number;
  readonly lentReplies: number;
};
