/**
 * The statistics of the benchmarks: medians, with an interval between two of the sorted values. How
 * many of n values lie below the true median is binomial (n, 1/2), whatever the values' distribution,
 * so the interval's coverage is known exactly (Conover, Practical Nonparametric Statistics, 3.2).
 */
import { z } from 'zod';

/**
 * Fewest values that have a 95 % interval: even from least to greatest, five cover the median only
 * with 1 - 2/2^5 = 93.75 %; six do with 96.9 %.
 */
export const INTERVAL_VALUES = 6;
const COVERAGE = 0.95;

export const estimateSchema = z.object({
  median: z.number(),
  /** Bounds of the median's 95 % interval; of fewer than INTERVAL_VALUES values least and greatest. */
  low: z.number(),
  high: z.number(),
  /** How many values there were. */
  count: z.int().min(1),
});
export type Estimate = Readonly<z.infer<typeof estimateSchema>>;

/** Whether the bounds are a 95 % interval; else they are minimum and maximum. */
export function isInterval({ count }: Pick<Estimate, 'count'>): boolean {
  return count >= INTERVAL_VALUES;
}

export function median(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError('median of nothing');
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? NaN) + upper) / 2;
}

/** Median with its bounds; one value is its own minimum and maximum. */
export function estimate(values: readonly number[]): Estimate {
  const count = values.length;
  const sorted = [...values].sort((a, b) => a - b);
  const rank = isInterval({ count }) ? intervalRank(count) : 1;
  return {
    median: median(values),
    low: sorted[rank - 1] ?? NaN,
    high: sorted[count - rank] ?? NaN,
    count,
  };
}

/**
 * The greatest k for which the median lies between the k-th least and the k-th greatest of `count`
 * values with 95 % at least.
 */
export function intervalRank(count: number): number {
  let rank = 0;
  while (2 * (rank + 1) <= count && coverage(count, rank + 1) >= COVERAGE) rank += 1;
  if (rank === 0) throw new RangeError(`${count} values have no ${COVERAGE * 100} % interval`);
  return rank;
}

/** How probable it is that the median lies between the k-th least and the k-th greatest value. */
export function coverage(count: number, k: number): number {
  // P(fewer than k of the values are below the median), and the same above. In logarithms: 2^-count
  // is no number any more beyond 1,074.
  let log = -count * Math.LN2;
  let below = 0;
  for (let i = 0; i < k; i += 1) {
    below += Math.exp(log);
    log += Math.log((count - i) / (i + 1));
  }
  return 1 - 2 * below;
}

/** The ratio of two measurements made in the same rounds: paired, so that drift cancels. */
export function pairedRatio(values: readonly number[], base: readonly number[]): Estimate {
  if (values.length !== base.length) throw new RangeError('rounds do not pair');
  return estimate(values.map((value, round) => value / (base[round] ?? NaN)));
}

/** A permutation of the items, uniform (Fisher-Yates). */
export function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const out = [...items];
  for (let last = out.length - 1; last > 0; last -= 1) {
    const pick = Math.floor(random() * (last + 1));
    [out[last], out[pick]] = [out[pick] as T, out[last] as T];
  }
  return out;
}

/** Marsaglia's xorshift32, uniform in [0, 1). */
export function xorshift32(seed: number): () => number {
  let state = seed >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state / 2 ** 32;
  };
}
