import { type Arena, HostError, type PlaneId, type VpIndex } from '@vmplanes/engine';
import { APIC_DEFAULT_BASE, ApicBase, ApicMode, isLegalApicBase, modeOf, x2apicLogicalId } from './apic-base.ts';
import { ApicBlock, ApicFlag, Extra, LOCAL_APIC_BYTES } from './block.ts';
import { ApicEvent, ApicReset, discardPending, type EventCounts, readCounts, readDiscardedBy, tally } from './counters.ts';
import { AcceptResult, DeliveryMode } from './icr.ts';
import { EventLatches } from './latches.ts';
import { LocalVectors } from './local-vectors.ts';
import { processorPriority, requestAbovePriority } from './priority.ts';
import { ApicReg, Esr, type LocalApicConfig, lvtOffsets, Lvt, RegisterRules, Svr } from './registers.ts';
import { type ApicClock, ApicTimer } from './timer.ts';

/**
 * What a local APIC tells its owner. Every call comes after the state it announces was written, so that whoever is
 * woken by it sees the request (a notice before its IRR bit would be a lost interrupt).
 */
export interface LocalApicPort {
  /** An event was latched; `merged` when the same event was pending already. The deadline may have moved too. */
  accepted(apic: LocalApic, event: ApicEvent, merged: boolean): void;
  /** Something else that decides on delivery changed: priorities, enables, latches taken, deadline. */
  changed(apic: LocalApic): void;
  /** Id, mode or logical destination changed: the maps of this plane need an update. */
  mapChanged(apic: LocalApic): void;
  /** The guest wrote an interrupt command. @param low - low word. @param destination - id in the width of the mode. */
  sendIpi(apic: LocalApic, low: number, destination: number): void;
  /** A vector left service, by EOI of the guest or of its owner. */
  ended(apic: LocalApic, vector: number): void;
  /** A level-triggered vector ended and the broadcast is not suppressed; null where nothing listens. */
  readonly eoiBroadcast: ((apic: LocalApic, vector: number) => void) | null;
}

/** Flags of which each can make an event besides vectors deliverable, or keep vectors from being so; SIPI comes only with INIT or the wait for it. */
const ANY_LATCH = ApicFlag.nmi | ApicFlag.smi | ApicFlag.init | ApicFlag.extInt | ApicFlag.waitForSipi | ApicFlag.lint0 | ApicFlag.lint1;

/** Saved form of one local APIC: its whole block. */
export interface LocalApicState {
  readonly version: 1;
  readonly block: Uint8Array;
}

/**
 * The local APIC of one plane context, in xAPIC and x2APIC mode. All state lies in one {@link ApicBlock}.
 * Messages beside vectors are in {@link EventLatches},
 * the local vector table in {@link LocalVectors}, register access by the guest in `register-access.ts`.
 * @spec SDM 3A chapter 10
 */
export class LocalApic {
  readonly block: ApicBlock;
  readonly rules: RegisterRules;
  readonly timer: ApicTimer;
  readonly vectors: LocalVectors;
  readonly latches: EventLatches;

  /**
   * Attaches to a block; a fresh block then needs {@link powerUp}, one with restored bytes needs {@link restored}.
   * @param at - byte offset of {@link LOCAL_APIC_BYTES} in the arena, a multiple of 8.
   * @param rules - compiled from the same configuration; shared by all APICs of a machine.
   */
  constructor(
    readonly vp: VpIndex,
    readonly plane: PlaneId,
    arena: Arena,
    at: number,
    readonly config: LocalApicConfig,
    readonly clock: ApicClock,
    readonly port: LocalApicPort,
    rules: RegisterRules = new RegisterRules(config),
  ) {
    this.block = new ApicBlock(arena, at);
    this.rules = rules;
    this.vectors = new LocalVectors(this);
    this.latches = new EventLatches(this);
    this.timer = new ApicTimer(this.block, clock, config.busTicks, () => this.vectors.deliver(ApicReg.lvtTimer));
  }

  /** The id that messages match in the current mode: 8 bits in xAPIC mode, 32 bits in x2APIC mode. */
  get id(): number {
    const cell = this.block.get(ApicReg.id);
    return this.mode === ApicMode.x2apic ? cell : cell >>> 24;
  }

  /** The 32-bit id given by the machine. */
  get initialId(): number {
    return this.block.get(Extra.initialId);
  }

