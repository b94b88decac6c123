import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { integer, listOf } from '../../../bench/frame/frame.js';
import { METRICS, type Round } from '../../../bench/overlays/metrics.js';
import { parsePerf } from '../../../bench/overlays/observe.js';
import { parseTincMtu, tincMtu } from '../../../bench/overlays/peers/tinc.js';
import { leasesOf, MANY_ROUTES } from '../../../bench/overlays/routes.js';
import { deliveredBy, STEPS } from '../../../bench/overlays/steps.js';
import { SUBJECTS } from '../../../bench/overlays/subjects.js';
import { parseMachineTimes, parseSwitches } from '../../../src/testbed/proc.js';
import { overlays } from '../../../bench/overlays/overlays.js';
import type {
  OverlaysResult,
  UnderlayName,
  UnderlayResult,
} from '../../../bench/overlays/overlays-result.js';
import {
  judge,
  noiseOf,
  shapeOf,
  summarise,
  type SubjectRounds,
} from '../../../bench/overlays/overlays-summary.js';
import { renderBlock, renderMarkdown, renderText } from '../../../bench/overlays/overlays-text.js';
import { findBlock, replaceBlock } from '../../../bench/frame/block.js';
import { hostPlan } from '../../../src/testbed/topology.js';
import { readTcp, readUdp } from '../../../src/testbed/traffic.js';

describe('options', () => {
  it('are integers in a range', () => {
    expect(integer(1, 9)('9')).toBe(9);
    for (const text of ['0', '10', '1.5', 'x']) expect(() => integer(1, 9)(text)).toThrow(/1 to 9/);
  });
  it('are lists out of names', () => {
    expect(listOf('--of', ['a', 'b'])('b,a')).toEqual(['b', 'a']);
    expect(() => listOf('--of', ['a', 'b'])('a,c')).toThrow(/--of.*"c".*a, b/);
  });
});

describe('--readme', () => {
  const directory = mkdtempSync(join(tmpdir(), 'flannelette-readme-'));
  afterAll(() => {
    rmSync(directory, { recursive: true });
  });
  const run = (options: { readme: string; write?: string; subjects?: string[] }) =>
    overlays.run({ quick: false, ...options }, { name: 'npm run bench', command: 'npm run bench' });
  const readme = join(directory, 'README.md');
  const write = join(directory, 'benchmarks.md');

  it('is refused before anything is measured: without the page or the subjects it needs', async () => {
    await expect(run({ readme })).rejects.toThrow('--write: (missing) is not valid');
    for (const subjects of [
      ['basic', 'vxlan'],
      ['batch', 'vxlan'],
      ['basic', 'offload'],
    ]) {
      await expect(run({ readme, write, subjects })).rejects.toThrow('expected subjects basic');
    }
  });

  it('is refused for a document that is not there, or has no marks', async () => {
    await expect(run({ readme, write })).rejects.toThrow('a file that can be read');
    writeFileSync(readme, '# Title\n');
    await expect(run({ readme, write })).rejects.toThrow('benchmark:begin');
  });
});

