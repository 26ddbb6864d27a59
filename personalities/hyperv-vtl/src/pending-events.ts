import { HvDeliverabilityNotificationsRegister, HvStatus, HvX64PendingEventType, HvX64PendingInterruptionType } from '@vmplanes/abi-hyperv';
import { Activity, type Fault, MAX_PLANES, MAX_VPS, type PlainRecord, type PlainState, type PlaneContext } from '@vmplanes/engine';
import { X86 } from '@vmplanes/x86';
import { combinedFault } from './double-fault.ts';
import type { HvContext, PendingEvents } from './ports.ts';

const PENDING = 1n;
const NMI = 2;
/** Highest vector that is an exception of the processor. @spec SDM 3A Table 6-1 */
const LAST_EXCEPTION = 0x15;
const FIRST_INTERRUPT = 16;
const U32 = 0xffff_ffffn;
const RFLAGS_IF = 1 << 9;
const { nmiNotification, interruptNotification, interruptPriority, sints: SINTS } = HvDeliverabilityNotificationsRegister.mask;
const { interruptPriority: PRIORITY_SHIFT, sints: SINTS_SHIFT } = HvDeliverabilityNotificationsRegister.shift;

/** What a higher VTL left for one VTL of one VP. */
interface Slot {
  event: bigint;
  second: bigint;
  notifications: bigint;
  /** VTL that asked for the notifications. */
  by: number;
  /** SINTs that it asked about and that are ready, still to be told. */
  ready: number;
}

const typeOf = (event: bigint): number => Number((event >> 1n) & 7n);
const vectorOf = (event: bigint): number => (typeOf(event) === HvX64PendingEventType.ExternalInterrupt ? Number((event >> 8n) & 0xffn) : Number((event >> 16n) & 0xffffn));

/** Exceptions of the processor and external interrupts can be given; the other events are the hypervisor's own. */
const isLegal = (event: bigint): boolean => {
  if ((event & PENDING) === 0n) return true;
  const vector = vectorOf(event);
  switch (typeOf(event)) {
    case HvX64PendingEventType.Exception:
      return vector <= LAST_EXCEPTION && vector !== NMI;
    case HvX64PendingEventType.ExternalInterrupt:
      return vector >= FIRST_INTERRUPT;
    default:
      return false;
  }
};

/**
 * Events that a higher VTL injects into a lower one, taken when that one runs next; and notifications of what a lower VTL can take.
 * @spec TLFS Virtual Secure Mode; openvmm vm/hv1/hvdef/src/lib.rs (HvX64PendingEvent, HvDeliverabilityNotificationsRegister)
 */
export class PendingEventChapter implements PendingEvents {
  readonly stateName = 'events';
  /** By VP index * 16 + VTL. */
  readonly #slots: (Slot | undefined)[] = [];
  /** Derived: 1 where something was ever left or asked for, for the tests in every turn. */
  readonly #used = new Uint8Array(MAX_VPS * MAX_PLANES);
  readonly #fault = { code: 0, errorCode: null as number | null, addressLo: 0, addressHi: 0 };

  constructor(readonly hv: HvContext) {}

  #slot({ vp, plane }: PlaneContext): Slot {
    const at = vp.index * MAX_PLANES + plane;
    this.#used[at] = 1;
    return (this.#slots[at] ??= { event: 0n, second: 0n, notifications: 0n, by: 0, ready: 0 });
  }

  read(context: PlaneContext, half: 0 | 1): bigint {
    const slot = this.#slot(context);
    return half === 0 ? slot.event : slot.second;
  }

  write(context: PlaneContext, half: 0 | 1, value: bigint): number {
    const slot = this.#slot(context);
    if (half === 1) {
      slot.second = value;
      return HvStatus.Success;
    }
    if (!isLegal(value)) return HvStatus.InvalidRegisterValue;
    slot.event = value;
    if ((value & PENDING) !== 0n) this.#awaken(context);
    return HvStatus.Success;
  }

