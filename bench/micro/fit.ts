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

/** Least squares; needs two different x at least. */
export function leastSquares(xs: readonly number[], ys: readonly number[]): Line {
  if (xs.length !== ys.length) throw new RangeError('points need an x and a y each');
  const meanX = mean(xs);
  const meanY = mean(ys);
  let above = 0;
  let below = 0;
  for (const [index, x] of xs.entries()) {
    above += (x - meanX) * ((ys[index] ?? NaN) - meanY);
    below += (x - meanX) ** 2;
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

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
