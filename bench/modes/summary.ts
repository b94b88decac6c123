/** From rounds to the result of `flannelette bench modes`: estimates, paired ratios, noise. */
import { estimate, pairedRatio, type Estimate } from '../frame/stats.js';
import { BASELINE, NOISE } from '../overlays/subjects.js';
import { valuesOf, type SubjectRounds } from '../overlays/overlays-summary.js';
import { MODE_METRICS, type MeasuredMetric } from './metrics.js';
import {
  MODE_NAMES,
  type ModeMetricKey,
  type ModeName,
  type ModeResult,
  type ModesEnvironment,
  type ModesResult,
  type ModeValue,
} from './result.js';
import { KERNEL_MODES } from './subjects.js';

/** What the noise is looked for in. */
const NOISE_KEYS: readonly ModeMetricKey[] = [
  ...(['tcp.throughput', 'udp.packets', 'rtt', 'tcp.busy', 'udp.busy'] as const),
];

/** What nobody makes where there are no ends. */
const OF_ENDS: readonly ModeMetricKey[] = [
  ...(['tcp.calls', 'tcp.yields', 'tcp.switches'] as const),
  ...(['udp.calls', 'udp.yields', 'udp.switches'] as const),
];

/** `perfMissing` says why perf cannot count; undefined when it did. */
export function summariseModes(
  environment: ModesEnvironment,
  rounds: readonly SubjectRounds[],
  perfMissing: string | undefined,
): ModesResult {
  const base = rounds.find(({ name }) => name === BASELINE);
  const modes = MODE_NAMES.flatMap((mode) => {
    const own = rounds.find(({ name }) => name === mode);
    return own === undefined ? [] : [resultOf(mode, own, base, perfMissing === undefined)];
  });
  return {
    kind: 'modes',
    version: 2,
    environment,
    countedBy: perfMissing === undefined ? 'perf' : 'ends',
    metrics: MODE_METRICS.filter(({ key }) =>
      modes.some(({ values }) => values[key] !== undefined),
    ).map(({ key, title, unit, digits, better }) => ({ key, title, unit, digits, better })),
    modes,
    missing:
      perfMissing === undefined
        ? []
        : [{ what: 'system calls as the kernel counts them, sched_yield', reason: perfMissing }],
    noise: noiseOf(modes),
  };
}

function resultOf(
  mode: ModeName,
  own: SubjectRounds,
  base: SubjectRounds | undefined,
  perf: boolean,
): ModeResult {
  const values: Partial<Record<ModeMetricKey, ModeValue>> = {};
  for (const metric of MODE_METRICS) {
    const samples = samplesOf(mode, own, metric, perf);
    if (samples === undefined) continue;
    const baseSamples = base && samplesOf(BASELINE, base, metric, perf);
    const ratio =
      baseSamples === undefined || baseSamples.includes(0)
        ? null
        : pairedRatio(samples, baseSamples);
    values[metric.key] = { value: estimate(samples), ratio, samples };
  }
  const { what, mtu } = own;
  return { mode, what, mtu, kernelOnly: KERNEL_MODES.includes(mode), values };
}

function samplesOf(
  mode: ModeName,
  own: SubjectRounds,
  { key, of }: MeasuredMetric,
  perf: boolean,
): readonly number[] | undefined {
  const counted = perf || !key.endsWith('.yields');
  if (KERNEL_MODES.includes(mode) && OF_ENDS.includes(key) && counted) {
    return own.rounds.map(() => 0);
  }
  return valuesOf(own, of);
}

function noiseOf(modes: readonly ModeResult[]): ModesResult['noise'] {
  const again = modes.find(({ mode }) => mode === NOISE);
  const ratios = NOISE_KEYS.flatMap((metric) => {
    const ratio = again?.values[metric]?.ratio;
    return ratio === undefined || ratio === null ? [] : [{ metric, ratio }];
  });
  return ratios.sort((a, b) => distance(b.ratio) - distance(a.ratio))[0] ?? null;
}

function distance({ median: ratio }: Estimate): number {
  return Math.abs(Math.log(ratio));
}
