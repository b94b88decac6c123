/**
 * The statistics of the benchmark: medians, and percentile-bootstrap intervals of medians (Efron),
 * with a seeded generator so that a result can be computed again from its rounds.
 */

export interface Estimate {
  readonly median: number;
  /** 95 % interval of the median. */
  readonly low: number;
  readonly high: number;
}

export function median(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError('median of nothing');
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? NaN) + upper) / 2;
}

const RESAMPLES = 4_000;

/** Median with its 95 % bootstrap interval; one value is its own interval. */
export function estimate(values: readonly number[], seed = 1): Estimate {
  const random = xorshift32(seed);
  const medians = Array.from({ length: RESAMPLES }, () =>
    median(values.map(() => values[Math.floor(random() * values.length)] ?? NaN)),
  ).sort((a, b) => a - b);
  const quantile = (q: number): number =>
    medians[Math.min(RESAMPLES - 1, Math.floor(q * RESAMPLES))] ?? NaN;
  return { median: median(values), low: quantile(0.025), high: quantile(0.975) };
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
