/** The result of `flannelette bench copies` from made-up samples. */
import { describe, expect, it } from 'vitest';
import { fitRounds, leastSquares } from '../../../bench/copies/fit.js';
import { parseLine, type CopiesLine } from '../../../bench/copies/lines.js';
import { summariseCopies } from '../../../bench/copies/copies-summary.js';
import { gather, parseSample } from '../../../bench/micro/samples.js';
import type { CopiesEnvironment } from '../../../bench/copies/copies-result.js';
import {
  renderCopiesCsv,
  renderCopiesMarkdown,
  renderCopiesText,
} from '../../../bench/copies/copies-text.js';

const SIZES = [64, 256, 512, 1_024, 1_472];

describe('the line through sizes', () => {
  it('is found exactly where there is one', () => {
    const { a, b } = leastSquares(
      SIZES,
      SIZES.map((size) => 400 + 0.02 * size),
    );
    expect(a).toBeCloseTo(400, 6);
    expect(b).toBeCloseTo(0.02, 9);
  });

  it('weighs relative deviations: a large size that is off does not move a far', () => {
    const times = [1_000, 1_100, 1_200, 20_000];
    const { a, b } = leastSquares([0, 100, 200, 10_000], times);
    expect(a).toBeGreaterThan(900);
    expect(a).toBeLessThan(1_000);
    expect(b).toBeGreaterThan(1);
  });

  it('refuses what has no line', () => {
    expect(() => leastSquares([1, 1], [2, 3])).toThrow('two different x');
    expect(() => leastSquares([1, 2], [2])).toThrow('an x and a y');
    expect(() => leastSquares([1, 2], [2, 0])).toThrow('above 0');
    expect(() => fitRounds(SIZES, [])).toThrow('a round');
  });

  it('has intervals that hold the truth, wider with more noise, the same each time', () => {
    const rounds = (noise: number): number[][] =>
      Array.from({ length: 31 }, (_, round) =>
        SIZES.map((size, index) => {
          const turn = Math.sin(round * 12.9898 + index * 78.233);
          return (500 + 0.05 * size) * (1 + noise * turn);
        }),
      );
    const calm = fitRounds(SIZES, rounds(0.01));
    const loud = fitRounds(SIZES, rounds(0.1));
    for (const fit of [calm, loud]) {
      expect(fit.a.low).toBeLessThanOrEqual(500);
      expect(fit.a.high).toBeGreaterThanOrEqual(500);
      expect(fit.b.low).toBeLessThanOrEqual(0.05);
      expect(fit.b.high).toBeGreaterThanOrEqual(0.05);
    }
    expect(loud.a.high - loud.a.low).toBeGreaterThan(3 * (calm.a.high - calm.a.low));
    expect(fitRounds(SIZES, rounds(0.1))).toEqual(loud);
  });

  it('tells how far the sizes are off it', () => {
    const straight = fitRounds([1, 2, 3], [[10, 20, 30]]);
    expect(straight.worstDeviation).toBeCloseTo(0, 9);
    expect(fitRounds([1, 2, 3], [[10, 40, 30]]).worstDeviation).toBeGreaterThan(0.2);
  });
});

const sent = {
  crossing: 'udp-send',
  checksum: 'software',
  segmented: false,
  bytes: 64,
  round: 1,
  again: false,
  ns: 2_000,
  packets: 640,
  batches: 9,
  lossy: 0,
  interrupted: 1,
};

describe('lines of the native program', () => {
  it('are told apart', () => {
    expect(parseLine(JSON.stringify(sent))).toEqual({ type: 'crossing', ...sent });
    expect(parseLine('{"missing":"USO","reason":"Invalid argument"}')).toEqual({
      type: 'missing',
      what: 'USO',
      reason: 'Invalid argument',
    });
    const reference = { bytes: 0, round: 2, again: true, ns: 90, batches: 10, interrupted: 0 };
    expect(parseLine(JSON.stringify({ reference: 'null-syscall', ...reference }))).toEqual({
      type: 'reference',
      reference: 'null-syscall',
      ...reference,
    });
  });

  it.each([
    ['no JSON', '{"crossing":'],
    ['another crossing', JSON.stringify({ ...sent, crossing: 'udp' })],
    ['another way with checksums', JSON.stringify({ ...sent, checksum: 'hardware' })],
    ['no number', JSON.stringify({ ...sent, ns: 'fast' })],
    ['a field less', JSON.stringify({ ...sent, again: undefined })],
    ['null', 'null'],
  ])('are refused with the line: %s', (_name, text) => {
    expect(() => parseLine(text)).toThrow('not a line of flannelette-copies');
  });
});

const ENVIRONMENT: CopiesEnvironment = {
  date: '2026-01-02',
  commit: 'abc',
  command: 'flannelette bench copies',
  kernel: '6.1',
  node: 'v20',
  cpu: 'CPU',
  cpus: 2,
  mtu: 1_472,
  busyBefore: 0.01,
  rounds: 3,
  batches: 10,
  quick: false,
};