  get mode(): ApicMode {
    return modeOf(this.block.get(Extra.baseLow));
  }

  /** False when IA32_APIC_BASE disables the APIC: it then receives nothing, and CPUID must hide it. */
  get isHardwareEnabled(): boolean {
    return (this.block.get(Extra.baseLow) & ApicBase.enabled) !== 0;
  }

  /** State of the enable bit of SVR, in an APIC that IA32_APIC_BASE enables. */
  get isSoftwareEnabled(): boolean {
    const { block } = this;
    return (block.get(ApicReg.svr) & Svr.enabled) !== 0 && (block.get(Extra.baseLow) & ApicBase.enabled) !== 0;
  }

  get isBootProcessor(): boolean {
    return (this.block.get(Extra.baseLow) & ApicBase.bsp) !== 0;
  }

  /** Physical address of the register page, or -1 when the mode has none. */
  get pageAddress(): number {
    if (this.mode !== ApicMode.xapic) return -1;
    return this.block.get(Extra.baseHigh) * 2 ** 32 + ((this.block.get(Extra.baseLow) & 0xffff_f000) >>> 0);
  }

  /**
   * Writes IA32_APIC_BASE and makes the mode transition.
   * @param host - the write comes from the VMM and may make any transition between valid modes.
   * @returns false when the write is #GP (or, from the VMM, invalid); nothing changed then.
   * @spec SDM 3A §10.4.3, §10.4.4, §10.12.5
   */
  writeApicBase(low: number, high: number, host = false): boolean {
    const before = this.block.get(Extra.baseLow);
    if (!isLegalApicBase(before, low, high, this.config, host)) return false;
    this.timer.settle();
    this.block.set(Extra.baseLow, low);
    this.block.set(Extra.baseHigh, high);
    if (modeOf(before) !== modeOf(low)) this.#enterMode(modeOf(before), modeOf(low));
    this.port.changed(this);
    return true;
  }

