import { Arena, PlaneId, VpIndex } from '@vmplanes/engine';
import { LOCAL_APIC_BYTES } from './block.ts';
import { LocalApic } from './local-apic.ts';
import { readMsr, readPage, writeMsr, writePage } from './register-access.ts';
import { ApicReg, defaultApicConfig, type LocalApicConfig, Svr } from './registers.ts';

/** A machine-time source and a log of everything an APIC tells its owner, for tests of this folder. */
export class ApicBench {
  time = 0;
  /** Time-stamp counter minus machine time. */
  tscOffset = 0;
  readonly log: string[] = [];
  readonly apics: LocalApic[] = [];
  readonly #arena = new Arena(new ArrayBuffer(LOCAL_APIC_BYTES * 64));

  readonly clock = {
    now: () => this.time,
    ticksAtTsc: (low: number, high: number) => high * 2 ** 32 + low - this.tscOffset,
  };

  readonly port = {
    accepted: (apic: LocalApic, event: number, merged: boolean) => void this.log.push(`${apic.vp}: accepted ${event}${merged ? ' merged' : ''}`),
    changed: (apic: LocalApic) => void this.log.push(`${apic.vp}: changed`),
    mapChanged: (apic: LocalApic) => void this.log.push(`${apic.vp}: map`),
    ended: (): void => undefined,
    sendIpi: (apic: LocalApic, low: number, destination: number) => void this.log.push(`${apic.vp}: ipi ${low.toString(16)} to ${destination.toString(16)}`),
    eoiBroadcast: (apic: LocalApic, vector: number) => void this.log.push(`${apic.vp}: eoi ${vector}`),
  };

  /** Adds an APIC on the next processor after power-up, software-enabled and not waiting for SIPI. */
  add(config: Partial<LocalApicConfig> = {}, id = this.apics.length, plane = 0): LocalApic {
    return this.#warm(this.addCold(config, id, plane));
  }

  /** Adds the APIC of one more plane of a processor; the id is the processor index. */
  addAt(vp: number, plane: number): LocalApic {
    return this.#warm(this.#make(vp, plane, {}, vp));
  }

  /** Adds an APIC on the next processor after power-up. */
  addCold(config: Partial<LocalApicConfig> = {}, id = this.apics.length, plane = 0): LocalApic {
    return this.#make(this.apics.length, plane, config, id);
  }

  #make(vp: number, plane: number, config: Partial<LocalApicConfig>, id: number): LocalApic {
    const at = this.apics.length * LOCAL_APIC_BYTES;
    const apic = new LocalApic(VpIndex(vp), PlaneId(plane), this.#arena, at, { ...defaultApicConfig, ...config }, this.clock, this.port);
    apic.powerUp(id, vp === 0);
    this.apics.push(apic);
    return apic;
  }

  #warm(apic: LocalApic): LocalApic {
    apic.writeSvr(Svr.enabled | 0xff);
    apic.latches.setWaitingForSipi(false);
    this.log.length = 0;
    return apic;
  }

  /** Moves the time and serves the timer of every APIC. */
  advance(ticks: number): void {
    this.time += ticks;
    for (const apic of this.apics) apic.expire(this.time);
  }
}

/** Puts an APIC into x2APIC mode. */
export const toX2apic = (apic: LocalApic): LocalApic => {
  apic.writeApicBase(apic.isBootProcessor ? 0xfee0_0d00 : 0xfee0_0c00, 0, true);
  return apic;
};

export const read = (apic: LocalApic, register: number): number => readPage(apic, register, 4);
export const write = (apic: LocalApic, register: number, value: number): void => writePage(apic, register, 4, value);

/** Reads an MSR as one number pair, or `#GP`. */
export const rdmsr = (apic: LocalApic, msr: number): readonly [low: number, high: number] | '#GP' => {
  const out = new Uint32Array(2);
  return readMsr(apic, msr, out) ? [out[0]!, out[1]!] : '#GP';
};

export const wrmsr = (apic: LocalApic, msr: number, low: number, high = 0): 'ok' | '#GP' => (writeMsr(apic, msr, low, high) ? 'ok' : '#GP');

export const irr = (apic: LocalApic, vector: number): boolean => apic.block.test(ApicReg.irr, vector);
export const isr = (apic: LocalApic, vector: number): boolean => apic.block.test(ApicReg.isr, vector);
