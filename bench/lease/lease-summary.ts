/** From the lease benchmark's starts and rounds to statements: estimates, paired ratios, targets. */
import type { Machine } from '../frame/machine.js';
import { estimate, median, pairedRatio, type Estimate } from '../frame/stats.js';
import { medianAndBounds } from '../frame/spread.js';
import { PHASES, type Phase, type PhaseName, type StoreResult } from './measure-store.js';

export interface LeaseEnvironment extends Machine {
  readonly starts: number;
  readonly rounds: number;
  readonly seconds: number;
  readonly changesPerSecond: number;
}

/** Median, minimum and maximum of few values. */
export interface Range {
  readonly median: number;
  readonly least: number;
  readonly most: number;
}

interface StartSummary {
  readonly what: string;
  readonly count: number;
  readonly readyMs: Range;
  readonly forwardsMs: Range | undefined;
  /** When it was ready, in bytes. */
  readonly rss: Range;
}

interface PhaseSummary {
  readonly phase: PhaseName;
  readonly medianMs: Estimate;
  readonly p99Ms: Estimate;
  readonly cpu: Estimate;
  readonly changesPerSecond: number;
  readonly sent: number;
  readonly lost: number;
}

interface RatioSummary {
  readonly what: string;
  readonly median: Estimate;
  readonly p99: Estimate;
}

export interface StoreSummary {
  readonly store: StoreResult['store'];
  readonly how: string;
  readonly starts: readonly StartSummary[];
  readonly phases: readonly PhaseSummary[];
  readonly ratios: readonly RatioSummary[];
  readonly lagMs: Range;
  /** The larger daemon after the phases with changes, at the end, and ever; in bytes. */
  readonly rssChanging: Range;
  readonly rssEnd: number;
  readonly rssPeak: number;
  readonly differences: number;
}

/** Each phase to the one it is compared with; the last is the same twice: the noise. */
const COMPARISONS: readonly (readonly [PhaseName, PhaseName])[] = [
  ['changing', 'control'],
  ['changing', 'quiet'],
  ['control', 'quiet'],
  ['control again', 'control'],
];

export function summariseStore(result: StoreResult): StoreSummary {
  const { starts, rounds } = result;
  const values = (phase: PhaseName, key: 'medianMs' | 'p99Ms' | 'cpu'): number[] =>
    rounds.map((round) => round[phase][key]);
  const sum = (phases: readonly Phase[], key: 'sent' | 'lost'): number =>
    phases.reduce((total, phase) => total + phase[key], 0);
  const changing = rounds.map((round) => round.changing);
  return {
    store: result.store,
    how: result.how,
    starts: [
      summariseStarts("no leases but the hosts'", starts.empty),
      summariseStarts('all leases', starts.full),
      summariseStarts('all leases, started again', starts.remembered),
    ].filter(({ count }) => count > 0),
    phases: PHASES.map((phase) => {
      const all = rounds.map((round) => round[phase]);
      return {
        phase,
        medianMs: estimate(values(phase, 'medianMs')),
        p99Ms: estimate(values(phase, 'p99Ms')),
        cpu: estimate(values(phase, 'cpu')),
        changesPerSecond: median(all.map((one) => one.changesPerSecond)),
        sent: sum(all, 'sent'),
        lost: sum(all, 'lost'),
      };
    }),
    ratios: COMPARISONS.map(([phase, base]) => ({
      what: `${phase} / ${base}`,
      median: pairedRatio(values(phase, 'medianMs'), values(base, 'medianMs')),
      p99: pairedRatio(values(phase, 'p99Ms'), values(base, 'p99Ms')),
    })),
    lagMs: rangeOf(changing.map(({ lagMs }) => lagMs ?? NaN)),
    rssChanging: rangeOf(changing.map(({ rss }) => rss)),
    rssEnd: result.memory.rss,
    rssPeak: result.memory.peak,
    differences: result.differences,
  };
}

interface MeasuredStart {
  readonly readyMs: number;
  readonly forwardsMs?: number;
  readonly memory: { readonly rss: number };
}

function summariseStarts(what: string, starts: readonly MeasuredStart[]): StartSummary {
  const forwards = starts.flatMap(({ forwardsMs }) => forwardsMs ?? []);
  return {
    what,
    count: starts.length,
    readyMs: rangeOf(starts.map(({ readyMs }) => readyMs)),
    forwardsMs: forwards.length === 0 ? undefined : rangeOf(forwards),
    rss: rangeOf(starts.map(({ memory }) => memory.rss)),
  };
}

export function rangeOf(values: readonly number[]): Range {
  if (values.length === 0) return { median: NaN, least: NaN, most: NaN };
  return { median: median(values), least: Math.min(...values), most: Math.max(...values) };
}

export interface LeaseTarget {
  readonly text: string;
  readonly found: string;
  readonly met: boolean;
}

const SYNC_LIMIT_MS = 10_000;
const RSS_LIMIT = 250e6;
/** Share of the requested rate that counts as reached: a writer's last step ends a little late. */
const RATE_SHARE = 0.98;
const MEDIAN_MARGIN = 1.1;
const P99_MARGIN = 1.25;

/**
 * "No effect" has a margin, because two measurements of the same differ too: the median of the paired
 * ratios to the control phase may be so much above 1. Sync and memory are judged by the worst seen.
 */
export function judgeLeases(summary: StoreSummary, rate = 1_000): LeaseTarget[] {
  const { store, starts, phases, ratios, differences } = summary;
  const full = starts.filter(({ forwardsMs }) => forwardsMs !== undefined);
  const sync = Math.max(...full.map(({ readyMs }) => readyMs.most));
  const forwards = Math.max(...full.map(({ forwardsMs }) => forwardsMs?.most ?? NaN));
  const slowest = Math.max(sync, forwards);
  const changing = phases.find(({ phase }) => phase === 'changing');
  const achieved = changing?.changesPerSecond ?? 0;
  const followed = achieved >= rate * RATE_SHARE && differences === 0;
  const lost = changing?.lost ?? NaN;
  const toControl = ratios[0];
  if (toControl === undefined) throw new RangeError('nothing was compared');
  const ratio = (one: Estimate): string => medianAndBounds(one, (value) => value.toFixed(3));
  return [
    {
      text: `${store}: first sync, also of the last subnet's forwarding, <= 10 s`,
      found: `${(slowest / 1_000).toFixed(2)} s at most`,
      met: slowest <= SYNC_LIMIT_MS,
    },
    {
      text: `${store}: RSS <= 250 MB at any time`,
      found: `${(summary.rssPeak / 1e6).toFixed(0)} MB at most`,
      met: summary.rssPeak <= RSS_LIMIT,
    },
    {
      text: `${store}: ${rate.toLocaleString('en-US')} lease changes a second followed`,
      found: `${achieved.toFixed(0)} a second, ${differences} routes differ at the end, complete ${summary.lagMs.median.toFixed(0)} ms (at most ${summary.lagMs.most.toFixed(0)} ms) after the last`,
      met: followed,
    },
    {
      text: `${store}: no effect on the median round trip: changing / control <= ${MEDIAN_MARGIN}`,
      found: ratio(toControl.median),
      met: toControl.median.median <= MEDIAN_MARGIN,
    },
    {
      text: `${store}: no effect on the 99th percentile: changing / control <= ${P99_MARGIN}`,
      found: ratio(toControl.p99),
      met: toControl.p99.median <= P99_MARGIN,
    },
    {
      text: `${store}: no packet lost while leases change`,
      found: `${lost} of ${changing?.sent ?? 0}`,
      met: lost === 0,
    },
  ];
}
