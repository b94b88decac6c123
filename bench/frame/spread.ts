/** What the bounds of an estimate are called: a 95 % interval, or minimum to maximum of few values. */
import { INTERVAL_VALUES, isInterval, type Estimate } from './stats.js';

const INTERVAL = '95 % interval';
export const RANGE = 'minimum to maximum';

/** For the head of every report that has bounds. */
export const SPREAD_METHOD = `A ${INTERVAL} is that of the median, between two of the sorted values, by the binomial distribution: it covers the true median in at least 95 of 100 such runs, however the values are distributed, if the rounds are independent. Fewer than ${INTERVAL_VALUES} values have none; then the bounds are the least and the greatest, and are called ${RANGE}.`;

/** The bounds of a column, table or figure. */
export interface Spread {
  /** Title of a column. */
  readonly title: string;
  /** For captions: `Medians with ...`. */
  readonly plural: string;
  /** One estimate's bounds; where the column has both kinds, the few values' are in brackets. */
  readonly text: (estimate: Estimate, format: (value: number) => string) => string;
}

export function spreadOf(estimates: readonly (Estimate | undefined)[]): Spread {
  const there = estimates.filter((one) => one !== undefined);
  const bounds = ({ low, high }: Estimate, format: (value: number) => string): string =>
    `${format(low)} to ${format(high)}`;
  if (there.every(isInterval)) return { title: INTERVAL, plural: `${INTERVAL}s`, text: bounds };
  if (!there.some(isInterval)) return { title: RANGE, plural: RANGE, text: bounds };
  const title = `${INTERVAL}, or [${RANGE}]`;
  return {
    title,
    plural: `${INTERVAL}s, or [${RANGE}] of few values`,
    text: (one, format) => (isInterval(one) ? bounds(one, format) : `[${bounds(one, format)}]`),
  };
}

/** For a column of CSV. */
export function boundsName(one: Estimate): 'interval95' | 'min-max' {
  return isInterval(one) ? 'interval95' : 'min-max';
}

/** Median and bounds in a sentence: `0.487 (95 % interval 0.471 to 0.565)`. */
export function medianAndBounds(one: Estimate, format: (value: number) => string): string {
  const { title, text } = spreadOf([one]);
  return `${format(one.median)} (${title} ${text(one, format)})`;
}
