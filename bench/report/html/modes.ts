/** The figures of `flannelette bench modes`. */
import type { LoadName, ModeMetric, ModeMetricKey, ModesResult } from '../../modes/result.js';
import { fixed, interval, type Fact, type ReportTable } from '../table.js';
import { intervalPanels, stackedBars } from './chart.js';
import type { Figure, Section } from './markup.js';
import { SERIES } from './theme.js';

/** Where the CPU time of a packet went; together all CPUs' time. */
const CPU_PARTS = ['user', 'system', 'softirq', 'steal', 'idle'] as const;

/** Why a packet costs what it costs. */
const REASONS = ['calls', 'switches', 'machineSwitches', 'copied'] as const;

const LOAD_TEXTS: Readonly<Record<LoadName, string>> = {
  tcp: 'TCP, one stream',
  udp: 'UDP, payloads of 64 bytes',
};

export function modesSection(result: ModesResult): Section {
  return {
    id: 'modes',
    title: 'The modes, end to end',
    facts: modesFacts(result),
    method:
      'Two hosts with a container each, in namespaces; the containers send to each other through one overlay after the other, in interleaved rounds. Numbers are medians of the rounds with 95 % bootstrap intervals. Per packet: per delivered packet, a datagram or a full TCP segment.',
    figures: [
      ...panelsFigure(result, {
        ...{ id: 'throughput', title: 'Throughput by mode' },
        keys: ['tcp.throughput', 'udp.packets'],
        caption: 'More is better.',
      }),
      ...panelsFigure(result, {
        ...{ id: 'latency', title: 'Round trips by mode', keys: ['rtt', 'rttP99'] },
        caption: 'Pings with nothing else to carry. Less is better.',
      }),
      ...(['tcp', 'udp'] as const).flatMap((load) => [
        ...cpuFigure(result, load),
        ...panelsFigure(result, {
          id: `reasons-${load}`,
          title: `Calls, switches and copies of a packet: ${LOAD_TEXTS[load]}`,
          keys: REASONS.map((name) => `${load}.${name}` as const),
          caption: `System calls counted by ${result.countedBy === 'perf' ? 'the kernel (perf)' : 'the ends themselves, without sched_yield'}. Less is better.`,
        }),
      ]),
    ],
    downloads: [
      { name: 'modes.json', type: 'application/json', text: JSON.stringify(result) },
    ],
  };
}

/** Metrics side by side, as far as there are any. */
function panelsFigure(
  result: ModesResult,
  figure: {
    readonly id: string;
    readonly title: string;
    readonly keys: readonly ModeMetricKey[];
    readonly caption: string;
  },
): Figure[] {
  const { id, title, keys, caption } = figure;
  const metrics = metricsOf(result, keys);
  if (metrics.length === 0) return [];
  return [
    {
      ...{ id, title },
      svg: intervalPanels(
        result.modes.map(({ mode }) => mode),
        metrics.map((metric, index) => ({
          title: metric.title,
          unit: metric.unit,
          digits: metric.digits,
          color: SERIES[index] ?? '',
          values: result.modes.map(({ values }) => values[metric.key]?.value),
        })),
      ),
      label: `Bars with intervals. ${metrics.map((metric) => metricWords(result, metric)).join('. ')}.`,
      caption: `Medians with 95 % intervals. ${caption}`,
      tables: metrics.map((metric) => metricTable(result, metric)),
    },
  ];
}

