/** From rounds to statements: estimates, paired ratios to VXLAN, targets, noise, and the shape. */
import { estimate, pairedRatio, type Estimate } from '../frame/stats.js';
import { isOfEnds, METRICS, type Metric, type MetricKey, type Round } from './metrics.js';
import type {
  OverlaysEnvironment,
  OverlaysResult,
  SubjectResult,
  UnderlayName,
  UnderlayResult,
  Value,
} from './overlays-result.js';
import { ALL_LEASES, FEW_LEASES } from './routes.js';
import { BASELINE, NOISE } from './subjects.js';

export interface SubjectRounds {
  readonly name: string;
  readonly what: string;
  readonly mtu: number;
  /** The kernel alone carries the packets. */
  readonly kernelOnly: boolean;
  readonly rounds: readonly Round[];
}

export interface UnderlayRounds {
  readonly underlay: UnderlayName;
  readonly subjects: readonly SubjectRounds[];
}

/** `perfMissing` says why perf cannot count; undefined when it did. `absent`: subjects left out. */
export function summarise(
  environment: OverlaysEnvironment,
  rounds: readonly UnderlayRounds[],
  perfMissing: string | undefined,
  absent: OverlaysResult['missing'] = [],
): OverlaysResult {
  const underlays = rounds.map((one) => underlayOf(one, perfMissing === undefined));
  return {
    kind: 'overlays',
    version: 3,
    environment,
    countedBy: perfMissing === undefined ? 'perf' : 'ends',
    metrics: METRICS.filter(({ key }) =>
      underlays.some(({ subjects }) => subjects.some(({ values }) => values[key] !== undefined)),
    ),
    underlays,
    missing: [
      ...absent,
      ...(perfMissing === undefined
        ? []
        : [{ what: 'system calls as the kernel counts them, sched_yield', reason: perfMissing }]),
    ],
  };
}

function underlayOf({ underlay, subjects }: UnderlayRounds, perf: boolean): UnderlayResult {
  return {
    underlay,
    subjects: subjects.map((subject) => ({
      name: subject.name,
      what: subject.what,
      mtu: subject.mtu,
      kernelOnly: subject.kernelOnly,
      values: valuesOf(subject, subjects, perf),
    })),
  };
}

function valuesOf(
  subject: SubjectRounds,
  subjects: readonly SubjectRounds[],
  perf: boolean,
): SubjectResult['values'] {
  const values: Partial<Record<MetricKey, Value>> = {};
  for (const { key } of METRICS) {
    const samples = samplesOf(subject, key, perf);
    if (samples === undefined) continue;
    const base = subjects.find(({ name }) => name === baseOf(key));
    const baseSamples = base && samplesOf(base, key, perf);
    const ratio =
      baseSamples === undefined || baseSamples.includes(0)
        ? null
        : pairedRatio(samples, baseSamples);
    values[key] = { value: estimate(samples), ratio, samples };
  }
  return values;
}

/** One value of each round, or undefined when the subject does not have the metric. */
function samplesOf(
  { rounds, kernelOnly }: SubjectRounds,
  key: MetricKey,
  perf: boolean,
): readonly number[] | undefined {
  const counted = perf || !key.endsWith('.yields');
  // Zero is only a result where the load was carried at all.
  const load = key.startsWith('tcp.') ? 'tcp.packets' : 'udp.packets';
  if (kernelOnly && isOfEnds(key) && counted && rounds.every((round) => load in round)) {
    return rounds.map(() => 0);
  }
  const values = rounds.flatMap((round) => round[key] ?? []);
  return values.length > 0 && values.length === rounds.length ? values : undefined;
}

/** Only some subjects can be reached at random addresses; VXLAN is none of them. */
export function baseOf(key: MetricKey): string {
  return key === 'scatter' ? FEW_LEASES : BASELINE;
}

/** Ratio of the same rounds; undefined where one of them has no such metric. */
function ratioBetween(
  { subjects }: UnderlayResult,
  key: MetricKey,
  name: string,
  base: string,
): Estimate | undefined {
  const [samples, baseSamples] = [name, base].map(
    (one) => subjects.find((subject) => subject.name === one)?.values[key]?.samples,
  );
  return samples === undefined || baseSamples === undefined
    ? undefined
    : pairedRatio(samples, baseSamples);
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
  rule('offload', 'tcp.throughput', 'offload', '>=', 0.7),
  rule('offload', 'udp.read', 'offload', '>=', 1.3),
  rule('offload', 'udp1372Read', 'offload', '>=', 0.9),
  rule('offload', 'tcp.throughput', 'no-udp-trains', '>=', 0.2),
  rule('offload', 'tcp.throughput', 'legacy', '>=', 0.11),
  rule('offload', 'rtt', 'offload', '<=', 0.8, 'basic'),
  rule('offload', 'tcp.throughput', 'kernel', '>=', 1),
  rule('offload', 'udp.read', 'kernel', '>=', 1),
  rule('offload', 'rtt', 'kernel', '<=', 1.2),
  rule('offload', 'scatter', ALL_LEASES, '>=', 0.98, FEW_LEASES),
  rule('plain', 'tcp.throughput', 'offload', '>=', 0.6),
];

