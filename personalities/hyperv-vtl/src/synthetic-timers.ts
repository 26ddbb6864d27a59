import { HV_MESSAGE_SIZE, HV_SYNIC_STIMER_COUNT, HvMessageHeader, HvMessageType, HvStimerConfig, HvTimerMessagePayload } from '@vmplanes/abi-hyperv';
import { MAX_PLANES, type PlainRecord, type PlainState, type PlaneContext } from '@vmplanes/engine';
import type { HvContext, SyntheticTimers } from './ports.ts';

const { enable, periodic, lazy, autoEnable, directMode, sintx, apicVector } = HvStimerConfig.mask;
const vectorOf = (config: bigint): number => Number((config & apicVector) >> BigInt(HvStimerConfig.shift.apicVector));
const sintOf = (config: bigint): number => Number((config & sintx) >> BigInt(HvStimerConfig.shift.sintx));

/** Reference times beyond the last one are the last one. */
const END_OF_TIME = 2n ** 64n - 1n;
const atMost = (time: bigint): bigint => (time < END_OF_TIME ? time : END_OF_TIME);

const NEVER = Number.POSITIVE_INFINITY;
/** Missed periods of a timer that is not lazy which are made up for; older ones are skipped. */
const CATCH_UP = 8n;

/** The timers of one VTL of one VP. */
class VtlTimers {
  readonly config = new BigUint64Array(HV_SYNIC_STIMER_COUNT);
  readonly count = new BigUint64Array(HV_SYNIC_STIMER_COUNT);
  /** Reference time at which the running period ends. Meaningful while the timer runs. */
  readonly due = new BigUint64Array(HV_SYNIC_STIMER_COUNT);
  /** Reference time before which it must not fire: later than `due` only while missed periods are made up for. */
  readonly notBefore = new BigUint64Array(HV_SYNIC_STIMER_COUNT);
  /** Bit n: timer n expired and its message waits for the slot. */
  held = 0;
  /** Derived: machine tick of each timer, and the earliest. */
  readonly ticks = new Float64Array(HV_SYNIC_STIMER_COUNT).fill(NEVER);
  nearest = NEVER;

  runs(n: number): boolean {
    return (this.config[n]! & enable) !== 0n && this.count[n]! !== 0n && (this.held & (1 << n)) === 0;
  }
}

/**
 * The synthetic timers. Each counts in reference time and is due at an absolute value of it, so it keeps its deadline through anything that
 * happens to the machine. It acts in its own VTL, whichever runs. A message that finds its slot in use is held back; meanwhile the timer stands.
 * @spec TLFS Timers, Synthetic Timers
 */
export class SyntheticTimerChapter implements SyntheticTimers {
  readonly stateName = 'timers';
  /** By VP index * 16 + VTL. */
  readonly #units: VtlTimers[] = [];
  readonly #message = new Uint8Array(HV_MESSAGE_SIZE);
  readonly #view = new DataView(this.#message.buffer);

  constructor(readonly hv: HvContext) {}

