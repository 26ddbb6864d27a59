import { type ApicBlock, Extra } from './block.ts';
import { TimerMode } from './icr.ts';
import { ApicReg, Lvt } from './registers.ts';

/** Machine time as one plane context sees it. */
export interface ApicClock {
  /** Current machine time in ticks. */
  now(): number;
  /**
   * Machine tick at which the time-stamp counter of this context reaches a value, which may lie in the past.
   * @param low - low 32 bits of the counter value.
   * @param high - high 32 bits.
   */
  ticksAtTsc(low: number, high: number): number;
}

const TWO_32 = 2 ** 32;

/** Divisor that a divide configuration selects: 1, 2, 4 ... 128. @spec SDM 3A §10.5.4 figure 10-10 */
export const divisorOf = (divide: number): number => {
  const code = (divide & 3) | ((divide & 8) >>> 1);
  return code === 7 ? 1 : 2 << code;
};

/**
 * The timer of one local APIC. Only the tick of the next expiry is kept; the current count is computed from it.
 * A timer never acts by itself: the owner calls {@link expire} when {@link deadline} has come.
 * @spec SDM 3A §10.5.4
 */
export class ApicTimer {
  readonly #block: ApicBlock;
  readonly #clock: ApicClock;
  readonly #busTicks: number;
  readonly #fire: () => void;

  /**
   * @param busTicks - machine ticks per cycle of the timer input clock.
   * @param fire - delivers the LVT timer entry; must look at the mask bit.
   */
  constructor(block: ApicBlock, clock: ApicClock, busTicks: number, fire: () => void) {
    this.#block = block;
    this.#clock = clock;
    this.#busTicks = busTicks;
    this.#fire = fire;
  }

  get mode(): TimerMode {
    return ((this.#block.get(ApicReg.lvtTimer) >>> Lvt.timerModeShift) & 3) as TimerMode;
  }

  /** Machine tick of the next expiry that does something; Infinity when there is none or the entry is masked. */
  deadline(): number {
    return (this.#block.get(ApicReg.lvtTimer) & Lvt.masked) !== 0 ? Infinity : this.#block.getDouble(Extra.timerDeadline);
  }

  /**
   * Turns a deadline that has come into an interrupt request; several missed periods give one request.
   * @param now - machine ticks; may lie after the deadline.
   * @returns true when the deadline had come.
   */
  expire(now: number): boolean {
    const due = this.#block.getDouble(Extra.timerDeadline);
    if (due > now) return false;
    const initial = this.#block.get(ApicReg.initialCount);
    if (this.mode === TimerMode.periodic && initial !== 0) {
      const period = initial * this.#unit();
      this.#block.setDouble(Extra.timerDeadline, due + (Math.floor((now - due) / period) + 1) * period);
    } else {
      this.stop();
    }
    this.#fire();
    return true;
  }

  /** Serves an expiry that the owner has not served yet, before anything reads or changes the timer. */
  settle(): void {
    this.expire(this.#clock.now());
  }

  /** Disarms the timer without touching the initial count. */
  stop(): void {
    this.#block.setDouble(Extra.timerDeadline, Infinity);
    this.#block.set(Extra.tscDeadlineLow, 0);
    this.#block.set(Extra.tscDeadlineHigh, 0);
  }

  currentCount(): number {
    this.settle();
    return this.mode === TimerMode.tscDeadline ? 0 : this.#countAt(this.#clock.now());
  }

  /** Starts the timer in one-shot or periodic mode; 0 stops it. Without effect in TSC-deadline mode. */
  writeInitialCount(value: number): void {
    this.settle();
    if (this.mode === TimerMode.tscDeadline) return;
    this.#block.set(ApicReg.initialCount, value);
    this.start(value);
  }

  /** Makes the timer count down from a value, which need not be the initial count. */
  start(count: number): void {
    const counts = this.mode === TimerMode.oneShot || this.mode === TimerMode.periodic;
    this.#block.setDouble(Extra.timerDeadline, counts && count !== 0 ? this.#clock.now() + count * this.#unit() : Infinity);
  }

  /** Changes the divisor; the count goes on from where it is. */
  writeDivide(value: number): void {
    this.settle();
    const due = this.#block.getDouble(Extra.timerDeadline);
    const before = this.#unit();
    this.#block.set(ApicReg.divide, value);
    if (due === Infinity || this.mode === TimerMode.tscDeadline) return;
    const now = this.#clock.now();
    this.#block.setDouble(Extra.timerDeadline, now + Math.ceil(((due - now) / before) * this.#unit()));
  }

  /** Changes the LVT entry. Entering or leaving TSC-deadline mode disarms the timer. @spec SDM 3A §10.5.4.1 */
  writeLvt(value: number): void {
    this.settle();
    const before = this.mode;
    this.#block.set(ApicReg.lvtTimer, value);
    const after = this.mode;
    if (before === after || (before < TimerMode.tscDeadline && after < TimerMode.tscDeadline)) return;
    this.stop();
    this.#block.set(ApicReg.initialCount, 0);
  }

  /**
   * Writes IA32_TSC_DEADLINE: 0 disarms, a value in the past expires at once; ignored in the other modes.
   * @spec SDM 3A §10.5.4.1
   */
  writeTscDeadline(low: number, high: number): void {
    this.settle();
    if (this.mode !== TimerMode.tscDeadline) return;
    this.#block.set(Extra.tscDeadlineLow, low);
    this.#block.set(Extra.tscDeadlineHigh, high);
    this.#aimAtTsc();
  }

  /**
   * To be called after the time-stamp counter of this context was written: the armed deadline moves in machine time.
   * Call {@link settle} before the write, or an expiry not served yet would be lost.
   */
  tscChanged(): void {
    if (this.mode === TimerMode.tscDeadline) this.#aimAtTsc();
  }

  #aimAtTsc(): void {
    const low = this.#block.get(Extra.tscDeadlineLow);
    const high = this.#block.get(Extra.tscDeadlineHigh);
    this.#block.setDouble(Extra.timerDeadline, low === 0 && high === 0 ? Infinity : this.#clock.ticksAtTsc(low, high));
    this.settle();
  }

  /** Machine ticks per count. */
  #unit(): number {
    return this.#busTicks * divisorOf(this.#block.get(ApicReg.divide));
  }

  #countAt(now: number): number {
    const due = this.#block.getDouble(Extra.timerDeadline);
    return due === Infinity ? 0 : Math.min(Math.ceil((due - now) / this.#unit()), TWO_32 - 1);
  }
}
