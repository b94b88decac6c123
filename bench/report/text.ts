/** The benchmark's result for a terminal and as Markdown; both from the same tables. */
import type { Environment, MetricTable, SubjectRounds, Target } from './summary.js';
import {
  fixed,
  interval,
  machineFacts,
  markdownFacts,
  markdownHead,
  markdownTable,
  textFacts,
  textTable,
  verdict,
  type Fact,
  type ReportTable,
} from './table.js';

const TITLES = ['subject', 'median', '95 % interval', 'ratio to vxlan', '95 % interval'] as const;

function tableOf({ metric, rows }: MetricTable): ReportTable {
  return {
    title: metric.title,
    columns: TITLES,
    rows: rows.map(({ subject, value, ratio }) => [
      subject,
      `${fixed(value.median, metric.digits)} ${metric.unit}`,
      interval(value, metric.digits),
      ratio === undefined ? '-' : fixed(ratio.median, 3),
      ratio === undefined ? '-' : interval(ratio, 3),
    ]),
  };
}

export function renderText(
  environment: Environment,
  subjects: readonly SubjectRounds[],
  tables: readonly MetricTable[],
  targets: readonly Target[],
): string {
  return [
    ...textFacts(describe(environment)),
    ...subjects.map(({ name, what, mtu }) => `${name}: ${what}, MTU ${mtu}`),
    ...tables.map((table) => textTable(tableOf(table))),
    ...targets.map(judgement),
    '',
  ].join('\n');
}

export function renderMarkdown(
  environment: Environment,
  subjects: readonly SubjectRounds[],
  tables: readonly MetricTable[],
  targets: readonly Target[],
): string {
  return [
    ...markdownHead('Benchmarks'),
    'Two hosts in network namespaces of one machine, joined by veth pairs and a bridge; a container',
    'on each; iperf3 and ping between the containers. Every round measures every subject once, in',
    'random order. Ratios are medians of per-round ratios to kernel VXLAN in the same run, with 95 %',
    'bootstrap intervals. Absolute numbers are those of this small machine and drift; ratios count.',
    '`vxlan again` is VXLAN measured twice: how far its ratio is from 1 is the noise.',
    '',
    ...markdownFacts(describe(environment)),
    '',
    ...markdownTable({
      title: 'Subjects',
      columns: ['subject', 'what', 'MTU'],
      left: ['what'],
      rows: subjects.map(({ name, what, mtu }) => [name, what, String(mtu)]),
    }),
    ...tables.flatMap((table) => ['', ...markdownTable(tableOf(table))]),
    '',
    '## Targets',
    '',
    ...targets.map((target) => `- ${judgement(target)}`),
    '',
  ].join('\n');
}

function describe(environment: Environment): Fact[] {
  const { rounds, seconds, underlayMtu, underlayOffload } = environment;
  return [
    ...machineFacts(environment),
    ['Underlay', `MTU ${underlayMtu}, segmentation offload ${underlayOffload ? 'on' : 'off'}`],
    ['Rounds', `${rounds}, interleaved, ${seconds} s per throughput measurement`],
  ];
}

function judgement({ text, ratio, met }: Target): string {
  return verdict(met, text, `${fixed(ratio.median, 3)} (${interval(ratio, 3)})`);
}
