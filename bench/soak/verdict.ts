/** What a soak is judged by. */
import { fixed } from '../frame/table.js';
import { median } from '../frame/stats.js';
import { FAULTS } from './faults.js';
import type { Ending, Sample, Trial } from './observed.js';

export interface Finding {
  readonly met: boolean;
  readonly what: string;
  readonly found: string;
}

export interface Judged {
  readonly seconds: number;
  readonly samples: readonly Sample[];
  readonly trials: readonly Trial[];
  readonly end: Ending;
}

/** The part of the time at the beginning that is not judged: heaps grow to what they need. */
export const WARM_UP = 1 / 6;
/** What RSS may grow in the rest, in MiB: a garbage collection more or less. */
const RSS_GROWTH_MIB = 4;
/** In less than half an hour, which is all warm-up. */
const RSS_GROWTH_SHORT_MIB = 16;
/** Between daemons that were started at different times. */
const RSS_DIFFERENCE_MIB = 8;
/** A daemon that was just started is not like one that has worked. */
const SETTLED_SECONDS = 10;
const MIB = 1_048_576;

export function judge(soak: Judged): Finding[] {
  const { samples, trials, end, seconds } = soak;
  const judged = samples.filter(({ at }) => at >= seconds * WARM_UP);
  const near = judged.filter(({ host }) => host === 'host-1');
  const far = judged.filter(
    ({ host, uptimeSeconds }) => host === 'host-2' && uptimeSeconds >= SETTLED_SECONDS,
  );
  const perSecond = slope(near.map(({ at, rss }) => [at, rss / MIB]));
  const grown = perSecond * seconds * (1 - WARM_UP);
  const bound = seconds < 1_800 ? RSS_GROWTH_SHORT_MIB : RSS_GROWTH_MIB;
  return [
    {
      met: grown <= bound,
      what: `RSS of the daemon of host-1 grows by no more than ${bound} MiB after the warm-up (least squares)`,
      found: `${fixed(grown, 2)} MiB, ${fixed(perSecond * 3_600, 2)} MiB an hour`,
    },
    even('descriptors of host-1', near, ({ descriptors }) => descriptors, 0),
    even('threads of host-1', near, ({ threads }) => threads, 0),
    even('RSS of host-2 in MiB', far, ({ rss }) => rss / MIB, RSS_DIFFERENCE_MIB),
    even('descriptors of host-2', far, ({ descriptors }) => descriptors, 0),
    even('threads of host-2', far, ({ threads }) => threads, 0),
    {
      met: new Set(near.map(({ pid }) => pid)).size === 1 && ascends(near),
      what: 'host-1 has one daemon from beginning to end, and its counters never fall',
      found: `${new Set(near.map(({ pid }) => pid)).size} process, ${fixed(near.at(-1)?.packets ?? 0, 0)} packets`,
    },
    {
      met: end.broken.length === 0,
      what: 'no connection is lost',
      found: end.broken.length === 0 ? `${end.tcp?.connections ?? 0} live` : end.broken.join('; '),
    },
    ...FAULTS.map(({ id, silenceLimit }): Finding => {
      const tried = trials.filter(({ fault }) => fault === id);
      const problems = tried.flatMap(({ problem }) => problem ?? []);
      const worst = Math.max(0, ...tried.map(({ silenceSeconds }) => silenceSeconds));
      return {
        met: tried.length > 0 && problems.length === 0 && worst <= silenceLimit,
        what: `${id}: at most ${silenceLimit} s without an answer`,
        found: [`${tried.length} times, worst ${fixed(worst, 2)} s`, ...problems].join('; '),
      };
    }),
    {
      met: end.left.length === 0 && end.codes.every((code) => code === 0),
      what: 'SIGTERM ends both daemons with code 0, and nothing of them is left',
      found: `codes ${end.codes.join(' and ')}; ${end.left.length === 0 ? 'nothing' : end.left.join('; ')}`,
    },
  ];
}

/** Least squares: y per x of the points; 0 of fewer than two. */
export function slope(points: readonly (readonly [x: number, y: number])[]): number {
  const mean = (values: readonly number[]): number =>
    values.reduce((total, value) => total + value, 0) / values.length;
  if (points.length < 2) return 0;
  const x = mean(points.map(([value]) => value));
  const y = mean(points.map(([, value]) => value));
  const above = points.reduce((total, [px, py]) => total + (px - x) * (py - y), 0);
  const below = points.reduce((total, [px]) => total + (px - x) ** 2, 0);
  return below === 0 ? 0 : above / below;
}

/** The median of the last third is that of the first third, or at most `more` above it. */
function even(
  what: string,
  samples: readonly Sample[],
  value: (sample: Sample) => number,
  more: number,
): Finding {
  const third = Math.ceil(samples.length / 3);
  if (third === 0) return { met: false, what: `${what}: flat`, found: 'no sample' };
  const first = median(samples.slice(0, third).map(value));
  const last = median(samples.slice(-third).map(value));
  const bound = more === 0 ? 'flat' : `at most ${more} more`;
  return {
    met: last - first <= more,
    what: `${what}: ${bound}, median of the last third against that of the first after the warm-up`,
    found: `${fixed(first, 1)}, then ${fixed(last, 1)}`,
  };
}

function ascends(samples: readonly Sample[]): boolean {
  return samples.every(({ packets }, index) => packets >= (samples[index - 1]?.packets ?? 0));
}
