import { HV_EVENT_FLAGS_COUNT, HV_MESSAGE_SIZE, HV_SYNIC_SINT_COUNT, HV_SYNIC_SINT_RESET, HvMessageHeader, HvStatus } from '@vmplanes/abi-hyperv';
import { MAX_PLANES, type PlainRecord, type PlainState, type PlaneContext } from '@vmplanes/engine';
import { AcceptResult, DeliveryMode, type LocalApic } from '@vmplanes/x86';
import { MessageQueue, type QueuedMessage } from './message-queue.ts';
import { isEnabled, pageOf } from './page-register.ts';
import type { HvContext, OverlayKind, Synic } from './ports.ts';
import { isLegalSint, raisesInterrupt, receives, sintVector, usesAutoEoi } from './sint.ts';

const MESSAGE_PENDING = 1;

/** The interrupt controller of one VTL of one VP. */
class VtlSynic {
  scontrol: bigint;
  siefp = 0n;
  simp = 0n;
  readonly sints = new BigUint64Array(HV_SYNIC_SINT_COUNT).fill(HV_SYNIC_SINT_RESET);
  readonly queue = new MessageQueue();
  /** Requested vectors that end by themselves, one bit each, beside those that a SINT makes so. */
  readonly selfEnding = new Uint32Array(8);
  /** SINTs whose readiness is asked about, one bit each. */
  wanted = 0;
  /** Derived: vectors that a SINT makes end by themselves. */
  readonly autoEoi = new Uint32Array(8);

  constructor(scontrol: bigint) {
    this.scontrol = scontrol;
  }

  derive(): void {
    this.autoEoi.fill(0);
    for (const sint of this.sints) if (usesAutoEoi(sint)) this.autoEoi[sintVector(sint) >>> 5]! |= 1 << (sintVector(sint) & 31);
  }
}

/**
 * The synthetic interrupt controllers: one for each VTL of each VP, none of which sees another. A message goes into its slot of the message
 * page or waits in a queue; the queue is tried again whenever something happened that may have freed the slot: end of message, end of
 * interrupt, a new message, a change of a register.
 * @spec TLFS Inter-Partition Communication, SynIC; TLFS v5.0C (PDF) §11.3, §11.4
 */
export class SynicChapter implements Synic {
  readonly stateName = 'synic';
  wasNew = false;
  /** By VP index * 16 + VTL. */
  readonly #units: VtlSynic[] = [];

  constructor(readonly hv: HvContext) {
    hv.arch.fabric.onTaken = this.#taken;
    hv.arch.fabric.onEnded = this.#ended;
  }

