import { ApCreationRequest, SevFeature, SnpLevel, VMPL_COUNT } from '@vmplanes/abi-sev-snp';
import { Activity, type Answer, type ExitPayload, type Machine, PAGE_SIZE, type PlainRecord, type PlainState, type PlaneContext, Schedule } from '@vmplanes/engine';
import { ApicEvent } from '@vmplanes/x86';
import type { ApCreation, SnpContext, SnpPlane } from '../ports.ts';
import type { PlaneState } from './plane-state.ts';

const MISSING_INPUT = 4;
const INVALID_INPUT = 5;
/** The VMM makes the VP or plane first. */
const PENDING = -1;
const LARGE_PAGE = 0x20_0000;
const MODES = (1n << BigInt(SevFeature.RestrictedInjection)) | (1n << BigInt(SevFeature.AlternateInjection));
const SNP_ACTIVE = 1n << BigInt(SevFeature.SnpActive);

/**
 * AP creation names a VP or plane that the machine has not: the VMM makes it and replies, or replies with `{ create: true }` to have the plane made; the
 * request is looked at again then.
 */
export interface CreatePlanePayload extends ExitPayload {
  readonly kind: 'createPlane';
  /** Index of the VP; it may be missing, too. */
  readonly vp: number;
  readonly plane: number;
  readonly apicId: number;
}

/**
 * AP creation, and the ways in which processors start without SNP: the first start-up message lets an application processor run from the state that was measured, later ones
 * end its AP reset hold.
 * @spec GHCB 4.1 (SNP AP creation, AP reset hold); Linux arch/x86/kvm/svm/sev.c; KVM planes series 2026-06, sev.c
 */
export class ApCreationChapter implements ApCreation {
  readonly stateName = 'aps';
  jumpTable = 0;
  pending: Answer = { kind: 'resume' };
  readonly #snp: SnpContext;
  readonly #machine: Machine;
  /** SEV_FEATURES that the first creation at a VMPL fixed for all later ones; null before. */
  readonly #features: (bigint | null)[] = new Array<bigint | null>(VMPL_COUNT).fill(null);

  constructor(snp: SnpContext) {
    this.#snp = snp;
    this.#machine = snp.machine;
  }