  #unit(context: PlaneContext): VtlTimers {
    return (this.#units[context.vp.index * MAX_PLANES + context.plane] ??= new VtlTimers());
  }
  #now(context: PlaneContext): bigint {
    return this.hv.chapters.clocks.now(context.vp);
  }

  // -- registers -----------------------------------------------------------------------------------------------------

  config(context: PlaneContext, n: number): bigint {
    return this.#unit(context).config[n]!;
  }
  setConfig(context: PlaneContext, n: number, value: bigint): void {
    // Without a vector of its own or a source it could not tell anyone.
    const isMute = (value & directMode) === 0n && sintOf(value) === 0;
    const unit = this.#unit(context);
    unit.config[n] = isMute ? value & ~enable : value;
    this.#start(context, unit, n);
  }

  count(context: PlaneContext, n: number): bigint {
    return this.#unit(context).count[n]!;
  }
  setCount(context: PlaneContext, n: number, value: bigint): void {
    const unit = this.#unit(context);
    unit.count[n] = value;
    const config = unit.config[n]!;
    if (value === 0n) unit.config[n] = config & ~enable;
    else if ((config & autoEnable) !== 0n) this.setConfig(context, n, config | enable);
    this.#start(context, unit, n);
  }

  /** A register was written: whatever the timer was doing begins anew. */
  #start(context: PlaneContext, unit: VtlTimers, n: number): void {
    unit.held &= ~(1 << n);
    if (unit.runs(n)) {
      const count = unit.count[n]!;
      unit.due[n] = (unit.config[n]! & periodic) !== 0n ? atMost(this.#now(context) + count) : count;
      unit.notBefore[n] = unit.due[n]!;
    }
    this.#schedule(unit, n);
    this.hv.machine.timersChanged(context);
  }

  timeChanged(context: PlaneContext): void {
    const unit = this.#unit(context);
    for (let n = 0; n < HV_SYNIC_STIMER_COUNT; n++) if (unit.runs(n)) this.#start(context, unit, n);
  }

  #schedule(unit: VtlTimers, n: number): void {
    unit.ticks[n] = unit.runs(n) ? this.hv.chapters.clocks.ticksAt(unit.notBefore[n]!) : NEVER;
    unit.nearest = Math.min(...unit.ticks);
  }

  // -- expiry --------------------------------------------------------------------------------------------------------

  deadline(context: PlaneContext): number {
    return this.#units[context.vp.index * MAX_PLANES + context.plane]?.nearest ?? NEVER;
  }

  expire(context: PlaneContext, now: number): void {
    const unit = this.#unit(context);
    for (let n = 0; n < HV_SYNIC_STIMER_COUNT; n++) if (unit.ticks[n]! <= now) this.#fire(context, unit, n);
  }

  #fire(context: PlaneContext, unit: VtlTimers, n: number): void {
    const config = unit.config[n]!;
    if ((config & directMode) !== 0n) this.hv.chapters.synic.raise(context, vectorOf(config), false);
    else if (!this.#post(context, unit, n)) {
      unit.held |= 1 << n;
      this.#schedule(unit, n);
      return;
    }
    this.#next(context, unit, n);
  }

  #post(context: PlaneContext, unit: VtlTimers, n: number): boolean {
    const view = this.#view;
    view.setUint32(HvMessageHeader.at.type, HvMessageType.TimerExpired, true);
    view.setUint8(HvMessageHeader.at.payloadSize, HvTimerMessagePayload.size);
    HvTimerMessagePayload.write(view, HvMessageHeader.size, { timerIndex: n, reserved: 0, expirationTime: unit.due[n]!, deliveryTime: this.#now(context) });
    return this.hv.chapters.synic.post(context, sintOf(unit.config[n]!), this.#message, false) === 'delivered';
  }

  /** After an expiry was told: a one-shot timer is off, a periodic one goes on. */
  #next(context: PlaneContext, unit: VtlTimers, n: number): void {
    const config = unit.config[n]!;
    if ((config & periodic) === 0n) {
      unit.config[n] = config & ~enable;
    } else {
      const now = this.#now(context);
      const period = unit.count[n]!;
      let due = unit.due[n]! + period;
      const missed = due > now ? 0n : (now - due) / period + 1n;
      const skipped = (config & lazy) !== 0n ? missed : missed > CATCH_UP ? missed - CATCH_UP : 0n;
      due += skipped * period;
      unit.due[n] = atMost(due);
      // Missed periods are made up for by shorter ones, so that the guest still runs between them.
      const soonest = now + (period + 1n) / 2n;
      unit.notBefore[n] = atMost(due > now ? due : soonest);
    }
    this.#schedule(unit, n);
  }

  retry(context: PlaneContext): void {
    const unit = this.#units[context.vp.index * MAX_PLANES + context.plane];
    if (unit === undefined || unit.held === 0) return;
    for (let n = 0; n < HV_SYNIC_STIMER_COUNT; n++) {
      if ((unit.held & (1 << n)) === 0 || !this.#post(context, unit, n)) continue;
      unit.held &= ~(1 << n);
      this.#next(context, unit, n);
    }
    this.hv.machine.timersChanged(context);
  }

  // -- state -----------------------------------------------------------------------------------------------------------

  reset(): void {
    this.#units.length = 0;
  }

  save(): PlainState {
    return { units: this.#units.flatMap((u, at) => [{ at, config: u.config.slice(), count: u.count.slice(), due: u.due.slice(), notBefore: u.notBefore.slice(), held: u.held }]) };
  }

  restore(state: PlainState): void {
    this.#units.length = 0;
    for (const s of (state as PlainRecord)['units'] as readonly SavedUnit[]) {
      const unit = new VtlTimers();
      unit.config.set(s.config);
      unit.count.set(s.count);
      unit.due.set(s.due);
      unit.notBefore.set(s.notBefore);
      unit.held = s.held;
      for (let n = 0; n < HV_SYNIC_STIMER_COUNT; n++) this.#schedule(unit, n);
      this.#units[s.at] = unit;
    }
  }
}

interface SavedUnit {
  readonly at: number;
  readonly config: BigUint64Array;
  readonly count: BigUint64Array;
  readonly due: BigUint64Array;
  readonly notBefore: BigUint64Array;
  readonly held: number;
}
