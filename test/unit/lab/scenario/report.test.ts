import { describe, expect, it } from 'vitest';
import { lastWords } from '../../../../src/testbed/daemon-process.js';
import type { EtcdCheck } from '../../../../src/lab/scenario/etcd-check.js';
import {
  countPackets,
  since,
  together,
  type HopReading,
  type Reading,
} from '../../../../src/lab/scenario/hops.js';
import { labBackend } from '../../../../src/lab/backends/registry.js';
import { explainKept } from '../../../../src/lab/scenario/scenario.js';
import { checkIsolation } from '../../../../src/testbed/isolate.js';
import {
  checksOf,
  renderReport,
  toJson,
  type LabResult,
} from '../../../../src/lab/scenario/report.js';
import { hostPlan } from '../../../../src/testbed/topology.js';
import { parsePing, parseProbe } from '../../../../src/testbed/traffic.js';

const PING = { sent: 20, received: 20, minMs: 0.05, avgMs: 0.1, maxMs: 0.4 };

const RESULT: LabResult = {
  backend: labBackend('udp'),
  modes: ['batch', 'batch', 'batch'],
  kernel: '6.1.0',
  mtu: 1472,
  store: { kind: 'file', location: '/run/flannelette-lab/leases.json' },
  pingForward: PING,
  pingBack: { ...PING, avgMs: 0.2 },
  tcpForward: { gbps: 1.2346, retransmits: 3 },
  tcpReverse: { gbps: 2, retransmits: 0 },
  udp: {
    payloadBytes: 64,
    sentPackets: 4_000,
    arrivedPackets: 3_600,
    receivedPackets: 3_000,
    sentSeconds: 2,
    receivedSeconds: 2.5,
    drops: [
      { where: 'container-2 UDP socket', reason: 'buffer full', cause: 'slow', packets: 600 },
      { where: 'host-2 UDP socket', reason: 'buffer full', cause: 'slow', packets: 0 },
    ],
  },
  capture: { ok: true, datagrams: 48, matched: 48, problems: [] },
  routes: {
    ok: true,
    text: 'default via 10.168.0.1 dev eth0\n10.168.0.0/24 dev eth0',
    problems: [],
  },
  counts: {
    hops: [
      {
        where: 'host-1',
        device: 'docker0',
        forward: { packets: 12_345, passes: 321 },
        back: { packets: 67, passes: 67 },
      },
      {
        where: 'host-1',
        device: 'daemon',
        forward: { packets: 12_340, passes: undefined },
        back: { packets: 66, passes: undefined },
      },
    ],
    drops: [
      { where: 'host-1 flannel0', reason: 'queue full', cause: 'slow daemon', packets: 1_000 },
      { where: 'container-2 UDP socket', reason: 'buffer full', cause: '-', packets: 0 },
    ],
  },
  thirdHost: {
    meanwhile: { sent: 150, received: 150 },
    joined: { seconds: 1.2346, pending: [] },
    left: { seconds: 0.25, pending: [] },
    returned: { seconds: 5, pending: [] },
  },
};
const { thirdHost: THIRD } = RESULT;
const ETCD: EtcdCheck = {
  ok: true,
  entries: [
    { key: '/coreos.com/network/config', value: '{}', leaseSeconds: undefined },
    { key: '/coreos.com/network/subnets/100.96.1.0-24', value: 'v', leaseSeconds: 86_400 },
  ],
  problems: [],
};
const ON_ETCD: LabResult = {
  ...RESULT,
  store: { kind: 'etcd', location: 'http://10.168.0.1:2379' },
  etcd: ETCD,
};

