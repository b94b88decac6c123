/** The result of `npm run bench` and `flannelette bench modes` on a terminal, as Markdown and as CSV. */
import { blockLines } from '../frame/block.js';
import { boundsName, medianAndBounds, SPREAD_METHOD, spreadOf } from '../frame/spread.js';
import type { Estimate } from '../frame/stats.js';
import {
  fixed,
  machineFacts,
  markdownFacts,
  markdownHead,
  markdownRows,
  markdownTable,
  textFacts,
  textTable,
  verdict,
  withDigits,
  wrap,
  type Fact,
  type ReportTable,
} from '../frame/table.js';
import { LOAD_TITLES, LOADS, type Load, type LoadMetric, type MetricKey } from './metrics.js';
import type {
  OverlaysResult,
  SubjectResult,
  UnderlayName,
  UnderlayResult,
} from './overlays-result.js';
import {
  baseOf,
  FLANNEL_LIKE,
  judge,
  noiseOf,
  SHORT_KEYS,
  shapeOf,
  shortRows,
  type Shape,
  type ShortRow,
  type Target,
} from './overlays-summary.js';
import { BASELINE, NOISE } from './subjects.js';

type Metric = OverlaysResult['metrics'][number];

/** Paragraphs: what the numbers are of. */
export const METHOD = [
  'Two hosts in network namespaces of one machine, joined by veth pairs and a bridge; a container on each; iperf3 and ping between the containers, which share the CPUs with everything else. Every round sets up every subject once, in random order, with processes of its own. Values are medians of the rounds, ratios medians of per-round ratios. Absolute numbers are those of this small machine and drift; ratios count.',
  SPREAD_METHOD,
  `\`${NOISE}\` is ${BASELINE} measured twice: how far its ratio is from 1 is the noise.`,
  'A packet is one that was delivered: a datagram that reached the receiving container, by its kernel (*carried*), or a full segment of the TCP payload. UDP is sent as fast as one program can, and one program reads it: where that is too slow its own socket drops datagrams that were delivered; those it took are *read*. Acknowledgements are not counted as packets; what they cost is in the cost of the others.',
  "System calls and context switches are those of both ends: the daemons, all their threads; the kernel's overlays have none. perf counts raw_syscalls:sys_enter of the ends in a run of its own, sched_yield included; throughput in that run by throughput without is what counting costs. Without perf the ends of flannelette count the reads, writes and waits of their loops themselves, without sched_yield.",
  'Bytes copied across the user/kernel border: what the sending container wrote and the receiving one read, and what both ends read from and wrote to TUN and socket by their own counters, acknowledgements included, divided by the payload that arrived. The counters have packets as they are on the wire; a train crosses the TUN with one header, so offload copies up to 4 % less than shown. With the kernel alone only the containers copy: 2; more of datagrams lost on the way, fewer where the receiving socket dropped some. Copies within user space or within the kernel are not counted.',
  'CPU is that of the whole machine by /proc/stat while the load runs, the start and end of iperf3 included; idle is what is left, so user, system, softirq, steal (what the hypervisor took) and idle add up to the time of all CPUs.',
] as const;

export const UNDERLAY_TITLES: Readonly<Record<UnderlayName, string>> = {
  offload: 'Underlay with segmentation offload',
  plain: 'Underlay without segmentation and checksum offload',
};

export function renderText(result: OverlaysResult): string {
  const short = shortResult(result);
  return [
    ...METHOD.flatMap((paragraph) => [wrap(paragraph), '']),
    ...textFacts(overlaysFacts(result)),
    '',
    textTable(subjectTable(result)),
    ...result.underlays.flatMap((underlay) => [
      `${UNDERLAY_TITLES[underlay.underlay]}\n`,
      ...statements(result, underlay).map((text) => `${wrap(text)}\n`),
      ...overviews(result, underlay).map(textTable),
      ...result.metrics
        .filter(({ main }) => main)
        .map((metric) => textTable(metricTable(underlay, metric))),
    ]),
    ...(short === undefined ? [] : [textTable(short.table), wrap(short.how), '']),
    ...judged(result).flatMap(({ title, targets }) => [`${title}:`, ...targets.map(judgement), '']),
  ].join('\n');
}

/** A page that opens with the result; targets and verdicts stand last. */
export function renderMarkdown(result: OverlaysResult): string {
  const block = renderBlock(result);
  return [
    ...markdownHead(result.environment.title),
    ...(block === undefined ? [] : blockLines(block)),
    ...markdownFacts(overlaysFacts(result)),
    '',
    ...markdownTable(subjectTable(result)),
    ...result.underlays.flatMap((underlay) => [
      '',
      `## ${UNDERLAY_TITLES[underlay.underlay]}`,
      ...statements(result, underlay).flatMap((paragraph) => ['', paragraph]),
      ...[
        ...overviews(result, underlay),
        ...result.metrics.map((metric) => metricTable(underlay, metric)),
      ].flatMap((table) => ['', ...markdownTable(table, 3)]),
    ]),
    '',
    '## How it was measured',
    ...METHOD.flatMap((paragraph) => ['', paragraph]),
    ...targetLines(result),
    '',
  ].join('\n');
}

