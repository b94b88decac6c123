/** The figures of `flannelette bench modes`. */
import type { LoadName, ModeMetric, ModesResult } from '../modes/result.js';
import { LOAD_TITLES } from '../modes/metrics.js';
import { METHOD, metricTable, modesFacts, modeTable, renderModesCsv } from '../modes/modes-text.js';
import { spreadOf } from '../frame/spread.js';
import { fixed } from '../frame/table.js';
import { intervalPanels, stackedBars } from './chart.js';
import type { Figure, Section } from './markup.js';
import { SERIES } from './theme.js';

/** Where the CPU time of a packet went; together all CPUs' time. */
const CPU_PARTS = ['user', 'system', 'softirq', 'steal', 'idle'] as const;

/** Why a packet costs what it costs, with titles short enough for four panels side by side. */
const REASONS = {
  calls: 'system calls',
  switches: 'switches of the ends',
  machineSwitches: 'switches, machine',
  copied: 'bytes copied a byte',
} as const;

export function modesSection(result: ModesResult): Section {
  return {
    id: 'modes',
    title: 'The modes, end to end',
    facts: modesFacts(result),
    tables: [modeTable(result)],
    method: METHOD.join(' '),
    figures: [
      ...panelsFigure(result, {
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
      ...panelsFigure(result, {
        id: 'latency',
        title: 'Round trips by mode',
        panels: [{ key: 'rtt' }, { key: 'rttP99' }],
        caption: 'Pings with nothing else to carry. Less is better.',
      }),
      ...(['tcp', 'udp'] as const).flatMap((load) => [
        ...cpuFigure(result, load),
        ...panelsFigure(result, {
          id: `reasons-${load}`,
          title: `Calls, switches and copies of a packet: ${LOAD_TITLES[load]}`,
          panels: Object.entries(REASONS).map(([name, title]) => ({
            key: `${load}.${name}`,
            title,
          })),
          caption: `System calls counted by ${result.countedBy === 'perf' ? 'the kernel (perf)' : 'the ends themselves, without sched_yield'}. Less is better.`,
        }),
      ]),
    ],
    downloads: [
      { name: 'modes.csv', type: 'text/csv', text: renderModesCsv(result) },
      { name: 'modes.json', type: 'application/json', text: JSON.stringify(result) },
    ],
  };
}

interface Panel {
  readonly key: string;
  /** Instead of the metric's own. */
  readonly title?: string;
}

/** Metrics side by side, as far as there are any. */
function panelsFigure(
  result: ModesResult,
  figure: {
    readonly id: string;
    readonly title: string;
    readonly panels: readonly Panel[];
    readonly caption: string;
  },
): Figure[] {
  const { id, title, panels, caption } = figure;
  const shown = panels.flatMap((panel) => {
    const metric = result.metrics.find(({ key }) => key === panel.key);
    return metric === undefined ? [] : [{ title: metric.title, ...panel, metric }];
  });
  if (shown.length === 0) return [];
  const bounds = spreadOf(
    shown.flatMap(({ metric }) => result.modes.map(({ values }) => values[metric.key]?.value)),
  );
  return [
    {
      id,
      title,
      svg: intervalPanels(
        result.modes.map(({ mode }) => mode),
        shown.map((panel, index) => ({
          title: panel.title,
          unit: panel.metric.unit,
          digits: panel.metric.digits,
          color: SERIES[index] ?? '',
          values: result.modes.map(({ values }) => values[panel.metric.key]?.value),
        })),
      ),
      label: `Bars of medians with ${bounds.plural}. ${shown.map(({ metric }) => metricWords(result, metric)).join('. ')}.`,
      caption: `Medians with ${bounds.plural}. ${caption}`,
      tables: shown.map(({ metric }) => metricTable(result, metric)),
    },
  ];
}

function cpuFigure(result: ModesResult, load: LoadName): Figure[] {
  const parts = CPU_PARTS.flatMap((part, index) => {
    const metric = result.metrics.find(({ key }) => key === `${load}.${part}`);
    return metric === undefined
      ? []
      : [{ part, metric, color: (part === 'idle' ? SERIES.at(-1) : SERIES[index]) ?? '' }];
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
      title: `CPU time of a packet by mode: ${LOAD_TITLES[load]}`,
      svg: stackedBars({
        categories: modes.map(({ mode }) => mode),
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
            `${mode.mode}: ${parts.map(({ part, metric }) => `${part} ${fixed(median(mode, metric) ?? NaN, digits)}`).join(', ')}`,
        )
        .join('; ')}.`,
      caption:
        'Of all CPUs, the containers included; idle is what the machine had left while the packets took their time. The number behind a bar is the sum of the medians. Less is better.',
      tables: parts.map(({ metric }) => metricTable(result, metric)),
    },
  ];
}

function metricWords({ modes }: ModesResult, { key, title, unit, digits }: ModeMetric): string {
  const values = modes.flatMap(({ mode, values: { [key]: found } }) =>
    found === undefined ? [] : [`${mode} ${fixed(found.value.median, digits)}`],
  );
  return `${title}${unit === '' ? '' : `, ${unit}`}: ${values.join('; ')}`;
}
