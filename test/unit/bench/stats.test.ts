import { describe, expect, it } from 'vitest';
import {
  coverage,
  estimate,
  INTERVAL_VALUES,
  intervalRank,
  isInterval,
  median,
  pairedRatio,
  shuffled,
  xorshift32,
} from '../../../bench/frame/stats.js';

describe('median', () => {
  it.each([
    [[3], 3],
    [[4, 1], 2.5],
    [[9, 1, 5], 5],
    [[4, 1, 3, 2], 2.5],
  ])('of %j is %d', (values, expected) => {
    expect(median(values)).toBe(expected);
  });
  it('of nothing is an error', () => {
    expect(() => median([])).toThrow(RangeError);
  });
});

describe('estimate', () => {
  it('has no width when nothing varies', () => {
    expect(estimate([2, 2, 2, 2])).toEqual({ median: 2, low: 2, high: 2, count: 4 });
  });

  it.each([1, 2, 3, 4, 5])('of %i values is minimum to maximum, and no interval', (count) => {
    const values = [7, 3, 9, 1, 5].slice(0, count);
    const found = estimate(values);
    expect([found.low, found.high]).toEqual([Math.min(...values), Math.max(...values)]);
    expect(isInterval(found)).toBe(false);
    expect(() => intervalRank(count)).toThrow(RangeError);
  });

  it('is an interval from the fewest values on whose minimum and maximum cover 95 %', () => {
    expect(coverage(INTERVAL_VALUES - 1, 1)).toBeLessThan(0.95);
    expect(coverage(INTERVAL_VALUES, 1)).toBeCloseTo(1 - 2 / 64, 12);
    expect(isInterval(estimate([1, 2, 3, 4, 5, 6]))).toBe(true);
  });

  it('covers 95 % and no more than it must, by the exact binomial distribution', () => {
    for (let count = INTERVAL_VALUES; count <= 60; count += 1) {
      const rank = intervalRank(count);
      expect(exactCoverage(count, rank), `${count} values`).toBeGreaterThanOrEqual(0.95);
      expect(exactCoverage(count, rank + 1), `${count} values`).toBeLessThan(0.95);
      expect(coverage(count, rank)).toBeCloseTo(exactCoverage(count, rank), 9);
    }
    // Where a power of two is no number any more; 1.96 / 2 standard deviations around the middle.
    expect(intervalRank(4_000)).toBeGreaterThan(2_000 - 0.98 * Math.sqrt(4_000) - 2);
    expect(intervalRank(4_000)).toBeLessThanOrEqual(2_000 - 0.98 * Math.sqrt(4_000) + 1);
  });

  /** Value of a uniform number at the quantile; the median is at 0.5. */
  const DISTRIBUTIONS = {
    uniform: (u: number) => u,
    'skewed, as times are': (u: number) => -Math.log(1 - u),
    'with outliers': (u: number) => Math.tan(Math.PI * (u - 0.5)),
  };
  describe.each(Object.entries(DISTRIBUTIONS))('%s', (_name, quantile) => {
    it.each([6, 8, 10, 21, 41])('covers the true median of %i rounds', (count) => {
      const random = xorshift32(count);
      const trials = 4_000;
      let covered = 0;
      for (let trial = 0; trial < trials; trial += 1) {
        const { low, high } = estimate(Array.from({ length: count }, () => quantile(random())));
        if (low <= quantile(0.5) && quantile(0.5) <= high) covered += 1;
      }
      const expected = exactCoverage(count, intervalRank(count));
      // Four standard deviations of the count.
      expect(covered / trials).toBeGreaterThan(expected - 4 * Math.sqrt(0.05 / trials));
      expect(covered / trials).toBeLessThan(expected + 4 * Math.sqrt(0.05 / trials));
    });
  });
});

/** P(k-th least <= median <= k-th greatest) in whole numbers: no rounding but the last. */
function exactCoverage(count: number, k: number): number {
  const n = BigInt(count);
  let ways = 1n;
  let below = 0n;
  for (let i = 0n; i < BigInt(k); i += 1n) {
    below += ways;
    ways = (ways * (n - i)) / (i + 1n);
  }
  const all = 2n ** n;
  return Number(((all - 2n * below) * 10n ** 15n) / all) / 1e15;
}

describe('pairedRatio', () => {
  it('cancels what drifts in both', () => {
    expect(pairedRatio([1, 2, 4], [2, 4, 8])).toEqual({
      median: 0.5,
      low: 0.5,
      high: 0.5,
      count: 3,
    });
  });
  it('refuses rounds that do not pair', () => {
    expect(() => pairedRatio([1], [1, 2])).toThrow(RangeError);
  });
});

it('shuffled keeps every item and reaches every order', () => {
  const random = xorshift32(3);
  const orders = new Set<string>();
  for (let trial = 0; trial < 300; trial += 1) {
    const order = shuffled(['a', 'b', 'c'], random);
    expect([...order].sort()).toEqual(['a', 'b', 'c']);
    orders.add(order.join(''));
  }
  expect(orders.size).toBe(6);
});
