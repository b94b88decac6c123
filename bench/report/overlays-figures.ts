/** The figures of `flannelette bench modes` and `npm run bench`. */
import { spreadOf } from '../frame/spread.js';
import { fixed } from '../frame/table.js';
import { LOAD_TITLES, LOADS, type Load, type MetricKey } from '../overlays/metrics.js';
import type { OverlaysResult, UnderlayResult } from '../overlays/overlays-result.js';
import {
  METHOD,
  metricTable,
  overlaysFacts,
  renderCsv,
  subjectTable,
  UNDERLAY_TITLES,
} from '../overlays/overlays-text.js';
import { intervalPanels, stackedBars } from './chart.js';
import type { Figure, Section } from './markup.js';
import { SERIES } from './theme.js';

type Metric = OverlaysResult['metrics'][number];

/** What a figure is of: one underlay, and the metrics that the result has. */
interface Scene {
  readonly metrics: readonly Metric[];
  readonly underlay: UnderlayResult;
  /** Behind an id and a title, where there are two underlays. */
  readonly suffix: { readonly id: string; readonly title: string };
}

/** Where the CPU time of a packet went; together all CPUs' time. */
const CPU_PARTS = ['user', 'system', 'softirq', 'steal', 'idle'] as const;

/** Why a packet costs what it costs, with titles short enough for four panels side by side. */
const REASONS = [
  ['calls', 'system calls'],
  ['switches', 'switches of the ends'],
  ['machineSwitches', 'switches, machine'],
  ['copied', 'bytes copied a byte'],
] as const;

export function overlaysSection(result: OverlaysResult): Section {
  const { metrics, underlays, countedBy } = result;
  return {
    id: 'modes',
    title: 'The modes, end to end',
    facts: overlaysFacts(result),
    tables: [subjectTable(result)],
    method: METHOD.join(' '),
    figures: underlays.flatMap((underlay, index) => {
      const suffix =
        index === 0
          ? { id: '', title: '' }
          : { id: `-${underlay.underlay}`, title: `. ${UNDERLAY_TITLES[underlay.underlay]}` };
      return figuresOf({ metrics, underlay, suffix }, countedBy);
    }),
    downloads: [
      { name: 'modes.csv', type: 'text/csv', text: renderCsv(result) },
      { name: 'modes.json', type: 'application/json', text: JSON.stringify(result) },
    ],
  };
}

function figuresOf(scene: Scene, countedBy: OverlaysResult['countedBy']): Figure[] {
  return [
    ...panelsFigure(scene, {
      id: 'throughput',
      title: 'Throughput by mode',
      panels: [
        { key: 'tcp.throughput', title: 'TCP, 1 stream' },
        { key: 'udp.packets', title: 'UDP, 64 bytes, carried' },
        { key: 'udp.read', title: 'UDP, 64 bytes, read' },
      ],
      caption:
        'Carried is what reached the receiving container; read what its program took, whose own socket drops what it is too slow for. More is better.',
    }),
    ...panelsFigure(scene, {
      id: 'latency',
      title: 'Round trips by mode',
      panels: [{ key: 'rtt' }, { key: 'rttP99' }],
      caption: 'Pings with nothing else to carry. Less is better.',
    }),
    ...LOADS.flatMap((load) => [
      ...cpuFigure(scene, load),
      ...panelsFigure(scene, {
        id: `reasons-${load}`,
        title: `Calls, switches and copies of a packet: ${LOAD_TITLES[load]}`,
        panels: REASONS.map(([name, title]) => ({ key: `${load}.${name}` as const, title })),
        caption: `System calls counted by ${countedBy === 'perf' ? 'the kernel (perf)' : 'the ends themselves, without sched_yield'}. Less is better.`,
      }),
    ]),
  ];
}

interface Panel {
  readonly key: MetricKey;
  /** Instead of the metric's own. */
  readonly title?: string;
}

/** Metrics side by side, as far as there are any. */
function panelsFigure(
  { metrics, underlay, suffix }: Scene,
  figure: {
    readonly id: string;
    readonly title: string;
    readonly panels: readonly Panel[];
    readonly caption: string;
  },
): Figure[] {
  const { id, title, panels, caption } = figure;
  const shown = panels.flatMap((panel) => {
    const metric = metrics.find(({ key }) => key === panel.key);
    return metric === undefined ? [] : [{ title: metric.title, ...panel, metric }];
  });
  if (shown.length === 0) return [];
  const bounds = spreadOf(
    shown.flatMap(({ metric }) => underlay.subjects.map(({ values }) => values[metric.key]?.value)),
  );
  return [
    {
      id: `${id}${suffix.id}`,
      title: `${title}${suffix.title}`,
      svg: intervalPanels(
        underlay.subjects.map(({ name }) => name),
        shown.map((panel, index) => ({
          title: panel.title,
          unit: panel.metric.unit,
          digits: panel.metric.digits,
          color: SERIES[index] ?? '',
          values: underlay.subjects.map(({ values }) => values[panel.metric.key]?.value),
        })),
      ),
      label: `Bars of medians with ${bounds.plural}. ${shown.map(({ metric }) => metricWords(underlay, metric)).join('. ')}.`,
      caption: `Medians with ${bounds.plural}. ${caption}`,
      tables: shown.map(({ metric }) => metricTable(underlay, metric)),
    },
  ];
}

function cpuFigure({ metrics, underlay, suffix }: Scene, load: Load): Figure[] {
  const parts = CPU_PARTS.flatMap((part, index) => {
    const metric = metrics.find(({ key }) => key === `${load}.${part}`);
    return metric === undefined
      ? []
      : [{ part, metric, color: (part === 'idle' ? SERIES.at(-1) : SERIES[index]) ?? '' }];
  });
  const modes = underlay.subjects.filter(({ values }) =>
    parts.some(({ metric }) => values[metric.key] !== undefined),
  );
  if (modes.length === 0) return [];
  const median = (mode: (typeof modes)[number], { key }: Metric): number | undefined =>
    mode.values[key]?.value.median;
  const digits = Math.max(...parts.map(({ metric }) => metric.digits));
  return [
    {
      id: `cpu-${load}${suffix.id}`,
      title: `CPU time of a packet by mode: ${LOAD_TITLES[load]}${suffix.title}`,
      svg: stackedBars({
        categories: modes.map(({ name }) => name),
        series: parts.map(({ part, metric, color }) => ({
          name: part,
          color,
          values: modes.map((mode) => median(mode, metric)),
        })),
        unit: 'CPU ns of the whole machine for one delivered packet',
        digits,
      }),
      label: `Stacked bars of the machine's CPU nanoseconds for one packet. ${modes
        .map(
          (mode) =>
            `${mode.name}: ${parts.map(({ part, metric }) => `${part} ${fixed(median(mode, metric) ?? NaN, digits)}`).join(', ')}`,
        )
        .join('; ')}.`,
      caption:
        'Of all CPUs, the containers included; idle is what the machine had left while the packets took their time. The number behind a bar is the sum of the medians. Less is better.',
      tables: parts.map(({ metric }) => metricTable(underlay, metric)),
    },
  ];
}

function metricWords({ subjects }: UnderlayResult, { key, title, unit, digits }: Metric): string {
  const values = subjects.flatMap(({ name, values: { [key]: found } }) =>
    found === undefined ? [] : [`${name} ${fixed(found.value.median, digits)}`],
  );
  return `${title}${unit === '' ? '' : `, ${unit}`}: ${values.join('; ')}`;
}
