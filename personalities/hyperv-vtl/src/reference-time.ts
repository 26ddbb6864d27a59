import { HvReferenceTscPage } from '@vmplanes/abi-hyperv';
import { Activity, type Answer, MAX_PLANES, type PlainState, type PlaneContext, type Vp } from '@vmplanes/engine';
import { X86 } from '@vmplanes/x86';
import { isEnabled, pageOf } from './page-register.ts';
import type { HvContext, ReferenceTime } from './ports.ts';

/** The reference counter counts units of 100 ns. @spec TLFS Timers, Partition Reference Counter */
const UNITS_PER_SECOND = 10_000_000n;
/** A scale of the TSC by one. */
const TSC_ONE = 2n ** 32n;
/** Longest due time that is still told apart from "never", in ticks. */
const LATEST_TICK = 2n ** 53n;

/** Any number but 0, which means "not valid: use the counter". It changes with the page: when time is restored. */
const SEQUENCE = 1;
const LAST_SEQUENCE = 0xffff_ffff;

/** What a VTL that idles waits for. */
const idleKey = (context: PlaneContext): string => `hyperv-idle:${context.vp.index}:${context.plane}`;

/** `ceil(a / b)`. */
const ceilDiv = (a: bigint, b: bigint): bigint => (a + b - 1n) / b;

/**
 * Clocks of the partition. Everything is computed from machine time by one conversion, `(cycles * scale) >> 64`, where cycles are
 * those of a time-stamp counter that nobody wrote to: so counter, TSC page and timers agree to the last digit.
 * A VTL that writes its own counter moves only its view of it; the page then does not fit that VTL.
 * @spec TLFS Timers
 */
export class ReferenceTimeChapter implements ReferenceTime {
  readonly stateName = 'time';
  /** REFERENCE_TSC of each VTL. */
  readonly #msrs: bigint[] = [];
  /** The scale of the counter for which {@link #scale} was computed. */
  #tscScale = 0n;
  #scale = 0n;
  /** What a restored time added: cycles to the counters, 100 ns units to what the cycles make, and the sequence number of the page since. */
  #cyclesAhead = 0n;
  #offset = 0n;
  #sequence = SEQUENCE;

  constructor(readonly hv: HvContext) {}

  // -- conversions ---------------------------------------------------------------------------------------------------

