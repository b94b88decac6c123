/** The figures of `flannelette bench copies`. */
import type { Estimate } from '../frame/stats.js';
import {
  CHECKSUMS,
  CROSSINGS,
  type ChecksumWay,
  type CopiesResult,
  type CrossingName,
  type CrossingResult,
} from '../copies/copies-result.js';
import {
  copiesFacts,
  CROSSING_TEXTS,
  METHOD,
  REFERENCE_TEXTS,
  renderCopiesCsv,
} from '../copies/copies-text.js';
import { spreadOf, type Spread } from '../frame/spread.js';
import { fixed, withDigits, type ReportTable } from '../frame/table.js';
import { intervalPanels, linePanels, stackedBars, type LineSeries } from './chart.js';
import type { Figure, Section } from './markup.js';
import { drawPath } from './path.js';
import { SERIES } from './theme.js';

/** The crossings of a packet on its way; udp-send-device is a part of udp-send. */
const PATH: readonly CrossingName[] = CROSSINGS.filter((name) => name !== 'udp-send-device');

const CHECKSUM_TEXTS: Readonly<Record<ChecksumWay, string>> = {
  software: 'checksum in software',
  none: 'no checksum',
  offload: 'checksum left to the device',
};

const NOTHING = { median: NaN, low: NaN, high: NaN, count: 0 };

/** Told apart without colours, too: the last two are a cross and a triangle on its tip. */
const SYMBOLS = [
  'circle',
  'rect',
  'triangle',
  'diamond',
  'path://M4 0H7V4H11V7H7V11H4V7H0V4H4Z',
  'path://M0 0H10L5 10Z',
] as const;

export function copiesSection(result: CopiesResult): Section {
  return {
    id: 'copies',
    title: 'Each crossing of the kernel, alone',
    facts: copiesFacts(result),
    tables: [],
    method: METHOD.join(' '),
    figures: [
      ...pathFigure(result),
      ...waysFigure(result),
      ...fixedFigure(result),
      ...sizesFigure(result),
      ...checksumsFigure(result),
      ...trainsFigure(result),
      ...referencesFigure(result),
    ],
    downloads: [
      { name: 'copies.csv', type: 'text/csv', text: renderCopiesCsv(result) },
      { name: 'copies.json', type: 'application/json', text: JSON.stringify(result) },
    ],
  };
}

function pathFigure(result: CopiesResult): Figure[] {
  const path = wholePath(result);
  if (path === undefined) return [];
  const { checksum, bytes } = path;
  const steps = path.crossings.map(({ crossing, cells, fit }) => ({
    ...CROSSING_TEXTS[crossing],
    ns: cells.at(-1)?.ns ?? NOTHING,
    byteNs: fit.b.median * bytes,
  }));
  const total = fixed(sum(steps.map(({ ns }) => ns.median)), 0);
  const bounds = spreadOf(steps.map(({ ns }) => ns));
  const what = `a packet of ${bytes} bytes, ${CHECKSUM_TEXTS[checksum]}`;
  return [
    {
      id: 'path',
      title: `The path of a packet: six crossings, six copies, ${total} ns`,
      svg: drawPath(steps.map(({ title, ns, byteNs }) => ({ title, ns: ns.median, byteNs }))),
      label: `Diagram of the path from container-1 through docker0, flannel0, the daemon and eth0 of host 1 over the wire to eth0, the daemon, flannel0 and docker0 of host 2 and container-2. The crossings of the border between user space and kernel, in ns: ${enumerate(steps.map(({ title, ns }) => [title, ns.median]))}. Together ${total} ns.`,
      caption: `Each arrow through the dashed border is one system call and one copy of the packet. Numbers: ${what}, medians; bytes: what of it grows with the size, by the fitted line. The kernel's work up to the next queue is in the call that causes it. Wake-ups of the receiver are not in it.`,
      tables: [
        {
          title: `The crossings of ${what}`,
          columns: ['crossing', 'ns', bounds.title, 'copies', 'for the bytes, ns', 'made of'],
          left: ['made of'],
          rows: steps.map(({ title, a, b, ns, byteNs }) => [
            title,
            fixed(ns.median, 0),
            bounds.text(ns, withDigits(0)),
            '1',
            fixed(byteNs, 0),
            `${a}; for the bytes: ${b}`,
          ]),
        },
      ],
    },
  ];
}

interface Way {
  readonly title: string;
  /** Nanoseconds of one packet at each crossing of the path. */
  readonly ns: readonly number[];
}

