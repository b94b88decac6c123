/** The soak's result for a terminal and as Markdown; both from the same tables. */
import type { Machine } from '../frame/machine.js';
import { median } from '../frame/stats.js';
import {
  fixed,
  machineFacts,
  markdownFacts,
  markdownHead,
  markdownTable,
  textFacts,
  textTable,
  verdict,
  type Fact,
  type ReportTable,
} from '../frame/table.js';
import { FAULTS } from './faults.js';
import type { Sample } from './observed.js';
import { WARM_UP, type Finding, type Judged } from './verdict.js';

export interface SoakResult extends Judged {
  readonly machine: Machine;
  readonly minutes: number;
  /** Mbit/s. */
  readonly tcp: number;
  /** Datagrams a second. */
  readonly udp: number;
}

const MIB = 1_048_576;
/** Points of the graph, and rows of its table. */
const POINTS = 60;
const ROWS = 12;

export function renderSoakText(soak: SoakResult, findings: readonly Finding[]): string {
  return [
    ...textFacts(describe(soak)),
    '',
    ...tablesOf(soak).map(textTable),
    ...findings.map(judgement),
    '',
  ].join('\n');
}

export function renderSoakMarkdown(soak: SoakResult, findings: readonly Finding[]): string {
  const [faults, growth] = tablesOf(soak);
  return [
    ...markdownHead('Reliability: a long run in which everything around the daemons fails'),
    'Two hosts in network namespaces of one machine, each with a daemon on one etcd and a container; between the',
    `containers ${soak.tcp} Mbit/s of TCP over four connections, ${fixed(soak.udp, 0)} datagrams a second and 20 pings a second. The`,
    'leases of 200 other hosts come and go, 20 a second, and the faults below happen one after another, again and',
    'again. host-1 has one daemon from beginning to end; that of host-2 is replaced. Silence is the longest time',
    "between two answered pings, from a fault's beginning until 2 s after both daemons are ready and pings are answered.",
    '',
    'The graph, and its table below: resident memory of the daemons. A daemon that was just started needs less than one that has worked.',
    '',
    ...graph(soak),
    '',
    ...markdownFacts(describe(soak)),
    '',
    ...(faults === undefined ? [] : markdownTable(faults)),
    '',
    ...(growth === undefined ? [] : markdownTable(growth)),
    '',
    '## Verdict',
    '',
    `Memory, descriptors and threads are judged after the first ${fixed(WARM_UP * soak.minutes, 1)} minutes.`,
    '',
    ...findings.map((finding) => `- ${judgement(finding)}`),
    '',
  ].join('\n');
}

function describe({ machine, seconds, trials, end, samples }: SoakResult): Fact[] {
  const { tcp, udp, pings } = end;
  const restarts = samples.filter(({ host }) => host === 'host-1').at(-1)?.dataPlaneRestarts ?? 0;
  return [
    ...machineFacts(machine),
    [
      'Length',
      `${fixed(seconds / 60, 1)} minutes, ${trials.length} faults, ${end.replaced} of them another daemon on host-2`,
    ],
    [
      'TCP',
      tcp === undefined
        ? 'broken'
        : `${fixed(tcp.gbps * 1_000, 0)} Mbit/s over the whole time, ${fixed(tcp.retransmits, 0)} retransmits`,
    ],
    [
      'UDP',
      udp === undefined
        ? 'broken'
        : `${fixed(udp.sent, 0)} datagrams sent, ${fixed((1 - udp.arrived / udp.sent) * 100, 2)} % lost`,
    ],
    ['Pings', `${fixed(pings.sent, 0)} sent, ${fixed(pings.sent - pings.received, 0)} lost`],
    ['Data plane of host-1 set up again', `${restarts} times`],
  ];
}

function tablesOf({ trials, samples, seconds }: SoakResult): ReportTable[] {
  return [
    {
      title: 'Faults',
      columns: ['tried', 'times', 'expected', 'silence: median', 'worst', 'seen'],
      left: ['expected', 'seen'],
      rows: FAULTS.map(({ id, what, expected, silenceLimit }) => {
        const tried = trials.filter(({ fault }) => fault === id);
        const silences = tried.map(({ silenceSeconds }) => silenceSeconds);
        const problems = [...new Set(tried.flatMap(({ problem }) => problem ?? []))];
        const worst = Math.max(0, ...silences);
        const seen = [
          ...(worst > silenceLimit ? [`longer than ${silenceLimit} s`] : []),
          ...problems,
        ];
        return [
          what,
          String(tried.length),
          expected,
          tried.length === 0 ? '-' : `${fixed(median(silences), 2)} s`,
          `${fixed(worst, 2)} s`,
          tried.length === 0 ? 'not tried' : seen.length === 0 ? 'as expected' : seen.join('; '),
        ];
      }),
    },
    {
      title: 'Memory, descriptors, threads',
      columns: ['minute', ...['host-1', 'host-2'].flatMap(columnsOf)],
      rows: slices(samples, seconds, ROWS).map((slice, index) => [
        fixed((index * seconds) / ROWS / 60, 1),
        ...['host-1', 'host-2'].flatMap((host) => cells(slice, host)),
      ]),
    },
  ];
}

function columnsOf(host: string): string[] {
  return [`${host}: RSS`, `${host}: descriptors`, `${host}: threads`];
}

function cells(slice: readonly Sample[], host: string): string[] {
  const own = slice.filter((sample) => sample.host === host);
  if (own.length === 0) return ['-', '-', '-'];
  return [
    `${fixed(median(own.map(({ rss }) => rss / MIB)), 1)} MiB`,
    range(own.map(({ descriptors }) => descriptors)),
    range(own.map(({ threads }) => threads)),
  ];
}

function range(values: readonly number[]): string {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return low === high ? String(low) : `${low} to ${high}`;
}

/** Resident memory in time: host-1's daemon, and those of host-2. */
function graph({ samples, seconds }: SoakResult): string[] {
  const parts = slices(samples, seconds, Math.min(POINTS, Math.floor(seconds / 20)));
  const line = (host: string): string => {
    let last = 0;
    const values = parts.map((slice) => {
      const own = slice.filter((sample) => sample.host === host).map(({ rss }) => rss / MIB);
      if (own.length > 0) last = median(own);
      return last.toFixed(1);
    });
    return `  line [${values.join(', ')}]`;
  };
  return [
    '```mermaid',
    'xychart-beta',
    '  title "Resident memory of the daemons of host-1 (first line) and host-2, MiB"',
    `  x-axis "minutes" 0 --> ${Math.round(seconds / 60)}`,
    '  y-axis "MiB" 0 --> 120',
    line('host-1'),
    line('host-2'),
    '```',
  ];
}

/** The samples in so many parts of equal time. */
function slices(samples: readonly Sample[], seconds: number, count: number): Sample[][] {
  return Array.from({ length: count }, (_, index) =>
    samples.filter(({ at }) => Math.min(count - 1, Math.floor((at / seconds) * count)) === index),
  );
}

function judgement({ met, what, found }: Finding): string {
  return verdict(met, what, found);
}