/** Met when the median of the paired ratios is; targets whose subjects did not run are left out. */
export function judge(result: UnderlayResult): Target[] {
  return TARGETS.filter(({ underlay }) => underlay === result.underlay).flatMap(
    ({ subject, base, key, sign, limit }) => {
      const ratio = ratioBetween(result, key, subject, base);
      if (ratio === undefined) return [];
      const title = METRICS.find((metric) => metric.key === key)?.title ?? key;
      const met = sign === '>=' ? ratio.median >= limit : ratio.median <= limit;
      return [{ text: `${title}: ${subject} ${sign} ${limit} x ${base}`, ratio, met }];
    },
  );
}

/** The ratio of the baseline to itself that is farthest from 1, of the ratios' table. */
export function noiseOf(
  { subjects }: UnderlayResult,
  metrics: readonly Metric[],
): { title: string; ratio: Estimate } | undefined {
  const again = subjects.find(({ name }) => name === NOISE);
  return metrics
    .filter(({ column }) => column !== undefined)
    .flatMap(({ key, title }) => {
      const ratio = again?.values[key]?.ratio;
      return ratio === undefined || ratio === null ? [] : [{ title, ratio }];
    })
    .sort((a, b) => distance(b.ratio) - distance(a.ratio))[0];
}

function distance({ median: ratio }: Estimate): number {
  return Math.abs(Math.log(ratio));
}

/** Old measurements of flannel: TCP of udp is about 0.6 of VXLAN, and host-gw is the fastest. */
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
export function shapeOf(result: UnderlayResult): Shape | undefined {
  const udp = ratioBetween(result, 'tcp.throughput', 'basic', BASELINE);
  const hostGw = ratioBetween(result, 'tcp.throughput', 'host-gw', BASELINE);
  if (udp === undefined || hostGw === undefined) return undefined;
  return {
    udp,
    hostGw,
    order: udp.median < 1 && hostGw.median > 1,
    factor: udp.low <= PUBLISHED.high && udp.high >= PUBLISHED.low,
  };
}

/** What the short result compares with VXLAN, in its order. */
export const SHORT_KEYS = ['tcp.throughput', 'udp.packets', 'rtt'] as const;
/** What flannel's udp backend does. */
export const FLANNEL_LIKE = 'basic';
/** The modes that go further. */
const MODES: readonly string[] = ['batch', 'offload', 'kernel'];

export interface ShortRow {
  readonly subject: string;
  readonly best: boolean;
  /** In the order of SHORT_KEYS. */
  readonly ratios: readonly Estimate[];
}

/** What flannel's way gets of VXLAN, and the mode with the most TCP; undefined when they did not run. */
export function shortRows({ underlays }: OverlaysResult): readonly ShortRow[] | undefined {
  const result = underlays.find(({ underlay }) => underlay === 'offload');
  if (result === undefined) return undefined;
  const rows = [FLANNEL_LIKE, ...MODES].flatMap((subject): ShortRow[] => {
    const ratios = SHORT_KEYS.flatMap((key) => ratioBetween(result, key, subject, BASELINE) ?? []);
    return ratios.length === SHORT_KEYS.length ? [{ subject, best: false, ratios }] : [];
  });
  const tcp = ({ ratios }: ShortRow): number => ratios[0]?.median ?? 0;
  const [best] = rows
    .filter(({ subject }) => MODES.includes(subject))
    .sort((a, b) => tcp(b) - tcp(a));
  const like = rows.find(({ subject }) => subject === FLANNEL_LIKE);
  return best === undefined || like === undefined ? undefined : [like, { ...best, best: true }];
}

/** Whether a run of these would have a short result. */
export function hasShort(
  subjects: readonly string[],
  steps: readonly string[],
  underlays: readonly string[],
): boolean {
  const modes = subjects.some((name) => MODES.includes(name));
  const others = [FLANNEL_LIKE, BASELINE].every((name) => subjects.includes(name));
  const measured = ['tcp', 'udp64', 'ping'].every((name) => steps.includes(name));
  return modes && others && measured && underlays.includes('offload');
}
