/** The result of `flannelette bench modes` from made-up rounds. */
import { describe, expect, it } from 'vitest';
import { METRICS, isOfEnds, type Round } from '../../../bench/overlays/metrics.js';
import { modesRun } from '../../../bench/overlays/overlays.js';
import type {
  OverlaysEnvironment,
  OverlaysResult,
  SubjectResult,
} from '../../../bench/overlays/overlays-result.js';
import {
  noiseOf,
  summarise,
  type SubjectRounds,
} from '../../../bench/overlays/overlays-summary.js';
import { renderCsv, renderMarkdown, renderText } from '../../../bench/overlays/overlays-text.js';
import { MODE_NAMES, SUBJECTS } from '../../../bench/overlays/subjects.js';

const ENVIRONMENT: OverlaysEnvironment = {
  title: 'The modes, and what each costs a packet',
  date: '2026-01-02',
  commit: 'abc',
  command: 'flannelette bench modes',
  kernel: '6.1',
  node: 'v20',
  cpu: 'CPU',
  cpus: 2,
  rounds: 3,
  seconds: 2,
  underlayMtu: 1_500,
  congestion: 'cubic',
  packages: 'iperf3 3.12',
  busyBefore: 0.01,
  quick: false,
  repeated: [],
};

type ModeName = (typeof MODE_NAMES)[number];
const KERNEL_MODES: readonly string[] = ['vxlan', 'vxlan-again', 'host-gw'];
const STEP_KEYS = METRICS.map(({ key }) => key).filter((key) =>
  /^(tcp|udp)[.]|^rtt(P99)?$/.test(key),
);

/** Three rounds; every metric is `factor` times what it is in the kernel's. */
function roundsOf(name: ModeName, factor: number): SubjectRounds {
  const kernelOnly = KERNEL_MODES.includes(name);
  const round = (number: number): Round =>
    Object.fromEntries(
      STEP_KEYS.filter((key) => !kernelOnly || !(isOfEnds(key) || key.endsWith('.counting'))).map(
        (key) => [key, factor * number],
      ),
    );
  const what = `${name} itself`;
  return { name, what, mtu: 1_472, kernelOnly, rounds: [1, 2, 3].map(round) };
}

const ROUNDS = [
  roundsOf('js', 0.1),
  roundsOf('basic', 0.6),
  roundsOf('vxlan', 1),
  roundsOf('vxlan-again', 0.9),
  roundsOf('host-gw', 1.2),
];

function summariseModes(
  environment: OverlaysEnvironment,
  subjects: readonly SubjectRounds[],
  perfMissing: string | undefined,
): OverlaysResult {
  return summarise(environment, [{ underlay: 'offload', subjects }], perfMissing);
}

function modeOf({ underlays }: OverlaysResult, wanted: ModeName): SubjectResult {
  const found = underlays[0]?.subjects.find(({ name }) => name === wanted);
  if (found === undefined) throw new Error(`no ${wanted}`);
  return found;
}

function noise({ underlays: [underlay], metrics }: OverlaysResult): ReturnType<typeof noiseOf> {
  return underlay && noiseOf(underlay, metrics);
}

describe('the summary', () => {
  const result = summariseModes(ENVIRONMENT, ROUNDS, undefined);

  it('has a median of the rounds, and ratios to VXLAN of the same rounds', () => {
    const value = modeOf(result, 'basic').values['tcp.throughput'];
    expect(value?.value.median).toBeCloseTo(1.2);
    expect(value?.samples).toHaveLength(3);
    for (const bound of ['low', 'median', 'high'] as const) {
      expect(value?.ratio?.[bound]).toBeCloseTo(0.6);
    }
  });

  it('has no calls and no switches where there are no ends, and no ratio to none', () => {
    const vxlan = modeOf(result, 'vxlan');
    expect(vxlan.kernelOnly).toBe(true);
    for (const key of ['tcp.calls', 'udp.calls', 'udp.switches', 'udp.yields'] as const) {
      expect(vxlan.values[key]).toEqual({
        value: { median: 0, low: 0, high: 0, count: 3 },
        ratio: null,
        samples: [0, 0, 0],
      });
      expect(modeOf(result, 'js').values[key]?.ratio).toBeNull();
    }
    expect(vxlan.values['tcp.counting']).toBeUndefined();
    expect(modeOf(result, 'js').kernelOnly).toBe(false);
  });

  it('finds the noise, and says who counted', () => {
    expect(noise(result)?.ratio.median).toBeCloseTo(0.9);
    expect(result.countedBy).toBe('perf');
    expect(result.missing).toEqual([]);
  });

  it('says what is missing without perf, and leaves it out', () => {
    const without = ROUNDS.map((subject) => ({
      ...subject,
      rounds: subject.rounds.map((round) =>
        Object.fromEntries(Object.entries(round).filter(([key]) => !/yields|counting/.test(key))),
      ),
    }));
    const own = summariseModes(ENVIRONMENT, without, 'perf is not there');
    expect(own.countedBy).toBe('ends');
    expect(own.missing).toMatchObject([{ reason: 'perf is not there' }]);
    const keys = own.metrics.map(({ key }) => key);
    expect(keys).toContain('udp.calls');
    expect(keys).not.toContain('udp.yields');
    expect(keys).not.toContain('udp.counting');
    expect(renderText(own)).toContain('perf is not there');
    expect(renderText(own)).not.toContain('What counting costs');
  });

  it('has neither ratios nor noise without VXLAN', () => {
    const alone = summariseModes(ENVIRONMENT, [roundsOf('js', 1)], undefined);
    expect(modeOf(alone, 'js').values.rtt?.ratio).toBeNull();
    expect(noise(alone)).toBeUndefined();
    for (const text of [renderText(alone), renderMarkdown(alone)]) {
      expect(text).not.toMatch(/NaN|undefined|Noise|Published/);
    }
  });
});

