import { DoorbellFlags, DoorbellPage, DoorbellRequest, HV_VECTOR, SevFeature, SnpLevel, SvmExit, VC_VECTOR, Vmsa, VMPL_COUNT } from '@vmplanes/abi-sev-snp';
import { AccessResult, type Answer, type Machine, PAGE_SIZE, type PlainState, type PlaneContext, Side, subject, SubjectKind } from '@vmplanes/engine';
import { ApicEvent, DeliveryMode, type EventDoor, icrMode, X86, type X86Events } from '@vmplanes/x86';
import type { Injection, SnpContext, SnpPlane } from '../ports.ts';
import type { PlaneState } from './plane-state.ts';

const INVALID_INPUT = 5;
const INTERRUPT = 1 << ApicEvent.interrupt;
const NMI = 1 << ApicEvent.nmi;

const VECTOR = DoorbellPage.at.vector;
const FLAGS = DoorbellPage.at.flags;
const { nmi: NMI_PENDING, noFurtherSignal: NO_FURTHER_SIGNAL } = DoorbellFlags.mask;

/** An exception that is on its way in. */
const INJECTED = 2;

// VINTR_CTRL, lower half.
const V_IRQ = 1 << 8;
const V_NMI = 1 << 11;
const V_IGNORE_TPR = 1 << 20;
const V_NMI_ENABLE = 1 << 26;
const VINTR = Vmsa.at.vintrCtrl;

/** Bits of an x2APIC interrupt command that are reserved. @spec APM vol. 2, 16.13 */
const ICR_RESERVED = 0xfff3_3000 | 0;

/**
 * Which events may enter a VMPL, and how. Normal: what its local APIC holds, as for any guest, but that an NMI waits until the guest says that the last one is
 * done. Restricted: nothing but #HV; what it is about is in the doorbell page. Alternate: what a more privileged VMPL left in the VMSA; the local APIC does not count.
 * @spec APM vol. 2, 15.36.16; GHCB 5
 */
export class InjectionChapter implements Injection, EventDoor {
  readonly stateName = 'injection';
  readonly #snp: SnpContext;
  readonly #machine: Machine;
  /** By VMPL: its doorbell page is looked at on behalf of it, so that a trace knows what the guest wrote there. */
  readonly #shared = Array.from({ length: VMPL_COUNT }, (_, vmpl) => subject(SubjectKind.Call, vmpl, Side.Shared));

  constructor(snp: SnpContext) {
    this.#snp = snp;
    this.#machine = snp.machine;
    if (snp.level === SnpLevel.Sev) return;
    snp.arch.eventDoor = () => this;
    // There is no system management mode that could save registers the host must not see. @spec Linux arch/x86/kvm/svm/svm.c
    const { fabric } = snp.arch;
    const before = fabric.filter;
    fabric.filter = (vp, plane, mode) => mode !== DeliveryMode.smi && (before?.(vp, plane, mode) ?? true);
  }

