/** The benchmark's result for a terminal and as Markdown; both from the same summaries. */
import { SUMMARY_KEYS } from './metrics.js';
import type { Estimate } from '../frame/stats.js';
import { BASELINE, NOISE } from './subjects.js';
import { medianAndBounds, SPREAD_METHOD, spreadOf } from '../frame/spread.js';
import {
  noiseOf,
  shapeOf,
  type Environment,
  type GroupTable,
  type MetricTable,
  type Shape,
  type SubjectRounds,
  type Target,
  type UnderlayName,
  type UnderlaySummary,
} from './overlays-summary.js';
import {
  calmFact,
  fixed,
  machineFacts,
  markdownFacts,
  markdownHead,
  markdownTable,
  textFacts,
  textTable,
  verdict,
  withDigits,
  wrap,
  type Fact,
  type ReportTable,
} from '../frame/table.js';

/** One line each; Markdown may wrap them. */
const INTRODUCTION = [
  'Two hosts in network namespaces of one machine, joined by veth pairs and a bridge; a container on each; iperf3 and ping between the containers, which share the CPUs with everything else. Every round sets up every subject once, in random order, with processes of its own. Ratios are medians of per-round ratios. Absolute numbers are those of this small machine and drift; ratios count.',
  SPREAD_METHOD,
  `\`${NOISE}\` is ${BASELINE} measured twice: how far its ratio is from 1 is the noise.`,
  'UDP is sent as fast as one program can, and one program reads it. *Carried* are the datagrams that reached the receiving container, by its kernel; *read* those that its program took: where that is too slow its own socket drops the rest, which no overlay lost.',
  "System calls and context switches are those of both ends, per packet delivered: datagrams carried to the receiving container, or the full segments that make the TCP payload; acknowledgements are not counted. flannelette counts its own calls, the reads, writes and waits of its packet loops (not the sched_yield between two looks); perf counts those of the other programs, in a run of its own. The kernel's overlays have no ends.",
  'CPU is that of the whole machine by /proc/stat: all but idle, the start and end of iperf3 and what the hypervisor took (steal) included.',
];

export const UNDERLAY_TITLES: Readonly<Record<UnderlayName, string>> = {
  offload: 'Underlay with segmentation offload',
  plain: 'Underlay without segmentation and checksum offload',
};

export function renderText(
  environment: Environment,
  subjects: readonly SubjectRounds[],
  summaries: readonly UnderlaySummary[],
): string {
  return [
    ...INTRODUCTION.flatMap((paragraph) => [wrap(paragraph), '']),
    ...textFacts(describe(environment)),
    '',
    textTable(subjectTable(subjects)),
    ...summaries.flatMap((summary) => [
      `${UNDERLAY_TITLES[summary.underlay]}\n`,
      ...statements(summary).map((text) => `${text}\n`),
      ...tablesOf(summary).map(textTable),
      ...summary.targets.map(judgement),
    ]),
    '',
  ].join('\n');
}

export function renderMarkdown(
  environment: Environment,
  subjects: readonly SubjectRounds[],
  summaries: readonly UnderlaySummary[],
): string {
  return [
    ...markdownHead('Benchmarks'),
    ...INTRODUCTION.flatMap((paragraph) => [paragraph, '']),
    ...markdownFacts(describe(environment)),
    '',
    ...markdownTable(subjectTable(subjects)),
    '',
    '## Targets',
    ...summaries.flatMap(({ underlay, targets }) => [
      '',
      `${UNDERLAY_TITLES[underlay]}:`,
      '',
      ...(targets.length === 0 ? ['- none of their subjects ran'] : []),
      ...targets.map((target) => `- ${judgement(target)}`),
    ]),
    ...summaries.flatMap((summary) => [
      '',
      `## ${UNDERLAY_TITLES[summary.underlay]}`,
      ...statements(summary).flatMap((paragraph) => ['', paragraph]),
      ...tablesOf(summary).flatMap((table) => ['', ...markdownTable(table, 3)]),
    ]),
    '',
  ].join('\n');
}

