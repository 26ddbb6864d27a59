/**
 * The register table of the local APIC: one row per register, valid for both access modes.
 * @spec SDM 3A §10.4.1 table 10-1 (memory-mapped registers), §10.12.1.2 table 10-6 (x2APIC MSRs)
 */

/** What a mode allows: `-` means that the register does not exist in that mode. */
export type RegisterAccess = 'rw' | 'ro' | 'wo' | '-';

/** One register of the local APIC. Masks are 32 bits wide. */
export interface ApicRegister {
  readonly name: string;
  /** Byte offset in the memory-mapped page; the x2APIC MSR is `0x800 + offset / 16`. */
  readonly offset: number;
  /** Number of 16-byte slots, for the 256-bit registers. Default 1. */
  readonly slots?: number;
  readonly xapic: RegisterAccess;
  readonly x2apic: RegisterAccess;
  /** Bits that software can set. */
  readonly writable: number;
  /** Bits that software may write with any value without effect (status bits). All others are reserved: #GP in x2APIC mode. */
  readonly ignored?: number;
  /** Value after RESET; INIT gives the same, except for the id. */
  readonly reset: number;
  /** Needs a feature of the configuration. */
  readonly needs?: 'cmci';
  readonly spec: string;
}

/** Offsets of the registers in the memory-mapped page. @spec SDM 3A §10.4.1 table 10-1 */
export const ApicReg = {
  id: 0x020,
  version: 0x030,
  tpr: 0x080,
  apr: 0x090,
  ppr: 0x0a0,
  eoi: 0x0b0,
  rrd: 0x0c0,
  ldr: 0x0d0,
  dfr: 0x0e0,
  svr: 0x0f0,
  isr: 0x100,
  tmr: 0x180,
  irr: 0x200,
  esr: 0x280,
  lvtCmci: 0x2f0,
  icr: 0x300,
  icrHigh: 0x310,
  lvtTimer: 0x320,
  lvtThermal: 0x330,
  lvtPerf: 0x340,
  lvtLint0: 0x350,
  lvtLint1: 0x360,
  lvtError: 0x370,
  initialCount: 0x380,
  currentCount: 0x390,
  divide: 0x3e0,
  selfIpi: 0x3f0,
} as const;
export type ApicReg = (typeof ApicReg)[keyof typeof ApicReg];

/** First x2APIC MSR and the number of MSRs reserved for it. @spec SDM 3A §10.12.1.2 */
export const X2APIC_MSR_BASE = 0x800;
export const X2APIC_MSR_COUNT = 0x100;
export const MSR_APIC_BASE = 0x01b;
export const MSR_TSC_DEADLINE = 0x6e0;

/** Bits of a local vector table entry. @spec SDM 3A §10.5.1 figure 10-8 */
export const Lvt = {
  vector: 0xff,
  modeShift: 8,
  deliveryStatus: 1 << 12,
  polarity: 1 << 13,
  remoteIrr: 1 << 14,
  level: 1 << 15,
  masked: 1 << 16,
  timerModeShift: 17,
  timerTscDeadline: 1 << 18,
} as const;

/** Bits of the spurious interrupt vector register. @spec SDM 3A §10.9 figure 10-23 */
export const Svr = { vector: 0xff, enabled: 1 << 8, focusDisabled: 1 << 9, suppressEoiBroadcast: 1 << 12 } as const;

/** Bits of the error status register. @spec SDM 3A §10.5.3 figure 10-9 */
export const Esr = { redirectableIpi: 1 << 4, sendIllegalVector: 1 << 5, receiveIllegalVector: 1 << 6, illegalRegister: 1 << 7 } as const;

/** Bits that software can set in the low word of the interrupt command register. @spec SDM 3A §10.6.1 figure 10-12 */
export const ICR_WRITABLE = 0x000c_cfff;

const LVT_DELIVERY = 0x0001_07ff;
const LVT_LINT = 0x0001_a7ff;

