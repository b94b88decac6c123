import { describe, expect, it } from 'vitest';
import { estimate, median, pairedRatio, shuffled, xorshift32 } from '../../bench/lab/stats.js';

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
    expect(estimate([2, 2, 2, 2])).toEqual({ median: 2, low: 2, high: 2 });
  });
  it('covers the true median about 95 times in 100', () => {
    const random = xorshift32(7);
    let covered = 0;
    for (let trial = 0; trial < 200; trial += 1) {
      // Uniform on 0 to 1: the median is 0.5.
      const { low, high } = estimate(
        Array.from({ length: 25 }, () => random()),
        trial + 1,
      );
      if (low <= 0.5 && 0.5 <= high) covered += 1;
    }
    expect(covered).toBeGreaterThan(200 * 0.88);
    expect(covered).toBeLessThanOrEqual(200);
  });
  it('is the same for the same rounds', () => {
    const values = [1, 5, 2, 8, 3];
    expect(estimate(values)).toEqual(estimate(values));
  });
});

describe('pairedRatio', () => {
  it('cancels what drifts in both', () => {
    expect(pairedRatio([1, 2, 4], [2, 4, 8])).toEqual({ median: 0.5, low: 0.5, high: 0.5 });
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
