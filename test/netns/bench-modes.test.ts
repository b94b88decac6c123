/**
 * `flannelette bench modes` from end to end with the fewest rounds: every metric is there, and those
 * that do not depend on how fast this machine is are what they must be.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import type { MetricKey } from '../../bench/overlays/metrics.js';
import type { OverlaysResult } from '../../bench/overlays/overlays-result.js';

const MAIN = resolve(import.meta.dirname, '..', '..', 'dist', 'src', 'cli', 'main.js');

it('measures a mode with ends and one without', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'flannelette-modes-'));
  try {
    const csv = join(directory, 'modes.csv');
    const flags = ['--modes=js,vxlan', '--rounds=1', '--seconds=1', '--json=-', `--csv=${csv}`];
    const { stdout, stderr } = await promisify(execFile)(
      process.execPath,
      [MAIN, 'bench', 'modes', ...flags],
      { timeout: 115_000, maxBuffer: 8 * 1024 * 1024 },
    );
    expect(stderr).toContain('round 1 of 1: js');
    const result = JSON.parse(stdout) as OverlaysResult;
    const modes = result.underlays[0]?.subjects ?? [];
    expect(modes.map(({ name }) => name)).toEqual(['js', 'vxlan']);
    const value = (mode: string, key: MetricKey): number =>
      modes.find(({ name }) => name === mode)?.values[key]?.value.median ?? NaN;

    // 4 streams are of `npm run bench` alone.
    for (const load of ['tcp', 'udp'] as const) {
      for (const name of ['js', 'vxlan'] as const) {
        expect(value(name, `${load}.packets`)).toBeGreaterThan(0);
        const parts = (['user', 'system', 'softirq', 'steal'] as const).map((part) =>
          value(name, `${load}.${part}`),
        );
        const sum = parts.reduce((total, part) => total + part, 0);
        expect(sum).toBeGreaterThan(0);
        expect(value(name, `${load}.busy`)).toBeCloseTo(sum, 3);
      }
      // A read and a send at one end, a receive and a write at the other.
      expect(value('js', `${load}.calls`)).toBeGreaterThanOrEqual(4);
      expect(value('js', `${load}.switches`)).toBeGreaterThan(0);
      expect(value('js', `${load}.copied`)).toBeGreaterThan(6);
      expect(value('vxlan', `${load}.calls`)).toBe(0);
      expect(value('vxlan', `${load}.switches`)).toBe(0);
    }
    // The sender's copy and the receiver's, who may be too slow for all that was carried to it.
    expect(value('vxlan', 'tcp.copied')).toBe(2);
    for (const name of ['js', 'vxlan'] as const) {
      const read = value(name, 'udp.read') / value(name, 'udp.packets');
      expect(read).toBeGreaterThan(0);
      expect(read).toBeLessThanOrEqual(1);
      // 28 bytes of headers with the 64 at each of the two ends' reads and writes.
      const ends = name === 'js' ? (4 * (64 + 28)) / 64 : 0;
      expect(value(name, 'udp.copied')).toBeGreaterThanOrEqual(0.99 * (1 + read + ends));
    }
    expect(value('js', 'rtt')).toBeGreaterThan(0);
    const perf = result.countedBy === 'perf';
    expect(result.missing.length === 0).toBe(perf);
    expect(Number.isFinite(value('js', 'udp.yields'))).toBe(perf);

    expect(value('js', 'tcp4.packets')).toBeNaN();

    const values = modes.flatMap((mode) => Object.keys(mode.values));
    const [, ...rows] = (await readFile(csv, 'utf8')).trimEnd().split('\n');
    expect(rows).toHaveLength(values.length);
  } finally {
    await rm(directory, { recursive: true });
  }
}, 120_000);
