/** The lease benchmark's result for a terminal and as Markdown; both from the same tables. */
import type { LeaseEnvironment, LeaseTarget, Spread, StoreSummary } from './lease-summary.js';
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

export function renderLeaseText(
  environment: LeaseEnvironment,
  summaries: readonly StoreSummary[],
  targets: readonly LeaseTarget[],
): string {
  return [
    ...textFacts(describe(environment, summaries)),
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
    'control / quiet what the load of the store does. Ratios are medians of per-round ratios with 95 %',
    'bootstrap intervals; of starts, median and range.',
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
  const { store } = summary;
  return [
    {
      title: `${store}: from the process's start`,
      columns: ['start', 'ready', 'range', 'last subnet forwards', 'range', 'RSS then'],
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
      columns: ['when', 'RSS', 'range'],
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
        ...['phase', 'changes/s', 'median round trip', '95 % interval', '99th percentile'],
        ...['95 % interval', 'lost', 'CPU of a daemon'],
      ],
      rows: summary.phases.map((phase) => [
        phase.phase,
        phase.changesPerSecond.toFixed(0),
        milliseconds(phase.medianMs.median),
        interval(phase.medianMs, 3),
        milliseconds(phase.p99Ms.median),
        interval(phase.p99Ms, 3),
        `${phase.lost} of ${phase.sent}`,
        `${(phase.cpu.median * 100).toFixed(1)} %`,
      ]),
    },
    {
      title: `${store}: ratios of round trips`,
      columns: ['phases', 'median', '95 % interval', '99th percentile', '95 % interval'],
      rows: summary.ratios.map(({ what, median, p99 }) => [
        what,
        median.median.toFixed(3),
        interval(median, 3),
        p99.median.toFixed(3),
        interval(p99, 3),
      ]),
    },
  ];
}

function describe(environment: LeaseEnvironment, summaries: readonly StoreSummary[]): Fact[] {
  const { rounds, seconds: length, starts, changesPerSecond } = environment;
  return [
    ...machineFacts(environment),
    ['Node', environment.node],
    ['Starts', `${starts} of each kind`],
    ['Rounds', `${rounds}, interleaved, phases of ${length} s`],
    ['Changes', `${fixed(changesPerSecond, 0)} a second`],
    ...summaries.map(({ store, how }): Fact => [`Changes in ${store}`, how]),
  ];
}

function judgement({ text, found, met }: LeaseTarget): string {
  return verdict(met, text, found);
}

function range({ least, most }: Spread, format: (value: number) => string): string {
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