/** Every register, in rising offset order. */
export const apicRegisters: readonly ApicRegister[] = [
  { name: 'ID', offset: ApicReg.id, xapic: 'rw', x2apic: 'ro', writable: 0xff00_0000, reset: 0, spec: 'SDM 3A §10.4.6, §10.12.5.1' },
  { name: 'VERSION', offset: ApicReg.version, xapic: 'ro', x2apic: 'ro', writable: 0, reset: 0, spec: 'SDM 3A §10.4.8' },
  { name: 'TPR', offset: ApicReg.tpr, xapic: 'rw', x2apic: 'rw', writable: 0xff, reset: 0, spec: 'SDM 3A §10.8.3.1' },
  { name: 'APR', offset: ApicReg.apr, xapic: 'ro', x2apic: '-', writable: 0, reset: 0, spec: 'SDM 3A §10.6.2.4' },
  { name: 'PPR', offset: ApicReg.ppr, xapic: 'ro', x2apic: 'ro', writable: 0, reset: 0, spec: 'SDM 3A §10.8.3.1' },
  { name: 'EOI', offset: ApicReg.eoi, xapic: 'wo', x2apic: 'wo', writable: 0, reset: 0, spec: 'SDM 3A §10.8.5' },
  { name: 'RRD', offset: ApicReg.rrd, xapic: 'ro', x2apic: '-', writable: 0, reset: 0, spec: 'SDM 3A table 10-1' },
  { name: 'LDR', offset: ApicReg.ldr, xapic: 'rw', x2apic: 'ro', writable: 0xff00_0000, reset: 0, spec: 'SDM 3A §10.6.2.2, §10.12.10.2' },
  { name: 'DFR', offset: ApicReg.dfr, xapic: 'rw', x2apic: '-', writable: 0xf000_0000, reset: 0xffff_ffff, spec: 'SDM 3A §10.6.2.2' },
  { name: 'SVR', offset: ApicReg.svr, xapic: 'rw', x2apic: 'rw', writable: 0x13ff, reset: 0xff, spec: 'SDM 3A §10.9' },
  { name: 'ISR', offset: ApicReg.isr, slots: 8, xapic: 'ro', x2apic: 'ro', writable: 0, reset: 0, spec: 'SDM 3A §10.8.4' },
  { name: 'TMR', offset: ApicReg.tmr, slots: 8, xapic: 'ro', x2apic: 'ro', writable: 0, reset: 0, spec: 'SDM 3A §10.8.4' },
  { name: 'IRR', offset: ApicReg.irr, slots: 8, xapic: 'ro', x2apic: 'ro', writable: 0, reset: 0, spec: 'SDM 3A §10.8.4' },
  { name: 'ESR', offset: ApicReg.esr, xapic: 'rw', x2apic: 'rw', writable: 0, reset: 0, spec: 'SDM 3A §10.5.3' },
  { name: 'LVT_CMCI', offset: ApicReg.lvtCmci, xapic: 'rw', x2apic: 'rw', writable: LVT_DELIVERY, ignored: Lvt.deliveryStatus, reset: Lvt.masked, needs: 'cmci', spec: 'SDM 3A §10.5.1' },
  { name: 'ICR', offset: ApicReg.icr, xapic: 'rw', x2apic: 'rw', writable: ICR_WRITABLE, ignored: 1 << 12, reset: 0, spec: 'SDM 3A §10.6.1, §10.12.9' },
  { name: 'ICR_HIGH', offset: ApicReg.icrHigh, xapic: 'rw', x2apic: '-', writable: 0xff00_0000, reset: 0, spec: 'SDM 3A §10.6.1' },
  { name: 'LVT_TIMER', offset: ApicReg.lvtTimer, xapic: 'rw', x2apic: 'rw', writable: 0x0007_00ff, ignored: Lvt.deliveryStatus, reset: Lvt.masked, spec: 'SDM 3A §10.5.4' },
  { name: 'LVT_THERMAL', offset: ApicReg.lvtThermal, xapic: 'rw', x2apic: 'rw', writable: LVT_DELIVERY, ignored: Lvt.deliveryStatus, reset: Lvt.masked, spec: 'SDM 3A §10.5.1' },
  { name: 'LVT_PERF', offset: ApicReg.lvtPerf, xapic: 'rw', x2apic: 'rw', writable: LVT_DELIVERY, ignored: Lvt.deliveryStatus, reset: Lvt.masked, spec: 'SDM 3A §10.5.1' },
  { name: 'LVT_LINT0', offset: ApicReg.lvtLint0, xapic: 'rw', x2apic: 'rw', writable: LVT_LINT, ignored: Lvt.deliveryStatus | Lvt.remoteIrr, reset: Lvt.masked, spec: 'SDM 3A §10.5.1' },
  { name: 'LVT_LINT1', offset: ApicReg.lvtLint1, xapic: 'rw', x2apic: 'rw', writable: LVT_LINT, ignored: Lvt.deliveryStatus | Lvt.remoteIrr, reset: Lvt.masked, spec: 'SDM 3A §10.5.1' },
  { name: 'LVT_ERROR', offset: ApicReg.lvtError, xapic: 'rw', x2apic: 'rw', writable: 0x0001_00ff, ignored: Lvt.deliveryStatus, reset: Lvt.masked, spec: 'SDM 3A §10.5.1' },
  { name: 'INITIAL_COUNT', offset: ApicReg.initialCount, xapic: 'rw', x2apic: 'rw', writable: 0xffff_ffff, reset: 0, spec: 'SDM 3A §10.5.4' },
  { name: 'CURRENT_COUNT', offset: ApicReg.currentCount, xapic: 'ro', x2apic: 'ro', writable: 0, reset: 0, spec: 'SDM 3A §10.5.4' },
  { name: 'DIVIDE', offset: ApicReg.divide, xapic: 'rw', x2apic: 'rw', writable: 0xb, reset: 0, spec: 'SDM 3A §10.5.4 figure 10-10' },
  { name: 'SELF_IPI', offset: ApicReg.selfIpi, xapic: '-', x2apic: 'wo', writable: 0xff, reset: 0, spec: 'SDM 3A §10.12.11' },
];