describe('parsing', () => {
  it('of /proc/stat', () => {
    const stat = 'cpu  100 10 200 700 50 5 15 20 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\nctxt 4711\n';
    expect(parseMachineTimes(stat)).toEqual({
      user: 1.1,
      system: 2,
      interrupts: 0.2,
      steal: 0.2,
      idle: 7.5,
      switches: 4711,
    });
    expect(() => parseMachineTimes('cpu  1 2 3\nctxt 1\n')).toThrow(RangeError);
  });

  it("of a thread's context switches", () => {
    const status = 'Name:\tnode\nvoluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t7\n';
    expect(parseSwitches(status)).toBe(157);
    expect(() => parseSwitches('Name:\tnode\n')).toThrow(RangeError);
  });

  it('of perf', () => {
    const calls = '\n1432;;raw_syscalls:sys_enter;1204332;100.00;;\n';
    const yields = '17;;syscalls:sys_enter_sched_yield;1204332;100.00;;\n';
    expect(parsePerf(calls + yields)).toEqual({ calls: 1432, yields: 17 });
    expect(() => parsePerf(calls)).toThrow(/nothing/);
    expect(() => parsePerf('<not counted>;;raw_syscalls:sys_enter;0;100.00;;')).toThrow(/nothing/);
  });

  it('of iperf3 in one direction and in both', () => {
    const end = {
      sum_sent: { bits_per_second: 3e9, retransmits: 4 },
      sum_received: { bits_per_second: 2e9 },
      // The server's sender is not asked for its retransmissions.
      sum_sent_bidir_reverse: { bits_per_second: 3e9 },
      sum_received_bidir_reverse: { bits_per_second: 1.5e9 },
    };
    expect(readTcp(end, false)).toEqual({ gbps: 2, retransmits: 4 });
    expect(readTcp(end, true)).toEqual({ gbps: 3.5, retransmits: 4 });
    const { sum_sent, sum_received } = end;
    expect(() => readTcp({ sum_sent, sum_received }, true)).toThrow(/_bidir_reverse/);
  });

  describe('of UDP by iperf3', () => {
    // What iperf3 3.12 printed of a sender that its receiver could not follow; times rounded.
    const sent = { packets: 399_970, lost_packets: 0, seconds: 2 };
    const received = { packets: 399_808, lost_packets: 248_768, seconds: 2.2 };
    const end = { sum: { ...sent, ...received }, sum_sent: sent, sum_received: received };

    it('tells what was sent, what arrived by the kernel, and what was read', () => {
      expect(readUdp(end, 199_647)).toEqual({
        sentPackets: 399_970,
        arrivedPackets: 199_646,
        receivedPackets: 151_040,
        sentSeconds: 2,
        receivedSeconds: 2.2,
      });
    });

    it('has one sum for both ends where iperf3 has', () => {
      const old = { sum: { packets: 100, lost_packets: 40, seconds: 2 } };
      expect(readUdp(old, 81)).toEqual({
        sentPackets: 100,
        arrivedPackets: 80,
        receivedPackets: 60,
        sentSeconds: 2,
        receivedSeconds: 2,
      });
    });

    it('never has more arrive than was sent, nor fewer than were read', () => {
      expect(readUdp(end, 500_000).arrivedPackets).toBe(399_970);
      expect(readUdp(end, 151_000).arrivedPackets).toBe(151_040);
    });
  });

  it('of what tinc knows of the path', () => {
    const list = (least: number): string =>
      `Nodes:\n host1 at MYSELF cipher 0 pmtu 1518 (min 0 max 1518)\n host2 at 10.168.0.3 port 655 cipher 427 pmtu 1451 (min ${least} max 1451)\n`;
    expect(parseTincMtu(list(1087) + list(1451), 'host2')).toBe(1451);
    expect(parseTincMtu('', 'host2')).toBe(0);
  });
});

describe('a load of UDP', () => {
  const result = {
    sentPackets: 1_000,
    arrivedPackets: 800,
    receivedPackets: 500,
    sentSeconds: 2,
    receivedSeconds: 2.5,
  };

  it('is counted by what reached the container, whoever read how much of it there', () => {
    expect(deliveredBy(result, 64)).toMatchObject({ packets: 800, read: 500, seconds: 2.5 });
    expect(deliveredBy(result, 64).bytes).toBe(800 * 64);
  });

  it('is copied by the sender whole, and by the receiver as far as it read', () => {
    expect(deliveredBy(result, 64).containerBytes).toBe((1_000 + 500) * 64);
  });
});

