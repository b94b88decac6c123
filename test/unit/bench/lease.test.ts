import { describe, expect, it } from 'vitest';
import { changesDue, planChanges } from '../../../bench/lease/changes.js';
import { publicationOf } from '../../../bench/lease/daemon.js';
import { PHASES, type LeaseRound, type StoreResult } from '../../../bench/lease/measure-store.js';
import {
  FAR,
  FIXED,
  GRANTS,
  grantOf,
  holderAt,
  initialLeases,
  keyAt,
  leaseFileText,
  NEAR,
  PROBE,
  SUBNETS,
} from '../../../bench/lease/network.js';
import { parseSeries, percentile } from '../../../bench/frame/ping.js';
import { parseCpuSeconds, parseMemory } from '../../../src/testbed/proc.js';
import { judgeLeases, summariseStore } from '../../../bench/lease/lease-summary.js';
import { renderLeaseMarkdown, renderLeaseText } from '../../../bench/lease/lease-text.js';
import { parseLeaseDocument, serializeDocument } from '../../../src/lease/file/file-format.js';

describe('the network', () => {
  it('has every subnet leased, the hosts in the second and the last', () => {
    const leases = initialLeases();
    expect(leases.size).toBe(SUBNETS);
    expect(leases.get('10.0.1.0-24')).toBe(NEAR.address);
    expect(leases.get('10.255.255.0-24')).toBe(FAR.address);
    expect(FAR.containerAddress).toBe('10.255.255.3');
    expect(new Set(leases.values()).size).toBe(SUBNETS);
  });

  it('has the lease file a daemon would write', () => {
    const text = leaseFileText(initialLeases(), '2026-11-22T00:00:00.000Z');
    const document = parseLeaseDocument(text);
    expect(document.leases.size).toBe(SUBNETS);
    expect(document.rejected).toEqual([]);
    expect(document.leases.get('10.0.1.0-24')?.expiresAt).toBeUndefined();
    expect(serializeDocument(document.raw)).toBe(text);
  });

  it('spreads the leases over the grants', () => {
    expect(grantOf(keyAt(0))).toBe('1');
    expect(grantOf(keyAt(64))).toBe('2');
    expect(grantOf(keyAt(SUBNETS - 1))).toBe(String(GRANTS));
  });
});

describe('a plan of changes', () => {
  it.each([2, 3, 17, 5_000])('of %i ends with every lease there and the probe last', (count) => {
    const changes = planChanges(count, 7);
    expect(changes).toHaveLength(count);
    expect(changes[0]).toEqual({ key: keyAt(PROBE), holder: undefined });
    expect(changes.at(-1)?.key).toBe(keyAt(PROBE));
    const leases = initialLeases();
    for (const { key, holder } of changes) {
      if (holder === undefined) expect(leases.delete(key)).toBe(true);
      else leases.set(key, holder);
      if (changes.at(-1)?.holder !== holder) expect(leases.has(keyAt(PROBE))).toBe(false);
    }
    expect(leases.size).toBe(SUBNETS);
    for (const index of FIXED) {
      if (index !== PROBE) expect(leases.get(keyAt(index))).toBe(holderAt(index, 0));
    }
  });

  it('changes holders, deletes and brings back', () => {
    const changes = planChanges(10_000, 3);
    const deleted = changes.filter(({ holder }) => holder === undefined).length;
    expect(deleted).toBeGreaterThan(700);
    expect(deleted).toBeLessThan(1_300);
  });

  it('is the same for the same seed', () => {
    expect(planChanges(500, 5)).toEqual(planChanges(500, 5));
    expect(planChanges(500, 5)).not.toEqual(planChanges(500, 6));
  });

  it('needs a probe to take away and bring back', () => {
    expect(() => planChanges(1, 1)).toThrow(RangeError);
  });
});

describe('the pace', () => {
  it.each([
    [1, 0, 0],
    [1, 4.9, 4],
    [1, 999.99, 999],
    [1, 20_000, 10_000],
    [100, 99, 0],
    [100, 100, 100],
    [100, 1_050, 1_000],
    [100, 20_000, 10_000],
  ])('in steps of %i makes after %d ms %i changes', (perStep, elapsedMs, due) => {
    expect(changesDue({ perSecond: 1_000, perStep, count: 10_000 }, elapsedMs)).toBe(due);
  });
});

