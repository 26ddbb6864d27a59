import { Activity, type EventBalance, type EventSource, type Machine, type PlainState, type PlaneContext } from '@vmplanes/engine';
import { acceptCoded, AcceptResult, ApicEvent, type DeliveryMode, icrMode, type LocalApic, type LocalApicState, readTotals } from '../apic/index.ts';
import { X86 } from '../state/layout.ts';
import { resetContext, type ResetParameters } from '../state/reset.ts';

const IF = 1 << 9;
const bit = (event: ApicEvent): number => 1 << event;
const MASKABLE = bit(ApicEvent.interrupt) | bit(ApicEvent.extInt);
const START = bit(ApicEvent.init) | bit(ApicEvent.sipi);

/** The message codes of {@link EventSource.deliver}: the layout of the low word of an interrupt command. @spec SDM 3A §10.6.1 */
export const encodeMessage = (mode: DeliveryMode, vector: number, isAssert: boolean, isLevel: boolean): number => vector | (mode << 8) | (isAssert ? 1 << 14 : 0) | (isLevel ? 1 << 15 : 0);

/**
 * Another way of events into a plane than that of a processor, which {@link X86Events} offers it, too. Sets are bits of {@link ApicEvent}; start signals
 * stay with the processor.
 */
export interface EventDoor {
  /** Of the classes that the local APIC holds for the plane, and others of its own, those that could come in if the plane ran. */
  deliverable(events: X86Events, set: number): number;
  /** Of those, the ones that would come in at the next entry. */
  takeable(events: X86Events, set: number): number;
  /** Brings events of a set in. */
  take(events: X86Events, set: number): void;
  /** INIT was taken. @returns true when the registers are not the processor's to reset. */
  init(events: X86Events): boolean;
  /** A start-up message was taken. @returns true when the plane starts otherwise than at its vector. */
  startUp(events: X86Events, vector: number): boolean;
}

/** The interrupt controller that gives the vectors of external interrupts; null while there is none. */
export interface ExternalInterrupts {
  /** @returns the vector, 0..255. */
  acknowledge: ((apic: LocalApic) => number) | null;
}

/**
 * The events of one x86 plane context: what its local APIC holds, gated by what the context says of interrupt flag,
 * shadows and NMI blocking. Only the local APIC stores events; the context block has what is being delivered.
 */
export class X86Events implements EventSource {
  constructor(
    readonly machine: Machine,
    readonly context: PlaneContext,
    readonly apic: LocalApic,
    readonly external: ExternalInterrupts,
    readonly resetParameters: () => ResetParameters,
    readonly taken: (apic: LocalApic, vector: number) => void,
    /** Asked again when a message that was on its way arrives: what forbids it may have come since. */
    readonly admits: (apic: LocalApic, mode: DeliveryMode) => boolean,
    /** Null for a plane that takes events as processors do. */
    readonly door: (context: PlaneContext) => EventDoor | null,
  ) {}