function waysFigure(result: CopiesResult): Figure[] {
  const ways = waysOf(result);
  if (ways.length === 0) return [];
  const titles = PATH.map((crossing) => CROSSING_TEXTS[crossing].title);
  return [
    {
      id: 'ways',
      title: 'What a packet pays, crossing by crossing',
      svg: stackedBars({
        categories: ways.map(({ title }) => title),
        series: titles.map((name, index) => ({
          name,
          color: SERIES[index] ?? '',
          values: ways.map(({ ns }) => ns[index]),
        })),
        unit: 'ns for one packet',
        digits: 0,
      }),
      label: `Stacked bars of the nanoseconds that a packet costs at all six crossings: ${enumerate(ways.map(({ title, ns }) => [title, sum(ns)]))}.`,
      caption:
        'The number behind a bar is the sum. A packet in a train has its share, by bytes, of a call that carries the whole train: UDP_SEGMENT, UDP_GRO, USO on the TUN, as mode offload uses them.',
      tables: [
        {
          title: 'Nanoseconds for one packet, medians',
          columns: ['packet', ...titles, 'sum'],
          rows: ways.map(({ title, ns }) => [
            title,
            ...ns.map((value) => fixed(value, 0)),
            fixed(sum(ns), 0),
          ]),
        },
      ],
    },
  ];
}

/** The smallest and the largest packet in each way, and the largest in the shortest and longest train. */
function waysOf(result: CopiesResult): Way[] {
  const way = (
    own: readonly CrossingResult[] | undefined,
    place: number,
    title: (bytes: number) => string,
    packet?: number,
  ): Way[] => {
    if (own === undefined) return [];
    const cells = own.flatMap(({ cells }) => cells.at(place) ?? []);
    const bytes = cells[0]?.bytes ?? NaN;
    const share = packet === undefined ? 1 : packet / bytes;
    return [{ title: title(bytes), ns: cells.map(({ ns }) => ns.median * share) }];
  };
  const single = [0, -1].flatMap((place) =>
    CHECKSUMS.flatMap((checksum) =>
      way(
        pathOf(result, checksum, false),
        place,
        (bytes) => `${bytes} bytes, ${CHECKSUM_TEXTS[checksum]}`,
      ),
    ),
  );
  const packet = largest(result.crossings.filter(({ segmented }) => !segmented));
  const trains = [0, -1].flatMap((place) =>
    way(
      pathOf(result, 'offload', true),
      place,
      (bytes) => `${packet} bytes in a train of ${bytes}`,
      packet,
    ),
  );
  return [...single, ...trains];
}

function fixedFigure(result: CopiesResult): Figure[] {
  const path = wholePath(result);
  if (path === undefined) return [];
  const { checksum, bytes, crossings: own } = path;
  const titles = own.map(({ crossing }) => CROSSING_TEXTS[crossing].title);
  const a = own.map(({ fit }) => fit.a.median);
  const b = own.map(({ fit }) => fit.b.median * bytes);
  return [
    {
      id: 'fixed',
      title: 'The crossing against the copy',
      svg: stackedBars({
        categories: titles,
        series: [
          { name: 'a: the price of crossing', color: SERIES[0] ?? '', values: a },
          { name: `b x ${bytes} bytes: the price of the bytes`, color: SERIES[1] ?? '', values: b },
        ],
        unit: `ns a call, packet of ${bytes} bytes`,
        digits: 0,
      }),
      label: `Stacked bars: of each call what a crossing costs whatever it carries, and what ${bytes} bytes add. ${own.map((_, index) => `${titles[index]}: ${fixed(a[index] ?? NaN, 0)} ns and ${fixed(b[index] ?? NaN, 0)} ns`).join('; ')}.`,
      caption: `By the fitted lines t = a + b x bytes of single packets, ${CHECKSUM_TEXTS[checksum]}.`,
      tables: [fitTable('The fitted lines', own)],
    },
  ];
}

function sizesFigure(result: CopiesResult): Figure[] {
  const path = wholePath(result);
  if (path === undefined) return [];
  const { checksum, crossings: own } = path;
  return [
    linesFigure(own, {
      id: 'sizes',
      title: 'Cost against size, single packets',
      label: `Lines of the time of a call over the size of the packet, for each crossing. ${fitWords(own)}.`,
      caption: `Points: medians with ${boundsOf(own).plural}. Lines: t = a + b x bytes. One packet a call, ${CHECKSUM_TEXTS[checksum]}.`,
    }),
  ];
}

