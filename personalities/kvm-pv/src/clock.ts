import { type Accessor, AccessResult, type Machine, type PlaneContext, type Subject } from '@vmplanes/engine';
import { X86 } from '@vmplanes/x86';
import { ClockFlags, ClockPairing, Msr, Status, VcpuTimeInfo, WallClock } from './abi/index.ts';
import type { PvPlane } from './plane-state.ts';
import { scaleCycles, timeScale, type TimeScale } from './time-scale.ts';

const U64 = 2n ** 64n - 1n;
const NS = 1_000_000_000n;
/** The scale of the counter is 32.32 fixed point. */
const SCALE_ONE = 2 ** 32;

/**
 * Wall clock and kvmclock of all planes. Every page is computed from one base, machine time zero: so any two planes of any
 * virtual processors read the same nanoseconds at the same instant, whatever their counters are offset by.
 */
export class PvClock {
  readonly #machine: Machine;
  readonly #bootSeconds: number;
  readonly #bytes = new Uint8Array(64);
  readonly #view = new DataView(this.#bytes.buffer);

  /** @param bootSeconds - wall-clock time at machine time zero, seconds since 1970. */
  constructor(machine: Machine, bootSeconds: number) {
    this.#machine = machine;
    this.#bootSeconds = bootSeconds;
  }

  /** Cycles per second of a plane's time-stamp counter. */
  frequency(context: PlaneContext): number {
    const scale = this.#machine.arena.view.getBigUint64(context.base + X86.tscScale, true);
    return (this.#machine.options.ticksPerSecond * Number(scale)) / SCALE_ONE;
  }

  #offset(context: PlaneContext): bigint {
    return this.#machine.arena.view.getBigUint64(context.base + X86.tscOffset, true);
  }

  /** A plane's time-stamp counter now. */
  tsc(context: PlaneContext): bigint {
    return (this.#cycles(context) + this.#offset(context)) & U64;
  }

  /** Cycles since machine time zero. */
  #cycles(context: PlaneContext): bigint {
    const scale = this.#machine.arena.view.getBigUint64(context.base + X86.tscScale, true);
    return (BigInt(Math.floor(this.#machine.timeOf(context.vp))) * scale) >> 32n;
  }

  /** Nanoseconds since boot, as the plane's clock page gives them. */
  nanoseconds(context: PlaneContext): bigint {
    return scaleCycles(this.#cycles(context), this.#scale(context));
  }

  #scale(context: PlaneContext): TimeScale {
    return timeScale(Math.max(1, this.frequency(context)));
  }

  /** True when the counter was changed since the page was written. */
  isOutdated(context: PlaneContext, p: PvPlane): boolean {
    if (p.clockStale) return true;
    const { u32 } = this.#machine.arena;
    const offset = (context.base + X86.tscOffset) >>> 2;
    const scale = (context.base + X86.tscScale) >>> 2;
    const { clockBasis } = p;
    return u32[offset] !== clockBasis[0] || u32[offset + 1] !== clockBasis[1] || u32[scale] !== clockBasis[2] || u32[scale + 1] !== clockBasis[3];
  }

  /** Writes the clock page of a plane. What the plane itself may not write is not written for it either. */
  update(context: PlaneContext, p: PvPlane): void {
    const { u32 } = this.#machine.arena;
    const offset = (context.base + X86.tscOffset) >>> 2;
    const scale = (context.base + X86.tscScale) >>> 2;
    p.clockBasis.set([u32[offset]!, u32[offset + 1]!, u32[scale]!, u32[scale + 1]!]);
    const { mul, shift } = this.#scale(context);
    VcpuTimeInfo.write(this.#view, 0, {
      version: 0,
      tscTimestamp: this.#offset(context),
      systemTime: 0n,
      tscToSystemMul: mul,
      tscShift: shift,
      flags: ClockFlags.pack({ tscStable: true }),
    });
    p.clockStale = !this.publish(context, p.address(Msr.SystemTime), VcpuTimeInfo.at.version, VcpuTimeInfo.size, 'kvmclock:odd');
  }

  /** Writes the wall clock at boot, once, where a plane asked for it. */
  writeWallClock(context: PlaneContext, p: PvPlane): void {
    WallClock.write(this.#view, 0, { version: 0, sec: this.#bootSeconds, nsec: 0 });
    // The register has no enable bit: its whole value is the address.
    this.publish(context, p.address(Msr.WallClock), WallClock.at.version, WallClock.size, 'wallclock:odd');
  }

  /**
   * Publishes the first `size` bytes of the buffer under the version protocol: the version is odd while the rest changes, and even and
   * new after it. A reader that ran in between sees that.
   * @returns false when the plane may not write there.
   */
  publish(context: PlaneContext, gpa: number, versionAt: number, size: number, point: string): boolean {
    const { memory, hooks } = this.#machine;
    const { access } = memory;
    const { call } = memory.subjects[context.plane]!;
    if (access.readU32(call, gpa + versionAt) !== AccessResult.Ok) return false;
    // An odd value is left over from whoever used the memory before.
    const version = (access.lo + (access.lo & 1)) >>> 0;
    if (access.writeU32(call, gpa + versionAt, (version + 1) >>> 0) !== AccessResult.Ok) return false;
    hooks.preemption?.at(point, context.vp);
    const done = this.#around(access, call, gpa, versionAt, size);
    access.writeU32(call, gpa + versionAt, (version + 2) >>> 0);
    return done;
  }

  /** Writes everything but the version. */
  #around(access: Accessor, call: Subject, gpa: number, versionAt: number, size: number): boolean {
    const before = versionAt === 0 ? AccessResult.Ok : access.write(call, gpa, this.#bytes, 0, versionAt);
    const after = versionAt + 4;
    return before === AccessResult.Ok && access.write(call, gpa + after, this.#bytes, after, size - after) === AccessResult.Ok;
  }

  /** The buffer that {@link publish} writes from; borrowed. */
  get buffer(): DataView {
    return this.#view;
  }

  /**
   * Writes wall-clock time and counter, taken at one instant.
   * @param type - 0 is the wall clock, the only one there is.
   * @spec Linux Documentation/virt/kvm/x86/hypercalls.rst KVM_HC_CLOCK_PAIRING
   */
  pair(context: PlaneContext, gpa: number, type: number): number {
    if (type !== 0) return Status.Eopnotsupp;
    const wall = BigInt(this.#bootSeconds) * NS + this.nanoseconds(context);
    ClockPairing.write(this.#view, 0, { sec: wall / NS, nsec: wall % NS, tsc: this.tsc(context), flags: 0 });
    const { access, subjects } = this.#machine.memory;
    return access.write(subjects[context.plane]!.call, gpa, this.#bytes, 0, ClockPairing.size) === AccessResult.Ok ? Status.Ok : Status.Efault;
  }
}