describe('toJson', () => {
  it('holds what the contract promises', () => {
    expect(toJson(RESULT)).toMatchObject({
      ok: true,
      backend: 'udp',
      directRouting: false,
      device: 'flannel0',
      mode: 'batch',
      modes: ['batch', 'batch', 'batch'],
      kernel: '6.1.0',
      mtu: 1472,
      ping: { sent: 40, received: 40, avgMs: 0.15 },
      tcp: { forwardGbps: 1.235, reverseGbps: 2 },
      udp: {
        sentPackets: 4_000,
        arrivedPackets: 3_600,
        receivedPackets: 3_000,
        sentPps: 2_000,
        arrivedPps: 1_440,
        receivedPps: 1_200,
      },
      captureOk: true,
    });
  });

  it('says which store, and what is in etcd', () => {
    expect(toJson(RESULT)).toMatchObject({
      store: { kind: 'file', location: '/run/flannelette-lab/leases.json' },
    });
    expect(toJson(ON_ETCD)).toMatchObject({
      ok: true,
      store: {
        kind: 'etcd',
        location: 'http://10.168.0.1:2379',
        etcd: {
          ok: true,
          entries: [
            { key: '/coreos.com/network/config', value: '{}', leaseSeconds: null },
            {
              key: '/coreos.com/network/subnets/100.96.1.0-24',
              value: 'v',
              leaseSeconds: 86_400,
            },
          ],
          problems: [],
        },
      },
    });
  });

  it("has the third host's times, null for what never came", () => {
    expect(toJson(RESULT)).toMatchObject({
      thirdHost: {
        joinSeconds: 1.235,
        leaveSeconds: 0.25,
        returnSeconds: 5,
        pingMeanwhile: { sent: 150, received: 150 },
      },
    });
    const never = { seconds: undefined, pending: ['container-1 to container-3: silent'] };
    expect(toJson({ ...RESULT, thirdHost: { ...THIRD, left: never } })).toMatchObject({
      ok: false,
      thirdHost: { leaveSeconds: null },
    });
  });

  it('lists only drops that happened', () => {
    expect(toJson(RESULT)).toMatchObject({
      drops: [
        { where: 'host-1 flannel0', reason: 'queue full', cause: 'slow daemon', packets: 1_000 },
      ],
      udp: { drops: [{ where: 'container-2 UDP socket', packets: 600 }] },
    });
  });

  it('has packets at every hop, and beside them what a device counts', () => {
    expect(toJson(RESULT)).toMatchObject({
      hops: [
        { device: 'docker0', forward: 12_345, back: 67, forwardPasses: 321, backPasses: 67 },
        { device: 'daemon', forward: 12_340, back: 66, forwardPasses: null, backPasses: null },
      ],
    });
  });

  it('has no mode where the kernel forwards, and none in common of different ones', () => {
    const mixed = toJson({ ...RESULT, modes: ['kernel', 'offload', 'kernel'] });
    expect(mixed).toMatchObject({ mode: null, modes: ['kernel', 'offload', 'kernel'] });
    expect(toJson({ ...RESULT, backend: labBackend('vxlan', true) })).toMatchObject({
      ...{ backend: 'vxlan', directRouting: true, device: 'flannel.1', mode: null, modes: null },
    });
    const hostGw = toJson({ ...RESULT, backend: labBackend('host-gw') });
    expect(hostGw).toMatchObject({ backend: 'host-gw', directRouting: false, device: null });
  });

  it('has null for what is not known, and never 0', () => {
    const unknown = { packets: undefined, passes: undefined };
    const hop = { where: 'host-1', device: 'flannel0', forward: unknown, back: unknown };
    const drop = {
      where: 'host-1 flannel.1',
      reason: 'queue full',
      cause: '-',
      packets: undefined,
    };
    const json = toJson({ ...RESULT, counts: { hops: [hop], drops: [drop] } });
    expect(json).toMatchObject({
      hops: [{ forward: null, back: null, forwardPasses: null, backPasses: null }],
      drops: [{ packets: null }],
    });
    const report = renderReport({ ...RESULT, counts: { hops: [hop], drops: [drop] } });
    expect(report).toMatch(/host-1 +flannel0 +not known +- +not known +-/);
    expect(report).toMatch(/host-1 flannel\.1 +queue full +not known/);
  });

  it('has no round trip when nothing came back', () => {
    const none = { sent: 20, received: 0, minMs: undefined, avgMs: undefined, maxMs: undefined };
    expect(toJson({ ...RESULT, pingForward: none, pingBack: none })).toMatchObject({
      ok: false,
      ping: { sent: 40, received: 0, avgMs: null },
    });
  });
});

