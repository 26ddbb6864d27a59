import { type Arena, type Machine, type PlaneContext } from '@vmplanes/engine';
import { AcceptResult, ApicEvent, type ApicClock, type DeliveryMode, InterruptRouter, LocalApic, type LocalApicPort, type MessageSink, RegisterRules, sendMsi } from '../apic/index.ts';
import { X86 } from '../state/layout.ts';
import type { X86Arch } from './x86-arch.ts';
import { encodeMessage, type ExternalInterrupts } from './x86-events.ts';

const SCALE_SHIFT = 32n;

/** Machine time as the time-stamp counter of one plane relates to it. */
class PlaneClock implements ApicClock {
  constructor(
    readonly machine: Machine,
    readonly context: PlaneContext,
  ) {}
  now(): number {
    return this.machine.timeOf(this.context.vp);
  }
  ticksAtTsc(low: number, high: number): number {
    const { view } = this.machine.arena;
    const { base } = this.context;
    const target = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
    const offset = view.getBigInt64(base + X86.tscOffset, true);
    const scale = view.getBigUint64(base + X86.tscScale, true);
    if (scale === 0n) return Number.POSITIVE_INFINITY;
    // The first tick at which the scaled count has reached the target.
    const scaled = target - offset;
    if (scaled <= 0n) return 0;
    const tick = ((scaled << SCALE_SHIFT) + scale - 1n) / scale;
    // Machine time counts exactly up to 2^53; what would come behind it does not come.
    return tick > BigInt(Number.MAX_SAFE_INTEGER) ? Number.POSITIVE_INFINITY : Number(tick);
  }
}

/** All local APICs of a machine with the maps and the routing between them. A message never leaves its plane. */
export class ApicFabric implements MessageSink, LocalApicPort {
  readonly router = new InterruptRouter(this);
  /** Hears the end of level-triggered vectors; for an I/O APIC. */
  onEoi: ((apic: LocalApic, vector: number) => void) | null = null;
  /** Lets a guest interface refuse a message before it reaches the APIC of (vp, plane); null lets all pass. */
  filter: ((vp: number, plane: number, mode: DeliveryMode) => boolean) | null = null;
  /** A plane took a vector: it is in service and about to be injected. Its owner may end it at once. */
  onTaken: ((apic: LocalApic, vector: number) => void) | null = null;
  /** A vector left service. */
  onEnded: ((apic: LocalApic, vector: number) => void) | null = null;
  /** Answers the acknowledgement of external interrupts, for an interrupt controller outside the local APICs. */
  readonly external: ExternalInterrupts = { acknowledge: null };
  readonly #machine: Machine;
  readonly #arch: X86Arch;
  readonly #rules: RegisterRules;
  /** Planes whose APIC is still being made: its notices come before its context has events. */
  #building = false;

  constructor(machine: Machine, arch: X86Arch) {
    this.#machine = machine;
    this.#arch = arch;
    this.#rules = new RegisterRules(arch.config.apic);
  }

  /** APIC id of a VP: configured, or its index. */
  apicId(vp: number): number {
    return this.#arch.config.apicIds[vp] ?? vp;
  }

  createApic(context: PlaneContext, arena: Arena, at: number): LocalApic {
    const { vp, plane } = context;
    const { config } = this.#arch;
    const apic = new LocalApic(vp.index, plane, arena, at, config.apic, new PlaneClock(this.#machine, context), this, this.#rules);
    this.#building = true;
    apic.powerUp(this.apicId(vp.index), vp.index === 0);
    this.#building = false;
    this.router.add(apic);
    return apic;
  }

  #context(apic: LocalApic): PlaneContext | null {
    return this.#machine.vps[apic.vp]?.planes[apic.plane] ?? null;
  }

  // -- what local APICs tell -----------------------------------------------------------------------------------------

  accepted(apic: LocalApic, event: ApicEvent, merged: boolean): void {
    const context = this.#context(apic);
    if (!context) return;
    this.#machine.timersChanged(context);
    this.#machine.accepted(context, event === ApicEvent.interrupt, !merged);
  }
  changed(apic: LocalApic): void {
    if (this.#building) return;
    const context = this.#context(apic);
    if (!context) return;
    this.#machine.timersChanged(context);
    this.#machine.eventsChanged(context);
  }
  mapChanged(apic: LocalApic): void {
    if (this.#building) return;
    this.router.mapChanged(apic);
  }
  ended(apic: LocalApic, vector: number): void {
    this.onEnded?.(apic, vector);
  }
  sendIpi(apic: LocalApic, low: number, destination: number): void {
    this.router.sendCommand(apic, low, destination);
  }
  get eoiBroadcast(): ((apic: LocalApic, vector: number) => void) | null {
    return this.onEoi;
  }

  // -- messages ------------------------------------------------------------------------------------------------------

  deliver(vp: number, plane: number, mode: DeliveryMode, vector: number, isAssert: boolean, isLevel: boolean): AcceptResult {
    const m = this.#machine;
    if (this.filter !== null && !this.filter(vp, plane, mode)) return AcceptResult.refused;
    if (m.activeVp >= 0 && m.activeVp !== vp) {
      m.send(vp, plane, encodeMessage(mode, vector, isAssert, isLevel), 0);
      return AcceptResult.accepted;
    }
    return m.send(vp, plane, encodeMessage(mode, vector, isAssert, isLevel), 0) > 0 ? AcceptResult.accepted : AcceptResult.refused;
  }

  /** A message-signalled interrupt for a plane. @returns as KVM_SIGNAL_MSI does: negative errno, -1 without a destination, else acceptances. */
  signalMsi(plane: number, addressLow: number, addressHigh: number, data: number, hasWideIds: boolean): number {
    return sendMsi(this.router, plane, addressLow, addressHigh, data, hasWideIds);
  }

}
