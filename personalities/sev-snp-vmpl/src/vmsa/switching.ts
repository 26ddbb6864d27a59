import { LAUNCH_VMSA_GPA, SnpLevel, VMPL_COUNT } from '@vmplanes/abi-sev-snp';
import { Activity, type Answer, HostError, type Machine, type PlainRecord, type PlainState, type PlaneContext, PlaneId, Schedule, type Vp } from '@vmplanes/engine';
import type { SnpContext, SnpPlane, Switching } from '../ports.ts';
import { PlaneState } from './plane-state.ts';

/** Names of the switches that this personality asks for, as traces show them. */
export const SwitchReason = { RunVmpl: 'run-vmpl' } as const;
/** Reason that the engine gives a switch because something pends for the other plane. */
const EVENT = 'event';

/**
 * Run VMPL and the VMPLs of each VP. One VMPL of a VP may run, the others are stopped: VMPL0 comes in by itself when something pends for it, any other
 * VMPL only by being run.
 * @spec GHCB 4.1 (Run VMPL); KVM planes series 2026-06, sev.c
 */
export class SwitchingChapter implements Switching {
  readonly stateName = 'switching';
  readonly #snp: SnpContext;
  readonly #machine: Machine;
  /** By VP index * 16 + VMPL. */
  readonly #planes: (PlaneState | undefined)[] = [];

  constructor(snp: SnpContext) {
    this.#snp = snp;
    this.#machine = snp.machine;
  }

  planeCreated(context: PlaneContext): void {
    const state = new PlaneState(context);
    const { features } = this.#snp.chapters;
    state.featuresLo = features.machineLo;
    state.featuresHi = features.machineHi;
    this.#planes[context.vp.index * 16 + context.plane] = state;
  }

  /** INIT of VMPL0 resets the processor: its other VMPLs stop, and nobody has a doorbell page. @spec KVM planes series 2026-06, sev.c */
  planeReset(context: PlaneContext): void {
    const { vp } = context;
    for (let vmpl = 0; vmpl < VMPL_COUNT; vmpl++) {
      const plane = this.plane(vp, vmpl);
      if (plane === null || (context.plane !== 0 && vmpl !== context.plane)) continue;
      plane.doorbell = -1;
      (plane as PlaneState).isNmiMasked = false;
      if (context.plane === 0) vp.setSchedule(plane.context, vmpl === 0 ? Schedule.Runnable : Schedule.Stopped);
      // What may come in there has changed; of the plane that is reset the machine knows.
      if (plane.context !== context) this.#machine.eventsChanged(plane.context);
    }
  }

  plane(vp: Vp, vmpl: number): SnpPlane | null {
    return this.#planes[vp.index * 16 + vmpl] ?? null;
  }
  planeOf(context: PlaneContext): SnpPlane {
    return this.#planes[context.vp.index * 16 + context.plane]!;
  }
  create(vp: Vp, vmpl: number): SnpPlane {
    const found = this.plane(vp, vmpl);
    if (found !== null) return found;
    this.#machine.createPlane(vp, PlaneId(vmpl));
    return this.plane(vp, vmpl)!;
  }

  /** There is something that this VMPL could be run from. */
  #hasVmsa(plane: PlaneState): boolean {
    if (this.#snp.level !== SnpLevel.SevSnp) return true;
    if (plane.context.plane === 0 && this.#snp.chapters.svsm !== null) return true;
    return (plane.isWaitingForReset && plane.context.plane > 0 ? plane.pendingVmsa : plane.vmsa) >= 0;
  }

  run(from: SnpPlane, vmpl: number): Answer | null {
    const { vp, plane: own } = from.context;
    if (vmpl >= VMPL_COUNT) return null;
    const to = this.plane(vp, vmpl) as PlaneState | null;
    if (to === null || !this.#hasVmsa(to)) return null;
    if (vmpl === own) return vp.replies.resume();
    // It was refused before: only what has been mended since is run again.
    if (to.refusal !== null && !to.isWaitingForReset && this.#snp.chapters.vmsas.check(to) !== null) return null;
    if (to.isWaitingForReset && vmpl > 0) this.#snp.chapters.aps.adopt(to);
    to.isRunnable = true;
    const { context } = to;
    if (context.activity === Activity.Halted) this.#wake(context);
    for (let other = 0; other < VMPL_COUNT; other++) {
      const stopped = vp.planes[other];
      if (stopped && other !== vmpl && other !== own) vp.setSchedule(stopped, Schedule.Stopped);
    }
    return vp.replies.switchTo(vmpl, SwitchReason.RunVmpl, 'stopped', 'advanced');
  }

  #wake(context: PlaneContext): void {
    context.activity = Activity.Running;
    this.#machine.eventsChanged(context);
  }

  start(plane: SnpPlane): void {
    const { vp } = plane.context;
    for (const context of vp.planes) if (context) vp.setSchedule(context, context === plane.context ? Schedule.Runnable : Schedule.Stopped);
    if (plane.context.activity !== Activity.Held) this.#wake(plane.context);
    this.#snp.arch.apicOf(plane.context).latches.setWaitingForSipi(false);
    plane.isRunnable = true;
  }

  park(plane: SnpPlane): void {
    const { context } = plane;
    // Waits for a start signal that does not come: neither interrupts nor a start-up message end it, a reset does.
    this.#snp.arch.apicOf(context).latches.setWaitingForSipi(false);
    context.activity = Activity.WaitForSipi;
    plane.isRunnable = false;
    this.#machine.eventsChanged(context);
  }

  /** Something pends for a more privileged VMPL: the one that ran does not go on by itself. @spec KVM planes series 2026-06, sev.c */
  switched(from: PlaneContext, to: PlaneContext, reason: string): void {
    if (reason === EVENT && to.plane < from.plane) from.vp.setSchedule(from, Schedule.Stopped);
  }

  broken(): readonly string[] {
    const found: string[] = [];
    for (const plane of this.#planes) {
      if (plane === undefined) continue;
      const name = `VP ${plane.context.vp.index} VMPL${plane.context.plane}`;
      if (plane.vmsa >= 0 && plane.vmsa !== LAUNCH_VMSA_GPA && plane.vmsa % 4096 !== 0) found.push(`${name} has a save area that is no page`);
    }
    return found;
  }

  save(): PlainState {
    return this.#planes.flatMap((plane) => (plane === undefined ? [] : [{ vp: plane.context.vp.index, vmpl: plane.context.plane, ...plane.save() }]));
  }
  restore(state: PlainState): void {
    for (const row of state as readonly PlainRecord[]) {
      const plane = this.#planes[(row['vp'] as number) * 16 + (row['vmpl'] as number)];
      if (plane === undefined) throw new HostError('BadSnapshot', `sev-snp-vmpl: state of VP ${String(row['vp'])} VMPL${String(row['vmpl'])}, which this machine has not`);
      plane.restore(row);
    }
  }
}