describe('checksOf', () => {
  const failing: [string, Partial<LabResult>, string][] = [
    ['a lost ping', { pingBack: { ...PING, received: 19 } }, '19 of 20 came back'],
    ['no ping at all', { pingForward: { ...PING, sent: 0, received: 0 } }, '0 of 0 came back'],
    ['no TCP forward', { tcpForward: { gbps: 0, retransmits: 0 } }, '0.00 Gbit/s'],
    ['no TCP back', { tcpReverse: { gbps: 0, retransmits: 0 } }, '0.00 Gbit/s'],
    [
      'no UDP',
      { udp: { ...RESULT.udp, arrivedPackets: 0, receivedPackets: 0 } },
      '0 packets/s carried by the tunnel',
    ],
    [
      'a bad datagram',
      { capture: { ok: false, datagrams: 1, matched: 0, problems: ['datagram 1: bad'] } },
      'datagram 1: bad',
    ],
    ['a bad route', { routes: { ok: false, text: '', problems: ['missing: x'] } }, 'missing: x'],
    ...(['joined', 'left', 'returned'] as const).flatMap((change): typeof failing => [
      [
        `a third host that ${change} too late`,
        { thirdHost: { ...THIRD, [change]: { seconds: 5.004, pending: [] } } },
        'after 5.00 s, expected at most 5 s',
      ],
      [
        `a third host that never ${change}`,
        { thirdHost: { ...THIRD, [change]: { seconds: undefined, pending: ['x: silent', 'y'] } } },
        'not within 10 s: x: silent, y',
      ],
    ]),
    [
      'a ping lost because of the third host',
      { thirdHost: { ...THIRD, meanwhile: { sent: 150, received: 149 } } },
      '149 of 150 came back',
    ],
    [
      'no ping while the third host comes and goes',
      { thirdHost: { ...THIRD, meanwhile: { sent: 0, received: 0 } } },
      '0 of 0 came back',
    ],
    [
      'a key in etcd that is not right',
      { etcd: { ...ETCD, ok: false, problems: ['missing: /x', 'more'] } },
      'missing: /x',
    ],
  ];

  it('passes when all is well', () => {
    expect(checksOf(RESULT).filter(({ ok }) => !ok)).toEqual([]);
    expect(checksOf(ON_ETCD).filter(({ ok }) => !ok)).toEqual([]);
  });

  it.each(failing)('fails for %s, and says why', (_name, change, why) => {
    const result = { ...RESULT, ...change };
    const failed = checksOf(result).filter(({ ok }) => !ok);
    expect(failed.map(({ detail }) => detail)).toEqual([why]);
    expect(toJson(result)).toMatchObject({ ok: false });
    expect(renderReport(result)).toMatch(new RegExp(`✗ .*${why}`));
  });
});