/** All crossings in one panel, from zero. */
function linesFigure(
  own: readonly CrossingResult[],
  words: Pick<Figure, 'id' | 'title' | 'label' | 'caption'>,
): Figure {
  return {
    ...words,
    svg: linePanels({
      panels: [{ title: '', series: own.map(lineOf) }],
      columns: 1,
      height: 380,
      xTitle: 'bytes',
      yTitle: 'ns a call',
      fromZero: true,
    }),
    tables: [cellTable('Nanoseconds a call', own), fitTable('The fitted lines', own)],
  };
}

function checksumsFigure(result: CopiesResult): Figure[] {
  const own = result.crossings.filter(
    ({ crossing, segmented }) => !segmented && PATH.includes(crossing),
  );
  if (own.length === 0) return [];
  const panels = PATH.map((crossing) => ({
    title: CROSSING_TEXTS[crossing].title,
    series: own
      .filter((one) => one.crossing === crossing)
      .map((one) => ({ ...lineOf(one), ...checksumStyle(one.checksum) })),
  }));
  return [
    {
      id: 'checksums',
      title: 'Cost against size, by who takes care of the checksum',
      svg: linePanels({
        panels,
        columns: 3,
        height: 170,
        xTitle: 'bytes',
        yTitle: 'ns a call',
        fromZero: false,
      }),
      label: `Six panels, one for each crossing: lines of the time of a call over the size of the packet, by the way with checksums. ${fitWords(own)}.`,
      caption: `The vertical axes do not begin at 0 and differ, so that the slopes can be seen. Points: medians with ${boundsOf(own).plural}. Lines: t = a + b x bytes.`,
      tables: [cellTable('Nanoseconds a call', own), fitTable('The fitted lines', own)],
    },
  ];
}

function trainsFigure(result: CopiesResult): Figure[] {
  const own = result.crossings.filter(
    ({ crossing, segmented }) => segmented && PATH.includes(crossing),
  );
  if (own.length === 0) return [];
  return [
    linesFigure(own, {
      id: 'trains',
      title: 'Cost against size, trains of packets',
      label: `Lines of the time of a call over the bytes of the train that it carries, for each crossing. ${fitWords(own)}.`,
      caption: `One call carries many packets. Points: medians with ${boundsOf(own).plural}. Lines: t = a + b x bytes; where the points leave them, the train no longer fits the first caches.`,
    }),
  ];
}

function referencesFigure({ references, crossings }: CopiesResult): Figure[] {
  const packet = largest(crossings.filter(({ segmented }) => !segmented));
  const shown = references.flatMap(({ reference, cells }) =>
    cells
      .filter(({ bytes }) => bytes === 0 || bytes === packet)
      .map(({ bytes, ns }) => ({
        title: `${REFERENCE_TEXTS[reference]}${bytes === 0 ? '' : `, ${bytes} bytes`}`,
        ns,
      })),
  );
  if (shown.length === 0) return [];
  const bounds = spreadOf(shown.map(({ ns }) => ns));
  const all = spreadOf(references.flatMap(({ cells }) => cells.map(({ ns }) => ns)));
  return [
    {
      id: 'references',
      title: 'Beside it: an empty system call, memcpy, wake-ups',
      svg: intervalPanels(
        shown.map(({ title }) => title),
        [
          {
            title: '',
            unit: 'ns, logarithmic',
            digits: 0,
            color: SERIES[0] ?? '',
            values: shown.map(({ ns }) => ns),
            logarithmic: true,
          },
        ],
      ),
      label: `Points on a logarithmic axis of nanoseconds: ${enumerate(shown.map(({ title, ns }) => [title, ns.median]))}.`,
      caption: `Medians with ${bounds.plural}. A wake-up is what a receiver that sleeps adds to a crossing.`,
      tables: [
        {
          title: 'Nanoseconds, all sizes',
          columns: ['what', 'bytes', 'ns', all.title],
          rows: references.flatMap(({ reference, cells }) =>
            cells.map(({ bytes, ns }) => [
              REFERENCE_TEXTS[reference],
              bytes === 0 ? '-' : `${bytes}`,
              fixed(ns.median, 1),
              all.text(ns, withDigits(1)),
            ]),
          ),
        },
      ],
    },
  ];
}