describe('readings', () => {
  it('of memory and CPU time', () => {
    expect(parseMemory('Name:\tnode\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n')).toEqual({
      rss: 2 ** 20,
      peak: 2 ** 21,
    });
    expect(() => parseMemory('Name:\tnode\n')).toThrow('VmRSS');
    const stat = '7 (a (b) c) S 1 1 1 0 -1 0 0 0 0 0 250 50 0 0 20 0 11 0 100';
    expect(parseCpuSeconds(stat)).toBe(3);
  });

  it('of every round trip', () => {
    const output = [
      '64 bytes from 10.255.255.3: icmp_seq=1 ttl=62 time=0.250 ms',
      'no answer yet for icmp_seq=2',
      '64 bytes from 10.255.255.3: icmp_seq=3 ttl=62 time=12.5 ms',
      '3 packets transmitted, 2 received, 33% packet loss, time 20ms',
    ].join('\n');
    expect(parseSeries(output)).toEqual({ sent: 3, roundTrips: [0.25, 12.5] });
    expect(() => parseSeries('ping: connect: Network is unreachable')).toThrow('no summary');
  });

  it('of percentiles, by nearest rank', () => {
    const values = Array.from({ length: 200 }, (_, index) => 200 - index);
    expect(percentile(values, 0.99)).toBe(198);
    expect(percentile(values, 1)).toBe(200);
    expect(percentile([5], 0.01)).toBe(5);
    expect(() => percentile([], 0.5)).toThrow(RangeError);
  });

  it('of the moment a table was published', () => {
    const line = (time: number, routes: number): string =>
      JSON.stringify({ level: 20, time, routes, msg: 'routes published' });
    const log = `4,"msg":"cut"}\n${line(1, 9)}\n${line(5, 8)}\n${line(7, 9)}\n${line(8, 9)}\n`;
    expect(publicationOf(log, 9, 2)).toBe(7);
    expect(publicationOf(log, 9, 9)).toBeUndefined();
  });
});

describe('the report', () => {
  const MEMORY = { rss: 100e6, peak: 150e6 };
  const round = (changing: number, base = 1): LeaseRound =>
    Object.fromEntries(
      PHASES.map((phase) => [
        phase,
        {
          medianMs: phase === 'changing' ? changing : base,
          p99Ms: 10 * base,
          sent: 100,
          lost: 0,
          cpu: 0.1,
          changesPerSecond: phase === 'quiet' ? 0 : 1_000,
          lagMs: phase === 'changing' ? 300 : undefined,
          rss: 100e6,
        },
      ]),
    ) as LeaseRound;
  const result = (more: Partial<StoreResult> = {}): StoreResult => ({
    store: 'etcd',
    how: 'one by one',
    starts: {
      empty: [{ readyMs: 900, memory: MEMORY }],
      full: [2_000, 3_000].map((ms) => ({ readyMs: ms, forwardsMs: ms + 5, memory: MEMORY })),
      remembered: [],
    },
    rounds: [round(1), round(2.1, 2), round(1.04)],
    memory: MEMORY,
    differences: 0,
    ...more,
  });
  const met = (more: Partial<StoreResult>): boolean[] =>
    judgeLeases(summariseStore(result(more))).map((target) => target.met);

  it('judges ratios by the median of the rounds, memory and sync by the worst', () => {
    expect(met({})).toEqual([true, true, true, true, true, true]);
    expect(met({ rounds: [round(1.2)] })[3]).toBe(false);
    expect(met({ memory: { rss: 100e6, peak: 251e6 } })[1]).toBe(false);
    expect(met({ differences: 1 })[2]).toBe(false);
    const slow = { readyMs: 9_000, forwardsMs: 10_001, memory: MEMORY };
    expect(met({ starts: { empty: [], full: [], remembered: [slow] } })[0]).toBe(false);
  });

  it('says where it was measured, and each number once, as text and as Markdown', () => {
    const environment = {
      date: '2026-11-21',
      commit: 'abc',
      command: 'npm run bench:lease',
      kernel: '6.18',
      node: 'v20',
      cpu: 'EPYC',
      cpus: 2,
      starts: 2,
      rounds: 3,
      seconds: 10,
      busyBefore: 0,
      changesPerSecond: 1_000,
    };
    const summary = summariseStore(result());
    const targets = judgeLeases(summary);
    for (const text of [
      renderLeaseText(environment, [summary], targets),
      renderLeaseMarkdown(environment, [summary], targets),
    ]) {
      for (const part of ['2026-11-21', '6.18', '2 x EPYC', 'npm run bench:lease', 'met: etcd']) {
        expect(text).toContain(part);
      }
      expect(text).toContain('changing / control');
      expect(text).toContain('2.50 s');
      expect(text).not.toContain('NaN');
    }
  });
});