  #cell(offset: number): number {
    return this.machine.arena.u32[(this.context.base + offset) >>> 2]!;
  }
  #setCell(offset: number, value: number): void {
    this.machine.arena.u32[(this.context.base + offset) >>> 2] = value;
  }

  /**
   * Event classes that count as pending for the plane. SMI is held, system management mode is not implemented; an external
   * interrupt is held while nobody can tell its vector.
   */
  #pending(): number {
    let set = this.apic.deliverable() & ~bit(ApicEvent.smi);
    const door = this.door(this.context);
    if (set === 0 && door === null) return 0;
    if (this.external.acknowledge === null) set &= ~bit(ApicEvent.extInt);
    if (this.#cell(X86['nmi.blocked']) !== 0) set &= ~bit(ApicEvent.nmi);
    return door === null ? set : (set & START) | door.deliverable(this, set & ~START);
  }

  /** Event classes that the plane would take at its next entry. */
  #takeable(): number {
    const set = this.#pending();
    if (set === 0) return 0;
    const door = this.door(this.context);
    return door === null ? this.unmasked(set) : (set & START) | door.takeable(this, set & ~START);
  }

  /** Of a set of classes, those that a processor takes now: interrupt flag, shadows and what is being delivered let them pass. */
  unmasked(set: number): number {
    const shadow = this.#cell(X86.interruptShadow);
    if (shadow !== 0 || (this.#cell(X86.rflags) & IF) === 0 || this.#cell(X86['interrupt.injected']) !== 0) set &= ~MASKABLE;
    // An NMI waits for the instruction behind MOV SS.
    if ((shadow & 1) !== 0) set &= ~bit(ApicEvent.nmi);
    // A fault that is due goes first.
    if (this.#cell(X86['exception.state']) !== 0) set &= START;
    return set;
  }

  requested(): boolean {
    return this.apic.irrNonEmpty();
  }
  deliverable(): boolean {
    // A timer that is due is a stored event already: the engine turns it into one as its time comes.
    return this.#pending() !== 0;
  }
  wakes(): boolean {
    if (this.context.activity === Activity.WaitForSipi) return (this.#pending() & START) !== 0;
    return this.#takeable() !== 0;
  }
  /** INIT is taken at the next instruction boundary, and a plane that waits is at one. @spec SDM 3A §10.1, §11.4.7.3 */
  resets(): boolean {
    return (this.#takeable() & bit(ApicEvent.init)) !== 0;
  }

  enter(): boolean {
    const set = this.#takeable();
    if (set === 0) return false;
    if ((set & START) !== 0) return this.#start();
    const door = this.door(this.context);
    if (door === null) this.take(set);
    else door.take(this, set);
    return false;
  }

  /** Begins the delivery of one event of a set, the most urgent one, as a processor does. */
  take(set: number): void {
    if ((set & bit(ApicEvent.nmi)) !== 0) {
      this.apic.latches.take(ApicEvent.nmi);
      this.#setCell(X86['nmi.injected'], 1);
      this.#setCell(X86['nmi.blocked'], 1);
      this.machine.eventsChanged(this.context);
    } else if ((set & bit(ApicEvent.interrupt)) !== 0) {
      const vector = this.apic.acknowledge();
      this.inject(vector);
      this.taken(this.apic, vector);
    } else {
      const vector = this.external.acknowledge!(this.apic);
      this.apic.latches.take(ApicEvent.extInt);
      this.inject(vector);
      this.machine.eventsChanged(this.context);
    }
  }

  /** Takes the most urgent vector from the local APIC for a delivery of the caller's: it is in service. */
  acknowledge(): number {
    const vector = this.apic.acknowledge();
    this.taken(this.apic, vector);
    return vector;
  }

  /** Begins the delivery of an external interrupt. */
  inject(vector: number): void {
    this.#setCell(X86['interrupt.injected'], 1);
    this.#setCell(X86['interrupt.vector'], vector);
    this.#setCell(X86['interrupt.soft'], 0);
  }

  /** INIT, then the SIPI that may have come behind it. @returns whether a door made this another start. @spec SDM 3A §8.4.2 */
  #start(): boolean {
    const { context, apic } = this;
    const door = this.door(context);
    const isReset = apic.latches.takeInit();
    if (isReset) {
      if (door === null || !door.init(this)) resetContext(this.machine.arena, context.base, 'init', this.resetParameters());
      context.activity = apic.isBootProcessor ? Activity.Running : Activity.WaitForSipi;
      this.machine.wasReset(context, 'init');
    }
    const vector = apic.latches.takeSipi();
    if (vector >= 0 && (door === null || !door.startUp(this, vector))) {
      // Execution starts at vector * 4096 in real mode.
      this.#setCell(X86['cs.selector'], vector << 8);
      this.#setCell(X86['cs.base'], vector << 12);
      this.#setCell(X86['cs.base'] + 4, 0);
      this.#setCell(X86.rip, 0);
      this.#setCell(X86.rip + 4, 0);
    }
    if (vector >= 0) context.activity = Activity.Running;
    this.machine.eventsChanged(context);
    return door !== null && (isReset || vector >= 0);
  }

  deadline(): number {
    return this.apic.timer.deadline();
  }
  expire(now: number): void {
    this.apic.timer.expire(now);
    this.machine.eventsChanged(this.context);
  }

  deliver(code: number): number {
    if (!this.admits(this.apic, icrMode(code))) return 0;
    return acceptCoded(this.apic, code) === AcceptResult.accepted ? 1 : 0;
  }

  balance(): EventBalance {
    return readTotals(this.apic.block);
  }

  save(): PlainState {
    return this.apic.save();
  }
  restore(state: PlainState): void {
    this.apic.restore(state as LocalApicState);
  }
}