describe('the subjects', () => {
  it('have names of their own, and MTUs that leave room for what each adds', () => {
    expect(new Set(SUBJECTS.map(({ name }) => name)).size).toBe(SUBJECTS.length);
    const mtus = new Map(SUBJECTS.map(({ name, mtu }) => [name, mtu(1_500)]));
    expect(mtus.get('offload')).toBe(1_472);
    expect(mtus.get('vxlan')).toBe(1_450);
    expect(mtus.get('host-gw')).toBe(1_500);
    expect(mtus.get('wireguard-go')).toBe(1_420);
    // tincd found 1451 on a path of 1500: the packet and an Ethernet header.
    expect(mtus.get('tinc')).toBe(1_451 - 14);
    expect(mtus.get('vtun')).toBe(1_470);
    expect(tincMtu(9_000)).toBe(1_500);
  });

  it('are each fit for a UDP payload of 1372 bytes without fragments', () => {
    for (const { mtu } of SUBJECTS) expect(mtu(1_500)).toBeGreaterThanOrEqual(1_372 + 28);
  });

  it('with many leases have every subnet but their own at the other host', () => {
    const [near, far] = [hostPlan(1), hostPlan(2)];
    const subnets = ['100.0.0.0/24', '100.0.1.0/24', '100.0.2.0/24'];
    const leases = leasesOf(subnets, '100.0.1.0/24', near, far);
    expect(Object.entries(leases).map(([key, { PublicIP }]) => [key, PublicIP])).toEqual([
      ['100.0.0.0-24', far.address],
      ['100.0.1.0-24', near.address],
      ['100.0.2.0-24', far.address],
    ]);
  });

  it('with addresses at random are the only ones whose metric that is', () => {
    const scatter = STEPS.filter(({ name }) => name === 'scatter');
    expect(SUBJECTS.filter((subject) => scatter.every((step) => step.applies(subject)))).toEqual(
      MANY_ROUTES,
    );
  });
});

/** Rounds of subjects that have every metric, at `value` unless told. */
const subject = (name: string, ...rounds: Round[]): SubjectRounds => ({
  name,
  what: `${name} itself`,
  mtu: 1_472,
  kernelOnly: name === 'vxlan',
  rounds: rounds.map((round) => ({ ...EVERYTHING, ...round })),
});
const EVERYTHING: Round = Object.fromEntries(METRICS.map(({ key }) => [key, 1]));

const ENVIRONMENT = {
  title: 'Benchmarks',
  date: '2026-11-21',
  commit: 'abc',
  command: 'npm run bench',
  kernel: '6.18',
  node: 'v20',
  cpu: 'EPYC',
  cpus: 2,
  underlayMtu: 1_500,
  rounds: 3,
  seconds: 2,
  busyBefore: 0.01,
  packages: 'tinc 1.0',
  quick: false,
  congestion: 'cubic',
  repeated: ['round 2: lost'],
};

const resultOf = (
  subjects: readonly SubjectRounds[],
  ...underlays: UnderlayName[]
): OverlaysResult =>
  summarise(
    ENVIRONMENT,
    underlays.map((underlay) => ({ underlay, subjects })),
    'perf is not there',
  );

const on = (underlay: UnderlayName, ...subjects: SubjectRounds[]): UnderlayResult => {
  const [found] = resultOf(subjects, underlay).underlays;
  if (found === undefined) throw new Error('no underlay');
  return found;
};
const offload = (...subjects: SubjectRounds[]): UnderlayResult => on('offload', ...subjects);

