/** The result of `flannelette bench modes` from made-up rounds, and the teaching tunnel's packets. */
import { describe, expect, it } from 'vitest';
import type { Round } from '../../../bench/overlays/metrics.js';
import { decrementTtl, packetLength } from '../../../bench/js-tunnel/packet.js';
import { MODE_METRICS } from '../../../bench/modes/metrics.js';
import {
  MODE_NAMES,
  type ModeName,
  type ModeResult,
  type ModesEnvironment,
  type ModesResult,
} from '../../../bench/modes/result.js';
import { KERNEL_MODES, subjectsOf } from '../../../bench/modes/subjects.js';
import { summariseModes } from '../../../bench/modes/summary.js';
import {
  renderModesCsv,
  renderModesMarkdown,
  renderModesText,
} from '../../../bench/modes/modes-text.js';
import type { SubjectRounds } from '../../../bench/overlays/overlays-summary.js';

const ENVIRONMENT: ModesEnvironment = {
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
  busyBefore: 0.01,
  quick: false,
  repeated: [],
};

const OF_ENDS = /Calls|Yields|Counting|^(tcp|udp)Switches/;

/** Three rounds; every metric is `factor` times what it is in the kernel's. */
function roundsOf(name: ModeName, factor: number): SubjectRounds {
  const kernel = KERNEL_MODES.includes(name);
  const round = (number: number): Round =>
    Object.fromEntries(
      MODE_METRICS.filter(({ of }) => !kernel || !OF_ENDS.test(of)).map(({ of }) => [
        of,
        factor * number,
      ]),
    );
  return { name, what: `${name} itself`, mtu: 1_472, rounds: [1, 2, 3].map(round) };
}

const ROUNDS = [
  ...[roundsOf('js', 0.1), roundsOf('basic', 0.6), roundsOf('vxlan', 1)],
  ...[roundsOf('vxlan-again', 0.9), roundsOf('host-gw', 1.2)],
];

function modeOf({ modes }: ModesResult, name: ModeName): ModeResult {
  const found = modes.find(({ mode }) => mode === name);
  if (found === undefined) throw new Error(`no ${name}`);
  return found;
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
    expect(result.noise?.ratio.median).toBeCloseTo(0.9);
    expect(result.countedBy).toBe('perf');
    expect(result.missing).toEqual([]);
  });

  it('says what is missing without perf, and leaves it out', () => {
    const without = ROUNDS.map((subject) => ({
      ...subject,
      rounds: subject.rounds.map((round) =>
        Object.fromEntries(Object.entries(round).filter(([key]) => !/Yields|Counting/.test(key))),
      ),
    }));
    const own = summariseModes(ENVIRONMENT, without, 'perf is not there');
    expect(own.countedBy).toBe('ends');
    expect(own.missing).toMatchObject([{ reason: 'perf is not there' }]);
    const keys = own.metrics.map(({ key }) => key);
    expect(keys).toContain('udp.calls');
    expect(keys).not.toContain('udp.yields');
    expect(keys).not.toContain('udp.counting');
    expect(renderModesText(own)).toContain('perf is not there');
    expect(renderModesText(own)).not.toContain('What counting costs');
  });

  it('has neither ratios nor noise without VXLAN', () => {
    const alone = summariseModes(ENVIRONMENT, [roundsOf('js', 1)], undefined);
    expect(modeOf(alone, 'js').values.rtt?.ratio).toBeNull();
    expect(alone.noise).toBeNull();
    for (const text of [renderModesText(alone), renderModesMarkdown(alone)]) {
      expect(text).not.toMatch(/NaN|undefined|Noise|Published/);
    }
  });
});