describe('the report', () => {
  const environment = { ...ENVIRONMENT, quick: true, repeated: ['round 2: lost'] };
  const result = summariseModes(environment, ROUNDS, undefined);

  it.each([
    ['text', renderText(result)],
    ['Markdown', renderMarkdown(result)],
  ])('says as %s where, what and how, the noise and what was published', (_name, text) => {
    const parts = ['2026-01-02', '2 x CPU', 'flannelette bench modes', 'v20', 'cubic'];
    parts.push('quick: few', 'round 2: lost', 'js itself', 'counted by: perf', 'x vxlan');
    parts.push('sched_yield', 'softirq', 'copied B/B', 'What counting costs', 'Noise:');
    for (const part of parts) expect(text).toContain(part);
    const flat = text.replaceAll('\n', ' ');
    expect(flat).toContain('0.600 (minimum to maximum 0.600 to 0.600) of VXLAN');
    expect(flat).toContain('the order agrees, the factor agrees');
    expect(text).not.toMatch(/NaN|undefined/);
  });

  it('has Markdown tables whose rows are as wide as their titles', () => {
    const lines = renderMarkdown(result).split('\n');
    expect(lines.filter((line) => line.startsWith('|')).length).toBeGreaterThan(100);
    lines.forEach((line, index) => {
      const before = lines[index - 1] ?? '';
      if (line.startsWith('|') && before.startsWith('|')) {
        expect(line.split('|')).toHaveLength(before.split('|').length);
      }
    });
  });

  it('says that others worked too, only when they did', () => {
    const busy = summariseModes({ ...ENVIRONMENT, busyBefore: 0.3 }, ROUNDS, undefined);
    expect(renderMarkdown(busy)).toContain('30.0 % for a second: others worked too');
    expect(renderMarkdown(result)).not.toContain('others worked too');
  });

  it('wraps its paragraphs for a terminal', () => {
    const [method = ''] = renderText(result).split('Command:');
    for (const line of method.split('\n')) expect(line.length).toBeLessThanOrEqual(100);
  });

  it('has a CSV row for each metric of each mode, all as wide as the head', () => {
    const [head = '', ...rows] = renderCsv(result).trimEnd().split('\n');
    const subjects = result.underlays.flatMap((underlay) => underlay.subjects);
    const values = subjects.flatMap((subject) => Object.keys(subject.values));
    expect(rows).toHaveLength(values.length);
    for (const row of rows) expect(row.split(',')).toHaveLength(head.split(',').length);
    expect(rows).toContain('offload,js,tcp.calls,,0.2,0.1,0.30000000000000004,,,,3,min-max');
  });
});

describe('the run', () => {
  const extent = { quick: false, rounds: 10, seconds: 2 };

  it('is one of the benchmark, with the modes as its subjects', () => {
    expect(modesRun(extent)).toMatchObject({ ...extent, subjects: MODE_NAMES });
    expect(modesRun({ ...extent, modes: 'vxlan,js' }).subjects).toEqual(['vxlan', 'js']);
    expect(() => modesRun({ ...extent, modes: 'tinc' })).toThrow('--modes: "tinc" is not valid');
    const subjects = new Map(SUBJECTS.map((subject) => [subject.name, subject]));
    for (const name of MODE_NAMES) {
      expect(subjects.get(name)?.kernelOnly === true).toBe(KERNEL_MODES.includes(name));
    }
  });
});