describe('renderReport', () => {
  it.each([
    ['udp', false, /^Backend udp, mode batch, store/, /datagrams on UDP 8285 are exactly/],
    ['udp', true, /^Backend udp with DirectRouting, mode/, /packets between the hosts are exactly/],
    ['vxlan', false, /^Backend vxlan, store/, /frames on UDP 8472 are exactly .*, with VNI 1/],
    ['host-gw', false, /^Backend host-gw, store file, MTU/, /it leaves: no route to it, no answer/],
  ] as const)('is about backend %s, DirectRouting %s', (type, direct, head, check) => {
    const report = renderReport({ ...RESULT, backend: labBackend(type, direct) });
    expect(report).toMatch(head);
    expect(report).toMatch(check);
  });

  it('names the mode of each host where they differ', () => {
    const report = renderReport({ ...RESULT, modes: ['kernel', 'offload', 'kernel'] });
    expect(report).toContain('host-1 mode kernel, host-2 mode offload, host-3 mode kernel, store');
  });

  it('shows the neighbours and forwarding entries of a device', () => {
    const found = ['100.96.2.0 lladdr 02:00:00:00:00:01 PERMANENT'];
    const entries = {
      title: 'neighbours and forwarding entries of flannel.1',
      found,
      expected: [],
    };
    const report = renderReport({ ...RESULT, routes: { ...RESULT.routes, entries } });
    expect(report).toMatch(/2 routes, 1 neighbours and forwarding entries/);
    expect(report).toContain(`Node 1's ${entries.title}\n\n  ${found[0]}`);
  });

  it('shows kernel, MTU, loss, hops, drops and routes, and marks what passed', () => {
    const report = renderReport(RESULT);
    expect(report).toContain(
      'Backend udp, mode batch, store file, flannel0 MTU 1472, kernel 6.1.0',
    );
    expect(report).toMatch(
      /TCP container-1 to container-2 +1\.23 Gbit\/s +one stream, payload .*; 3 segments sent again/,
    );
    expect(report).toMatch(/host-1 flannel0 +queue full +1,000 +slow daemon/);
    expect(report).toMatch(/0\.100 ms +average of 20; least 0\.050, greatest 0\.400 ms/);
    expect(report).not.toContain('buffer full');
    expect(report).toContain('  default via 10.168.0.1 dev eth0\n  10.168.0.0/24 dev eth0');
    expect(report.match(/✓/g)).toHaveLength(11);
    expect(report).not.toContain('✗');
    expect(report).not.toContain('etcd');
  });

  it('tells what the tunnel carried from what the receiving program lost', () => {
    const report = renderReport(RESULT);
    expect(report).toMatch(
      /UDP 64 B, sent by container-1 +2,000 packets\/s +4,000 datagrams, as fast as/,
    );
    expect(report).toMatch(
      /UDP 64 B, carried by the tunnel +1,440 packets\/s +90\.0 % of those sent/,
    );
    expect(report).toMatch(
      /UDP 64 B, read in container-2 +1,200 packets\/s +75\.0 %; 15\.0 % lost in the reader's own socket/,
    );
    const none = { ...RESULT.udp, sentPackets: 0, arrivedPackets: 0, receivedPackets: 0 };
    expect(renderReport({ ...RESULT, udp: { ...none, sentSeconds: 0 } })).not.toMatch(/NaN|Infin/);
  });

  it('tells packets from passes at each hop', () => {
    const report = renderReport(RESULT);
    expect(report).toMatch(/packets 1 to 2 +in passes +packets 2 to 1 +in passes/);
    expect(report).toMatch(/host-1 +docker0 +12,345 +321 +67 +67/);
    expect(report).toMatch(/host-1 +daemon +12,340 +- +66 +-/);
    expect(report).toContain('A train of packets passes through a device as one.');
  });

  it('shows the times of the third host', () => {
    const report = renderReport(RESULT);
    expect(report).toMatch(/✓ +a third host joins and is reached, both ways +after 1\.23 s/);
    expect(report).toMatch(/✓ +it leaves: Destination Net Unreachable +after 0\.25 s/);
    expect(report).toMatch(/✓ +it comes back and is reached, both ways +after 5\.00 s/);
    expect(report).toMatch(/✓ +ping container-1 to container-2 meanwhile +150 of 150 came back/);
  });

  it('shows what is in etcd', () => {
    const report = renderReport(ON_ETCD);
    expect(report).toContain('store etcd at http://10.168.0.1:2379,');
    expect(report).toMatch(/✓ +etcd's keys and values are flannel's, byte for byte +2 of 2 keys/);
    expect(report).toMatch(/network\/config +\{\} +none/);
    expect(report).toMatch(/subnets\/100\.96\.1\.0-24 +v +24 h/);
  });

  it('says so when nothing was dropped', () => {
    const report = renderReport({ ...RESULT, counts: { hops: [], drops: [] } });
    expect(report).toMatch(/Drops, during ping and UDP\n\n {2}none/);
  });
});

