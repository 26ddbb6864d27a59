import type { Answer, Claim, CpuExit, Personality, PlainRecord, PlainState, PlaneContext } from '@vmplanes/engine';
import { type ApicMessage, DeliveryMode, Irqchip as Chip, IRQCHIP_PLANE, type LocalApic, type MmioExit, newMessage, type PinSink } from '@vmplanes/x86';
import type { KvmVm } from './vm.ts';

/** Pins of the I/O APIC. */
export const IOAPIC_PINS = 24;
/** Bits of the low word of a redirection entry. @spec 82093AA §3.2.4 */
const Entry = { vector: 0xff, logical: 1 << 11, status: 1 << 12, remoteIrr: 1 << 14, level: 1 << 15, masked: 1 << 16 } as const;
const READ_ONLY = Entry.status | Entry.remoteIrr;
const DEFAULT_BASE = 0xfec0_0000;
/** Registers that the window shows: identification, version, arbitration, then two per entry. @spec 82093AA §3.2 */
const Register = { id: 0, version: 1, arbitration: 2, table: 0x10 } as const;
/** Highest entry and version, as KVM's says. @spec Linux arch/x86/kvm/ioapic.h IOAPIC_VERSION_ID */
const VERSION = ((IOAPIC_PINS - 1) << 16) | 0x11;
const SELECT_AT = 0x00;
const WINDOW_AT = 0x10;
const REGISTERS_END = 0x100;

/** What KVM_GET_IRQCHIP gives and KVM_SET_IRQCHIP takes. @spec Linux arch/x86/include/uapi/asm/kvm.h struct kvm_ioapic_state */
export interface IoapicState {
  readonly baseAddress: bigint;
  readonly ioregsel: number;
  readonly id: number;
  /** Bit per pin. */
  readonly irr: number;
  /** One entry per pin. */
  readonly redirtbl: readonly bigint[];
}

/**
 * The I/O APIC of a full in-kernel irqchip: one for all planes, whose pins reach the local APICs of plane 0 and no others. It answers only while the VM has
 * that irqchip. The PIC beside it is not modelled: its pins lead nowhere.
 * @spec 82093AA §3; Linux arch/x86/kvm/ioapic.c; LKML 2025-04-01 RFC KVM: VM planes 20/29
 */
export class Ioapic implements Personality, PinSink {
  readonly name = 'kvm.ioapic';
  readonly stateName = 'kvm.ioapic';
  readonly stateVersion = 1;
  readonly claims: readonly Claim[] = [{ exit: 'mmio', from: DEFAULT_BASE, to: DEFAULT_BASE + REGISTERS_END - 1 }];
  readonly #vm: KvmVm;
  readonly #low = new Uint32Array(IOAPIC_PINS).fill(Entry.masked);
  readonly #high = new Uint32Array(IOAPIC_PINS);
  #select = 0;
  #id = 0;
  /** Pins that are asserted, or were and have not been sent. */
  #irr = 0;
  /** Edges of these pins were sent. */
  #delivered = 0;
  readonly #message: ApicMessage = newMessage();

  constructor(vm: KvmVm) {
    this.#vm = vm;
  }

  // -- pins ----------------------------------------------------------------------------------------------------------