/** The underlays that have targets whose subjects ran. */
function judged({ underlays }: OverlaysResult): { title: string; targets: Target[] }[] {
  return underlays
    .map((underlay) => ({ title: UNDERLAY_TITLES[underlay.underlay], targets: judge(underlay) }))
    .filter(({ targets }) => targets.length > 0);
}

function targetLines(result: OverlaysResult): string[] {
  const found = judged(result);
  if (found.length === 0) return [];
  return [
    '',
    '## Targets',
    ...found.flatMap(({ title, targets }) => [
      '',
      `${title}:`,
      '',
      ...targets.map((target) => `- ${judgement(target)}`),
    ]),
  ];
}

/** The short result as Markdown, for the page and for README; undefined when its subjects did not run. */
export function renderBlock(result: OverlaysResult): string | undefined {
  const short = shortResult(result);
  return short && [...markdownRows(short.table), '', short.how].join('\n');
}

const SHORT_TITLES: Readonly<Record<(typeof SHORT_KEYS)[number], string>> = {
  'tcp.throughput': 'TCP, 1 stream',
  'udp.packets': 'UDP, 64-byte payloads',
  rtt: 'ping',
};

function shortResult(result: OverlaysResult): { table: ReportTable; how: string } | undefined {
  const rows = shortRows(result);
  if (rows === undefined) return undefined;
  const bounds = spreadOf(rows.flatMap(({ ratios }) => ratios));
  const { rounds, kernel, cpu, cpus, date, commit } = result.environment;
  const named = ({ subject, best }: ShortRow): string =>
    `\`${subject}\`, ${best ? 'the best mode' : `as flannel's udp backend`}`;
  return {
    table: {
      title: 'Ratios to kernel VXLAN',
      columns: ['ratio to kernel VXLAN', ...SHORT_KEYS.map((key) => SHORT_TITLES[key])],
      rows: rows.map((row) => [
        named(row),
        ...row.ratios.map(
          (ratio) => `${fixed(ratio.median, 2)} (${bounds.text(ratio, withDigits(2))})`,
        ),
      ]),
    },
    how: `Of throughput more is better, of ping less. Medians of ${rounds} interleaved rounds, in brackets ${bounds.plural}; ${cpus} x ${cpu}, Linux ${kernel}, ${date}, commit ${commit}.`,
  };
}

/** A row for each underlay, subject and metric. */
export function renderCsv({ underlays, metrics }: OverlaysResult): string {
  const rows = underlays.flatMap(({ underlay, subjects }) =>
    subjects.flatMap(({ name, values }) =>
      metrics.flatMap(({ key, unit }) => {
        const found = values[key];
        if (found === undefined) return [];
        const { value, ratio, samples } = found;
        const spread = [value.median, value.low, value.high];
        const ratios = ratio === null ? ['', '', ''] : [ratio.median, ratio.low, ratio.high];
        const count = [samples.length, boundsName(value)];
        return [[underlay, name, key, unit, ...spread, ...ratios, ...count].join(',')];
      }),
    ),
  );
  const head =
    'underlay,subject,metric,unit,median,low,high,ratio,ratio_low,ratio_high,rounds,bounds';
  return [head, ...rows, ''].join('\n');
}