describe('targets', () => {
  const met = (result: UnderlayResult): Record<string, boolean> =>
    Object.fromEntries(judge(result).map(({ text, met: is }) => [text, is]));

  it('are judged by the median of the ratios of the same rounds', () => {
    const vxlan = subject(
      'vxlan',
      { 'tcp.throughput': 10 },
      { 'tcp.throughput': 10 },
      { 'tcp.throughput': 20 },
    );
    const summary = offload(
      subject(
        'offload',
        { 'tcp.throughput': 7 },
        { 'tcp.throughput': 6 },
        { 'tcp.throughput': 14 },
      ),
      vxlan,
    );
    expect(judge(summary)[0]?.ratio.median).toBeCloseTo(0.7);
    expect(met(summary)).toMatchObject({
      'TCP, 1 stream: offload >= 0.7 x vxlan': true,
      'UDP, 64-byte payloads, read: offload >= 1.3 x vxlan': false,
    });
    const missed = offload(
      subject('offload', { 'tcp.throughput': 6.9, 'udp.read': 1.4 }),
      subject('vxlan', { 'tcp.throughput': 10 }),
    );
    expect(met(missed)).toMatchObject({
      'TCP, 1 stream: offload >= 0.7 x vxlan': false,
      'UDP, 64-byte payloads, read: offload >= 1.3 x vxlan': true,
    });
  });

  it('of the round trip are met by less, and compare with basic', () => {
    const text = 'Round trip (ping -A), median: offload <= 0.8 x basic';
    const judged = (rtt: number): boolean | undefined =>
      met(offload(subject('offload', { rtt }), subject('basic', { rtt: 1 })))[text];
    expect(judged(0.8)).toBe(true);
    expect(judged(0.81)).toBe(false);
  });

  it('of an underlay are not judged on another, nor without both subjects', () => {
    const both = [
      subject('offload', { 'tcp.throughput': 6 }),
      subject('vxlan', { 'tcp.throughput': 10 }),
    ];
    expect(met(on('plain', ...both))).toEqual({
      'TCP, 1 stream: offload >= 0.6 x vxlan': true,
    });
    expect(judge(offload(subject('offload', {})))).toEqual([]);
  });
});

describe('the comparison with what was published', () => {
  const shape = (basic: number, hostGw: number): ReturnType<typeof shapeOf> =>
    shapeOf(
      offload(
        subject('basic', { 'tcp.throughput': basic }),
        subject('vxlan', { 'tcp.throughput': 10 }),
        subject('host-gw', { 'tcp.throughput': hostGw }),
      ),
    );
  it.each([
    [6, 12, true, true],
    [0.7, 12, true, false],
    [11, 12, false, false],
    [6, 9, false, true],
  ])('with %d and %d beside 10', (basic, hostGw, order, factor) => {
    expect(shape(basic, hostGw)).toMatchObject({ order, factor });
  });
  it('needs basic, VXLAN and host-gw', () => {
    expect(shapeOf(offload(subject('basic', {}), subject('vxlan', {})))).toBeUndefined();
  });
});

it('the noise is the ratio farthest from 1, up or down', () => {
  const summary = offload(
    subject('vxlan', { 'tcp.throughput': 10, 'udp.read': 10 }),
    subject('vxlan-again', { 'tcp.throughput': 8, 'udp.read': 11 }),
  );
  expect(noiseOf(summary, METRICS)).toMatchObject({
    title: 'TCP, 1 stream',
    ratio: { median: 0.8 },
  });
});

