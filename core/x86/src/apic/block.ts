import type { Arena } from '@vmplanes/engine';

/**
 * Bytes of the state of one local APIC, a multiple of 64 and aligned to 8: first the 1 KiB register image in the form
 * of KVM_GET_LAPIC (register n at n * 16), then what the image cannot hold.
 */
export const LOCAL_APIC_BYTES = 0x500;

/** Size of the register image. @spec Linux include/uapi KVM_APIC_REG_SIZE */
export const APIC_IMAGE_BYTES = 0x400;

/** Offsets of the state that has no register slot. */
export const Extra = {
  baseLow: 0x400,
  baseHigh: 0x404,
  /** The 32-bit id given by the machine; the xAPIC id register may differ after a guest write. */
  initialId: 0x408,
  /** Bits of {@link ApicFlag}. */
  flags: 0x40c,
  sipiVector: 0x410,
  /** Errors since the last write of ESR. */
  errors: 0x414,
  /** Times this APIC won a lowest-priority arbitration. */
  arbitration: 0x418,
  tscDeadlineLow: 0x420,
  tscDeadlineHigh: 0x424,
  /** Machine tick of the next expiry as a double, Infinity when the timer is not counting. */
  timerDeadline: 0x428,
  /** Five counters of four bytes for each of the six event classes. */
  counters: 0x440,
  /** One counter for each reset cause. */
  discardedBy: 0x4b8,
} as const;

/** Latches of one APIC. */
export const ApicFlag = {
  nmi: 1 << 0,
  smi: 1 << 1,
  init: 1 << 2,
  sipi: 1 << 3,
  extInt: 1 << 4,
  waitForSipi: 1 << 5,
  lint0: 1 << 6,
  lint1: 1 << 7,
  errorDisarmed: 1 << 8,
} as const;

/** The state of one local APIC inside the arena; nothing is cached outside of it, so a copy of the bytes is a snapshot. */
export class ApicBlock {
  /** @param at - byte offset of the block in the arena, a multiple of 8. */
  constructor(
    readonly arena: Arena,
    readonly at: number,
  ) {
    if (at % 8 !== 0 || at < 0 || at + LOCAL_APIC_BYTES > arena.byteLength) throw new RangeError(`APIC block at ${at}: not aligned or outside the arena`);
  }

  /** Reads the 32-bit cell at a byte offset of the block. */
  get(offset: number): number {
    return this.arena.u32[(this.at + offset) >>> 2]!;
  }

  set(offset: number, value: number): void {
    this.arena.u32[(this.at + offset) >>> 2] = value;
  }

  getDouble(offset: number): number {
    return this.arena.f64[(this.at + offset) >>> 3]!;
  }

  setDouble(offset: number, value: number): void {
    this.arena.f64[(this.at + offset) >>> 3] = value;
  }

  has(flag: number): boolean {
    return (this.get(Extra.flags) & flag) !== 0;
  }

  raise(flag: number): void {
    this.set(Extra.flags, this.get(Extra.flags) | flag);
  }

  clear(flag: number): void {
    this.set(Extra.flags, this.get(Extra.flags) & ~flag);
  }

  add(offset: number, n: number): void {
    this.set(offset, this.get(offset) + n);
  }

  /** Highest set bit of a 256-bit register, or -1. */
  highest(register: number): number {
    const { u32 } = this.arena;
    const first = (this.at + register) >>> 2;
    for (let word = 7; word >= 0; word--) {
      const bits = u32[first + word * 4]!;
      if (bits !== 0) return word * 32 + 31 - Math.clz32(bits);
    }
    return -1;
  }

  /** Number of set bits of a 256-bit register. */
  count(register: number): number {
    let n = 0;
    for (let word = 0; word < 8; word++) for (let bits = this.get(register + word * 16); bits !== 0; bits &= bits - 1) n++;
    return n;
  }

  test(register: number, vector: number): boolean {
    return ((this.get(register + (vector >> 5) * 16) >>> (vector & 31)) & 1) !== 0;
  }

  setBit(register: number, vector: number): void {
    const at = register + (vector >> 5) * 16;
    this.set(at, this.get(at) | (1 << (vector & 31)));
  }

  clearBit(register: number, vector: number): void {
    const at = register + (vector >> 5) * 16;
    this.set(at, this.get(at) & ~(1 << (vector & 31)));
  }
}