  /** Cycles per machine tick of the VPs' counters, 32.32 fixed point. */
  #cyclesPerTick(): bigint {
    const { machine } = this.hv;
    const scale = machine.arena.view.getBigUint64(machine.vps[0]!.plane(0).base + X86.tscScale, true);
    return scale === 0n ? TSC_ONE : scale;
  }
  /** 100 ns units per cycle, 0.64 fixed point. */
  #unitsPerCycle(): bigint {
    const tscScale = this.#cyclesPerTick();
    if (tscScale !== this.#tscScale) {
      this.#tscScale = tscScale;
      this.#scale = ((UNITS_PER_SECOND << 64n) * TSC_ONE) / (BigInt(this.hv.machine.options.ticksPerSecond) * tscScale);
    }
    return this.#scale;
  }

  /** Cycles that the counters of the VPs show now. */
  #cycles(vp: Vp): bigint {
    const ticks = BigInt(Math.floor(this.hv.machine.timeOf(vp)));
    return ((ticks * this.#cyclesPerTick()) >> 32n) + this.#cyclesAhead;
  }

  now(vp: Vp): bigint {
    return ((this.#cycles(vp) * this.#unitsPerCycle()) >> 64n) + this.#offset;
  }

  ticksAt(reference: bigint): number {
    const cycles = ceilDiv((reference - this.#offset) << 64n, this.#unitsPerCycle()) - this.#cyclesAhead;
    if (cycles <= 0n) return 0;
    const ticks = ceilDiv(cycles << 32n, this.#cyclesPerTick());
    return ticks > LATEST_TICK ? Number.POSITIVE_INFINITY : Number(ticks);
  }

  /** @spec TLFS HvCallRestorePartitionTime */
  restoreTime(vp: Vp, reference: bigint, tsc: bigint, sequence: number): void {
    const { machine, chapters } = this.hv;
    const delta = tsc - this.#cycles(vp);
    this.#cyclesAhead += delta;
    this.#offset = reference - ((tsc * this.#unitsPerCycle()) >> 64n);
    this.#sequence = sequence === LAST_SEQUENCE ? SEQUENCE : sequence + 1;
    for (const each of machine.vps) {
      for (const context of each.planes) {
        if (!context) continue;
        machine.checks?.authorise(context);
        const at = context.base + X86.tscOffset;
        machine.arena.view.setBigInt64(at, BigInt.asIntN(64, machine.arena.view.getBigInt64(at, true) + delta), true);
        chapters.timers.timeChanged(context);
      }
    }
    this.#msrs.forEach((msr, vtl) => {
      if (isEnabled(msr)) this.#writePage(chapters.overlays.frameByte('tsc', 0, vtl));
    });
  }

  tscFrequency(): bigint {
    return (BigInt(this.hv.machine.options.ticksPerSecond) * this.#cyclesPerTick()) >> 32n;
  }
  apicFrequency(): bigint {
    return BigInt(Math.floor(this.hv.machine.options.ticksPerSecond / this.hv.arch.config.apic.busTicks));
  }

  /** @spec TLFS Virtual Processors, Virtual Processor Run Time Register */
  runtime(vp: Vp): bigint {
    const { ticksPerInstruction, ticksPerSecond } = this.hv.machine.options;
    return (BigInt(Math.floor(vp.retired * ticksPerInstruction)) * UNITS_PER_SECOND) / BigInt(ticksPerSecond);
  }

  // -- TSC page --------------------------------------------------------------------------------------------------------

  tscMsr(vtl: number): bigint {
    return this.#msrs[vtl] ?? 0n;
  }

  setTscMsr(vtl: number, value: bigint): boolean {
    const { overlays } = this.hv.chapters;
    const enable = isEnabled(value);
    if (!overlays.isInSpace(pageOf(value))) return false;
    const at = overlays.place('tsc', 0, vtl, enable ? pageOf(value) : null);
    if (enable && at < 0) return false;
    this.#msrs[vtl] = value;
    if (enable) this.#writePage(at);
    return true;
  }

  #writePage(at: number): void {
    const { view } = this.hv.machine.arena;
    view.setUint32(at + HvReferenceTscPage.at.tscSequence, this.#sequence, true);
    view.setBigUint64(at + HvReferenceTscPage.at.tscScale, this.#unitsPerCycle(), true);
    view.setBigInt64(at + HvReferenceTscPage.at.tscOffset, this.#offset, true);
  }

  // -- idle ------------------------------------------------------------------------------------------------------------

  /** @spec TLFS Virtual Processors, Virtual Processor Idle Sleep State */
  idle(context: PlaneContext): Answer {
    const key = idleKey(context);
    this.hv.machine.hold(key);
    return context.vp.replies.wait({ kind: 'key', key }, 'advanced');
  }

  isIdle(context: PlaneContext): boolean {
    const { activity, wait } = context;
    return activity === Activity.Held && wait?.kind === 'key' && wait.key === idleKey(context);
  }

  turn(context: PlaneContext): void {
    if (context.activity === Activity.Held && this.isIdle(context) && context.events.deliverable()) this.hv.machine.release(idleKey(context));
  }

  // -- state -----------------------------------------------------------------------------------------------------------

  /** The counter goes on; only the pages are gone. */
  reset(): void {
    this.#msrs.length = 0;
  }
  save(): PlainState {
    return { cyclesAhead: this.#cyclesAhead, offset: this.#offset, sequence: this.#sequence, tsc: Array.from({ length: MAX_PLANES }, (_, vtl) => this.tscMsr(vtl)) };
  }
  restore(state: PlainState): void {
    this.#msrs.length = 0;
    const { tsc, cyclesAhead, offset, sequence } = state as { readonly tsc: readonly bigint[]; readonly cyclesAhead: bigint; readonly offset: bigint; readonly sequence: number };
    this.#msrs.push(...tsc);
    this.#cyclesAhead = cyclesAhead;
    this.#offset = offset;
    this.#sequence = sequence;
  }
}