describe('the report', () => {
  const without = ['tcp.calls', 'scatter', 'rss'];
  const kernelRound = Object.entries(EVERYTHING).filter(([key]) => !without.includes(key));
  const kernel = {
    ...subject('vxlan'),
    rounds: [{ ...Object.fromEntries(kernelRound), 'tcp.throughput': 10 } as Round],
  };
  const basic = subject('basic', { 'tcp.throughput': 6.25, 'tcp.calls': 4.5, rss: 88 });
  const result = resultOf([basic, kernel], 'offload', 'plain');

  it.each([
    ['text', renderText(result)],
    ['Markdown', renderMarkdown(result)],
  ])('says as %s where, what and how, for each underlay', (_name, text) => {
    const parts = [
      '2026-11-21',
      '6.18',
      '2 x EPYC',
      'npm run bench',
      'perf is not there',
      'tinc 1.0',
    ];
    parts.push(
      'round 2: lost',
      'basic itself',
      '6.250 Gbit/s',
      '0.625',
      '4.500',
      'after the load, MB',
    );
    for (const part of parts) expect(text).toContain(part);
    expect(text).toMatch(/basic[ |]+88[ |]+1\b/);
    expect(text).toContain('Underlay with segmentation offload');
    expect(text).toContain('Underlay without segmentation');
    expect(text).not.toMatch(/NaN|undefined/);
  });

  it('leaves out what a subject does not have', () => {
    const text = renderMarkdown(result);
    const memory = text.slice(text.indexOf('### Memory'));
    expect(memory).toMatch(/^\| vxlan \| - \| 1 \|$/m);
    const scatter = text.slice(
      text.indexOf('random destinations'),
      text.indexOf('### Round trip while'),
    );
    expect(scatter).toContain('| basic |');
    expect(scatter.slice(0, scatter.indexOf('###'))).not.toContain('| vxlan |');
  });

  it('has no table of ratios without VXLAN', () => {
    const alone = resultOf([subject('basic', {})], 'offload');
    expect(renderMarkdown(result)).toContain('### Ratios to vxlan');
    expect(renderMarkdown(alone)).not.toContain('### Ratios to vxlan');
  });

  it('has tables whose rows are as wide as their titles', () => {
    const lines = renderMarkdown(result).split('\n');
    const tables = lines.filter((line) => line.startsWith('|'));
    expect(tables.length).toBeGreaterThan(40);
    lines.forEach((line, index) => {
      const before = lines[index - 1] ?? '';
      if (line.startsWith('|') && before.startsWith('|')) {
        expect(line.split('|')).toHaveLength(before.split('|').length);
      }
    });
  });
});

describe('the short result', () => {
  const like = { 'tcp.throughput': 0.6, 'udp.packets': 5, rtt: 3 };
  const subjects = [
    subject('basic', like),
    subject('batch', { ...like, 'tcp.throughput': 2 }),
    subject('offload', { ...like, 'tcp.throughput': 5, 'udp.packets': 12 }),
    subject('vxlan', { 'tcp.throughput': 10, 'udp.packets': 10, rtt: 1 }),
  ];
  const result = resultOf(subjects, 'offload', 'plain');
  const block = renderBlock(result) ?? '';

  it("has flannel's way and the mode with the most TCP, as ratios to kernel VXLAN", () => {
    const rows = block.split('\n').filter((line) => line.startsWith('| `'));
    expect(rows).toEqual([
      "| `basic`, as flannel's udp backend | 0.06 (0.06 to 0.06) | 0.50 (0.50 to 0.50) | 3.00 (3.00 to 3.00) |",
      '| `offload`, the best mode | 0.50 (0.50 to 0.50) | 1.20 (1.20 to 1.20) | 3.00 (3.00 to 3.00) |',
    ]);
    expect(block).toContain('in brackets minimum to maximum');
    expect(block).toContain('2026-11-21, commit abc');
  });

  it('opens the page, whose targets stand last', () => {
    const page = renderMarkdown(result);
    expect(findBlock(page)).toBe(block);
    const [head = ''] = page.split('<!-- benchmark:begin -->');
    expect(head.split('\n').filter((line) => line !== '')).toHaveLength(2);
    expect(page.lastIndexOf('\n## ')).toBe(page.indexOf('\n## Targets'));
  });

  it('is none without its subjects, and the page does without', () => {
    const alone = resultOf([subject('basic', like)], 'offload');
    expect(renderBlock(alone)).toBeUndefined();
    expect(findBlock(renderMarkdown(alone))).toBeUndefined();
    expect(renderBlock(resultOf(subjects, 'plain'))).toBeUndefined();
  });

  it('goes between the marks of a document, as often as one likes', () => {
    const document = 'a\n<!-- benchmark:begin -->\n<!-- benchmark:end -->\nb\n';
    const once = replaceBlock(document, block);
    expect(findBlock(once)).toBe(block);
    expect(replaceBlock(once, block)).toBe(once);
    expect(replaceBlock(once, '')).toBe(document);
    expect(() => replaceBlock('a <!-- benchmark:end --> b', block)).toThrow('--readme');
  });
});