  /** The VTL has something to do: it neither halts nor idles on. */
  #awaken(context: PlaneContext): void {
    if (context.activity !== Activity.Halted && !this.hv.chapters.clocks.isIdle(context)) return;
    context.activity = Activity.Running;
    context.wait = null;
    this.hv.machine.eventsChanged(context);
  }

  // -- delivery --------------------------------------------------------------------------------------------------------

  entering(context: PlaneContext): void {
    const at = context.vp.index * MAX_PLANES + context.plane;
    if (this.#used[at] === 0) return;
    const slot = this.#slots[at];
    if (slot === undefined || (slot.event & PENDING) === 0n) return;
    const { event } = slot;
    if (typeOf(event) === HvX64PendingEventType.ExternalInterrupt) {
      if (!this.#injectInterrupt(context, vectorOf(event))) return;
    } else {
      this.hv.arch.injectFault(context, this.#faultOf(context, event));
      this.hv.chapters.processorIntercepts.give(context);
    }
    slot.event = slot.second = 0n;
    this.hv.machine.eventsChanged(context);
  }

  #cell(context: PlaneContext, cell: number): number {
    return this.hv.machine.arena.u32[(context.base + cell) >>> 2]!;
  }

  /** @returns false while the VTL cannot take an interrupt. */
  #injectInterrupt(context: PlaneContext, vector: number): boolean {
    const isOpen = (this.#cell(context, X86.rflags) & RFLAGS_IF) !== 0 && this.#cell(context, X86.interruptShadow) === 0;
    if (!isOpen || this.#cell(context, X86['interrupt.injected']) !== 0 || this.#cell(context, X86['exception.state']) !== 0) return false;
    const { u32 } = this.hv.machine.arena;
    const word = context.base >>> 2;
    u32[word + X86['interrupt.injected'] / 4] = 1;
    u32[word + X86['interrupt.vector'] / 4] = vector;
    u32[word + X86['interrupt.soft'] / 4] = 0;
    return true;
  }

  /** The exception, or the double fault that it and one that is due already make. */
  #faultOf(context: PlaneContext, event: bigint): Fault {
    const vector = vectorOf(event);
    const isDue = this.#cell(context, X86['exception.state']) !== 0;
    const fault = this.#fault;
    fault.code = isDue ? combinedFault(this.#cell(context, X86['exception.vector']), vector) : vector;
    const isDouble = fault.code !== vector;
    fault.errorCode = isDouble ? 0 : ((event >> 8n) & 1n) !== 0n ? Number((event >> 32n) & U32) : null;
    fault.addressLo = isDouble ? 0 : Number((event >> 64n) & U32);
    fault.addressHi = isDouble ? 0 : Number(event >> 96n);
    return fault;
  }

  // -- notifications ---------------------------------------------------------------------------------------------------

  notifications(context: PlaneContext): bigint {
    return this.#slot(context).notifications | (BigInt(this.hv.chapters.synic.wantedSints(context)) << BigInt(SINTS_SHIFT));
  }
  setNotifications(context: PlaneContext, by: number, value: bigint): number {
    if ((value & HvDeliverabilityNotificationsRegister.reservedMask) !== 0n) return HvStatus.InvalidRegisterValue;
    const slot = this.#slot(context);
    slot.notifications = value & ~SINTS;
    slot.by = by;
    slot.ready = 0;
    this.hv.chapters.synic.setWantedSints(context, Number(value >> BigInt(SINTS_SHIFT)));
    return HvStatus.Success;
  }
  sintsReady(context: PlaneContext, sints: number): void {
    this.#slot(context).ready |= sints;
  }

  /** One message for each kind that came true; what was told is not asked any more. */
  evaluate(context: PlaneContext): void {
    const at = context.vp.index * MAX_PLANES + context.plane;
    if (this.#used[at] === 0) return;
    const slot = this.#slots[at];
    if (slot === undefined || (slot.notifications === 0n && slot.ready === 0)) return;
    const { intercepts } = this.hv.chapters;
    const { messages } = intercepts;
    const asked = slot.notifications;
    if ((asked & nmiNotification) !== 0n && this.#cell(context, X86['nmi.blocked']) === 0) {
      if (intercepts.notify(context, slot.by, messages.interruptionDeliverable(context, HvX64PendingInterruptionType.Nmi))) slot.notifications &= ~nmiNotification;
    }
    if ((asked & interruptNotification) !== 0n && this.#takesInterrupts(context, Number((asked & interruptPriority) >> BigInt(PRIORITY_SHIFT)))) {
      if (intercepts.notify(context, slot.by, messages.interruptionDeliverable(context, HvX64PendingInterruptionType.Interrupt))) slot.notifications &= ~(interruptNotification | interruptPriority);
    }
    if (slot.ready !== 0 && intercepts.notify(context, slot.by, messages.sintDeliverable(context, slot.ready))) slot.ready = 0;
  }

  /** @param priority - class that must lie above that of the processor; 0 asks for none. */
  #takesInterrupts(context: PlaneContext, priority: number): boolean {
    if ((this.#cell(context, X86.rflags) & RFLAGS_IF) === 0 || this.#cell(context, X86.interruptShadow) !== 0) return false;
    return priority === 0 || priority > this.hv.arch.apicOf(context).ppr() >>> 4;
  }

  // -- state -----------------------------------------------------------------------------------------------------------

  reset(): void {
    this.#slots.length = 0;
    this.#used.fill(0);
  }
  save(): PlainState {
    return { slots: this.#slots.flatMap((slot, at) => (slot === undefined ? [] : [{ at, ...slot }])) };
  }
  restore(state: PlainState): void {
    this.reset();
    for (const { at, event, second, notifications, by, ready } of (state as PlainRecord)['slots'] as readonly (Slot & { readonly at: number })[]) {
      this.#slots[at] = { event, second, notifications, by, ready };
      this.#used[at] = 1;
    }
  }
}
