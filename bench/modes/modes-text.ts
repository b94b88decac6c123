/** The result of `flannelette bench modes` for a terminal, as Markdown and as CSV. */
import { BASELINE, NOISE } from '../overlays/subjects.js';
import { LOAD_TITLES } from './metrics.js';
import {
  LOADS,
  type LoadMetricName,
  type LoadName,
  type ModeMetric,
  type ModeMetricKey,
  type ModeResult,
  type ModesResult,
} from './result.js';
import { boundsName, SPREAD_METHOD, spreadOf } from '../frame/spread.js';
import { compareShape } from '../overlays/overlays-summary.js';
import {
  calmFact,
  fixed,
  machineFacts,
  markdownFacts,
  markdownHead,
  markdownTable,
  textFacts,
  textTable,
  withDigits,
  wrap,
  type Fact,
  type ReportTable,
} from '../frame/table.js';
import { describeShape, ratioText } from '../overlays/overlays-text.js';

/** Paragraphs: what the numbers are of. */
export const METHOD = [
  'Two hosts in network namespaces of one machine, a container on each; iperf3 and ping between the containers, which share the CPUs with everything else. Every round sets up every mode once, in random order, with processes of its own. Values are medians of the rounds, ratios medians of per-round ratios. Absolute numbers are those of this small machine; ratios count.',
  SPREAD_METHOD,
  'A packet is one that was delivered: a datagram that reached the receiving container, by its kernel, or a full segment of the TCP payload. Where the receiving program is too slow its own socket drops datagrams that were delivered: those it read are a column of their own. Acknowledgements are not counted as packets; what they cost is in the cost of the others.',
  "System calls and context switches are those of both ends: the daemons, all their threads; the kernel's overlays have none. perf counts raw_syscalls:sys_enter of the ends in a run of its own, sched_yield included; throughput in that run by throughput without is what counting costs. Without perf the ends count the reads, writes and waits of their loops themselves, without sched_yield.",
  'Bytes copied across the user/kernel border: what the sending container wrote and the receiving one read, and what both ends read from and wrote to TUN and socket by their own counters, acknowledgements included, divided by the payload that arrived. The counters have packets as they are on the wire; a train crosses the TUN with one header, so offload copies up to 4 % less than shown. With the kernel alone only the containers copy: 2; more of datagrams lost on the way, fewer where the receiving socket dropped some. Copies within user space or within the kernel are not counted.',
  'CPU is that of the whole machine by /proc/stat while the load runs, the start and end of iperf3 included; idle is what is left, so user, system, softirq, steal and idle add up to the time of all CPUs.',
] as const;

/** Tables with bounds; the others are in JSON and CSV, and at the end of the Markdown. */
const MAIN_KEYS: readonly ModeMetricKey[] = [
  ...(['tcp.throughput', 'udp.packets', 'rtt', 'rttP99', 'tcp.busy', 'udp.busy'] as const),
];

export function renderModesText(result: ModesResult): string {
  const main = result.metrics.filter(({ key }) => MAIN_KEYS.includes(key));
  return [
    ...METHOD.flatMap((paragraph) => [wrap(paragraph), '']),
    ...textFacts(modesFacts(result)),
    '',
    textTable(modeTable(result)),
    ...overviews(result).map(textTable),
    ...main.map((metric) => textTable(metricTable(result, metric))),
    ...statements(result).map(wrap),
    '',
  ].join('\n');
}

export function renderModesMarkdown(result: ModesResult): string {
  return [
    ...markdownHead('The modes, and what each costs a packet'),
    ...METHOD.flatMap((paragraph) => [paragraph, '']),
    ...markdownFacts(modesFacts(result)),
    ...statements(result).flatMap((paragraph) => ['', paragraph]),
    ...[modeTable(result), ...overviews(result)].flatMap((table) => ['', ...markdownTable(table)]),
    '',
    '## Every metric with its bounds',
    ...result.metrics.flatMap((metric) => ['', ...markdownTable(metricTable(result, metric), 3)]),
    '',
  ].join('\n');
}

/** A row for each mode and metric. */
export function renderModesCsv({ modes, metrics }: ModesResult): string {
  const rows = modes.flatMap(({ mode, values }) =>
    metrics.flatMap(({ key, unit }) => {
      const found = values[key];
      if (found === undefined) return [];
      const { value, ratio, samples } = found;
      const spread = [value.median, value.low, value.high];
      const ratios = ratio === null ? ['', '', ''] : [ratio.median, ratio.low, ratio.high];
      return [[mode, key, unit, ...spread, ...ratios, samples.length, boundsName(value)].join(',')];
    }),
  );
  const head = 'mode,metric,unit,median,low,high,ratio_to_vxlan,ratio_low,ratio_high,rounds,bounds';
  return [head, ...rows, ''].join('\n');
}

export function modesFacts({ environment, countedBy, missing }: ModesResult): Fact[] {
  const { rounds, seconds, underlayMtu, congestion, busyBefore, quick, repeated, node } =
    environment;
  return [
    ...machineFacts(environment),
    ['Node', node],
    calmFact(busyBefore),
    ['Underlay', `MTU ${underlayMtu}, segmentation offload`],
    ['TCP congestion control', congestion],
    ['Rounds', `${rounds}, interleaved, ${seconds} s per load`],
    ...(quick ? [['Mode', 'quick: few or short rounds, not to be quoted'] as const] : []),
    ['System calls counted by', countedBy === 'perf' ? 'perf' : 'the ends themselves'],
    ...missing.map(
      ({ what, reason }) => ['Missing on this machine', `${what}: ${reason}`] as const,
    ),
    ...repeated.map((why) => ['Measured again', why] as const),
  ];
}