/** Three rounds of two crossings: udp-send costs 1000 + bytes, receive half; again 10 % more. */
function linesOf(): CopiesLine[] {
  const lines: CopiesLine[] = [];
  for (let round = 1; round <= 3; round += 1) {
    for (const bytes of SIZES) {
      for (const again of [false, true]) {
        const ns = (1_000 + bytes) * (again ? 1.1 : 1);
        const line = { ...sent, type: 'crossing', bytes, round, again } as const;
        lines.push({ ...line, crossing: 'udp-send', checksum: 'none', ns });
        lines.push({ ...line, crossing: 'udp-receive', checksum: 'none', ns: ns / 2 });
      }
    }
    for (const again of [false, true]) {
      lines.push({
        type: 'reference',
        reference: 'null-syscall',
        bytes: 0,
        round,
        again,
        ns: 90,
        batches: 10,
        interrupted: 0,
      });
    }
  }
  return lines;
}

describe('the summary', () => {
  it('has a cell a size, the mean of both measurements, and the noise between them', () => {
    const result = summariseCopies(ENVIRONMENT, linesOf());
    expect(result.crossings.map(({ crossing }) => crossing)).toEqual(['udp-send', 'udp-receive']);
    const [send] = result.crossings;
    expect(send?.cells.map(({ bytes }) => bytes)).toEqual(SIZES);
    expect(send?.cells[0]?.ns.median).toBeCloseTo(1_064 * 1.05, 6);
    expect(send?.cells[0]?.again.median).toBeCloseTo(1.1, 9);
    expect(send?.cells[0]).toMatchObject({ packets: 6 * 640, batches: 54, interrupted: 6 });
    expect(send?.fit.a.median).toBeCloseTo(1_050, 6);
    expect(send?.fit.b.median).toBeCloseTo(1.05, 9);
    expect(result.noise.median).toBeCloseTo(0.1, 9);
    expect(result.references).toMatchObject([{ reference: 'null-syscall', fit: undefined }]);
  });

  it('leaves a measurement without a batch that counts out, and the round out of the line', () => {
    const lines = linesOf().map((line) =>
      line.type === 'crossing' && line.round === 2 && line.bytes === 512 && line.again
        ? { ...line, ns: -1, batches: 0, lossy: 10 }
        : line,
    );
    const [send] = summariseCopies(ENVIRONMENT, lines).crossings;
    const cell = send?.cells.find(({ bytes }) => bytes === 512);
    expect(cell?.samples).toHaveLength(2);
    expect(cell?.lossy).toBe(10);
    expect(send?.cells[0]?.samples).toHaveLength(3);
    expect(send?.fit.a.median).toBeCloseTo(1_050, 6);
  });

  it('says which cell has no sample at all', () => {
    const lines = linesOf().map((line) =>
      line.type === 'crossing' && line.bytes === 512 ? { ...line, ns: -1 } : line,
    );
    expect(() => summariseCopies(ENVIRONMENT, lines)).toThrow('udp-send, checksum none, 512 bytes');
  });

  it('is rendered whole, in each form', () => {
    const missing: CopiesLine = { type: 'missing', what: 'USO', reason: 'Invalid argument' };
    const result = summariseCopies(ENVIRONMENT, [...linesOf(), missing]);
    for (const text of [renderCopiesText(result), renderCopiesMarkdown(result)]) {
      expect(text).toContain('3 UDP send');
      expect(text).toContain('1117');
      expect(text).toContain('USO: Invalid argument');
      expect(text).not.toContain('NaN');
      expect(text).not.toContain('undefined');
    }
    const [head = '', ...rows] = renderCopiesCsv(result).trimEnd().split('\n');
    expect(rows).toHaveLength(11);
    const columns = head.split(',').length;
    for (const row of rows) expect(row.split(',')).toHaveLength(columns);
    expect(rows[0]).toMatch(/^udp-send,none,false,64,3,min-max,1117\.2,/);
  });
});

describe('samples of the micro benchmarks', () => {
  it('are gathered by cell, sizes in their order', () => {
    const sample = (cell: string, value: number) =>
      parseSample(JSON.stringify({ group: 'g', cell, unit: 'ns', value }));
    expect(gather([sample('256 b', 1), sample('64 b', 2), sample('256 b', 3)])).toEqual([
      { group: 'g', cell: '64 b', unit: 'ns', values: [2] },
      { group: 'g', cell: '256 b', unit: 'ns', values: [1, 3] },
    ]);
  });

  it.each(['', '3', '{"group":"g"}', '{"group":"g","cell":"c","unit":"ns","value":null}'])(
    'are refused with the line: %j',
    (text) => {
      expect(() => parseSample(text)).toThrow('not a sample');
    },
  );
});
