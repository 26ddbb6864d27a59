import { MAX_PLANES, MAX_VPS } from '@vmplanes/engine';
import { ApicMode } from './apic-base.ts';
import { ApicMap } from './apic-map.ts';
import { AcceptResult, DeliveryMode, icrIsAssert, icrIsInitDeassert, icrIsLevel, icrIsLogical, icrMode, icrShorthand, icrVector, Shorthand } from './icr.ts';
import type { LocalApic } from './local-apic.ts';

/** An interrupt message in flight, from a device or an I/O APIC. Mutable, so that senders keep one. */
export interface ApicMessage {
  destination: number;
  isLogical: boolean;
  /** The destination has 32 bits. */
  isWide: boolean;
  mode: DeliveryMode;
  vector: number;
  isAssert: boolean;
  isLevel: boolean;
  /** Goes to one of the matching APICs only: lowest-priority mode or the redirection hint. */
  isArbitrated: boolean;
}

/** A message record to be filled and kept by a sender. */
export const newMessage = (): ApicMessage => ({
  destination: 0,
  isLogical: false,
  isWide: false,
  mode: DeliveryMode.fixed,
  vector: 0,
  isAssert: true,
  isLevel: false,
  isArbitrated: false,
});

/**
 * Hands a message to one APIC. The owner may keep messages to other processors until the slice ends; it then answers
 * `accepted`.
 */
export interface MessageSink {
  deliver(vp: number, plane: number, mode: DeliveryMode, vector: number, isAssert: boolean, isLevel: boolean): AcceptResult;
}

/**
 * Takes a message coded like the low word of an interrupt command (see `encodeIcr`): the form in which an owner keeps
 * messages that wait for the end of a slice.
 */
export const acceptCoded = (apic: LocalApic, code: number): AcceptResult => apic.accept(icrMode(code), icrVector(code), icrIsAssert(code), icrIsLevel(code));

/** Result of a message that no APIC of the plane matches. */
export const NO_DESTINATION = -1;

/**
 * Carries messages between the APICs of a plane. A command of a plane's APIC never leaves that plane; a device
 * message names its plane.
 */
export class InterruptRouter {
  readonly #maps: (ApicMap | null)[] = new Array<ApicMap | null>(MAX_PLANES).fill(null);
  readonly #sink: MessageSink;
  /** One list of destinations for each message in flight: what a delivery wakes may send messages itself. */
  readonly #lists: Int32Array[] = [new Int32Array(MAX_VPS)];
  #depth = 0;

  constructor(sink: MessageSink) {
    this.#sink = sink;
  }

  /** The map of a plane; made when the plane gets its first APIC. */
  add(apic: LocalApic): void {
    (this.#maps[apic.plane] ??= new ApicMap(apic.plane)).add(apic);
  }

  /** The APIC's plane was taken from its processor. */
  remove(apic: LocalApic): void {
    this.#maps[apic.plane]?.remove(apic);
  }

  /** The map of a plane, or null while the plane has no APIC. */
  map(plane: number): ApicMap | null {
    return this.#maps[plane] ?? null;
  }

  /** To be called when an APIC announces a change of its id, mode or logical destination. */
  mapChanged(apic: LocalApic): void {
    this.#maps[apic.plane]?.rebuild();
  }

  /**
   * Sends an interrupt command of an APIC. Messages other than the INIT de-assert are edge-triggered whatever the
   * trigger bit says.
   * @param low - low word of the command.
   * @param destination - not looked at with a shorthand.
   * @param isWide - its width is that of x2APIC mode; default: as in the sender's mode.
   * @returns number of APICs it was handed to.
   * @spec SDM 3A §10.6.1, §10.12.9
   */
  sendCommand(source: LocalApic, low: number, destination: number, isWide: boolean = source.mode === ApicMode.x2apic): number {
    const map = this.#maps[source.plane];
    if (!map || icrIsInitDeassert(low)) return 0;
    const mode = icrMode(low);
    const list = this.#open();
    let n: number;
    switch (icrShorthand(low)) {
      case Shorthand.self:
        list[0] = source.vp;
        n = 1;
        break;
      case Shorthand.all:
        n = map.others(-1, list);
        break;
      case Shorthand.allButSelf:
        n = map.others(source.vp, list);
        break;
      default:
        n = map.match(destination, icrIsLogical(low), isWide, list);
    }
    if (mode === DeliveryMode.lowestPriority) n = this.#arbitrate(map, list, n);
    for (let i = 0; i < n; i++) this.#sink.deliver(list[i]!, source.plane, mode, icrVector(low), icrIsAssert(low), icrIsLevel(low) && mode === DeliveryMode.init);
    this.#depth--;
    return n;
  }

  /**
   * Sends a device message to a plane.
   * @returns {@link NO_DESTINATION} when no APIC of the plane matches or the plane is missing, else the number of
   * APICs that took it as a new request.
   */
  sendMessage(plane: number, message: ApicMessage): number {
    const map = this.#maps[plane] ?? null;
    if (!map) return NO_DESTINATION;
    // The record belongs to the sender, who may reuse it while a delivery is under way.
    const { mode, vector, isAssert, isLevel, isArbitrated } = message;
    const list = this.#open();
    let n = map.match(message.destination, message.isLogical, message.isWide, list);
    let took = n === 0 ? NO_DESTINATION : 0;
    if (isArbitrated) n = this.#arbitrate(map, list, n);
    for (let i = 0; i < n; i++) if (this.#sink.deliver(list[i]!, plane, mode, vector, isAssert, isLevel) === AcceptResult.accepted) took++;
    this.#depth--;
    return took;
  }

  #arbitrate(map: ApicMap, list: Int32Array, n: number): number {
    const chosen = map.arbitrate(list, n);
    if (chosen < 0) return 0;
    list[0] = chosen;
    return 1;
  }

  #open(): Int32Array {
    return (this.#lists[this.#depth++] ??= new Int32Array(MAX_VPS));
  }
}