/** What each mode is, with its MTU. */
export function modeTable({ modes }: ModesResult): ReportTable {
  return {
    title: 'Modes',
    columns: ['mode', 'what', 'MTU'],
    left: ['what'],
    rows: modes.map(({ mode, what, mtu }) => [mode, what, String(mtu)]),
  };
}

function overviews(result: ModesResult): ReportTable[] {
  return [
    ...LOADS.flatMap((load) => [loadTable(result, load), cpuTable(result, load)]),
    overview(result, 'Round trip (ping -A), ms', [
      ['median', 'rtt'],
      [`x ${BASELINE}`, 'rtt', 'ratio'],
      ['99th percentile', 'rttP99'],
    ]),
    ...(result.countedBy === 'perf' ? [countingTable(result)] : []),
  ];
}

function loadTable(result: ModesResult, load: LoadName): ReportTable {
  const of = (name: LoadMetricName): ModeMetricKey => `${load}.${name}`;
  return overview(result, `${LOAD_TITLES[load]}: speed, and per packet calls, switches, copies`, [
    ['Gbit/s', of('throughput')],
    ['packets/s', of('packets')],
    ...(load === 'udp' ? ([['read/s', of('read')]] as const) : []),
    [`x ${BASELINE}`, of('packets'), 'ratio'],
    ['system calls', of('calls')],
    ['sched_yield', of('yields')],
    ['switches, ends', of('switches')],
    ['switches, machine', of('machineSwitches')],
    ['copied B/B', of('copied')],
  ]);
}

function cpuTable(result: ModesResult, load: LoadName): ReportTable {
  const parts = ['user', 'system', 'softirq', 'steal', 'idle'] as const;
  return overview(result, `${LOAD_TITLES[load]}: CPU ns of the whole machine per packet`, [
    ...parts.map((part) => [part, `${load}.${part}`] as const),
    ['all but idle', `${load}.busy`],
    [`x ${BASELINE}`, `${load}.busy`, 'ratio'],
  ]);
}

function countingTable(result: ModesResult): ReportTable {
  const modes = result.modes.filter(({ kernelOnly }) => !kernelOnly);
  return overview(
    { ...result, modes },
    'What counting costs: throughput while perf counts / without',
    LOADS.map((load) => [LOAD_TITLES[load], `${load}.counting`] as const),
  );
}

type Column = readonly [title: string, key: ModeMetricKey, of?: 'ratio'];

/** Medians, a mode a row. */
function overview(
  { modes, metrics }: ModesResult,
  title: string,
  columns: readonly Column[],
): ReportTable {
  const digitsOf = (key: ModeMetricKey): number =>
    metrics.find((metric) => metric.key === key)?.digits ?? 0;
  const cell = ({ values }: ModeResult, [, key, of]: Column): string => {
    const found = values[key];
    if (found === undefined || (of === 'ratio' && found.ratio === null)) return '-';
    return of === 'ratio' && found.ratio !== null
      ? fixed(found.ratio.median, 2)
      : fixed(found.value.median, digitsOf(key));
  };
  return {
    title,
    columns: ['mode', ...columns.map(([column]) => column)],
    rows: modes.map((mode) => [mode.mode, ...columns.map((column) => cell(mode, column))]),
  };
}

export function metricTable(
  { modes }: ModesResult,
  { key, title, unit, digits }: ModeMetric,
): ReportTable {
  const own = modes.map(({ values }) => values[key]);
  const bounds = spreadOf(own.map((found) => found?.value));
  const ratioBounds = spreadOf(own.map((found) => found?.ratio ?? found?.value));
  return {
    title: unit === '' ? title : `${title}, ${unit}`,
    columns: [
      ...['mode', 'median', bounds.title],
      ...[`ratio to ${BASELINE}`, `${ratioBounds.title} of the ratio`],
    ],
    rows: modes.flatMap(({ mode, values }) => {
      const found = values[key];
      if (found === undefined) return [];
      const { value, ratio } = found;
      return [
        [
          ...[mode, fixed(value.median, digits), bounds.text(value, withDigits(digits))],
          ...(ratio === null
            ? ['-', '-']
            : [fixed(ratio.median, 3), ratioBounds.text(ratio, withDigits(3))]),
        ],
      ];
    }),
  };
}

/** Noise, and the comparison with what others found. */
function statements({ modes, metrics, noise }: ModesResult): string[] {
  const ratioOf = (name: string): ModeResult['values'][ModeMetricKey] =>
    modes.find(({ mode }) => mode === name)?.values['tcp.throughput'];
  const [udp, hostGw] = [ratioOf('basic')?.ratio, ratioOf('host-gw')?.ratio];
  const title = metrics.find(({ key }) => key === noise?.metric)?.title ?? '';
  return [
    ...(noise === null
      ? []
      : [
          `Noise: of throughput, round trip and CPU, ${NOISE} is farthest from ${BASELINE} in "${title}": ${ratioText(noise.ratio)}.`,
        ]),
    ...(udp && hostGw ? [describeShape(compareShape(udp, hostGw))] : []),
  ];
}
