/**
 * A straight line through what sizes cost, t = a + b x bytes: least squares through the medians of
 * the sizes, with intervals from resampled rounds (percentile bootstrap), seeded so that a result
 * can be computed again from its samples.
 */
import { median, xorshift32 } from '../lab/stats.js';
import type { Estimate } from '../lab/stats.js';
import type { Fit } from './result.js';

const RESAMPLES = 2_000;

export interface Line {
  readonly a: number;
  readonly b: number;
}

/**
 * Least squares of the relative deviations, so that small sizes count as much as large ones: weights
 * 1/y^2. Needs two different x at least, and y above 0.
 */
export function leastSquares(xs: readonly number[], ys: readonly number[]): Line {
  if (xs.length !== ys.length) throw new RangeError('points need an x and a y each');
  if (ys.some((y) => !(y > 0))) throw new RangeError('a time is above 0');
  const weights = ys.map((y) => 1 / y ** 2);
  const meanX = weightedMean(xs, weights);
  const meanY = weightedMean(ys, weights);
  let above = 0;
  let below = 0;
  for (const [index, weight] of weights.entries()) {
    const fromMean = (xs[index] ?? NaN) - meanX;
    above += weight * fromMean * ((ys[index] ?? NaN) - meanY);
    below += weight * fromMean ** 2;
  }
  if (below === 0) throw new RangeError('a line needs two different x');
  const b = above / below;
  return { a: meanY - b * meanX, b };
}

/** `rounds[r][s]` is what size `sizes[s]` took in round r. */
export function fitRounds(
  sizes: readonly number[],
  rounds: readonly (readonly number[])[],
  seed = 1,
): Fit {
  if (rounds.length === 0) throw new RangeError('a fit needs a round');
  const medians = mediansOf(sizes, rounds);
  const line = leastSquares(sizes, medians);
  const random = xorshift32(seed);
  const lines = Array.from({ length: RESAMPLES }, () => {
    const picked = rounds.map(() => rounds[Math.floor(random() * rounds.length)] ?? []);
    return leastSquares(sizes, mediansOf(sizes, picked));
  });
  const deviations = sizes.map((size, index) => {
    const measured = medians[index] ?? NaN;
    return Math.abs(line.a + line.b * size - measured) / measured;
  });
  return {
    a: withInterval(
      line.a,
      lines.map(({ a }) => a),
    ),
    b: withInterval(
      line.b,
      lines.map(({ b }) => b),
    ),
    worstDeviation: Math.max(...deviations),
  };
}

function mediansOf(sizes: readonly number[], rounds: readonly (readonly number[])[]): number[] {
  return sizes.map((_, index) => median(rounds.map((round) => round[index] ?? NaN)));
}

function withInterval(value: number, resampled: readonly number[]): Estimate {
  const sorted = [...resampled].sort((x, y) => x - y);
  const at = (q: number): number =>
    sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? NaN;
  return { median: value, low: at(0.025), high: at(0.975) };
}

function weightedMean(values: readonly number[], weights: readonly number[]): number {
  let sum = 0;
  let total = 0;
  for (const [index, weight] of weights.entries()) {
    sum += weight * (values[index] ?? NaN);
    total += weight;
  }
  return sum / total;
}