describe('hops', () => {
  const FRAMED = { once: 42, each: 0 };
  const counter = (passes: number, bytes: number) => ({ passes, bytes });
  const reading = (hop: Partial<HopReading>, packets = 0): Reading => ({
    hops: [
      {
        where: 'host-1',
        device: 'eth0',
        train: FRAMED,
        forward: counter(0, 0),
        back: counter(0, 0),
        ...hop,
      },
    ],
    drops: [{ where: 'host-1', reason: 'no route', cause: 'slow', packets }],
  });

  it('are subtracted counter by counter, drop by drop', () => {
    const later = reading({ forward: counter(10, 900), back: counter(8, 80) }, 5);
    const earlier = reading({ forward: counter(3, 300), back: counter(2, 20) }, 1);
    expect(since(later, earlier)).toEqual(
      reading({ forward: counter(7, 600), back: counter(6, 60) }, 4),
    );
  });

  // Counted in the lab on Linux 6.18 while iperf3 sent 400,160 datagrams of 64 bytes, and 355,240 of
  // 1,372, in mode offload; and 385,080 in mode basic.
  it.each([
    ['container-1 eth0', 64, FRAMED, 400_180, 42_418_801, 400_160],
    ['host-1 flannel0', 64, { once: 28, each: 0 }, 399_784, 36_779_953, 399_784],
    ['host-1 eth0', 64, { once: 42, each: 28 }, 33_318, 38_179_433, 399_784],
    ['host-2 flannel0', 64, { once: 28, each: 0 }, 21_254, 26_181_113, 399_784],
    ['container-2 eth0', 64, FRAMED, 21_265, 26_479_635, 399_784],
    ['host-1 eth0', 1_372, { once: 42, each: 28 }, 53_021, 499_564_270, 355_255],
    ['container-2 eth0', 1_372, FRAMED, 47_173, 489_371_850, 355_255],
    ['host-2 eth0', 64, { once: 42, each: 28 }, 178_475, 23_915_069, 178_466],
  ])(
    'have the packets of trains: %s, %i bytes',
    (_name, payload, train, passes, bytes, carried) => {
      const { hops } = countPackets(reading({ train, forward: counter(passes, bytes) }), payload);
      const packets = hops[0]?.forward.packets ?? NaN;
      expect(Math.abs(packets - carried)).toBeLessThanOrEqual(25);
      expect(packets).toBeGreaterThanOrEqual(passes);
      expect(hops[0]?.forward.passes).toBe(passes);
    },
  );

  it('have a packet a pass where nothing travels in trains, and at a daemon', () => {
    const ping = reading({ forward: counter(20, 1_960), back: counter(20, 1_960) });
    expect(countPackets(ping).hops[0]).toMatchObject({
      forward: { packets: 20, passes: 20 },
      back: { packets: 20, passes: 20 },
    });
    const daemon = reading({ train: undefined, device: 'daemon', forward: counter(500, 9) });
    expect(countPackets(daemon, 64).hops[0]).toMatchObject({
      forward: { packets: 500, passes: undefined },
    });
  });

  it('have the eBPF programs where those carried packets', () => {
    const programs = { train: undefined, device: 'eBPF' };
    const idle = countPackets(reading(programs));
    const busy = countPackets(reading({ ...programs, back: counter(7, 70) }));
    expect(together(idle, idle).hops).toEqual([]);
    expect(together(idle, busy).hops).toMatchObject([{ device: 'eBPF', back: { packets: 7 } }]);
    const report = renderReport({ ...RESULT, counts: together(idle, busy) });
    expect(report).toContain('What the eBPF programs carry never reaches the daemon');
    expect(renderReport(RESULT)).not.toContain('eBPF');
  });

  it('are not known where one of two readings is not', () => {
    const lost = reading({ forward: undefined });
    expect(since(reading({}), lost).hops[0]).toMatchObject({ forward: undefined });
    const { hops } = together(countPackets(lost, 64), countPackets(reading({}), 64));
    expect(hops[0]?.forward).toEqual({ packets: undefined, passes: undefined });
    expect(hops[0]?.back).toEqual({ packets: 0, passes: 0 });
  });

  it('of two times are added', () => {
    const ping = countPackets(reading({ forward: counter(20, 1_960) }, 1));
    const udp = countPackets(reading({ forward: counter(2, 2 * 42 + 7 * 64) }, 2), 64);
    expect(together(ping, udp)).toMatchObject({
      hops: [{ forward: { packets: 27, passes: 22 } }],
      drops: [{ packets: 3 }],
    });
  });
});

describe('parsePing', () => {
  const output = (lines: readonly string[], counts: string, times = ''): string =>
    ['PING 100.96.2.3 (100.96.2.3) 56(84) bytes of data.', ...lines, '']
      .concat('--- 100.96.2.3 ping statistics ---', counts, times)
      .join('\n');
  const answer = (request: number): string =>
    `64 bytes from 100.96.2.3: icmp_seq=${request} ttl=60 time=0.157 ms`;
  const error = (request: number): string =>
    `From 100.96.1.0 icmp_seq=${request} Destination Net Unreachable`;

  it('reads counts and times', () => {
    const text = output(
      [1, 2, 4].map(answer),
      '4 packets transmitted, 3 received, 25% packet loss, time 1927ms',
      'rtt min/avg/max/mdev = 0.048/0.157/0.411/0.084 ms',
    );
    expect(parsePing(text, 4)).toEqual({
      sent: 4,
      received: 3,
      minMs: 0.048,
      avgMs: 0.157,
      maxMs: 0.411,
    });
  });

  it('counts no duplicates and no errors', () => {
    const twice = [answer(1), answer(2), `${answer(2)} (DUP!)`];
    const counts = '2 packets transmitted, 2 received, +1 duplicates, 0% packet loss';
    expect(parsePing(output(twice, counts), 2)).toMatchObject({ sent: 2, received: 2 });
    const errors = output([1, 2].map(error), '2 packets transmitted, 0 received, +2 errors');
    expect(parsePing(errors, 2)).toMatchObject({ sent: 2, received: 0, avgMs: undefined });
  });

  it('leaves out what was sent while the last answer was late, or one was missing', () => {
    const late = output([1, 2, 3].map(answer), '4 packets transmitted, 3 received');
    expect(parsePing(late, 3)).toMatchObject({ sent: 3, received: 3 });
    const missing = output([1, 3, 4].map(answer), '4 packets transmitted, 3 received');
    expect(parsePing(missing, 3)).toMatchObject({ sent: 3, received: 2 });
  });

  it('refuses output without a summary', () => {
    expect(() => parsePing('ping: connect: Network is unreachable', 1)).toThrow(/no summary/);
  });
});

