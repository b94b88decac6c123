/** From rounds to statements: estimates, paired ratios to VXLAN, targets, noise, and the shape. */
import type { Machine } from '../frame/command.js';
import {
  MAIN_METRICS,
  METRIC_GROUPS,
  SUMMARY_KEYS,
  type Metric,
  type MetricKey,
  type Round,
} from './metrics.js';
import { ALL_LEASES, FEW_LEASES } from './routes.js';
import { estimate, median, pairedRatio, type Estimate } from '../frame/stats.js';
import { BASELINE, NOISE } from './subjects.js';

export type UnderlayName = 'offload' | 'plain';

export interface Environment extends Machine {
  readonly underlayMtu: number;
  readonly rounds: number;
  readonly seconds: number;
  /** TCP's, of the hosts and containers. */
  readonly congestion: string;
  /** What a short run gives up; undefined of a whole one. */
  readonly quick: string | undefined;
  /** Debian packages of the programs that took part, with versions. */
  readonly packages: string;
  /** Share of the machine's CPU time that others used in the second before, 0 to 1. */
  readonly busyBefore: number;
  /** Rounds of a subject that failed and were measured again, with the reason. */
  readonly repeated: readonly string[];
  /** Why system calls of the peers were not counted; undefined when they were. */
  readonly uncounted: string | undefined;
}

export interface SubjectRounds {
  readonly name: string;
  readonly what: string;
  readonly mtu: number;
  readonly rounds: readonly Round[];
}

export interface UnderlayRounds {
  readonly underlay: UnderlayName;
  readonly subjects: readonly SubjectRounds[];
}

export interface Row {
  readonly subject: string;
  readonly value: Estimate;
  /** To the table's base, paired by round; undefined without a base. */
  readonly ratio: Estimate | undefined;
}

export interface MetricTable {
  readonly metric: Metric;
  /** The subject that ratios are to. */
  readonly base: string;
  readonly rows: readonly Row[];
}

/** Medians; undefined where a subject does not have the metric. */
export interface GroupTable {
  readonly title: string;
  readonly metrics: readonly Metric[];
  readonly rows: readonly {
    readonly subject: string;
    readonly values: readonly (number | undefined)[];
  }[];
}

export interface UnderlaySummary {
  readonly underlay: UnderlayName;
  readonly tables: readonly MetricTable[];
  readonly groups: readonly GroupTable[];
  readonly targets: readonly Target[];
}

export function summarise({ underlay, subjects }: UnderlayRounds): UnderlaySummary {
  return {
    underlay,
    tables: MAIN_METRICS.map((metric) => tableOf(metric, subjects)).filter(
      ({ rows }) => rows.length > 0,
    ),
    groups: METRIC_GROUPS.map(({ title, metrics }) => ({
      title,
      metrics,
      rows: subjects.map((subject) => ({
        subject: subject.name,
        values: metrics.map(({ key }) => {
          const values = valuesOf(subject, key);
          return values === undefined ? undefined : median(values);
        }),
      })),
    })).filter(({ rows }) => rows.some(({ values }) => values.some((one) => one !== undefined))),
    targets: judge(underlay, subjects),
  };
}

function tableOf(metric: Metric, subjects: readonly SubjectRounds[]): MetricTable {
  // Only some subjects can be reached at random addresses; VXLAN is none of them.
  const base = metric.key === 'scatter' ? FEW_LEASES : BASELINE;
  return {
    metric,
    base,
    rows: subjects.flatMap((subject) => {
      const values = valuesOf(subject, metric.key);
      if (values === undefined) return [];
      const ratio = ratioOf(subjects, metric.key, subject.name, base);
      return [{ subject: subject.name, value: estimate(values), ratio }];
    }),
  };
}

/** One value of each round, or undefined when the subject does not have the metric. */
export function valuesOf({ rounds }: SubjectRounds, key: MetricKey): number[] | undefined {
  const values = rounds.flatMap((round) => round[key] ?? []);
  return values.length > 0 && values.length === rounds.length ? values : undefined;
}

function ratioOf(
  subjects: readonly SubjectRounds[],
  key: MetricKey,
  name: string,
  base: string,
): Estimate | undefined {
  const [values, baseValues] = [name, base].map((one) => {
    const subject = subjects.find((candidate) => candidate.name === one);
    return subject === undefined ? undefined : valuesOf(subject, key);
  });
  return values === undefined || baseValues === undefined
    ? undefined
    : pairedRatio(values, baseValues);
}

