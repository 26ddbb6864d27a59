/** How a clock page converts counter cycles to nanoseconds: `((cycles << shift) * mul) >> 32`. */
export interface TimeScale {
  /** 0.32 fixed point. */
  readonly mul: number;
  /** Left shift; negative shifts right. */
  readonly shift: number;
}

const NS_PER_SECOND = 1_000_000_000;

/**
 * The conversion for a counter frequency, with the multiplier as large as 32 bits allow, so that rounding is least.
 * @param hz - cycles per second, above 0.
 * @spec Linux Documentation/virt/kvm/x86/msr.rst MSR_KVM_SYSTEM_TIME_NEW (tsc_to_system_mul, tsc_shift)
 */
export function timeScale(hz: number): TimeScale {
  // ns = cycles * 2^shift * fraction; the fraction is kept in [1/2, 1).
  let shift = 0;
  let fraction = NS_PER_SECOND / hz;
  for (; fraction >= 1; shift++) fraction /= 2;
  for (; fraction < 0.5; shift--) fraction *= 2;
  return { mul: Math.floor(fraction * 2 ** 32), shift };
}

/** Nanoseconds of a number of cycles, as a guest computes them from its clock page. */
export const scaleCycles = (cycles: bigint, { mul, shift }: TimeScale): bigint => (((shift >= 0 ? cycles << BigInt(shift) : cycles >> BigInt(-shift)) & (2n ** 64n - 1n)) * BigInt(mul)) >> 32n;