function describe(environment: Environment): Fact[] {
  const { rounds, seconds, underlayMtu, congestion, busyBefore, quick, uncounted, repeated } =
    environment;
  return [
    ...machineFacts(environment),
    ['Programs', environment.packages],
    calmFact(busyBefore),
    ['Underlay', `MTU ${underlayMtu}`],
    ['TCP congestion control', congestion],
    ['Rounds', `${rounds}, interleaved, ${seconds} s per throughput measurement`],
    ...(quick === undefined ? [] : [['Mode', quick] as const]),
    ...repeated.map((why) => ['Measured again', why] as const),
    ...(uncounted === undefined ? [] : [['System calls of peers', uncounted] as const]),
  ];
}

function subjectTable(subjects: readonly SubjectRounds[]): ReportTable {
  return {
    title: 'Subjects',
    columns: ['subject', 'what', 'MTU'],
    left: ['what'],
    rows: subjects.map(({ name, what, mtu }) => [name, what, String(mtu)]),
  };
}

function tablesOf({ tables, groups }: UnderlaySummary): ReportTable[] {
  const ratios = ratioTable(tables);
  return [
    ...(ratios.rows.length === 0 ? [] : [ratios]),
    ...tables.map(metricTable),
    ...groups.map(groupTable),
  ];
}

function ratioTable(tables: readonly MetricTable[]): ReportTable {
  const columns = tables.filter(
    ({ metric, rows }) =>
      SUMMARY_KEYS.includes(metric.key) && rows.some(({ ratio }) => ratio !== undefined),
  );
  const subjects = [...new Set(columns.flatMap(({ rows }) => rows.map((row) => row.subject)))];
  return {
    title: `Ratios to ${BASELINE}; of pings and CPU less is better`,
    columns: ['subject', ...columns.map(({ metric }) => metric.short)],
    rows: subjects.map((subject) => [
      subject,
      ...columns.map(({ rows }) => {
        const ratio = rows.find((row) => row.subject === subject)?.ratio;
        return ratio === undefined ? '-' : fixed(ratio.median, 2);
      }),
    ]),
  };
}

function metricTable({ metric, base, rows }: MetricTable): ReportTable {
  const values = spreadOf(rows.map(({ value }) => value));
  const ratios = spreadOf(rows.map(({ ratio, value }) => ratio ?? value));
  return {
    title: metric.title,
    columns: [
      'subject',
      'median',
      values.title,
      `ratio to ${base}`,
      `${ratios.title} of the ratio`,
    ],
    rows: rows.map(({ subject, value, ratio }) => [
      subject,
      `${fixed(value.median, metric.digits)} ${metric.unit}`,
      values.text(value, withDigits(metric.digits)),
      ratio === undefined ? '-' : fixed(ratio.median, 3),
      ratio === undefined ? '-' : ratios.text(ratio, withDigits(3)),
    ]),
  };
}

function groupTable({ title, metrics, rows }: GroupTable): ReportTable {
  return {
    title,
    columns: ['subject', ...metrics.map(({ short }) => short)],
    rows: rows.map(({ subject, values }) => [
      subject,
      ...values.map((value, index) => {
        const { unit = '', digits = 0 } = metrics[index] ?? {};
        return value === undefined ? '-' : `${fixed(value, digits)} ${unit}`.trim();
      }),
    ]),
  };
}

/** Noise, and the comparison with what others found; computed, so that they follow the numbers. */
function statements(summary: UnderlaySummary): string[] {
  const noise = noiseOf(summary);
  const shape = shapeOf(summary);
  return [
    ...(noise === undefined
      ? []
      : [
          `Noise: of the metrics in the next table, ${NOISE} is farthest from ${BASELINE} in "${noise.title}": ${ratioText(noise.ratio)}.`,
        ]),
    ...(shape === undefined ? [] : [describeShape(shape)]),
  ];
}

export function describeShape({ udp, hostGw, order, factor }: Shape): string {
  return `Published: old measurements of flannel have udp < VXLAN < host-gw in TCP throughput, udp at about 0.6 of VXLAN. Here basic, which works as flannel's udp does, is ${ratioText(udp)} of VXLAN and host-gw ${ratioText(hostGw)}: the order ${agreement(order)}, the factor ${agreement(factor)}.`;
}

export function ratioText(ratio: Estimate): string {
  return medianAndBounds(ratio, withDigits(3));
}

function agreement(yes: boolean): string {
  return yes ? 'agrees' : 'does not agree';
}

function judgement({ text, ratio, met }: Target): string {
  return verdict(met, text, ratioText(ratio));
}