describe('the report', () => {
  const environment = { ...ENVIRONMENT, quick: true, repeated: ['round 2: lost'] };
  const result = summariseModes(environment, ROUNDS, undefined);

  it.each([
    ['text', renderModesText(result)],
    ['Markdown', renderModesMarkdown(result)],
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
    const lines = renderModesMarkdown(result).split('\n');
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
    expect(renderModesMarkdown(busy)).toContain('30.0 % for a second: others worked too');
    expect(renderModesMarkdown(result)).not.toContain('others worked too');
  });

  it('wraps its paragraphs for a terminal', () => {
    const [method = ''] = renderModesText(result).split('Command:');
    for (const line of method.split('\n')) expect(line.length).toBeLessThanOrEqual(100);
  });

  it('has a CSV row for each metric of each mode, all as wide as the head', () => {
    const [head = '', ...rows] = renderModesCsv(result).trimEnd().split('\n');
    const values = result.modes.flatMap((mode) => Object.keys(mode.values));
    expect(rows).toHaveLength(values.length);
    for (const row of rows) expect(row.split(',')).toHaveLength(head.split(',').length);
    expect(rows).toContain('js,tcp.calls,,0.2,0.1,0.30000000000000004,,,,3,min-max');
  });
});

it('the subjects are those of the benchmark, in the order of the tables', () => {
  expect(subjectsOf(['vxlan', 'js']).map(({ name }) => name)).toEqual(['js', 'vxlan']);
  expect(subjectsOf(MODE_NAMES).map(({ name }) => name)).toEqual(MODE_NAMES);
});

describe("the teaching tunnel's packets", () => {
  /** A header with the right checksum, and `payload` bytes. */
  const packet = (identification: number, ttl: number, payload = 8): Buffer => {
    const bytes = Buffer.alloc(20 + payload);
    bytes.writeUInt8(0x45, 0);
    bytes.writeUInt16BE(bytes.length, 2);
    bytes.writeUInt16BE(identification, 4);
    bytes.writeUInt8(ttl, 8);
    bytes.writeUInt8(17, 9);
    bytes.writeUInt32BE(0x64600102, 12);
    bytes.writeUInt32BE(0x64600203, 16);
    let sum = 0;
    for (let at = 0; at < 20; at += 2) sum += bytes.readUInt16BE(at);
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
    bytes.writeUInt16BE(~sum & 0xffff, 10);
    return bytes;
  };

  it('are as long as their header says, whatever was received behind', () => {
    const bytes = Buffer.concat([packet(1, 64), Buffer.alloc(9)]);
    expect(packetLength(bytes, bytes.length)).toBe(28);
  });

  it.each([
    ['shorter than a header', (bytes: Buffer) => [bytes, 19]],
    ['cut', (bytes: Buffer) => [bytes, 27]],
    ['of version 6', (bytes: Buffer) => [change(bytes, 0, 0x65), 28]],
    ['with a header too short', (bytes: Buffer) => [change(bytes, 0, 0x44), 28]],
    ['with a header longer than all', (bytes: Buffer) => [change(bytes, 0, 0x4f), 28]],
    ['with a wrong checksum', (bytes: Buffer) => [change(bytes, 11, 0xff), 28]],
  ] as const)('are refused: %s', (_name, damage) => {
    const [bytes, received] = damage(packet(1, 64)) as [Buffer, number];
    expect(packetLength(bytes, received)).toBe(0);
  });

  it('have a right checksum after a hop, for every checksum there is', () => {
    const wrong: number[] = [];
    for (let identification = 0; identification < 65_536; identification += 1) {
      const bytes = packet(identification, 64);
      if (!decrementTtl(bytes) || packetLength(bytes, 28) !== 28) wrong.push(identification);
    }
    expect(wrong).toEqual([]);
    expect(packet(7, 63)).toEqual(hopped(packet(7, 64)));
  });

  it('go no further without a hop left', () => {
    for (const ttl of [0, 1]) expect(decrementTtl(packet(1, ttl))).toBe(false);
  });

  function change(bytes: Buffer, at: number, value: number): Buffer {
    bytes.writeUInt8(value, at);
    return bytes;
  }

  function hopped(bytes: Buffer): Buffer {
    decrementTtl(bytes);
    return bytes;
  }
});