describe('parseProbe', () => {
  const answer = (line: string, counts: string): string =>
    `PING 100.96.3.4 (100.96.3.4) 56(84) bytes of data.\n${line}\n--- 100.96.3.4 ping statistics ---\n${counts}\n`;

  it.each([
    ['answered', '64 bytes from 100.96.3.4: icmp_seq=1 ttl=60', '1 received, 0% packet loss'],
    [
      'net unreachable',
      'From 100.96.1.0 icmp_seq=1 Destination Net Unreachable',
      '0 received, +1 errors',
    ],
    [
      'host unreachable',
      'From 100.96.1.1 icmp_seq=1 Destination Host Unreachable',
      '0 received, +1 errors',
    ],
    [
      'other error',
      'From 100.96.1.1 icmp_seq=1 Destination Protocol Unreachable',
      '0 received, +1 errors',
    ],
    ['silent', '', '0 received, 100% packet loss'],
  ])('tells %s', (outcome, line, counts) => {
    expect(parseProbe(answer(line, `1 packets transmitted, ${counts}`))).toBe(outcome);
  });
});

describe('explainKept', () => {
  it('names every host and container, and how to see the leases', () => {
    const text = explainKept(4711, 'etcd');
    for (const number of [1, 2, 3]) {
      for (const name of [`host-${number}`, `container-${number}`]) {
        expect(text).toMatch(
          new RegExp(`nsenter --target 4711 .*--net=/proc/4711/root/run/netns/${name} bash`),
        );
      }
    }
    expect(text).toContain('host-3 10.168.0.4, container-3 100.96.3.4');
    expect(text).toContain('etcdctl --endpoints=http://10.168.0.1:2379');
    expect(explainKept(4711, 'file')).toContain('cat /run/flannelette-lab/leases.json');
  });
});

describe('checkIsolation', () => {
  it('names a missing program of the store and its Debian package', async () => {
    await expect(checkIsolation({ 'no-such-etcd': 'etcd-server' })).rejects.toThrow(
      /not installed: .*no-such-etcd \(Debian package etcd-server\)/,
    );
  });
});

describe('hostPlan', () => {
  it("gives the documents' addresses to the first two hosts", () => {
    expect(hostPlan(1)).toMatchObject({
      host: 'host-1',
      address: '10.168.0.2',
      subnet: '100.96.1.0/24',
      tunAddress: '100.96.1.0',
      bridgeAddress: '100.96.1.1',
      containerAddress: '100.96.1.2',
    });
    expect(hostPlan(2)).toMatchObject({
      address: '10.168.0.3',
      bridgeAddress: '100.96.2.1',
      containerAddress: '100.96.2.3',
    });
  });
});

describe('lastWords', () => {
  it('takes plain lines and logged errors, not news', () => {
    const log = (level: number, msg: string): string => JSON.stringify({ level, msg });
    const stderr = [log(30, 'forwarding'), log(50, 'lease lost'), 'no such device', ''].join('\n');
    expect(lastWords(stderr)).toBe('lease lost; no such device');
    expect(lastWords(log(30, 'forwarding'))).toBe('');
    expect(lastWords('')).toBe('');
  });

  it('keeps to the last three and passes over a cut line', () => {
    expect(lastWords('{"level":50,"ms\none\ntwo\nthree\nfour')).toBe('two; three; four');
  });
});
