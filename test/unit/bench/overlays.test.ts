import { describe, expect, it } from 'vitest';
import { integer, listOf } from '../../../bench/frame/command.js';
import { MAIN_METRICS, METRIC_GROUPS, type Round } from '../../../bench/overlays/metrics.js';
import { parsePerf } from '../../../bench/overlays/observe.js';
import { parseTincMtu, tincMtu } from '../../../bench/overlays/peers/tinc.js';
import { leasesOf, MANY_ROUTES } from '../../../bench/overlays/routes.js';
import { deliveredBy, STEPS } from '../../../bench/overlays/steps.js';
import { SUBJECTS } from '../../../bench/overlays/subjects.js';
import { parseMachineTimes, parseSwitches } from '../../../src/testbed/proc.js';
import {
  noiseOf,
  shapeOf,
  summarise,
  type SubjectRounds,
  type UnderlaySummary,
} from '../../../bench/overlays/overlays-summary.js';
import { renderMarkdown, renderText } from '../../../bench/overlays/overlays-text.js';
import { parseSnmp } from '../../../src/testbed/snmp.js';
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

  it('of the protocol counters of the kernel', () => {
    const snmp = parseSnmp(
      'Ip: Forwarding FragCreates\nIp: 1 12\nUdp: NoPorts RcvbufErrors\nUdp: 3 4\n',
    );
    expect(snmp('Ip', 'FragCreates')).toBe(12);
    expect(snmp('Udp', 'RcvbufErrors')).toBe(4);
    expect(() => snmp('Udp', 'FragCreates')).toThrow(/no Udp FragCreates/);
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
  ...{ name, what: `${name} itself`, mtu: 1_472 },
  rounds: rounds.map((round) => ({ ...EVERYTHING, ...round })),
});
const EVERYTHING: Round = Object.fromEntries(
  [...MAIN_METRICS, ...METRIC_GROUPS.flatMap(({ metrics }) => metrics)].map(({ key }) => [key, 1]),
);
const offload = (...subjects: SubjectRounds[]): UnderlaySummary =>
  summarise({ underlay: 'offload', subjects });

describe('targets', () => {
  const met = (summary: UnderlaySummary): Record<string, boolean> =>
    Object.fromEntries(summary.targets.map(({ text, met: is }) => [text, is]));

  it('are judged by the median of the ratios of the same rounds', () => {
    const vxlan = subject('vxlan', { tcp: 10 }, { tcp: 10 }, { tcp: 20 });
    const summary = offload(subject('offload', { tcp: 7 }, { tcp: 6 }, { tcp: 14 }), vxlan);
    expect(summary.targets[0]?.ratio.median).toBeCloseTo(0.7);
    expect(met(summary)).toMatchObject({
      'TCP, 1 stream: offload >= 0.7 x vxlan': true,
      'UDP, 64-byte payloads, read: offload >= 1.3 x vxlan': false,
    });
    const missed = offload(
      subject('offload', { tcp: 6.9, udp64: 1.4 }),
      subject('vxlan', { tcp: 10 }),
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
    const both = [subject('offload', { tcp: 6 }), subject('vxlan', { tcp: 10 })];
    expect(met(summarise({ underlay: 'plain', subjects: both }))).toEqual({
      'TCP, 1 stream: offload >= 0.6 x vxlan': true,
    });
    expect(offload(subject('offload', {})).targets).toEqual([]);
  });
});

describe('the comparison with what was published', () => {
  const shape = (basic: number, hostGw: number): ReturnType<typeof shapeOf> =>
    shapeOf(
      offload(
        subject('basic', { tcp: basic }),
        subject('vxlan', { tcp: 10 }),
        subject('host-gw', { tcp: hostGw }),
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
    subject('vxlan', { tcp: 10, udp64: 10 }),
    subject('vxlan-again', { tcp: 8, udp64: 11 }),
  );
  expect(noiseOf(summary)).toMatchObject({ title: 'TCP, 1 stream', ratio: { median: 0.8 } });
});

describe('the report', () => {
  const environment = {
    date: '2026-11-21',
    commit: 'abc',
    command: 'npm run bench',
    kernel: '6.18',
    cpu: 'EPYC',
    cpus: 2,
    underlayMtu: 1_500,
    rounds: 3,
    seconds: 2,
    busyBefore: 0.01,
    packages: 'tinc 1.0',
    quick: undefined,
    uncounted: 'perf is not there',
    congestion: 'cubic',
    repeated: ['round 2: lost'],
  };
  const without = ['tcpCalls', 'scatter', 'rss'];
  const kernelRound = Object.entries(EVERYTHING).filter(([key]) => !without.includes(key));
  const kernel = {
    ...subject('vxlan'),
    rounds: [{ ...Object.fromEntries(kernelRound), tcp: 10 } as Round],
  };
  const subjects = [subject('basic', { tcp: 6.25, tcpCalls: 4.5, rss: 88 }), kernel];
  const summaries = (['offload', 'plain'] as const).map((underlay) =>
    summarise({ underlay, subjects }),
  );

  it.each([
    ['text', renderText(environment, subjects, summaries)],
    ['Markdown', renderMarkdown(environment, subjects, summaries)],
  ])('says as %s where, what and how, for each underlay', (_name, text) => {
    const parts = [
      '2026-11-21',
      '6.18',
      '2 x EPYC',
      'npm run bench',
      'perf is not there',
      'tinc 1.0',
    ];
    parts.push('round 2: lost', 'basic itself', '6.25 Gbit/s', '0.625', '4.500', '88 MB');
    for (const part of parts) expect(text).toContain(part);
    expect(text).toContain('Underlay with segmentation offload');
    expect(text).toContain('Underlay without segmentation');
    expect(text).not.toMatch(/NaN|undefined/);
  });

  it('leaves out what a subject does not have', () => {
    const text = renderMarkdown(environment, subjects, summaries);
    const calls = text.slice(text.indexOf('### System calls'));
    expect(calls).toMatch(/^\| vxlan \| - \|/m);
    expect(text).toMatch(/^\| vxlan \| - \| 1 MB \|$/m);
    const scatter = text.slice(text.indexOf('random destinations'), text.indexOf('### Round trip'));
    expect(scatter).toContain('| basic |');
    expect(scatter).not.toContain('| vxlan |');
  });

  it('has no table of ratios without VXLAN', () => {
    const alone = [subject('basic', {})];
    const summary = summarise({ underlay: 'offload', subjects: alone });
    expect(renderMarkdown(environment, subjects, summaries)).toContain('### Ratios to vxlan');
    expect(renderMarkdown(environment, alone, [summary])).not.toContain('### Ratios to vxlan');
  });

  it('has tables whose rows are as wide as their titles', () => {
    const lines = renderMarkdown(environment, subjects, summaries).split('\n');
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
