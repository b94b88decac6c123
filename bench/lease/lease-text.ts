/** The lease benchmark's result for a terminal and as Markdown; both from the same tables. */
import type { LeaseEnvironment, LeaseTarget, Range, StoreSummary } from './lease-summary.js';
import { RANGE, SPREAD_METHOD, spreadOf } from '../frame/spread.js';
import {
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

export function renderLeaseText(
  environment: LeaseEnvironment,
  summaries: readonly StoreSummary[],
  targets: readonly LeaseTarget[],
): string {
  return [
    ...textFacts(describe(environment, summaries)),
    '',
    wrap(SPREAD_METHOD),
    '',
    ...summaries.flatMap(tablesOf).map(textTable),
    ...targets.map(judgement),
    '',
  ].join('\n');
}

export function renderLeaseMarkdown(
  environment: LeaseEnvironment,
  summaries: readonly StoreSummary[],
  targets: readonly LeaseTarget[],
): string {
  return [
    ...markdownHead('Benchmark: 65,536 leases'),
    'Network 10.0.0.0/8 in /24 subnets, every one of them leased. Two hosts in network namespaces of',
    'one machine hold the second and the last subnet, each with a real daemon (mode batch) and a',
    'container; 100 pings a second go from container to container. A round measures four phases in',
    'random order: *quiet*; *control*, in which a process of its own changes leases in the same store',
    'that no daemon follows; *control again*, the same a second time, so that its ratio to control is',
    'the noise; and *changing*, in which the daemons follow those changes. Store, writer, daemons and',
    'pings share the CPUs below, so changing / control is what following costs forwarding, and',
    'control / quiet what the load of the store does. Ratios are medians of per-round ratios.',
    '',
    wrap(SPREAD_METHOD),
    '',
    ...markdownFacts(describe(environment, summaries)),
    ...summaries.flatMap(tablesOf).flatMap((table) => ['', ...markdownTable(table)]),
    '',
    '## Targets',
    '',
    ...targets.map((target) => `- ${judgement(target)}`),
    '',
  ].join('\n');
}

function tablesOf(summary: StoreSummary): ReportTable[] {
  const { store, phases, ratios } = summary;
  const ofPhases = spreadOf(phases.flatMap(({ medianMs, p99Ms }) => [medianMs, p99Ms]));
  const ofRatios = spreadOf(ratios.flatMap((ratio) => [ratio.median, ratio.p99]));
  return [
    {
      title: `${store}: from the process's start`,
      columns: ['start', 'ready', RANGE, 'last subnet forwards', RANGE, 'RSS then'],
      rows: summary.starts.map(({ what, readyMs, forwardsMs, rss }) => [
        what,
        seconds(readyMs.median),
        range(readyMs, seconds),
        forwardsMs === undefined ? '-' : seconds(forwardsMs.median),
        forwardsMs === undefined ? '-' : range(forwardsMs, seconds),
        megabytes(rss.median),
      ]),
    },
    {
      title: `${store}: memory of the larger daemon`,
      columns: ['when', 'RSS', RANGE],
      rows: [
        [
          'after phases with changes',
          megabytes(summary.rssChanging.median),
          range(summary.rssChanging, megabytes),
        ],
        ['at the end', megabytes(summary.rssEnd), '-'],
        ['ever (VmHWM)', megabytes(summary.rssPeak), '-'],
      ],
    },
    {
      title: `${store}: phases`,
      columns: [
        'phase',
        'changes/s',
        'median round trip',
        ofPhases.title,
        '99th percentile',
        ofPhases.title,
        'lost',
        'CPU of a daemon',
      ],
      rows: phases.map((phase) => [
        phase.phase,
        phase.changesPerSecond.toFixed(0),
        milliseconds(phase.medianMs.median),
        ofPhases.text(phase.medianMs, withDigits(3)),
        milliseconds(phase.p99Ms.median),
        ofPhases.text(phase.p99Ms, withDigits(3)),
        `${phase.lost} of ${phase.sent}`,
        `${(phase.cpu.median * 100).toFixed(1)} %`,
      ]),
    },
    {
      title: `${store}: ratios of round trips`,
      columns: ['phases', 'median', ofRatios.title, '99th percentile', ofRatios.title],
      rows: ratios.map(({ what, median, p99 }) => [
        what,
        median.median.toFixed(3),
        ofRatios.text(median, withDigits(3)),
        p99.median.toFixed(3),
        ofRatios.text(p99, withDigits(3)),
      ]),
    },
  ];
}

function describe(environment: LeaseEnvironment, summaries: readonly StoreSummary[]): Fact[] {
  const { rounds, seconds: length, starts, changesPerSecond } = environment;
  return [
    ...machineFacts(environment),
    ['Starts', `${starts} of each kind`],
    ['Rounds', `${rounds}, interleaved, phases of ${length} s`],
    ['Changes', `${fixed(changesPerSecond, 0)} a second`],
    ...summaries.map(({ store, how }): Fact => [`Changes in ${store}`, how]),
  ];
}

function judgement({ text, found, met }: LeaseTarget): string {
  return verdict(met, text, found);
}

function range({ least, most }: Range, format: (value: number) => string): string {
  return `${format(least)} to ${format(most)}`;
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(2)} s`;
}

function milliseconds(ms: number): string {
  return `${ms.toFixed(3)} ms`;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}