export function overlaysFacts({ environment, countedBy, missing }: OverlaysResult): Fact[] {
  const { rounds, seconds, underlayMtu, congestion, quick, repeated, packages } = environment;
  return [
    ...machineFacts(environment),
    ['Programs', packages],
    ['Underlay', `MTU ${underlayMtu}`],
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

/** What each subject is, with its MTU. */
export function subjectTable({ underlays }: OverlaysResult): ReportTable {
  return {
    title: 'Subjects',
    columns: ['subject', 'what', 'MTU'],
    left: ['what'],
    rows: (underlays[0]?.subjects ?? []).map(({ name, what, mtu }) => [name, what, String(mtu)]),
  };
}

/** Medians, without those tables that have nothing. */
function overviews(result: OverlaysResult, underlay: UnderlayResult): ReportTable[] {
  const table = (title: string, columns: readonly Column[]): ReportTable =>
    overview(result, underlay.subjects, title, columns);
  const tables = [
    table(
      `Ratios to ${BASELINE}; of pings and CPU less is better`,
      result.metrics.flatMap(({ key, column }): Column[] =>
        column === undefined ? [] : [[column, key, 'ratio']],
      ),
    ),
    ...LOADS.flatMap((load) => [loadTable(table, load), cpuTable(table, load)]),
    table('Round trip (ping -A), ms', [
      ['median', 'rtt'],
      [`x ${BASELINE}`, 'rtt', 'ratio'],
      ['99th percentile', 'rttP99'],
    ]),
    table('Memory of the larger end, after the load, MB', [
      ['RSS', 'rss'],
      ['at most (VmHWM)', 'rssPeak'],
    ]),
    overview(
      result,
      underlay.subjects.filter(({ kernelOnly }) => !kernelOnly),
      'What counting costs: throughput while perf counts / without',
      LOADS.filter((load) => result.metrics.some(({ key }) => key === `${load}.counting`)).map(
        (load) => [LOAD_TITLES[load], `${load}.counting`] as const,
      ),
    ),
  ];
  return tables.filter(({ rows }) => rows.some(([, ...cells]) => cells.some((one) => one !== '-')));
}

type Column = readonly [title: string, key: MetricKey, of?: 'ratio'];
type MakeTable = (title: string, columns: readonly Column[]) => ReportTable;

function loadTable(table: MakeTable, load: Load): ReportTable {
  const of = (name: LoadMetric): MetricKey => `${load}.${name}`;
  return table(`${LOAD_TITLES[load]}: speed, and per packet calls, switches, copies`, [
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

function cpuTable(table: MakeTable, load: Load): ReportTable {
  const parts = ['user', 'system', 'softirq', 'steal', 'idle'] as const;
  return table(`${LOAD_TITLES[load]}: CPU ns of the whole machine per packet`, [
    ...parts.map((part) => [part, `${load}.${part}`] as const),
    ['all but idle', `${load}.busy`],
    [`x ${BASELINE}`, `${load}.busy`, 'ratio'],
  ]);
}

/** A subject a row. */
function overview(
  { metrics }: OverlaysResult,
  subjects: readonly SubjectResult[],
  title: string,
  columns: readonly Column[],
): ReportTable {
  const digitsOf = (key: MetricKey): number =>
    metrics.find((metric) => metric.key === key)?.digits ?? 0;
  const cell = ({ values }: SubjectResult, [, key, of]: Column): string => {
    const found = values[key];
    if (found === undefined) return '-';
    if (of === undefined) return fixed(found.value.median, digitsOf(key));
    return found.ratio === null ? '-' : fixed(found.ratio.median, 2);
  };
  return {
    title,
    columns: ['subject', ...columns.map(([column]) => column)],
    rows: subjects.map((subject) => [
      subject.name,
      ...columns.map((column) => cell(subject, column)),
    ]),
  };
}

/** The subjects that have the metric. */
export function metricTable(
  { subjects }: UnderlayResult,
  { key, title, unit, digits }: Metric,
): ReportTable {
  const own = subjects.flatMap(({ name, values }) => {
    const found = values[key];
    return found === undefined ? [] : [{ name, ...found }];
  });
  const bounds = spreadOf(own.map(({ value }) => value));
  const ratioBounds = spreadOf(own.map(({ ratio, value }) => ratio ?? value));
  return {
    title,
    columns: [
      'subject',
      'median',
      bounds.title,
      `ratio to ${baseOf(key)}`,
      `${ratioBounds.title} of the ratio`,
    ],
    rows: own.map(({ name, value, ratio }) => [
      name,
      `${fixed(value.median, digits)} ${unit}`.trim(),
      bounds.text(value, withDigits(digits)),
      ratio === null ? '-' : fixed(ratio.median, 3),
      ratio === null ? '-' : ratioBounds.text(ratio, withDigits(3)),
    ]),
  };
}

/** Noise, and the comparison with what others found; computed, so that they follow the numbers. */
function statements({ metrics }: OverlaysResult, underlay: UnderlayResult): string[] {
  const noise = noiseOf(underlay, metrics);
  const shape = shapeOf(underlay);
  return [
    ...(noise === undefined
      ? []
      : [
          `Noise: of the metrics in the next table, ${NOISE} is farthest from ${BASELINE} in "${noise.title}": ${ratioText(noise.ratio)}.`,
        ]),
    ...(shape === undefined ? [] : [describeShape(shape)]),
  ];
}

function describeShape({ udp, hostGw, order, factor }: Shape): string {
  return `Published: old measurements of flannel have udp < VXLAN < host-gw in TCP throughput, udp at about 0.6 of VXLAN. Here ${FLANNEL_LIKE}, which works as flannel's udp does, is ${ratioText(udp)} of VXLAN and host-gw ${ratioText(hostGw)}: the order ${agreement(order)}, the factor ${agreement(factor)}.`;
}

function ratioText(ratio: Estimate): string {
  return medianAndBounds(ratio, withDigits(3));
}

function agreement(yes: boolean): string {
  return yes ? 'agrees' : 'does not agree';
}

function judgement({ text, ratio, met }: Target): string {
  return verdict(met, text, ratioText(ratio));
}
