import { ApicFlag, Extra } from './block.ts';
import { ApicEvent, ApicReset, discardPending, latchOf, tally } from './counters.ts';
import type { AcceptResult } from './icr.ts';
import type { LocalApic } from './local-apic.ts';

/** Event classes that the processor takes from a latch without further meaning for the APIC. */
export type SimpleLatch = typeof ApicEvent.nmi | typeof ApicEvent.smi | typeof ApicEvent.extInt;

/** The simple latches. */
const simpleLatches: readonly SimpleLatch[] = [ApicEvent.nmi, ApicEvent.smi, ApicEvent.extInt];

/**
 * Events beside IRR, one latch each: NMI, SMI, INIT, SIPI, external interrupt; and the wait-for-SIPI state.
 * @spec SDM 3A §8.4.2, §10.8.1
 */
export class EventLatches {
  readonly #apic: LocalApic;

  constructor(apic: LocalApic) {
    this.#apic = apic;
  }

  /** Takes a message of a simple class. */
  accept(event: SimpleLatch): AcceptResult {
    return this.#apic.isHardwareEnabled ? this.raise(event) : this.#apic.refuse(event);
  }

  /** INIT forgets a start-up message that came before it. @spec SDM 3A §8.4.2 */
  acceptInit(): AcceptResult {
    if (!this.#apic.isHardwareEnabled) return this.#apic.refuse(ApicEvent.init);
    this.#discard(ApicEvent.sipi, ApicReset.init);
    return this.raise(ApicEvent.init);
  }

  /** A start-up message counts only for a processor that waits for it, or will after a pending INIT; the first one wins. @spec SDM 3A §8.4.2 */
  acceptSipi(vector: number): AcceptResult {
    const { block } = this.#apic;
    if (!this.#apic.isHardwareEnabled || !block.has(ApicFlag.init | ApicFlag.waitForSipi)) return this.#apic.refuse(ApicEvent.sipi);
    if (!block.has(ApicFlag.sipi)) block.set(Extra.sipiVector, vector);
    return this.raise(ApicEvent.sipi);
  }

  /** Sets a latch whatever the enables say, for pins that act directly on the processor. */
  raise(event: ApicEvent): AcceptResult {
    const flag = latchOf[event]!;
    const merged = this.#apic.block.has(flag);
    this.#apic.block.raise(flag);
    return this.#apic.announce(event, merged);
  }

  /** True while an event of a latched class (not a vector) is pending. */
  isPending(event: ApicEvent): boolean {
    return this.#apic.block.has(latchOf[event]!);
  }

  /** Gives the processor a pending NMI, SMI or external-interrupt message. @returns false when none is pending. */
  take(event: SimpleLatch): boolean {
    if (!this.#take(event)) return false;
    this.#apic.port.changed(this.#apic);
    return true;
  }

  /**
   * Takes a pending INIT: resets this APIC, keeping id, mode and a SIPI that came after the INIT. Then an application
   * processor waits for SIPI; a boot processor starts at the reset vector, so a SIPI has no taker.
   * @returns false when none is pending.
   * @spec SDM 3A §8.4.2, §10.4.7.3, §10.12.5.1
   */
  takeInit(): boolean {
    if (!this.#take(ApicEvent.init)) return false;
    this.init();
    return true;
  }

  /** Does to this APIC what INIT does, without a message. @spec SDM 3A §10.4.7.3 */
  init(): void {
    for (const event of simpleLatches) this.#discard(event, ApicReset.init);
    if (this.#apic.isBootProcessor) this.#discard(ApicEvent.sipi, ApicReset.init);
    else this.#apic.block.raise(ApicFlag.waitForSipi);
    this.#apic.resetRegisters(ApicReset.init);
  }

  /** Takes a pending SIPI of a waiting processor. @returns the vector (start at vector * 4096), or -1. */
  takeSipi(): number {
    const { block } = this.#apic;
    if (block.has(ApicFlag.init) || !block.has(ApicFlag.waitForSipi) || !this.#take(ApicEvent.sipi)) return -1;
    block.clear(ApicFlag.waitForSipi);
    this.#apic.port.changed(this.#apic);
    return block.get(Extra.sipiVector);
  }

  get isWaitingForSipi(): boolean {
    return this.#apic.block.has(ApicFlag.waitForSipi);
  }

  /** Sets the wait-for-SIPI state from outside: processor state restored, or context started by its owner. A start-up message that came for that wait is gone with it. */
  setWaitingForSipi(waits: boolean): void {
    const { block } = this.#apic;
    if (waits) block.raise(ApicFlag.waitForSipi);
    else {
      block.clear(ApicFlag.waitForSipi);
      if (!block.has(ApicFlag.init)) this.#discard(ApicEvent.sipi, ApicReset.init);
    }
    this.#apic.port.changed(this.#apic);
  }

  /** Clears every latch at RESET; the pins keep their state. An application processor waits for SIPI from then on. */
  reset(): void {
    for (const event of simpleLatches) this.#discard(event, ApicReset.reset);
    this.#discard(ApicEvent.init, ApicReset.reset);
    this.#discard(ApicEvent.sipi, ApicReset.reset);
    this.#apic.block.set(Extra.sipiVector, 0);
    if (this.#apic.isBootProcessor) this.#apic.block.clear(ApicFlag.waitForSipi);
    else this.#apic.block.raise(ApicFlag.waitForSipi);
  }

  #take(event: ApicEvent): boolean {
    const flag = latchOf[event]!;
    if (!this.#apic.block.has(flag)) return false;
    this.#apic.block.clear(flag);
    tally(this.#apic.block, event, 'delivered');
    return true;
  }

  #discard(event: ApicEvent, cause: ApicReset): void {
    discardPending(this.#apic.block, event, cause);
    this.#apic.block.clear(latchOf[event]!);
  }
}