export interface Target {
  readonly text: string;
  readonly ratio: Estimate;
  readonly met: boolean;
}

interface TargetRule {
  readonly underlay: UnderlayName;
  readonly subject: string;
  readonly base: string;
  readonly key: MetricKey;
  readonly sign: '>=' | '<=';
  readonly limit: number;
}

const rule = (
  underlay: UnderlayName,
  key: MetricKey,
  subject: string,
  sign: '>=' | '<=',
  limit: number,
  base: string = BASELINE,
): TargetRule => ({ underlay, key, subject, sign, limit, base });

const TARGETS: readonly TargetRule[] = [
  rule('offload', 'tcp', 'offload', '>=', 0.7),
  rule('offload', 'udp64', 'offload', '>=', 1.3),
  rule('offload', 'udp1372', 'offload', '>=', 0.9),
  rule('offload', 'tcp', 'no-udp-trains', '>=', 0.2),
  rule('offload', 'tcp', 'legacy', '>=', 0.11),
  rule('offload', 'rtt', 'offload', '<=', 0.8, 'basic'),
  rule('offload', 'scatter', ALL_LEASES, '>=', 0.98, FEW_LEASES),
  rule('plain', 'tcp', 'offload', '>=', 0.6),
];

/** Met when the median of the paired ratios is; targets whose subjects did not run are left out. */
function judge(underlay: UnderlayName, subjects: readonly SubjectRounds[]): Target[] {
  return TARGETS.filter((target) => target.underlay === underlay).flatMap(
    ({ subject, base, key, sign, limit }) => {
      const ratio = ratioOf(subjects, key, subject, base);
      if (ratio === undefined) return [];
      const title = MAIN_METRICS.find((metric) => metric.key === key)?.title ?? key;
      const met = sign === '>=' ? ratio.median >= limit : ratio.median <= limit;
      return [{ text: `${title}: ${subject} ${sign} ${limit} x ${base}`, ratio, met }];
    },
  );
}

function findRatio(
  { tables }: UnderlaySummary,
  key: MetricKey,
  subject: string,
): Estimate | undefined {
  const table = tables.find(({ metric }) => metric.key === key);
  return table?.rows.find((row) => row.subject === subject)?.ratio;
}

/** The ratio of the baseline to itself that is farthest from 1, of the first table's metrics. */
export function noiseOf(summary: UnderlaySummary): { title: string; ratio: Estimate } | undefined {
  return summary.tables
    .filter(({ metric }) => SUMMARY_KEYS.includes(metric.key))
    .flatMap(({ metric }) => {
      const ratio = findRatio(summary, metric.key, NOISE);
      return ratio === undefined ? [] : [{ title: metric.title, ratio }];
    })
    .sort((a, b) => distance(b.ratio) - distance(a.ratio))[0];
}

function distance({ median: ratio }: Estimate): number {
  return Math.abs(Math.log(ratio));
}

/** Of old measurements of flannel: TCP of udp is about 0.6 of VXLAN, and host-gw is the fastest. */
const PUBLISHED = { low: 0.5, high: 0.7 } as const;

export interface Shape {
  readonly udp: Estimate;
  readonly hostGw: Estimate;
  /** udp < VXLAN < host-gw. */
  readonly order: boolean;
  /** The bounds of udp's ratio meet 0.5 to 0.7. */
  readonly factor: boolean;
}

/** TCP beside the published order; flannel's own way is mode basic. */
export function shapeOf(summary: UnderlaySummary): Shape | undefined {
  const udp = findRatio(summary, 'tcp', 'basic');
  const hostGw = findRatio(summary, 'tcp', 'host-gw');
  return udp === undefined || hostGw === undefined ? undefined : compareShape(udp, hostGw);
}

/** Ratios of TCP throughput to VXLAN beside the published ones. */
export function compareShape(udp: Estimate, hostGw: Estimate): Shape {
  return {
    udp,
    hostGw,
    order: udp.median < 1 && hostGw.median > 1,
    factor: udp.low <= PUBLISHED.high && udp.high >= PUBLISHED.low,
  };
}
