/** From the native program's lines to the result: medians, their bounds, lines through the sizes. */
import { systemError } from '../../src/errors.js';
import { estimate, median } from '../frame/stats.js';
import { fitRounds } from './fit.js';
import {
  CHECKSUMS,
  CROSSINGS,
  REFERENCES,
  type Cell,
  type CopiesEnvironment,
  type CopiesResult,
  type CrossingResult,
  type Fit,
  type ReferenceResult,
} from './copies-result.js';
import type { CopiesLine, CrossingLine, ReferenceLine } from './lines.js';

type Line = CrossingLine | ReferenceLine;

export function summariseCopies(
  environment: CopiesEnvironment,
  lines: readonly CopiesLine[],
): CopiesResult {
  const crossings = crossingResults(lines.filter((line) => line.type === 'crossing'));
  const references = referenceResults(lines.filter((line) => line.type === 'reference'));
  const apart = [...crossings, ...references]
    .flatMap(({ cells }) => cells)
    .map(({ again }) => Math.abs(again.median - 1))
    .sort((a, b) => a - b);
  return {
    kind: 'copies',
    version: 2,
    environment,
    crossings,
    references,
    missing: lines
      .filter((line) => line.type === 'missing')
      .map(({ what, reason }) => ({ what, reason })),
    noise: {
      median: median(apart),
      p95: apart[Math.min(apart.length - 1, Math.floor(0.95 * apart.length))] ?? NaN,
    },
  };
}

function crossingResults(lines: readonly CrossingLine[]): CrossingResult[] {
  return CROSSINGS.flatMap((crossing) =>
    [false, true].flatMap((segmented) =>
      CHECKSUMS.flatMap((checksum) => {
        const own = lines.filter(
          (line) =>
            line.crossing === crossing &&
            line.checksum === checksum &&
            line.segmented === segmented,
        );
        if (own.length === 0) return [];
        const title = `${crossing}, checksum ${checksum}`;
        return [{ crossing, checksum, segmented, ...cellsAndFit(title, own) }];
      }),
    ),
  );
}

function referenceResults(lines: readonly ReferenceLine[]): ReferenceResult[] {
  return REFERENCES.flatMap((reference): ReferenceResult[] => {
    const own = lines.filter((line) => line.reference === reference);
    if (own.length === 0) return [];
    if (own.every(({ bytes }) => bytes === 0)) {
      return [{ reference, cells: [cellOf(reference, 0, own)], fit: undefined }];
    }
    return [{ reference, ...cellsAndFit(reference, own) }];
  });
}

function cellsAndFit(title: string, lines: readonly Line[]): { cells: Cell[]; fit: Fit } {
  const sizes = [...new Set(lines.map(({ bytes }) => bytes))].sort((a, b) => a - b);
  const cells = sizes.map((bytes) => cellOf(title, bytes, lines));
  const bySize = sizes.map((bytes) => byRound(lines.filter((line) => line.bytes === bytes)));
  const [first = new Map<number, Pair>()] = bySize;
  // A line needs all sizes of a round.
  const rounds = [...first.keys()]
    .map((round) => bySize.map((pairs) => pairs.get(round)))
    .filter((pairs) => pairs.every((pair) => pair !== undefined))
    .map((pairs) => pairs.map(meanOf));
  if (rounds.length === 0) throw systemError(`${title}: no round without disturbance; try again`);
  return { cells, fit: fitRounds(sizes, rounds) };
}

function cellOf(title: string, bytes: number, lines: readonly Line[]): Cell {
  const own = lines.filter((line) => line.bytes === bytes);
  const pairs = [...byRound(own).values()];
  if (pairs.length === 0) {
    throw systemError(`${title}, ${bytes} bytes: every measurement was disturbed; try again`);
  }
  const samples = pairs.map(meanOf);
  const sum = (value: (line: Line) => number): number =>
    own.reduce((total, line) => total + value(line), 0);
  return {
    bytes,
    ns: estimate(samples),
    again: estimate(pairs.map(([once, again]) => again / once)),
    samples,
    packets: sum((line) => (line.type === 'crossing' ? line.packets : 0)),
    batches: sum((line) => line.batches),
    lossy: sum((line) => (line.type === 'crossing' ? line.lossy : 0)),
    interrupted: sum((line) => line.interrupted),
  };
}

/** Both measurements of a round. */
type Pair = readonly [once: number, again: number];

/** Rounds in which both measurements have batches that count. */
function byRound(lines: readonly Line[]): Map<number, Pair> {
  const first = new Map<number, number>();
  const second = new Map<number, number>();
  for (const { ns, again, round } of lines) if (ns > 0) (again ? second : first).set(round, ns);
  const pairs = new Map<number, Pair>();
  for (const [round, once] of first) {
    const again = second.get(round);
    if (again !== undefined) pairs.set(round, [once, again]);
  }
  return pairs;
}

function meanOf(pair: Pair | undefined): number {
  return pair === undefined ? NaN : (pair[0] + pair[1]) / 2;
}
