import { HostError } from '@vmplanes/engine';
import type { ApicMap } from './apic-map.ts';
import { DeliveryMode } from './icr.ts';
import { type InterruptRouter, newMessage } from './ipi.ts';
import { decodeMsi, EINVAL, isValidMsi, sendMsi } from './msi.ts';
import type { LocalApic } from './local-apic.ts';

/** Global interrupts a routing table may name, and the most entries it may have. @spec Linux include/linux/kvm_host.h KVM_MAX_IRQ_ROUTES */
export const MAX_GSI_ROUTES = 4096;

/** Interrupt controllers that a route can name. @spec Linux include/uapi KVM_IRQCHIP_* */
export const Irqchip = { picPrimary: 0, picSecondary: 1, ioapic: 2 } as const;
export type Irqchip = (typeof Irqchip)[keyof typeof Irqchip];

/** Pins of each controller, indexed by {@link Irqchip}. */
const pinsOf: readonly number[] = [8, 8, 24];

/** Plane that receives what the controllers of the machine send. @spec LKML 20250401 RFC KVM planes 20/29 */
export const IRQCHIP_PLANE = 0;

/** A global interrupt that is a pin of a controller. */
export interface PinRoute {
  readonly kind: 'pin';
  readonly gsi: number;
  readonly chip: number;
  readonly pin: number;
}

/** A global interrupt that is a message to a plane. */
export interface MsiRoute {
  readonly kind: 'msi';
  readonly gsi: number;
  readonly addressLow: number;
  readonly addressHigh: number;
  readonly data: number;
  /** Target plane; ignored under the rule `lastWriter`. */
  readonly plane: number;
}

export type GsiRoute = PinRoute | MsiRoute;

/**
 * Who chooses the plane of a message route. `perRoute`: each entry. `lastWriter`: the plane through which the table
 * was set last gets all of them.
 * @spec COCONUT-SVSM Linux branch svsm-planes-v6.17 (per route); LKML 20260608 KVM Planes + SEV support 08/60 (last writer)
 */
export type PlaneRule = 'perRoute' | 'lastWriter';

/** What a routing table depends on. */
export interface GsiRoutingOptions {
  readonly planeRule: PlaneRule;
  /** PIC and I/O APIC exist in the machine; with a split controller pin routes are invalid. */
  readonly hasPins: boolean;
  /** MSI addresses carry 32-bit ids. */
  readonly hasWideIds: boolean;
}

/** Drives a pin of a controller. @returns how many APICs took an interrupt from it, or -1 when it was masked. */
export interface PinSink {
  setPin(chip: Irqchip, pin: number, isAsserted: boolean): number;
}

/** Saved form of the table. */
export interface GsiRoutingState {
  readonly version: 1;
  readonly routes: readonly GsiRoute[];
}

/** The interrupt routing table of a machine: one for all planes, with a plane in each message route. */
export class GsiRouting {
  readonly #options: GsiRoutingOptions;
  #routes: readonly GsiRoute[] = [];
  #byGsi: GsiRoute[][] = [];
  readonly #message = newMessage();

  constructor(options: GsiRoutingOptions) {
    this.#options = options;
  }

  /** The routes in force. */
  get routes(): readonly GsiRoute[] {
    return this.#routes;
  }

  /**
   * Replaces the whole table. Message routes to a plane that does not exist are dropped.
   * @param writer - plane through which the call came.
   * @param planeExists - tells which planes exist.
   * @returns 0, or -EINVAL when an entry is invalid; the old table stays then.
   * @spec Linux Documentation/virt/kvm/api.rst §4.52
   */
  set(routes: readonly GsiRoute[], writer: number, planeExists: (plane: number) => boolean): number {
    if (routes.length > MAX_GSI_ROUTES) return -EINVAL;
    const byGsi: GsiRoute[][] = [];
    const kept: GsiRoute[] = [];
    for (const route of routes) {
      if (!this.#isValid(route)) return -EINVAL;
      const bound = route.kind === 'msi' && this.#options.planeRule === 'lastWriter' ? { ...route, plane: writer } : route;
      const same = (byGsi[route.gsi] ??= []);
      if (same.some((other) => !mayShare(other, bound))) return -EINVAL;
      if (bound.kind === 'msi' && !planeExists(bound.plane)) continue;
      same.push(bound);
      kept.push(bound);
    }
    this.#routes = kept;
    this.#byGsi = byGsi;
    return 0;
  }

  /**
   * Changes the line of a global interrupt. A message route sends on assertion only.
   * @returns -1 when nothing is routed or nobody matched, else how many APICs took an interrupt.
   */
  setLine(gsi: number, isAsserted: boolean, router: InterruptRouter, pins: PinSink): number {
    let result = -1;
    for (const route of this.#byGsi[gsi] ?? []) {
      let took = -1;
      if (route.kind === 'pin') took = pins.setPin(route.chip as Irqchip, route.pin, isAsserted);
      else if (isAsserted) took = sendMsi(router, route.plane, route.addressLow, route.addressHigh, route.data, this.#options.hasWideIds);
      if (took >= 0) result = Math.max(result, 0) + took;
    }
    return result;
  }

  /**
   * Finds the level-triggered vectors whose EOI by one APIC the owner of the I/O APIC must learn of. Only routes of
   * the plane of that APIC count.
   * @param pins - global interrupts below this number belong to the I/O APIC.
   * @param out - 256 bits, cleared first.
   * @spec LKML 20260608 KVM Planes + SEV support 40/60
   */
  eoiExits(apic: LocalApic, map: ApicMap, pins: number, out: Uint32Array): void {
    out.fill(0);
    const m = this.#message;
    for (let gsi = 0; gsi < pins; gsi++) {
      for (const route of this.#byGsi[gsi] ?? []) {
        if (route.kind !== 'msi' || route.plane !== apic.plane) continue;
        decodeMsi(route.addressLow, route.addressHigh, route.data, this.#options.hasWideIds, m);
        const isVector = m.mode === DeliveryMode.fixed || m.mode === DeliveryMode.lowestPriority;
        if (isVector && m.isLevel && map.reaches(apic.vp, m.destination, m.isLogical, m.isWide)) out[m.vector >> 5]! |= 1 << (m.vector & 31);
      }
    }
  }

  save(): GsiRoutingState {
    return { version: 1, routes: this.#routes.map((r) => ({ ...r })) };
  }

  /** @throws {HostError} BadSnapshot on another version. */
  restore(state: GsiRoutingState): void {
    if (state.version !== 1) throw new HostError('BadSnapshot', `routing table: version ${String(state.version)}`);
    this.#routes = state.routes.map((r) => ({ ...r }));
    this.#byGsi = [];
    for (const route of this.#routes) (this.#byGsi[route.gsi] ??= []).push(route);
  }

  #isValid(route: GsiRoute): boolean {
    if (!Number.isInteger(route.gsi) || route.gsi < 0 || route.gsi >= MAX_GSI_ROUTES) return false;
    if (route.kind === 'msi') return isValidMsi(route.addressHigh, this.#options.hasWideIds);
    const pins = pinsOf[route.chip];
    return this.#options.hasPins && pins !== undefined && route.pin >= 0 && route.pin < pins;
  }
}

/** One global interrupt may be a pin of several controllers, but only one message, and not both. @spec Linux virt/kvm/irqchip.c setup_routing_entry */
const mayShare = (a: GsiRoute, b: GsiRoute): boolean => a.kind === 'pin' && b.kind === 'pin' && a.chip !== b.chip;
