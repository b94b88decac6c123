/** The result of `flannelette bench copies` for a terminal, as Markdown and as CSV. */
import type { Estimate } from '../frame/stats.js';
import type {
  Cell,
  CopiesResult,
  CrossingName,
  CrossingResult,
  Fit,
  ReferenceName,
} from './copies-result.js';
import { boundsName, SPREAD_METHOD, spreadOf } from '../frame/spread.js';
import {
  machineFacts,
  markdownFacts,
  markdownHead,
  markdownTable,
  textFacts,
  textTable,
  wrap,
  type Fact,
  type ReportTable,
} from '../frame/table.js';

/** What a (fixed) and b (per byte) are made of. */
export const CROSSING_TEXTS: Readonly<
  Record<CrossingName, { title: string; a: string; b: string }>
> = {
  'container-send': {
    title: '1 container send',
    a: "system call, allocation of the packet, the container's stack, the walk through veth, docker0 and the host's routing into the TUN's queue",
    b: 'copy from the sender; checksum in software: the sum in a pass of its own, since a bare TUN takes none undone',
  },
  'tun-read': {
    title: '2 TUN read',
    a: 'system call, dequeue, release of the packet; offload: two pieces instead of one, the virtio header',
    b: 'copy to the daemon',
  },
  'udp-send': {
    title: '3 UDP send',
    a: "system call, route, allocation, the sending stack, and on the same CPU the veth, the switch and the other host's stack up to its socket",
    b: 'copy from the daemon; without offload the sum in the same pass, also where the datagram then carries none',
  },
  'udp-send-device': {
    title: "3 without the other host: into a device's queue",
    a: 'system call, route, allocation, the sending stack, the queue of a TUN',
    b: 'the same as to the other host',
  },
  'udp-receive': {
    title: '4 UDP receive',
    a: "system call, dequeue, the sender's address, release of the packet",
    b: 'copy to the daemon; checksum in software: its verification, in the same pass',
  },
  'tun-write': {
    title: '5 TUN write',
    a: "system call, allocation, the host's routing, docker0, veth and the container's stack up to its socket",
    b: 'copy from the daemon',
  },
  'container-receive': {
    title: '6 container receive',
    a: "system call, dequeue, the sender's address, release of the packet",
    b: 'copy to the receiver; checksum in software: its verification, in the same pass',
  },
};

export const REFERENCE_TEXTS: Readonly<Record<ReferenceName, string>> = {
  'null-syscall': 'system call that does nothing (getppid)',
  'memcpy-hot': 'memcpy of the same bytes again and again',
  'memcpy-cold': 'memcpy of bytes that are in no cache',
  'wake-same-cpu': 'wake-up of a thread on the same CPU (eventfd: write, switch, read)',
  'wake-other-cpu': 'wake-up of a thread that sleeps on another CPU (the same)',
};

export const METHOD = [
  'One native thread, pinned to CPU 0, monotonic clock. A batch is up to 64 calls of one crossing in a',
  'row, timed together; then those of the crossing behind it, which find every packet waiting. Nothing',
  'else runs in the namespaces. A measurement is the median of its batches; each round measures every',
  'cell twice in random order after a round that does not count. Not counted: batches in which a',
  'packet was missing or late, and batches in which the thread lost its CPU. Not subtracted: the',
  'clock, two readings a batch. bytes: inner packets that a call carries, with their headers. The',
  'buffer in user space is always the same, so in the cache. Large calls are UDP trains: UDP_SEGMENT,',
  'UDP_GRO, USO on the TUN; they exist with offload only. Checksum: who takes care of that of the',
  'datagram: the kernel in software; none: there is none; or, with offload, the device. Each',
  'round has a line through its sizes, by least squares of relative deviations; a and b are the',
  "medians of the rounds' lines; off the line: the greatest deviation of a size's median, which with",
  'trains shows where the first caches end.',
  ...wrap(SPREAD_METHOD).split('\n'),
] as const;

type Row = readonly string[];

const SIZE_TITLE = 'bytes';

export function renderCopiesText(result: CopiesResult): string {
  return [
    ...textFacts(copiesFacts(result)),
    '',
    ...METHOD,
    '',
    ...tables(result).map(textTable),
    CONTENTS_TITLE,
    ...contents().map(([title, a, b]) => `  ${title}\n    a: ${a}\n    b: ${b}`),
    '',
  ].join('\n');
}

export function renderCopiesMarkdown(result: CopiesResult): string {
  const contentsTable: ReportTable = {
    title: CONTENTS_TITLE,
    columns: ['crossing', 'a, the price of crossing', 'b, the price a byte'],
    rows: contents(),
    left: ['a, the price of crossing', 'b, the price a byte'],
  };
  return [
    ...markdownHead('The price of each crossing'),
    ...METHOD,
    '',
    ...markdownFacts(copiesFacts(result)),
    '',
    ...[...tables(result), contentsTable].flatMap((table) => [...markdownTable(table), '']),
  ].join('\n');
}