function cpuFigure(result: ModesResult, load: LoadName): Figure[] {
  const parts = CPU_PARTS.flatMap((part, index) => {
    const [metric] = metricsOf(result, [`${load}.${part}`]);
    return metric === undefined ? [] : [{ part, metric, color: SERIES[index] ?? '' }];
  });
  const modes = result.modes.filter(({ values }) =>
    parts.some(({ metric }) => values[metric.key] !== undefined),
  );
  if (modes.length === 0) return [];
  const median = (mode: (typeof modes)[number], { key }: ModeMetric): number | undefined =>
    mode.values[key]?.value.median;
  const digits = Math.max(...parts.map(({ metric }) => metric.digits));
  return [
    {
      id: `cpu-${load}`,
      title: `CPU time of a packet by mode: ${LOAD_TEXTS[load]}`,
      svg: stackedBars({
        categories: modes.map(({ mode }) => mode),
        series: parts.map(({ part, metric, color }) => ({
          ...{ name: part, color },
          values: modes.map((mode) => median(mode, metric)),
        })),
        unit: 'CPU ns of the whole machine for one delivered packet',
        digits,
      }),
      label: `Stacked bars of the machine's CPU nanoseconds for one packet. ${modes
        .map(
          (mode) =>
            `${mode.mode}: ${parts.map(({ part, metric }) => `${part} ${fixed(median(mode, metric) ?? NaN, digits)}`).join(', ')}`,
        )
        .join('; ')}.`,
      caption:
        'Of all CPUs, the containers included; idle is what the machine had left while the packets took their time. The number behind a bar is the sum of the medians. Less is better.',
      tables: parts.map(({ metric }) => metricTable(result, metric)),
    },
  ];
}

function metricsOf({ metrics }: ModesResult, keys: readonly ModeMetricKey[]): ModeMetric[] {
  return keys.flatMap((key) => metrics.find((metric) => metric.key === key) ?? []);
}

function metricTable({ modes }: ModesResult, metric: ModeMetric): ReportTable {
  const { key, title, unit, digits } = metric;
  return {
    title: unit === '' ? title : `${title}, ${unit}`,
    columns: ['mode', 'median', '95 % interval', 'to vxlan', '95 % interval'],
    rows: modes.flatMap(({ mode, values }) => {
      const found = values[key];
      if (found === undefined) return [];
      const { value, ratio } = found;
      const ratioCells = ratio === null ? ['-', '-'] : [fixed(ratio.median, 2), interval(ratio, 2)];
      return [[mode, fixed(value.median, digits), interval(value, digits), ...ratioCells]];
    }),
  };
}

function metricWords({ modes }: ModesResult, { key, title, unit, digits }: ModeMetric): string {
  const values = modes.flatMap(({ mode, values: { [key]: found } }) =>
    found === undefined ? [] : [`${mode} ${fixed(found.value.median, digits)}`],
  );
  return `${title}${unit === '' ? '' : `, ${unit}`}: ${values.join('; ')}`;
}

function modesFacts({ environment, modes, missing, noise, metrics }: ModesResult): Fact[] {
  const { rounds, seconds, quick, repeated } = environment;
  const mtus = new Map<number, string[]>();
  for (const { mode, mtu } of modes) mtus.set(mtu, [...(mtus.get(mtu) ?? []), mode]);
  const noisy = metrics.find(({ key }) => key === noise?.metric);
  return [
    ['Command', `\`${environment.command}\``],
    ['Date', environment.date],
    ['Commit', environment.commit],
    ['Kernel', environment.kernel],
    ['Node', environment.node],
    ['Machine', `${environment.cpus} x ${environment.cpu}`],
    [
      'MTU',
      `${environment.underlayMtu} bytes of the hosts' eth0; of the overlay ${[...mtus].map(([mtu, names]) => `${mtu} (${names.join(', ')})`).join(', ')}`,
    ],
    ['Load before', `${fixed(environment.load, 2)} running processes`],
    ['TCP', environment.congestion],
    [
      'Rounds',
      `${rounds}, interleaved, ${seconds} s a measurement` +
        (quick ? '; quick: few rounds, so wide intervals; not to be quoted' : ''),
    ],
    ...(noise === null
      ? []
      : [
          [
            'Noise',
            `vxlan measured again by vxlan: ${fixed(noise.ratio.median, 3)} (${interval(noise.ratio, 3)}), ${noisy?.title ?? noise.metric}`,
          ] satisfies Fact,
        ]),
    ...repeated.map((reason): Fact => ['Measured again', reason]),
    ...missing.map(({ what, reason }): Fact => ['Missing on this machine', `${what}: ${reason}`]),
  ];
}
