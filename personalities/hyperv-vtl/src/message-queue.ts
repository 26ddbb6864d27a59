import { HV_MESSAGE_SIZE, HV_SYNIC_SINT_COUNT, HvMessageHeader } from '@vmplanes/abi-hyperv';

/** Messages that may wait for one port. @spec TLFS Inter-Partition Communication, Message Buffers */
const PORT_BUFFERS = 16;

/** A message that waits for its slot. */
export interface QueuedMessage {
  readonly sint: number;
  readonly isIntercept: boolean;
  readonly message: Uint8Array;
}

/** Messages of the hypervisor itself. Those of its timers never wait here. @spec TLFS HV_MESSAGE_TYPE */
const isIntercept = (message: Uint8Array): boolean => (message[HvMessageHeader.at.type + 3]! & 0x80) !== 0;

const isSamePort = (a: Uint8Array, b: Uint8Array): boolean => {
  for (let i = HvMessageHeader.at.origin; i < HvMessageHeader.size; i++) if (a[i] !== b[i]) return false;
  return true;
};

/**
 * Messages of one VTL of one VP that wait: one intercept, and sixteen of each port. The intercept goes before the others of its
 * source, since the VTL it is about cannot go on without it.
 * @spec TLFS v5.0C (PDF) §11.3; TLFS Inter-Partition Communication, Message Buffers
 */
export class MessageQueue {
  #messages: QueuedMessage[] = [];
  /** Derived: bit n when a message waits for source n. */
  #waiting = 0;

  get isEmpty(): boolean {
    return this.#waiting === 0;
  }
  holds(sint: number): boolean {
    return (this.#waiting & (1 << sint)) !== 0;
  }

  /**
   * Copies a message into a buffer. A second intercept takes the place of the first.
   * @returns false when no buffer is left.
   */
  add(sint: number, message: Uint8Array): boolean {
    const entry: QueuedMessage = { sint, isIntercept: isIntercept(message), message: message.slice(0, HV_MESSAGE_SIZE) };
    if (entry.isIntercept) {
      this.#messages = [entry, ...this.#messages.filter((m) => !m.isIntercept)];
    } else {
      if (this.#messages.filter((m) => m.sint === sint && !m.isIntercept && isSamePort(m.message, message)).length >= PORT_BUFFERS) return false;
      this.#messages.push(entry);
    }
    this.#derive();
    return true;
  }

  /** Offers the first message of each source, then the next of those that were taken. @param deliver - returns true when it took the message. */
  take(deliver: (m: QueuedMessage) => boolean): void {
    const offered = this.#messages;
    const blocked = new Uint8Array(HV_SYNIC_SINT_COUNT);
    // Messages that arrive meanwhile go behind.
    this.#messages = [];
    const left = offered.filter((m) => {
      if (blocked[m.sint] === 0 && deliver(m)) return false;
      blocked[m.sint] = 1;
      return true;
    });
    this.#messages = [...left, ...this.#messages];
    this.#derive();
  }

  #derive(): void {
    this.#waiting = this.#messages.reduce((set, m) => set | (1 << m.sint), 0);
  }

  save(): readonly QueuedMessage[] {
    return this.#messages.map((m) => ({ ...m, message: m.message.slice() }));
  }
  restore(saved: readonly QueuedMessage[]): void {
    this.#messages = saved.map((m) => ({ ...m, message: m.message.slice() }));
    this.#derive();
  }
}
