/** What a soak is judged by, of results made by hand. */
import { describe, expect, it } from 'vitest';
import { FAULTS } from '../../../bench/soak/faults.js';
import type { Sample } from '../../../bench/soak/observed.js';
import { longestSilence, readAnswers } from '../../../bench/soak/silence.js';
import { judge, slope, type Judged } from '../../../bench/soak/verdict.js';

const MIB = 1_048_576;
const SECONDS = 3_600;

function soak(change: (sample: Sample) => Partial<Sample> = () => ({})): Judged {
  const samples = Array.from({ length: SECONDS / 10 }, (_, index) =>
    ['host-1', 'host-2'].map((host): Sample => {
      const sample = {
        ...{ at: index * 10, host, pid: 7, uptimeSeconds: 100, mode: 'offload', ready: true },
        ...{ rss: 60 * MIB, descriptors: 35, threads: 15 },
        ...{ packets: index, drops: 0, dataPlaneRestarts: 0 },
      };
      return { ...sample, ...change(sample) };
    }),
  ).flat();
  return {
    seconds: SECONDS,
    samples,
    trials: FAULTS.map(({ id }) => ({ fault: id, at: 1, silenceSeconds: 0.1, problem: undefined })),
    end: {
      tcp: { gbps: 0.2, retransmits: 0, connections: 4 },
      udp: { sent: 10, arrived: 10 },
      pings: { sent: 10, received: 10 },
      broken: [],
      replaced: 1,
      codes: [0, 0],
      left: [],
    },
  };
}

const failed = (judged: Judged): string[] =>
  judge(judged).flatMap(({ met, what }) => (met ? [] : what));

describe('the verdict', () => {
  it('is met by a flat run', () => {
    expect(failed(soak())).toEqual([]);
  });

  it.each([
    ['memory', (at: number) => ({ rss: (60 + at / 600) * MIB }), /^RSS of the daemon of host-1/],
    ['descriptors', (at: number) => ({ descriptors: 35 + Math.floor(at / 600) }), /^descriptors/],
    ['threads', (at: number) => ({ threads: 15 + Math.floor(at / 900) }), /^threads/],
    ['another process', (at: number) => ({ pid: at < 1_800 ? 7 : 8 }), /^host-1 has one daemon/],
  ])('finds %s that grow', (_, change, what) => {
    const found = failed(soak(({ at, host }) => (host === 'host-1' ? change(at) : {})));
    expect(found).toEqual([expect.stringMatching(what)]);
  });

  it('finds silence, what did not come back, lost connections and leftovers', () => {
    const fine = soak();
    const [first, second, ...others] = fine.trials;
    if (first === undefined || second === undefined) throw new Error('no trials');
    const trials = [{ ...first, silenceSeconds: 99 }, { ...second, problem: 'gone' }, ...others];
    const end = { ...fine.end, broken: ['TCP: reset'], left: ['host-1: flannel0'] };
    expect(failed({ ...fine, trials, end })).toHaveLength(4);
  });

  it('finds a fault that was never tried', () => {
    const fine = soak();
    expect(failed({ ...fine, trials: fine.trials.slice(1) })).toHaveLength(1);
  });
});

it('the slope is that of the line', () => {
  expect(slope([0, 1, 2].map((x) => [x, 3 * x + 1]))).toBeCloseTo(3);
  expect(slope([[1, 1]])).toBe(0);
});

it('silence is the longest gap, from the beginning to the end', () => {
  const line = (at: string): string => `[${at}] 64 bytes from 100.96.2.3: icmp_seq=1 ttl=60\n`;
  const answers = readAnswers(`${line('10.5')}From 100.96.1.1 icmp_seq=2 Net\n${line('12.0')}`);
  expect(answers).toEqual([10.5, 12]);
  expect(longestSilence(answers, 10, 12.5)).toBeCloseTo(1.5);
  expect(longestSilence([], 10, 12.5)).toBeCloseTo(2.5);
});