  #has(plane: SnpPlane, bit: number): boolean {
    return ((plane.featuresLo >>> bit) & 1) !== 0;
  }
  #planeOf(context: PlaneContext): PlaneState {
    return this.#snp.chapters.switching.planeOf(context) as PlaneState;
  }

  // -- the way into a VMPL -------------------------------------------------------------------------------------------

  deliverable({ context }: X86Events, set: number): number {
    const plane = this.#planeOf(context);
    if (this.#has(plane, SevFeature.AlternateInjection)) return this.#virtual(plane);
    if (this.#has(plane, SevFeature.RestrictedInjection)) return set === 0 ? 0 : this.#ringable(plane, set);
    return plane.isNmiMasked ? set & ~NMI : set;
  }

  takeable(events: X86Events, set: number): number {
    if (set === 0) return 0;
    if (!this.#has(this.#planeOf(events.context), SevFeature.RestrictedInjection)) return events.unmasked(set);
    // #HV is an exception: interrupt flag and shadows do not hold it, what is on its way in does.
    const { u32 } = this.#machine.arena;
    const b = events.context.base >>> 2;
    return u32[b + X86['exception.state'] / 4] !== 0 || u32[b + X86['interrupt.injected'] / 4] !== 0 || u32[b + X86['nmi.injected'] / 4] !== 0 ? 0 : set;
  }

  take(events: X86Events, set: number): void {
    const plane = this.#planeOf(events.context);
    if (this.#has(plane, SevFeature.AlternateInjection)) this.#takeVirtual(events, plane, set);
    else if (this.#has(plane, SevFeature.RestrictedInjection)) this.#ring(events, plane, set);
    else {
      if ((set & NMI) !== 0) plane.isNmiMasked = true;
      events.take(set);
    }
  }

  init({ context }: X86Events): boolean {
    // The registers are in the save area: they are not the processor's to reset.
    this.#snp.chapters.vmsas.store(this.#planeOf(context), SvmExit.Intr + 3, 0, 0, 0, 0);
    return true;
  }

  startUp({ context }: X86Events): boolean {
    this.#snp.chapters.aps.startedUp(this.#planeOf(context));
    return true;
  }

  // -- restricted ----------------------------------------------------------------------------------------------------

  hasDoorbell(plane: SnpPlane): boolean {
    return plane.doorbell >= 0 && this.#has(plane, SevFeature.RestrictedInjection) && this.#machine.memory.access.readU8(this.#shared[plane.context.plane]!, plane.doorbell) === AccessResult.Ok;
  }

  /** What the doorbell page can take: one vector at a time; without a page everything stays pending. */
  #ringable(plane: SnpPlane, set: number): number {
    const { access } = this.#machine.memory;
    if (plane.doorbell < 0 || access.readU8(this.#shared[plane.context.plane]!, plane.doorbell + VECTOR) !== AccessResult.Ok) return 0;
    return access.lo === 0 ? set & (INTERRUPT | NMI) : set & NMI;
  }

  /** Tells of an event, then signals, unless the guest was told and has not looked yet. @spec KVM planes series 2026-06, sev.c */
  #ring(events: X86Events, plane: SnpPlane, set: number): void {
    const { access } = this.#machine.memory;
    access.readU8(this.#shared[plane.context.plane]!, plane.doorbell + FLAGS);
    const flags = access.lo;
    let told = flags;
    if ((set & NMI) !== 0) {
      events.apic.latches.take(ApicEvent.nmi);
      told |= NMI_PENDING;
    } else access.writeU8(this.#shared[plane.context.plane]!, plane.doorbell + VECTOR, events.acknowledge());
    // The bit is there before anybody can see #HV: who looks at it before HLT or Run VMPL misses nothing.
    access.writeU8(this.#shared[plane.context.plane]!, plane.doorbell + FLAGS, told | NO_FURTHER_SIGNAL);
    if ((flags & NO_FURTHER_SIGNAL) === 0) this.#signal(events.context);
    this.#machine.eventsChanged(events.context);
  }

  #signal(context: PlaneContext): void {
    const { u32 } = this.#machine.arena;
    const b = context.base >>> 2;
    u32[b + X86['exception.state'] / 4] = INJECTED;
    u32[b + X86['exception.vector'] / 4] = HV_VECTOR;
    u32[b + X86['exception.hasErrorCode'] / 4] = 0;
    u32[b + X86['exception.hasPayload'] / 4] = 0;
  }

  doorbell(plane: SnpPlane, request: number, gpa: number): number {
    switch (request) {
      case DoorbellRequest.GetPreferred:
        return Number.POSITIVE_INFINITY;
      case DoorbellRequest.Query:
        return plane.doorbell < 0 ? 0 : plane.doorbell;
      case DoorbellRequest.Clear:
        return this.#register(plane, -1);
      case DoorbellRequest.Set:
        if (gpa % PAGE_SIZE === 0 && this.#machine.memory.access.readU8(this.#shared[plane.context.plane]!, gpa) === AccessResult.Ok) return this.#register(plane, gpa);
    }
    this.#register(plane, -1);
    return -INVALID_INPUT;
  }

  /** @returns what the guest is told: the page, or 0 for none. */
  #register(plane: SnpPlane, gpa: number): number {
    plane.doorbell = gpa;
    this.#machine.eventsChanged(plane.context);
    return Math.max(gpa, 0);
  }

  ipi({ context }: SnpPlane, lo: number, hi: number): boolean {
    const mode = icrMode(lo);
    if ((lo & ICR_RESERVED) !== 0 || mode === DeliveryMode.reserved || mode === DeliveryMode.extInt) return false;
    this.#snp.arch.fabric.router.sendCommand(this.#snp.arch.apicOf(context), lo, hi >>> 0, true);
    return true;
  }

  // -- alternate -----------------------------------------------------------------------------------------------------

  /** Virtual events that the VMSA holds for a VMPL that runs from it. */
  #virtual(plane: PlaneState): number {
    if (!plane.isLive) return 0;
    const control = this.#control(plane);
    const priority = (control >>> 16) & 15;
    let set = (control & V_NMI_ENABLE) !== 0 && (control & V_NMI) !== 0 && this.#machine.arena.u32[(plane.context.base + X86['nmi.blocked']) >>> 2] === 0 ? NMI : 0;
    if ((control & V_IRQ) !== 0 && ((control & V_IGNORE_TPR) !== 0 || priority > this.#snp.arch.apicOf(plane.context).cr8)) set |= INTERRUPT;
    return set;
  }

  #control(plane: PlaneState): number {
    return this.#snp.chapters.vmsas.word(plane, VINTR);
  }

  #takeVirtual(events: X86Events, plane: PlaneState, set: number): void {
    const { u32 } = this.#machine.arena;
    const b = events.context.base >>> 2;
    const { vmsas } = this.#snp.chapters;
    if ((set & NMI) !== 0) {
      u32[b + X86['nmi.injected'] / 4] = 1;
      u32[b + X86['nmi.blocked'] / 4] = 1;
      vmsas.setWord(plane, VINTR, this.#control(plane) & ~V_NMI);
    } else {
      events.inject(vmsas.word(plane, VINTR + 4) & 0xff);
      vmsas.setWord(plane, VINTR, this.#control(plane) & ~V_IRQ);
    }
    this.#machine.eventsChanged(events.context);
  }

  // -- normal --------------------------------------------------------------------------------------------------------

  nmiComplete(plane: SnpPlane): void {
    plane.isNmiMasked = false;
    this.#machine.eventsChanged(plane.context);
  }

  raiseVc({ context }: SnpPlane, exitCode: number): Answer {
    return context.vp.replies.fault(VC_VECTOR, exitCode);
  }

  save(): PlainState {
    return null;
  }
  restore(): void {}
}
