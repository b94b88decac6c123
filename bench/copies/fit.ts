/**
 * A straight line through what sizes cost, t = a + b x bytes: one by least squares in each round, and
 * of all rounds the medians of a and b with their bounds.
 */
import { estimate, median } from '../frame/stats.js';
import type { Fit } from './copies-result.js';

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
export function fitRounds(sizes: readonly number[], rounds: readonly (readonly number[])[]): Fit {
  if (rounds.length === 0) throw new RangeError('a fit needs a round');
  const lines = rounds.map((times) => leastSquares(sizes, times));
  const a = estimate(lines.map((line) => line.a));
  const b = estimate(lines.map((line) => line.b));
  const deviations = sizes.map((size, index) => {
    const measured = median(rounds.map((round) => round[index] ?? NaN));
    return Math.abs(a.median + b.median * size - measured) / measured;
  });
  return { a, b, worstDeviation: Math.max(...deviations) };
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
