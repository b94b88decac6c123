/**
 * `flannelette bench copies` from end to end with the fewest rounds: every cell is there, what one
 * side of a crossing sends the other receives, and no number is missing. Times are not looked at.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import {
  CHECKSUMS,
  CROSSINGS,
  REFERENCES,
  type CopiesResult,
  type CrossingName,
} from '../../bench/copies/copies-result.js';

const MAIN = resolve(import.meta.dirname, '..', '..', 'dist', 'src', 'cli', 'main.js');
const SIZES = [64, 256, 512, 1_024, 1_472];
const TRAINS = [4_096, 8_192, 16_384, 32_768, 65_000];

const PAIRS: readonly (readonly [CrossingName, CrossingName])[] = [
  ['container-send', 'tun-read'],
  ['udp-send', 'udp-receive'],
  ['tun-write', 'container-receive'],
];

/** Nothing is asked of how long it takes, which a busy machine triples. */
const LIMIT_MS = 180_000;
const TIMEOUT = { timeout: LIMIT_MS + 10_000 };

it('measures every crossing, and every packet that is sent is received', TIMEOUT, async () => {
  const directory = await mkdtemp(join(tmpdir(), 'flannelette-copies-'));
  try {
    const csv = join(directory, 'copies.csv');
    const report = join(directory, 'copies.html');
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [
        MAIN,
        'bench',
        'copies',
        '--quick',
        '--rounds=1',
        '--json=-',
        `--csv=${csv}`,
        `--report=${report}`,
      ],
      { timeout: LIMIT_MS, maxBuffer: 8 * 1024 * 1024 },
    );
    const result = JSON.parse(stdout) as CopiesResult;
    expect(numbersMissing(result)).toEqual([]);

    const uso = !result.missing.some(({ what }) => what.includes('USO'));
    for (const crossing of CROSSINGS) {
      const own = result.crossings.filter((one) => one.crossing === crossing);
      for (const checksum of CHECKSUMS) {
        const one = own.find((way) => way.checksum === checksum && !way.segmented);
        expect(one?.cells.map(({ bytes }) => bytes)).toEqual(SIZES);
      }
      if (!uso && !['udp-send', 'udp-receive'].includes(crossing)) continue;
      const trains = own.filter(({ segmented }) => segmented);
      expect(trains.map(({ cells }) => cells.map(({ bytes }) => bytes))).toEqual([TRAINS]);
    }
    for (const reference of REFERENCES) {
      const cells = result.references.find((one) => one.reference === reference)?.cells;
      if (reference === 'wake-other-cpu' && result.environment.cpus === 1) continue;
      expect(cells).toHaveLength(reference.startsWith('memcpy') ? 10 : 1);
    }

    const packets = (crossing: CrossingName): number[] =>
      result.crossings
        .filter((one) => one.crossing === crossing)
        .flatMap(({ cells }) => cells.map((cell) => cell.packets));
    for (const [sender, receiver] of PAIRS) {
      expect(packets(sender).every((count) => count > 0)).toBe(true);
      expect(packets(receiver)).toEqual(packets(sender));
    }
    const cells = [...result.crossings, ...result.references].flatMap((one) => one.cells);
    const [, ...rows] = (await readFile(csv, 'utf8')).trimEnd().split('\n');
    expect(rows).toHaveLength(cells.length);
    expect(await readFile(report, 'utf8')).toContain('<figure id="path"');
  } finally {
    await rm(directory, { recursive: true });
  }
});

/** Paths of what should be a number and is none: JSON has null in its place. */
function numbersMissing(value: unknown, path = 'result'): string[] {
  if (value === null) return [path];
  if (typeof value !== 'object') return [];
  return Object.entries(value).flatMap(([key, inner]) => numbersMissing(inner, `${path}.${key}`));
}