/** Offsets of the local vector table entries that a software disable masks; CMCI only where it exists. */
export const lvtOffsets: readonly number[] = [
  ApicReg.lvtTimer,
  ApicReg.lvtThermal,
  ApicReg.lvtPerf,
  ApicReg.lvtLint0,
  ApicReg.lvtLint1,
  ApicReg.lvtError,
  ApicReg.lvtCmci,
];

/** Features of a local APIC model; equal for all planes of a machine. */
export interface LocalApicConfig {
  /** x2APIC mode can be entered. */
  readonly x2apic: boolean;
  /** The timer has the TSC-deadline mode. */
  readonly tscDeadline: boolean;
  /** The LVT has the CMCI entry. */
  readonly cmci: boolean;
  /** SVR bit 12 exists (reported in the version register bit 24). */
  readonly suppressEoiBroadcast: boolean;
  /** Machine ticks per cycle of the timer input clock, an integer of 1 or more. */
  readonly busTicks: number;
  /** Physical address bits, 32..52: the bits of IA32_APIC_BASE above are reserved. */
  readonly physicalBits: number;
  /**
   * What a software-disabled APIC does with a new fixed interrupt. `refuse`: it does not respond, the sender
   * learns that nobody took it. `hold`: it enters IRR and waits for the enable bit. Requests already in IRR are
   * held in both cases.
   */
  readonly whileSoftwareDisabled: 'refuse' | 'hold';
}

/** A model with every feature. */
export const defaultApicConfig: LocalApicConfig = {
  x2apic: true,
  tscDeadline: true,
  cmci: true,
  suppressEoiBroadcast: true,
  busTicks: 1,
  physicalBits: 46,
  whileSoftwareDisabled: 'refuse',
};

/** Access right bits of {@link RegisterRules}. */
export const CAN_READ = 1;
export const CAN_WRITE = 2;

const accessBits = { rw: CAN_READ | CAN_WRITE, ro: CAN_READ, wo: CAN_WRITE, '-': 0 } as const;

/** The register table compiled for one configuration: indexed by slot (offset / 16), for hot paths. */
export class RegisterRules {
  readonly xapic = new Uint8Array(64);
  readonly x2apic = new Uint8Array(64);
  readonly writable = new Uint32Array(64);
  readonly reserved = new Uint32Array(64).fill(0xffff_ffff);
  readonly reset = new Uint32Array(64);

  constructor(config: LocalApicConfig) {
    for (const r of apicRegisters) {
      if (r.needs === 'cmci' && !config.cmci) continue;
      let writable = r.writable;
      if (r.offset === ApicReg.svr && !config.suppressEoiBroadcast) writable &= ~Svr.suppressEoiBroadcast;
      if (r.offset === ApicReg.lvtTimer && !config.tscDeadline) writable &= ~Lvt.timerTscDeadline;
      for (let slot = r.offset >> 4; slot < (r.offset >> 4) + (r.slots ?? 1); slot++) {
        this.xapic[slot] = accessBits[r.xapic];
        this.x2apic[slot] = accessBits[r.x2apic];
        this.writable[slot] = writable;
        this.reserved[slot] = ~(writable | (r.ignored ?? 0));
        this.reset[slot] = r.reset;
      }
    }
    const maxLvt = config.cmci ? 6 : 5;
    this.reset[ApicReg.version >> 4] = 0x14 | (maxLvt << 16) | (config.suppressEoiBroadcast ? 1 << 24 : 0);
  }
}
