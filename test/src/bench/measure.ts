/** One measured row. */
export interface Measurement {
  /** Nanoseconds per operation: the median of the samples. */
  readonly median: number;
  readonly unit: 'ns';
  /** `median` over the median of the baseline row, measured in the same run. */
  readonly ratio: number;
  /** Id of the baseline row. */
  readonly baseline: string;
}

const SAMPLES = 15;

/** Median of the samples of `operations` runs of the body, in ns per operation, after a warm-up. */
export const sample = (operations: number, body: (operations: number) => void): number => {
  const warmUntil = process.hrtime.bigint() + 150_000_000n;
  do body(operations);
  while (process.hrtime.bigint() < warmUntil);
  const times: number[] = [];
  for (let i = 0; i < SAMPLES; i++) {
    const from = process.hrtime.bigint();
    body(operations);
    times.push(Number(process.hrtime.bigint() - from) / operations);
  }
  times.sort((a, b) => a - b);
  return times[times.length >> 1]!;
};