  setPin(chip: Chip, pin: number, isAsserted: boolean): number {
    if (chip !== Chip.ioapic) return -1;
    const bit = 1 << pin;
    if (!isAsserted) {
      this.#irr &= ~bit;
      return 1;
    }
    const isLevel = (this.#low[pin]! & Entry.level) !== 0;
    const isNew = (this.#irr & bit) === 0;
    this.#irr |= bit;
    if (!isLevel) {
      this.#delivered &= ~bit;
      if (!isNew) return 0;
    }
    return this.#send(pin);
  }

  /** Sends what an entry says. @returns how many local APICs took it, or -1 while it is masked or still being served. */
  #send(pin: number): number {
    const low = this.#low[pin]!;
    const isLevel = (low & Entry.level) !== 0;
    if (low & Entry.masked || (isLevel && low & Entry.remoteIrr)) return -1;
    const m = this.#message;
    m.destination = this.#high[pin]! >>> 24;
    m.isLogical = (low & Entry.logical) !== 0;
    m.isWide = false;
    m.mode = ((low >>> 8) & 7) as DeliveryMode;
    m.vector = low & Entry.vector;
    m.isAssert = true;
    m.isLevel = isLevel;
    m.isArbitrated = m.mode === DeliveryMode.lowestPriority;
    if (!isLevel) this.#delivered |= 1 << pin;
    const took = this.#vm.arch.fabric.router.sendMessage(IRQCHIP_PLANE, m);
    if (isLevel && took !== 0) this.#low[pin]! |= Entry.remoteIrr;
    return took;
  }

  /** A local APIC ended a level-triggered vector: entries with it are sent again while their pin is asserted. Those of other planes are not ours. */
  ended(apic: LocalApic, vector: number): void {
    if (apic.plane !== IRQCHIP_PLANE) return;
    for (let pin = 0; pin < IOAPIC_PINS; pin++) {
      const low = this.#low[pin]!;
      if ((low & Entry.vector) !== vector || !(low & Entry.level)) continue;
      this.#low[pin]! &= ~Entry.remoteIrr;
      if (this.#irr & (1 << pin)) this.#send(pin);
    }
  }

  // -- registers -----------------------------------------------------------------------------------------------------

  handle(context: PlaneContext, exit: CpuExit): Answer | null {
    if (this.#vm.irqchip !== 'full') return null;
    const e = exit as MmioExit;
    const { arch } = this.#vm;
    const { replies } = context.vp;
    // The page of the local APIC goes first, wherever the guest has put it.
    if (arch.apicPage(context, e)) return replies.resume();
    const at = (e.key - DEFAULT_BASE) & ~0xf;
    if (e.write) this.#write(at, e.size >= 4 ? e.lo : e.lo & (e.size === 2 ? 0xffff : 0xff));
    else arch.loadRax(context, e.size, this.#read(at), 0);
    return replies.resume();
  }

  #read(at: number): number {
    if (at === SELECT_AT) return this.#select;
    if (at !== WINDOW_AT) return 0;
    if (this.#select === Register.version) return VERSION;
    if (this.#select === Register.id || this.#select === Register.arbitration) return this.#id << 24;
    const pin = (this.#select - Register.table) >> 1;
    if (pin < 0 || pin >= IOAPIC_PINS) return 0xffff_ffff;
    return this.#select & 1 ? this.#high[pin]! : this.#low[pin]!;
  }

  #write(at: number, value: number): void {
    if (at === SELECT_AT) this.#select = value & 0xff;
    if (at !== WINDOW_AT) return;
    if (this.#select === Register.id) this.#id = (value >>> 24) & 0xf;
    const pin = (this.#select - Register.table) >> 1;
    if (pin < 0 || pin >= IOAPIC_PINS) return;
    if (this.#select & 1) this.#high[pin] = value;
    else this.#low[pin] = (value & ~READ_ONLY) | (this.#low[pin]! & READ_ONLY);
    // Guests rely on an edge-triggered entry having no remote IRR.
    if (!(this.#low[pin]! & Entry.level)) this.#low[pin]! &= ~Entry.remoteIrr;
    else if (this.#irr & (1 << pin)) this.#send(pin);
  }

  // -- KVM_GET_IRQCHIP, KVM_SET_IRQCHIP ------------------------------------------------------------------------------

  get state(): IoapicState {
    const redirtbl = Array.from(this.#low, (low, pin) => (BigInt(this.#high[pin]!) << 32n) | BigInt(low));
    return { baseAddress: BigInt(DEFAULT_BASE), ioregsel: this.#select, id: this.#id, irr: (this.#irr & ~this.#delivered) >>> 0, redirtbl };
  }

  /** Takes a state over, all but the address, which is fixed; pins that it has as asserted are sent. */
  set state(s: IoapicState) {
    this.#select = s.ioregsel & 0xff;
    this.#id = s.id & 0xf;
    s.redirtbl.forEach((entry, pin) => {
      this.#low[pin] = Number(entry & 0xffff_ffffn);
      this.#high[pin] = Number(entry >> 32n);
    });
    this.#irr = 0;
    this.#delivered = 0;
    for (let pin = 0; pin < IOAPIC_PINS; pin++) if (s.irr & (1 << pin)) this.setPin(Chip.ioapic, pin, true);
  }

  // -- saved state ---------------------------------------------------------------------------------------------------

  save(): PlainState {
    return { select: this.#select, id: this.#id, irr: this.#irr, delivered: this.#delivered, low: this.#low.slice(), high: this.#high.slice() };
  }
  restore(state: PlainState): void {
    const s = state as PlainRecord;
    this.#select = s['select'] as number;
    this.#id = s['id'] as number;
    this.#irr = s['irr'] as number;
    this.#delivered = s['delivered'] as number;
    this.#low.set(s['low'] as Uint32Array);
    this.#high.set(s['high'] as Uint32Array);
  }
}