  #enterMode(from: ApicMode, to: ApicMode): void {
    const { block } = this;
    if (to === ApicMode.disabled) this.resetRegisters(ApicReset.disable);
    if (to === ApicMode.x2apic) {
      block.set(ApicReg.id, this.initialId);
      block.set(ApicReg.ldr, x2apicLogicalId(this.initialId));
      block.set(ApicReg.icrHigh, 0);
    } else if (from === ApicMode.x2apic) {
      block.set(ApicReg.id, this.initialId << 24);
      block.set(ApicReg.ldr, 0);
    }
    this.port.mapChanged(this);
  }

  // Reset

  /**
   * Fills a fresh block with the state after power-up. An application processor waits for SIPI from the start:
   * an INIT sent later on its behalf could overtake the start-up messages of the guest.
   * @param id - 32-bit id.
   * @spec SDM 3A §10.4.7.1, §8.4.2
   */
  powerUp(id: number, isBootProcessor: boolean): void {
    const { arena, at } = this.block;
    arena.u8.fill(0, at, at + LOCAL_APIC_BYTES);
    this.block.set(Extra.initialId, id);
    this.block.set(Extra.baseLow, isBootProcessor ? ApicBase.bsp : 0);
    this.reset();
  }

  /** RESET of this context alone: xAPIC mode, id as given by the machine. What was pending is counted as discarded. */
  reset(): void {
    const { block } = this;
    block.set(Extra.baseLow, APIC_DEFAULT_BASE | ApicBase.enabled | (block.get(Extra.baseLow) & ApicBase.bsp));
    block.set(Extra.baseHigh, 0);
    block.set(Extra.arbitration, 0);
    block.set(ApicReg.id, this.initialId << 24);
    this.latches.reset();
    this.resetRegisters(ApicReset.reset);
  }

  /** Puts the registers into the state after RESET; id and mode stay. Vectors pending are counted as discarded. @spec SDM 3A §10.4.7.1, §10.4.7.3 */
  resetRegisters(cause: ApicReset): void {
    const { block, rules } = this;
    const id = block.get(ApicReg.id);
    discardPending(block, ApicEvent.interrupt, cause);
    for (let slot = 0; slot < 64; slot++) block.set(slot << 4, rules.reset[slot]!);
    block.set(ApicReg.id, id);
    if (this.mode === ApicMode.x2apic) block.set(ApicReg.ldr, x2apicLogicalId(id));
    block.set(Extra.errors, 0);
    block.clear(ApicFlag.errorDisarmed);
    this.timer.stop();
    this.restored();
  }

  // Acceptance

  /**
   * Takes a message from another APIC, an I/O APIC, a device or the owner.
   * @param level - state of the level flag; only INIT looks at it.
   * @param isLevel - trigger mode: level (true) or edge.
   * @spec SDM 3A §10.8
   */
  accept(mode: DeliveryMode, vector: number, level: boolean, isLevel: boolean): AcceptResult {
    switch (mode) {
      case DeliveryMode.fixed:
      case DeliveryMode.lowestPriority:
        return this.acceptVector(vector, isLevel);
      case DeliveryMode.smi:
        return this.latches.accept(ApicEvent.smi);
      case DeliveryMode.nmi:
        return this.latches.accept(ApicEvent.nmi);
      case DeliveryMode.init:
        return isLevel && !level ? AcceptResult.refused : this.latches.acceptInit();
      case DeliveryMode.startUp:
        return this.latches.acceptSipi(vector);
      case DeliveryMode.extInt:
        return this.latches.accept(ApicEvent.extInt);
      case DeliveryMode.reserved:
        return AcceptResult.refused;
      default: {
        const never: never = mode;
        return never;
      }
    }
  }

  /**
   * Requests a vector. Vectors below 16 are illegal; a software-disabled APIC does not respond unless configured to.
   * @spec SDM 3A §10.5.2, §10.8.4, §10.4.7.2
   */
  acceptVector(vector: number, isLevel: boolean): AcceptResult {
    const { block } = this;
    if (!(this.isSoftwareEnabled || (this.isHardwareEnabled && this.config.whileSoftwareDisabled === 'hold'))) return this.refuse(ApicEvent.interrupt);
    if (vector < 16) {
      this.logError(Esr.receiveIllegalVector);
      return this.refuse(ApicEvent.interrupt);
    }
    const merged = block.test(ApicReg.irr, vector);
    if (isLevel) block.setBit(ApicReg.tmr, vector);
    else block.clearBit(ApicReg.tmr, vector);
    block.setBit(ApicReg.irr, vector);
    return this.announce(ApicEvent.interrupt, merged);
  }

  /** Counts and announces an event whose latch is set already. For the parts of this APIC. */
  announce(event: ApicEvent, merged: boolean): AcceptResult {
    tally(this.block, event, 'accepted');
    if (merged) tally(this.block, event, 'merged');
    this.port.accepted(this, event, merged);
    return merged ? AcceptResult.merged : AcceptResult.accepted;
  }

  /** Counts a message this APIC does not respond to. For the parts of this APIC. */
  refuse(event: ApicEvent): AcceptResult {
    tally(this.block, event, 'refused');
    return AcceptResult.refused;
  }

  /** Collects an error; the first one since the last write of ESR raises the LVT error interrupt. @spec SDM 3A §10.5.3 */
  logError(bit: number): void {
    this.block.set(Extra.errors, this.block.get(Extra.errors) | bit);
    if (this.block.has(ApicFlag.errorDisarmed)) return;
    this.block.raise(ApicFlag.errorDisarmed);
    this.vectors.deliver(ApicReg.lvtError);
  }

  // Priority and delivery

  /** True when any vector is requested, whatever its priority. */
  irrNonEmpty(): boolean {
    return this.highestIrr() >= 0;
  }

  /** Highest requested vector, or -1. */
  highestIrr(): number {
    return this.block.highest(ApicReg.irr);
  }

  /** Highest vector in service, or -1. */
  highestIsr(): number {
    return this.block.highest(ApicReg.isr);
  }

  get tpr(): number {
    return this.block.get(ApicReg.tpr);
  }

  /** Sets the task priority. @param value - 0..255. */
  setTpr(value: number): void {
    if (value === this.tpr) return;
    this.block.set(ApicReg.tpr, value & 0xff);
    this.port.changed(this);
  }

  /** CR8 is the class of the task priority. @spec SDM 3A §10.8.6.1 */
  get cr8(): number {
    return this.tpr >>> 4;
  }

  setCr8(value: number): void {
    this.setTpr((value & 15) << 4);
  }

  /** Processor priority, as read from PPR. @spec SDM 3A §10.8.3.1 */
  ppr(): number {
    return processorPriority(this.block);
  }

  /** Requested vector that the processor may take now, or -1; RFLAGS.IF is not looked at. @spec SDM 3A §10.8.3, §10.4.7.2 */
  deliverableVector(): number {
    return this.isSoftwareEnabled ? requestAbovePriority(this.block) : -1;
  }

  /**
   * Set of event classes that could be delivered now, bit n for class n of {@link ApicEvent}. RFLAGS.IF and the
   * blocking of NMI and SMI are the caller's business. While waiting for SIPI only INIT and SIPI count.
   */
  deliverable(): number {
    const { block } = this;
    // Nothing but vectors: the usual case by far.
    if (!block.has(ANY_LATCH)) return this.deliverableVector() >= 0 ? 1 << ApicEvent.interrupt : 0;
    let set = block.has(ApicFlag.init) ? 1 << ApicEvent.init : 0;
    if (block.has(ApicFlag.sipi)) set |= 1 << ApicEvent.sipi;
    if (block.has(ApicFlag.waitForSipi)) return set;
    if (block.has(ApicFlag.nmi)) set |= 1 << ApicEvent.nmi;
    if (block.has(ApicFlag.smi)) set |= 1 << ApicEvent.smi;
    if (this.vectors.extIntPending()) set |= 1 << ApicEvent.extInt;
    return this.deliverableVector() >= 0 ? set | (1 << ApicEvent.interrupt) : set;
  }

  /** True when any event class is {@link deliverable}. */
  hasDeliverable(): boolean {
    return this.deliverable() !== 0;
  }

  /**
   * Gives the processor the vector it takes and moves it from IRR to ISR. When the request went below the priority
   * in between, this is the spurious vector and nothing is in service.
   * @spec SDM 3A §10.8.4, §10.9
   */
  acknowledge(): number {
    const { block } = this;
    const vector = this.deliverableVector();
    if (vector < 0) return block.get(ApicReg.svr) & Svr.vector;
    block.clearBit(ApicReg.irr, vector);
    block.setBit(ApicReg.isr, vector);
    tally(block, ApicEvent.interrupt, 'delivered');
    this.port.changed(this);
    return vector;
  }

  /** Ends the highest vector in service. @returns that vector, or -1. @spec SDM 3A §10.8.5 */
  eoi(): number {
    const { block } = this;
    const vector = this.highestIsr();
    if (vector < 0) return -1;
    block.clearBit(ApicReg.isr, vector);
    if (block.test(ApicReg.tmr, vector) && (block.get(ApicReg.svr) & Svr.suppressEoiBroadcast) === 0) this.port.eoiBroadcast?.(this, vector);
    this.vectors.ended(vector);
    this.port.changed(this);
    this.port.ended(this, vector);
    return vector;
  }

  /** Machine tick at which {@link expire} is due, or Infinity. */
  deadline(): number {
    return this.timer.deadline();
  }

  /** Serves the timer; a request it makes is accepted like any other. @returns true when the deadline had come. */
  expire(now: number): boolean {
    if (!this.timer.expire(now)) return false;
    this.port.changed(this);
    return true;
  }

  /** Writes SVR; a software disable masks every LVT entry and holds what is requested or in service. @spec SDM 3A §10.4.7.2 */
  writeSvr(value: number): void {
    this.timer.settle();
    this.block.set(ApicReg.svr, value);
    if ((value & Svr.enabled) === 0) {
      for (const offset of lvtOffsets) {
        if (this.rules.xapic[offset >> 4] !== 0) this.block.set(offset, this.block.get(offset) | Lvt.masked);
      }
    }
    this.port.changed(this);
  }

  /** History of one event class. */
  counts(event: ApicEvent): EventCounts {
    return readCounts(this.block, event);
  }

  /** Pending events thrown away by one cause so far. */
  discardedBy(cause: ApicReset): number {
    return readDiscardedBy(this.block, cause);
  }

  save(): LocalApicState {
    const { arena, at } = this.block;
    return { version: 1, block: arena.u8.slice(at, at + LOCAL_APIC_BYTES) };
  }

  /** @throws {HostError} BadSnapshot on another version or size. */
  restore(state: LocalApicState): void {
    if (state.version !== 1 || state.block.length !== LOCAL_APIC_BYTES) throw new HostError('BadSnapshot', `APIC state: version ${String(state.version)} with ${state.block.length} bytes`);
    this.block.arena.u8.set(state.block, this.block.at);
    this.restored();
  }

  /** To be called after the bytes of the block were replaced: what others derive from them is computed anew. */
  restored(): void {
    this.port.mapChanged(this);
    this.port.changed(this);
  }
}