function lineOf({ crossing, cells, fit }: CrossingResult): LineSeries {
  const place = PATH.indexOf(crossing);
  return {
    name: CROSSING_TEXTS[crossing].title,
    color: SERIES[place] ?? '',
    symbol: SYMBOLS[place] ?? 'circle',
    points: cells.map(({ bytes, ns }) => ({ x: bytes, y: ns })),
    fit: { a: fit.a.median, b: fit.b.median },
  };
}

function checksumStyle(checksum: ChecksumWay): Pick<LineSeries, 'name' | 'color' | 'symbol'> {
  const place = CHECKSUMS.indexOf(checksum);
  return {
    name: CHECKSUM_TEXTS[checksum],
    color: SERIES[place] ?? '',
    symbol: SYMBOLS[place] ?? 'circle',
  };
}

/** Single packets through all six crossings. */
interface WholePath {
  readonly checksum: ChecksumWay;
  /** The largest packet. */
  readonly bytes: number;
  readonly crossings: readonly CrossingResult[];
}

/** In the first way with checksums that has them all. */
function wholePath(result: CopiesResult): WholePath | undefined {
  for (const checksum of CHECKSUMS) {
    const crossings = pathOf(result, checksum, false);
    if (crossings !== undefined) return { checksum, bytes: largest(crossings), crossings };
  }
  return undefined;
}

/** All six crossings, in their order. */
function pathOf(
  { crossings }: CopiesResult,
  checksum: ChecksumWay,
  segmented: boolean,
): CrossingResult[] | undefined {
  const own = crossings.filter(
    (one) =>
      one.checksum === checksum && one.segmented === segmented && PATH.includes(one.crossing),
  );
  return own.length === PATH.length ? own : undefined;
}

function largest(crossings: readonly CrossingResult[]): number {
  return Math.max(...crossings.flatMap(({ cells }) => cells.map(({ bytes }) => bytes)));
}

function cellTable(title: string, own: readonly CrossingResult[]): ReportTable {
  const all = own.flatMap(({ cells }) => cells.map(({ bytes }) => bytes));
  const sizes = [...new Set(all)].sort((a, b) => a - b);
  const bounds = boundsOf(own);
  return {
    title: `${title}, medians with ${bounds.plural}`,
    columns: ['crossing', 'checksum', ...sizes.map((bytes) => `${bytes} bytes`)],
    left: ['checksum'],
    rows: own.map(({ crossing, checksum, cells }) => [
      CROSSING_TEXTS[crossing].title,
      checksum,
      ...sizes.map((size) => {
        const ns = cells.find(({ bytes }) => bytes === size)?.ns;
        return ns === undefined ? '-' : inCell(ns, bounds, withDigits(0));
      }),
    ]),
  };
}

function fitTable(title: string, own: readonly CrossingResult[]): ReportTable {
  const bounds = spreadOf(own.flatMap(({ fit: { a, b } }) => [a, b]));
  return {
    title: `${title}, t = a + b x bytes, with ${bounds.plural}`,
    columns: ['crossing', 'checksum', 'a, ns', 'b, ns/KiB', 'off the line'],
    left: ['checksum'],
    rows: own.map(({ crossing, checksum, fit: { a, b, worstDeviation } }) => [
      CROSSING_TEXTS[crossing].title,
      checksum,
      inCell(a, bounds, withDigits(0)),
      inCell(b, bounds, (perByte) => fixed(perByte * 1_024, 1)),
      `${fixed(worstDeviation * 100, 1)} %`,
    ]),
  };
}

function boundsOf(own: readonly CrossingResult[]): Spread {
  return spreadOf(own.flatMap(({ cells }) => cells.map(({ ns }) => ns)));
}

/** A median with its bounds, which the table's title names. */
function inCell(one: Estimate, bounds: Spread, format: (value: number) => string): string {
  return `${format(one.median)} (${bounds.text(one, format)})`;
}

function fitWords(own: readonly CrossingResult[]): string {
  return own
    .map(
      ({ crossing, checksum, fit: { a, b } }) =>
        `${CROSSING_TEXTS[crossing].title}, ${CHECKSUM_TEXTS[checksum]}: ${fixed(a.median, 0)} ns and ${fixed(b.median * 1_024, 1)} ns per KiB`,
    )
    .join('; ');
}

function enumerate(values: readonly (readonly [name: string, ns: number])[]): string {
  return values.map(([name, ns]) => `${name}: ${fixed(ns, 0)}`).join('; ');
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
