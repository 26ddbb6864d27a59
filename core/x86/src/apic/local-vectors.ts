import { ApicFlag } from './block.ts';
import { ApicEvent } from './counters.ts';
import { AcceptResult, DeliveryMode } from './icr.ts';
import type { LocalApic } from './local-apic.ts';
import { ApicReg, Lvt } from './registers.ts';

/** The pins LINT0 and LINT1. */
export const LintPin = { lint0: 0, lint1: 1 } as const;
export type LintPin = (typeof LintPin)[keyof typeof LintPin];

const modeOfEntry = (entry: number): DeliveryMode => ((entry >>> Lvt.modeShift) & 7) as DeliveryMode;

/**
 * The local vector table at work: internal sources and the two pins.
 * @spec SDM 3A §10.5.1
 */
export class LocalVectors {
  readonly #apic: LocalApic;

  constructor(apic: LocalApic) {
    this.#apic = apic;
  }

  /**
   * Raises an internal source through its entry: timer, thermal, performance counter, error or CMCI.
   * @param register - offset of the entry.
   */
  deliver(register: number): AcceptResult {
    const { block } = this.#apic;
    const entry = block.get(register);
    if ((entry & Lvt.masked) !== 0) return AcceptResult.refused;
    const isFixed = register === ApicReg.lvtTimer || register === ApicReg.lvtError;
    // The processor masks the counter entry itself, so that an overflow storm gives one interrupt. @spec SDM 3B §20.6.1
    if (register === ApicReg.lvtPerf) block.set(register, entry | Lvt.masked);
    return this.#apic.accept(isFixed ? DeliveryMode.fixed : modeOfEntry(entry), entry & Lvt.vector, true, false);
  }

  /**
   * Sets the state of a pin. With the APIC disabled in IA32_APIC_BASE, LINT0 is the interrupt line of the processor
   * and LINT1 its NMI line.
   * @param isAsserted - after polarity: true is active.
   * @spec SDM 3A §10.4.3, §10.5.1
   */
  setPin(pin: LintPin, isAsserted: boolean): void {
    const { block, port } = this.#apic;
    const flag = pin === LintPin.lint0 ? ApicFlag.lint0 : ApicFlag.lint1;
    const rises = isAsserted && !block.has(flag);
    if (isAsserted) block.raise(flag);
    else block.clear(flag);
    if (!this.#apic.isHardwareEnabled) {
      if (pin === LintPin.lint1 && rises) this.#apic.latches.raise(ApicEvent.nmi);
      else port.changed(this.#apic);
      return;
    }
    const register = pin === LintPin.lint0 ? ApicReg.lvtLint0 : ApicReg.lvtLint1;
    const entry = block.get(register);
    if (modeOfEntry(entry) === DeliveryMode.extInt) port.changed(this.#apic);
    else if (pin === LintPin.lint0 && this.#isLevelEntry(entry)) this.pumpLevel();
    else if (rises) this.deliver(register);
  }

  /** True while an external interrupt waits: by message, or on LINT0 in ExtINT mode or with the APIC disabled. */
  extIntPending(): boolean {
    const { block } = this.#apic;
    if (block.has(ApicFlag.extInt)) return true;
    if (!this.#apic.isHardwareEnabled) return block.has(ApicFlag.lint0);
    return this.#extIntOn(ApicReg.lvtLint0, ApicFlag.lint0) || this.#extIntOn(ApicReg.lvtLint1, ApicFlag.lint1);
  }

  #extIntOn(register: number, flag: number): boolean {
    const entry = this.#apic.block.get(register);
    return this.#apic.block.has(flag) && (entry & Lvt.masked) === 0 && modeOfEntry(entry) === DeliveryMode.extInt;
  }

  /** Requests the vector of a level-triggered LINT0 that is asserted and not yet being served. */
  pumpLevel(): void {
    const { block } = this.#apic;
    const entry = block.get(ApicReg.lvtLint0);
    if (!block.has(ApicFlag.lint0) || !this.#isLevelEntry(entry) || (entry & (Lvt.masked | Lvt.remoteIrr)) !== 0) return;
    block.set(ApicReg.lvtLint0, entry | Lvt.remoteIrr);
    if (this.#apic.acceptVector(entry & Lvt.vector, true) === AcceptResult.refused) block.set(ApicReg.lvtLint0, entry);
  }

  /**
   * Writes the entry of a pin. A request being served stays marked only while the same level-triggered vector is
   * programmed: its EOI could not be recognised otherwise.
   */
  writePinEntry(register: number, value: number): void {
    const { block } = this.#apic;
    const before = block.get(register);
    const isSame = this.#isLevelEntry(value) && (before & Lvt.vector) === (value & Lvt.vector);
    block.set(register, isSame ? value | (before & Lvt.remoteIrr) : value);
    this.pumpLevel();
  }

  /** Tells that a vector ended: a level-triggered LINT0 asserted still is requested again. */
  ended(vector: number): void {
    const { block } = this.#apic;
    const entry = block.get(ApicReg.lvtLint0);
    if ((entry & Lvt.vector) !== vector) return;
    block.set(ApicReg.lvtLint0, entry & ~Lvt.remoteIrr);
    this.pumpLevel();
  }

  #isLevelEntry(entry: number): boolean {
    return (entry & Lvt.level) !== 0 && modeOfEntry(entry) === DeliveryMode.fixed;
  }
}
