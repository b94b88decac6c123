import { describe, expect, it } from 'vitest';
import { lastWords } from '../../src/lab/daemon-process.js';
import { since, type HopCounts } from '../../src/lab/hops.js';
import { checksOf, renderReport, toJson, type LabResult } from '../../src/lab/report.js';
import { hostPlan } from '../../src/lab/topology.js';
import { parsePing } from '../../src/lab/traffic.js';

const PING = { sent: 20, received: 20, minMs: 0.05, avgMs: 0.1, maxMs: 0.4 };

const RESULT: LabResult = {
  mode: 'batch',
  kernel: '6.1.0',
  mtu: 1472,
  pingForward: PING,
  pingBack: { ...PING, avgMs: 0.2 },
  tcpForward: { gbps: 1.2346, retransmits: 3 },
  tcpReverse: { gbps: 2, retransmits: 0 },
  udp: {
    payloadBytes: 64,
    sentPackets: 4_000,
    receivedPackets: 3_000,
    receivedPps: 1_499.6,
    seconds: 2,
  },
  capture: { ok: true, datagrams: 48, matched: 48, problems: [] },
  routes: {
    ok: true,
    text: 'default via 10.168.0.1 dev eth0\n10.168.0.0/24 dev eth0',
    problems: [],
  },
  counts: {
    hops: [{ where: 'host-1', device: 'docker0', forward: 12_345, back: 67 }],
    drops: [
      { where: 'host-1 flannel0', reason: 'queue full', packets: 1_000 },
      { where: 'container-2 UDP socket', reason: 'buffer full', packets: 0 },
    ],
  },
};

describe('toJson', () => {
  it('holds what the contract promises', () => {
    expect(toJson(RESULT)).toMatchObject({
      ok: true,
      mode: 'batch',
      kernel: '6.1.0',
      mtu: 1472,
      ping: { sent: 40, received: 40, avgMs: 0.15 },
      tcp: { forwardGbps: 1.235, reverseGbps: 2 },
      udp: { receivedPps: 1500 },
      captureOk: true,
    });
  });

  it('lists only drops that happened', () => {
    expect(toJson(RESULT)).toMatchObject({
      drops: [{ where: 'host-1 flannel0', reason: 'queue full', packets: 1_000 }],
    });
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
      { udp: { ...RESULT.udp, receivedPackets: 0, receivedPps: 0 } },
      '0 packets/s received',
    ],
    [
      'a bad datagram',
      { capture: { ok: false, datagrams: 1, matched: 0, problems: ['datagram 1: bad'] } },
      'datagram 1: bad',
    ],
    ['a bad route', { routes: { ok: false, text: '', problems: ['missing: x'] } }, 'missing: x'],
  ];

  it('passes when all is well', () => {
    expect(checksOf(RESULT).filter(({ ok }) => !ok)).toEqual([]);
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
  it('shows kernel, MTU, loss, hops, drops and routes, and marks what passed', () => {
    const report = renderReport(RESULT);
    expect(report).toContain('Mode batch, flannel0 MTU 1472, kernel 6.1.0');
    expect(report).toMatch(/TCP container-1 to container-2 +1\.23 Gbit\/s +3 retransmits/);
    expect(report).toMatch(/1,500 packets\/s +25\.0 % of what one sender can send was dropped/);
    expect(report).toMatch(/host-1 +docker0 +12,345 +67/);
    expect(report).toMatch(/host-1 flannel0 +queue full +1,000/);
    expect(report).not.toContain('buffer full');
    expect(report).toContain('  default via 10.168.0.1 dev eth0\n  10.168.0.0/24 dev eth0');
    expect(report.match(/✓/g)).toHaveLength(7);
    expect(report).not.toContain('✗');
  });

  it('says so when nothing was dropped', () => {
    const report = renderReport({ ...RESULT, counts: { hops: [], drops: [] } });
    expect(report).toMatch(/Drops, during ping and UDP\n\n {2}none/);
  });
});

describe('since', () => {
  it('subtracts hop by hop and drop by drop', () => {
    const at = (forward: number, back: number, packets: number): HopCounts => ({
      hops: [{ where: 'host-1', device: 'eth0', forward, back }],
      drops: [{ where: 'host-1', reason: 'no route', packets }],
    });
    expect(since(at(10, 8, 5), at(3, 2, 1))).toEqual(at(7, 6, 4));
  });
});

describe('parsePing', () => {
  const summary = (counts: string, times = ''): string =>
    `PING 100.96.2.3 (100.96.2.3) 56(84) bytes of data.\n\n--- 100.96.2.3 ping statistics ---\n${counts}\n${times}\n`;

  it('reads counts and times', () => {
    const output = summary(
      '20 packets transmitted, 19 received, 5% packet loss, time 1927ms',
      'rtt min/avg/max/mdev = 0.048/0.157/0.411/0.084 ms',
    );
    expect(parsePing(output)).toEqual({
      sent: 20,
      received: 19,
      minMs: 0.048,
      avgMs: 0.157,
      maxMs: 0.411,
    });
  });

  it('reads duplicates and errors beside the counts', () => {
    const output = summary('3 packets transmitted, 3 received, +2 duplicates, 0% packet loss');
    expect(parsePing(output)).toMatchObject({ sent: 3, received: 3 });
    const errors = summary('4 packets transmitted, 0 received, +4 errors, 100% packet loss');
    expect(parsePing(errors)).toMatchObject({ sent: 4, received: 0, avgMs: undefined });
  });

  it('refuses output without a summary', () => {
    expect(() => parsePing('ping: connect: Network is unreachable')).toThrow(/no summary/);
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