  #unit(context: PlaneContext): VtlSynic {
    return (this.#units[context.vp.index * MAX_PLANES + context.plane] ??= new VtlSynic(this.hv.options.scontrolEnabled ? 1n : 0n));
  }
  #page(kind: OverlayKind, context: PlaneContext): number {
    return this.hv.chapters.overlays.frameByte(kind, context.vp.index, context.plane);
  }

  // -- registers -----------------------------------------------------------------------------------------------------

  scontrol(context: PlaneContext): bigint {
    return this.#unit(context).scontrol;
  }
  setScontrol(context: PlaneContext, value: bigint): void {
    this.#unit(context).scontrol = value;
    this.retry(context);
  }

  simp(context: PlaneContext): bigint {
    return this.#unit(context).simp;
  }
  setSimp(context: PlaneContext, value: bigint): boolean {
    if (!this.#place('simp', context, value)) return false;
    this.#unit(context).simp = value;
    this.retry(context);
    return true;
  }

  siefp(context: PlaneContext): bigint {
    return this.#unit(context).siefp;
  }
  setSiefp(context: PlaneContext, value: bigint): boolean {
    if (!this.#place('siefp', context, value)) return false;
    this.#unit(context).siefp = value;
    return true;
  }

  /** A page beyond the address space is enabled but nowhere to be seen. */
  #place(kind: 'simp' | 'siefp', { vp, plane }: PlaneContext, value: bigint): boolean {
    const { overlays } = this.hv.chapters;
    const seen = isEnabled(value) && overlays.isInSpace(pageOf(value));
    return overlays.place(kind, vp.index, plane, seen ? pageOf(value) : null) >= 0 || !seen;
  }

  sint(context: PlaneContext, n: number): bigint {
    return this.#unit(context).sints[n]!;
  }
  setSint(context: PlaneContext, n: number, value: bigint): boolean {
    if (!isLegalSint(value)) return false;
    const unit = this.#unit(context);
    unit.sints[n] = value;
    unit.derive();
    this.retry(context);
    return true;
  }

  // -- messages ------------------------------------------------------------------------------------------------------

  post(context: PlaneContext, sint: number, message: Uint8Array, queue: boolean): 'delivered' | 'busy' | 'full' | 'unavailable' {
    const unit = this.#unit(context);
    if (!this.#canReceive(unit, sint)) return 'unavailable';
    // What came first goes first: while something is left of it, the slot is in use.
    if (unit.queue.holds(sint)) this.#drain(context, unit);
    if (this.#deliver(context, unit, sint, message)) return 'delivered';
    this.#markPending(context, sint);
    if (!queue) return 'busy';
    return unit.queue.add(sint, message) ? 'busy' : 'full';
  }

  readySints(context: PlaneContext): number {
    const unit = this.#unit(context);
    let ready = 0;
    for (let n = 0; n < HV_SYNIC_SINT_COUNT; n++) if (this.#canReceive(unit, n) && !unit.queue.holds(n) && this.#isFree(context, n)) ready |= 1 << n;
    return ready;
  }

  wantedSints(context: PlaneContext): number {
    return this.#unit(context).wanted;
  }
  setWantedSints(context: PlaneContext, sints: number): void {
    const unit = this.#unit(context);
    unit.wanted = sints & ((1 << HV_SYNIC_SINT_COUNT) - 1);
    this.#tellReady(context, unit);
  }
  #tellReady(context: PlaneContext, unit: VtlSynic): void {
    const ready = unit.wanted === 0 ? 0 : unit.wanted & this.readySints(context);
    if (ready === 0) return;
    unit.wanted &= ~ready;
    this.hv.chapters.intercepts.sintsReady?.(context, ready);
  }

  #canReceive(unit: VtlSynic, sint: number): boolean {
    return sint < HV_SYNIC_SINT_COUNT && isEnabled(unit.scontrol) && isEnabled(unit.simp) && receives(unit.sints[sint]!);
  }
  #slot(context: PlaneContext, sint: number): number {
    const page = this.#page('simp', context);
    return page < 0 ? -1 : page + sint * HV_MESSAGE_SIZE;
  }
  #isFree(context: PlaneContext, sint: number): boolean {
    const slot = this.#slot(context, sint);
    return slot >= 0 && this.hv.machine.arena.u32[(slot + HvMessageHeader.at.type) >>> 2] === 0;
  }

  /** @returns false when the slot is in use. */
  #deliver(context: PlaneContext, unit: VtlSynic, sint: number, message: Uint8Array): boolean {
    if (!this.#isFree(context, sint)) return false;
    const slot = this.#slot(context, sint);
    const { u8 } = this.hv.machine.arena;
    // The type makes it a message: it is written last.
    u8.set(message.subarray(4, HV_MESSAGE_SIZE), slot + 4);
    u8[slot + HvMessageHeader.at.flags] = message[HvMessageHeader.at.flags]! & ~MESSAGE_PENDING;
    u8.set(message.subarray(0, 4), slot);
    const value = unit.sints[sint]!;
    if (raisesInterrupt(value)) this.raise(context, sintVector(value), false);
    return true;
  }

  #markPending(context: PlaneContext, sint: number): void {
    const slot = this.#slot(context, sint);
    if (slot >= 0) this.hv.machine.arena.u8[slot + HvMessageHeader.at.flags]! |= MESSAGE_PENDING;
  }

  retry(context: PlaneContext): void {
    const unit = this.#unit(context);
    if (!unit.queue.isEmpty) this.#drain(context, unit);
    this.hv.chapters.timers.retry(context);
    this.#tellReady(context, unit);
  }

  /** Moves queued messages into the slots that are free, each SINT's in order, intercepts first. */
  #drain(context: PlaneContext, unit: VtlSynic): void {
    unit.queue.take((m) => {
      if (!this.#canReceive(unit, m.sint)) return false;
      if (!this.#deliver(context, unit, m.sint, m.message)) {
        this.#markPending(context, m.sint);
        return false;
      }
      if (m.isIntercept) this.hv.chapters.intercepts.delivered?.(context);
      return true;
    });
    for (let n = 0; n < HV_SYNIC_SINT_COUNT; n++) if (unit.queue.holds(n) && this.#canReceive(unit, n)) this.#markPending(context, n);
  }

  // -- event flags ---------------------------------------------------------------------------------------------------

  signal(context: PlaneContext, sint: number, flag: number): number {
    this.wasNew = false;
    if (sint >= HV_SYNIC_SINT_COUNT || flag >= HV_EVENT_FLAGS_COUNT) return HvStatus.InvalidParameter;
    const unit = this.#unit(context);
    const value = unit.sints[sint]!;
    const page = isEnabled(unit.siefp) ? this.#page('siefp', context) : -1;
    if (!isEnabled(unit.scontrol) || page < 0 || !receives(value)) return HvStatus.InvalidSynicState;
    const { u8 } = this.hv.machine.arena;
    const at = page + ((sint * HV_EVENT_FLAGS_COUNT + flag) >>> 3);
    const bit = 1 << (flag & 7);
    this.wasNew = (u8[at]! & bit) === 0;
    u8[at]! |= bit;
    if (this.wasNew && raisesInterrupt(value)) this.raise(context, sintVector(value), false);
    return HvStatus.Success;
  }

  // -- interrupts ----------------------------------------------------------------------------------------------------

  raise(context: PlaneContext, vector: number, autoEoi: boolean): void {
    const isRefused = this.hv.arch.fabric.deliver(context.vp.index, context.plane, DeliveryMode.fixed, vector, true, false) === AcceptResult.refused;
    // One that the APIC did not take leaves nothing behind for a later interrupt of its vector.
    if (autoEoi && !isRefused) this.#unit(context).selfEnding[vector >>> 5]! |= 1 << (vector & 31);
  }

  readonly #taken = (apic: LocalApic, vector: number): void => {
    const context = this.hv.machine.vps[apic.vp]!.plane(apic.plane);
    const unit = this.#units[apic.vp * MAX_PLANES + apic.plane];
    const word = vector >>> 5;
    const bit = 1 << (vector & 31);
    if (unit !== undefined && ((unit.autoEoi[word]! | unit.selfEnding[word]!) & bit) !== 0) {
      unit.selfEnding[word]! &= ~bit;
      apic.eoi();
    } else {
      this.hv.chapters.assist.taken(context, vector);
    }
  };

  readonly #ended = (apic: LocalApic): void => {
    const context = this.hv.machine.vps[apic.vp]!.plane(apic.plane);
    this.hv.chapters.assist.ended(context);
    this.retry(context);
  };

  // -- state -----------------------------------------------------------------------------------------------------------

  reset(): void {
    this.#units.length = 0;
  }

  save(): PlainState {
    const units = this.#units.flatMap((u, at) => [{ at, scontrol: u.scontrol, siefp: u.siefp, simp: u.simp, sints: u.sints.slice(), selfEnding: u.selfEnding.slice(), wanted: u.wanted, queue: u.queue.save() }]);
    return { units };
  }

  restore(state: PlainState): void {
    this.#units.length = 0;
    for (const s of (state as PlainRecord)['units'] as readonly SavedUnit[]) {
      const unit = new VtlSynic(s.scontrol);
      unit.siefp = s.siefp;
      unit.simp = s.simp;
      unit.sints.set(s.sints);
      unit.selfEnding.set(s.selfEnding);
      unit.wanted = s.wanted;
      unit.queue.restore(s.queue);
      unit.derive();
      this.#units[s.at] = unit;
    }
  }
}

interface SavedUnit {
  readonly at: number;
  readonly scontrol: bigint;
  readonly siefp: bigint;
  readonly simp: bigint;
  readonly sints: BigUint64Array;
  readonly selfEnding: Uint32Array;
  readonly wanted: number;
  readonly queue: readonly QueuedMessage[];
}