  create(from: SnpPlane, info1Lo: number, info1Hi: number, vmsa: number, features: bigint | null): number {
    const request = info1Lo & 0xffff;
    const vmpl = (info1Lo >>> 16) & 15;
    const apicId = info1Hi >>> 0;
    const isDestroy = request === ApCreationRequest.Destroy;
    if (features === null && !isDestroy) return MISSING_INPUT;
    const vpIndex = this.#vpOf(apicId);
    if (vpIndex < 0 || vmpl >= VMPL_COUNT || vmpl >= this.#machine.options.maxPlanes) return INVALID_INPUT;
    const vp = this.#machine.vps[vpIndex];
    const target = vp ? (this.#snp.chapters.switching.plane(vp, vmpl) as PlaneState | null) : null;
    if (target === null) return this.#ask(from, vpIndex, vmpl, apicId, { info1Lo, info1Hi, vmsa, features: features === null ? null : `0x${features.toString(16)}` });
    const own = from.context.plane;
    if (vmpl === 0 ? own !== 0 || target.context.vp === from.context.vp : vmpl < own) return INVALID_INPUT;
    if (!isDestroy) {
      if (!this.#admitsFeatures(vmpl, features!)) return INVALID_INPUT;
      if (vmsa % PAGE_SIZE !== 0 || !this.#isGpa(vmsa) || vmsa % LARGE_PAGE === 0) return INVALID_INPUT;
    }
    if (request > ApCreationRequest.Destroy) return INVALID_INPUT;
    if (!isDestroy) this.#features[vmpl] ??= features;
    target.pendingVmsa = isDestroy ? -1 : vmsa;
    target.isWaitingForReset = true;
    if (request !== ApCreationRequest.CreateOnInit) this.#force(target, !isDestroy);
    return 0;
  }

  /** VP index of an APIC id; -1 for an id that no processor of this machine has or will have. */
  #vpOf(apicId: number): number {
    const { fabric } = this.#snp.arch;
    for (let index = 0; index < this.#machine.options.maxVps; index++) if (fabric.apicId(index) === apicId) return index;
    return -1;
  }

  #isGpa(gpa: number): boolean {
    return gpa < 2 ** this.#snp.arch.registers.features.physicalBits;
  }

  /** The first creation at VMPL0 keeps the injection modes of the machine; later ones at any VMPL are like the first. */
  #admitsFeatures(vmpl: number, features: bigint): boolean {
    if ((features & SNP_ACTIVE) === 0n) return false;
    const fixed = this.#features[vmpl]!;
    if (fixed !== null) return features === fixed;
    return vmpl > 0 || (features & MODES) === (BigInt(this.#snp.chapters.features.machineLo) & MODES);
  }

  #ask(from: SnpPlane, vp: number, plane: number, apicId: number, data: PlainRecord): number {
    const payload: CreatePlanePayload = { kind: 'createPlane', vp, plane, apicId };
    this.pending = from.context.vp.replies.exit(payload, { owner: 'sev-snp-vmpl', kind: 'ghcb.ap-creation', data, reply: null });
    return PENDING;
  }

  makePlane(info1Lo: number, info1Hi: number): void {
    const vp = this.#machine.vps[this.#vpOf(info1Hi >>> 0)];
    if (vp) this.#snp.chapters.switching.create(vp, (info1Lo >>> 16) & 15);
  }

  // -- the reset that takes a save area ------------------------------------------------------------------------------

  /** Resets a VMPL at once. One that runs right now is reset when it next enters. */
  #force(target: PlaneState, runs: boolean): void {
    const { context } = target;
    target.isForced = true;
    if (context.vp.running === context.plane) this.#snp.arch.apicOf(context).latches.raise(ApicEvent.init);
    else this.#machine.resetPlane(context, 'init');
    if (context.plane > 0) this.#schedule(target, runs);
  }

  /** A lower VMPL of another processor is run by the VMPL0 there, whose HLT must not keep it from that; where VMPL0 has nothing to run, it runs at once. */
  #schedule({ context }: PlaneState, runs: boolean): void {
    const { vp } = context;
    if (vp.running === context.plane) return;
    vp.setSchedule(context, Schedule.Stopped);
    if (vp.running >= 0) return;
    const first = this.#snp.chapters.switching.plane(vp, 0)!;
    if (first.vmsa < 0 && first.pendingVmsa < 0 && this.#snp.chapters.svsm === null) {
      if (!runs) return;
      vp.setSchedule(context, Schedule.Runnable);
      vp.setSchedule(first.context, Schedule.Stopped);
      return;
    }
    vp.setSchedule(first.context, Schedule.Runnable);
    if (!runs || first.context.activity !== Activity.Halted) return;
    first.context.activity = Activity.Running;
    this.#machine.eventsChanged(first.context);
  }

  planeReset(context: PlaneContext): void {
    const plane = this.#snp.chapters.switching.planeOf(context) as PlaneState;
    if (!plane.isWaitingForReset) {
      // Without a save area it stays where it is.
      if (this.#snp.level === SnpLevel.SevSnp && plane.vmsa < 0 && context.plane === 0 && this.#snp.chapters.svsm === null) this.#snp.chapters.switching.park(plane);
      return;
    }
    const { isForced } = plane;
    this.adopt(plane);
    if (plane.vmsa < 0) this.#snp.chapters.switching.park(plane);
    else if (isForced) {
      this.#snp.arch.apicOf(context).latches.setWaitingForSipi(false);
      context.activity = Activity.Running;
      plane.isRunnable = true;
    }
  }

  adopt(target: SnpPlane): void {
    const plane = target as PlaneState;
    plane.vmsa = plane.pendingVmsa;
    plane.pendingVmsa = -1;
    plane.isWaitingForReset = false;
    plane.isForced = false;
    plane.refusal = null;
    plane.resetHold = null;
    plane.doorbell = -1;
    plane.isNmiMasked = false;
    this.#snp.chapters.vmsas.release(plane);
    this.#snp.chapters.ghcb.planeReset?.(plane.context, 'powerOn');
  }

  // -- start-up messages without SNP ---------------------------------------------------------------------------------

  hold(plane: SnpPlane, through: 'msr' | 'ghcb'): Answer {
    const { context } = plane;
    plane.resetHold = through;
    context.activity = Activity.Halted;
    context.vp.statistics.halts++;
    this.#machine.eventsChanged(context);
    return context.vp.replies.resume();
  }

  startedUp(plane: SnpPlane): void {
    const { resetHold, context } = plane;
    if (!plane.isRunnable) {
      // The first message: the state that was measured runs, its vector does not count.
      plane.isRunnable = true;
      return;
    }
    plane.resetHold = null;
    if (resetHold !== null) context.completion = { owner: 'sev-snp-vmpl', kind: 'ghcb.ap-reset-hold', data: { through: resetHold }, reply: {} };
  }

  /** The guest went on for another reason: the hold is over. */
  left(context: PlaneContext, cause: string): void {
    if (cause !== 'event') this.#snp.chapters.switching.planeOf(context).resetHold = null;
  }

  save(): PlainState {
    return { jumpTable: this.jumpTable, features: this.#features.map((f) => (f === null ? null : `0x${f.toString(16)}`)) };
  }
  restore(state: PlainState): void {
    const s = state as PlainRecord;
    this.jumpTable = s['jumpTable'] as number;
    (s['features'] as readonly (string | null)[]).forEach((f, vmpl) => void (this.#features[vmpl] = f === null ? null : BigInt(f)));
  }
}