/** A row a cell; the fit is that of the cell's line. */
export function renderCopiesCsv(result: CopiesResult): string {
  const head =
    'crossing,checksum,segmented,bytes,rounds,bounds,ns,ns_low,ns_high,again,again_low,again_high,packets,batches,lossy,interrupted,a_ns,a_low,a_high,b_ns_per_byte,b_low,b_high';
  const row = (names: Row, cell: Cell, fit: Fit | undefined): string =>
    [
      ...names,
      cell.bytes,
      cell.ns.count,
      boundsName(cell.ns),
      ...spread(cell.ns),
      ...spread(cell.again),
      cell.packets,
      cell.batches,
      cell.lossy,
      cell.interrupted,
      ...(fit === undefined ? Array<string>(6).fill('') : [...spread(fit.a), ...spread(fit.b)]),
    ].join(',');
  return [
    head,
    ...result.crossings.flatMap(({ crossing, checksum, segmented, cells, fit }) =>
      cells.map((cell) => row([crossing, checksum, String(segmented)], cell, fit)),
    ),
    ...result.references.flatMap(({ reference, cells, fit }) =>
      cells.map((cell) => row([reference, '', ''], cell, fit)),
    ),
    '',
  ].join('\n');
}

const CONTENTS_TITLE = 'What is in a and b';

function tables(result: CopiesResult): ReportTable[] {
  return [
    crossingTable(
      'Nanoseconds a call, and the line t = a + b x bytes',
      result.crossings.filter(({ segmented }) => !segmented),
    ),
    crossingTable(
      'With trains: one call carries many datagrams',
      result.crossings.filter(({ segmented }) => segmented),
    ),
    referenceTable(result),
  ];
}

function crossingTable(title: string, crossings: readonly CrossingResult[]): ReportTable {
  const sizes = crossings[0]?.cells.map(({ bytes }) => `${bytes} ${SIZE_TITLE}`) ?? [];
  const bounds = spreadOf(crossings.flatMap(({ fit }) => [fit.a, fit.b]));
  return {
    title,
    columns: [
      'crossing',
      'checksum',
      ...sizes,
      'a, ns',
      bounds.title,
      'b, ns/KiB',
      bounds.title,
      'off the line',
    ],
    rows: crossings.map(({ crossing, checksum, cells, fit: { a, b, worstDeviation } }) => [
      CROSSING_TEXTS[crossing].title,
      checksum,
      ...cells.map(({ ns }) => whole(ns.median)),
      whole(a.median),
      bounds.text(a, whole),
      perKib(b.median),
      bounds.text(b, perKib),
      `${(worstDeviation * 100).toFixed(1)} %`,
    ]),
    left: ['checksum'],
  };
}

function referenceTable(result: CopiesResult): ReportTable {
  const bounds = spreadOf(result.references.flatMap(({ cells }) => cells.map(({ ns }) => ns)));
  const rows = result.references.flatMap(({ reference, cells, fit }) =>
    cells.map((cell, index) => [
      REFERENCE_TEXTS[reference],
      cell.bytes === 0 ? '-' : `${cell.bytes} ${SIZE_TITLE}`,
      short(cell.ns.median),
      bounds.text(cell.ns, short),
      index === 0 && fit !== undefined ? perKib(fit.b.median) : '',
    ]),
  );
  return {
    title: 'Beside it',
    columns: ['what', 'size', 'ns', bounds.title, 'b, ns/KiB'],
    rows,
    left: ['size'],
  };
}

function contents(): [string, string, string][] {
  return Object.values(CROSSING_TEXTS).map(({ title, a, b }) => [title, a, b]);
}

/** Where and how the result came to be. */
export function copiesFacts({ environment, crossings, missing, noise }: CopiesResult): Fact[] {
  const cells = crossings.flatMap((one) => one.cells);
  const total = (value: (cell: Cell) => number): number =>
    cells.reduce((sum, cell) => sum + value(cell), 0);
  const percent = (part: number): string => `${(part * 100).toFixed(1)} %`;
  return [
    ...machineFacts(environment),
    ['MTU', `${environment.mtu} bytes in the overlay`],
    [
      'Rounds',
      `${environment.rounds}, interleaved, ${environment.batches} batches a measurement` +
        (environment.quick ? '; quick: few rounds, not to be quoted' : ''),
    ],
    [
      'Noise',
      `a cell measured again differs by ${percent(noise.median)} (median cell), ${percent(noise.p95)} (95th percentile)`,
    ],
    [
      'Not counted',
      `${total(({ lossy }) => lossy)} batches with a packet missing or late, ${total(({ interrupted }) => interrupted)} interrupted, of ${total(({ batches, lossy, interrupted }) => batches + lossy + interrupted)}`,
    ],
    ...missing.map(({ what, reason }): Fact => ['Missing on this kernel', `${what}: ${reason}`]),
  ];
}

function spread({ median, low, high }: Estimate): number[] {
  return [median, low, high];
}

function whole(value: number): string {
  return value.toFixed(0);
}

function short(value: number): string {
  return value < 100 ? value.toFixed(1) : value.toFixed(0);
}

function perKib(nsPerByte: number): string {
  return (nsPerByte * 1_024).toFixed(1);
}
