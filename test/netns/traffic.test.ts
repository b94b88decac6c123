/**
 * The tunnel end to end, in each mode: real daemons, devices and traffic.
 *
 *   container-1 -- docker0 -- flannel0 -- daemon ~~ UDP 8285 ~~ daemon -- flannel0 -- docker0 -- container-2
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkCapture, startCaptures } from '../../src/testbed/capture.js';
import { inNamespace, run } from '../../src/testbed/programs.js';
import { checkRoutes } from '../../src/lab/scenario/routes-check.js';
import type { HostPlan } from '../../src/testbed/topology.js';
import { IperfTarget, ping } from '../../src/testbed/traffic.js';
import { ipv4Packet } from '../support/packets.js';
import {
  counters,
  linkPackets,
  sendDatagrams,
  TestLab,
  waitForDrops,
} from '../support/test-lab.js';

describe.each(['basic', 'batch', 'offload'] as const)('mode %s', (mode) => {
  let lab: TestLab;
  beforeAll(async () => {
    lab = await TestLab.setUp({ mode });
  });
  afterAll(() => lab.tearDown());

  it('pings both ways, and loses nothing', async () => {
    for (const [from, to] of [
      [lab.near, lab.far],
      [lab.far, lab.near],
    ] as const) {
      const { sent, received } = await ping(from, to.containerAddress, {
        count: 50,
        intervalSeconds: 0.01,
      });
      expect({ sent, received }).toEqual({ sent: 50, received: 50 });
    }
  });

  it('carries TCP both ways and UDP', async () => {
    const target = new IperfTarget(lab.far);
    const forward = await target.tcp(lab.near, { seconds: 1 });
    const reverse = await target.tcp(lab.near, { seconds: 1, reverse: true });
    const udp = await target.udp(lab.near, { seconds: 1, bytes: 64 });
    expect(forward.gbps).toBeGreaterThan(0);
    expect(reverse.gbps).toBeGreaterThan(0);
    expect(udp.receivedPackets).toBeGreaterThan(0);
    const { batchSizes, sentPackets } = await counters(lab.nearDaemon, 'encapsulate');
    const batches = batchSizes.reduce((sum, count) => sum + count, 0);
    if (mode === 'basic') expect(batches).toBe(sentPackets);
    else expect(batches).toBeLessThan(sentPackets / 2);
  });

  it('puts exactly the inner packet into each datagram', async () => {
    const sideOf = ({ address, containerAddress }: HostPlan) => ({
      ...{ hostAddress: address, containerAddress, ttlTaken: 2 },
    });
    const captures = await startCaptures(lab.near, lab.far);
    for (const size of [0, 1, 56, 1444]) {
      await ping(lab.near, lab.far.containerAddress, { count: 2, size, dontFragment: true });
    }
    await captures.settle(16);
    const frames = await captures.stop();
    const check = checkCapture({
      wire: frames.wire,
      sides: [
        { ...sideOf(lab.near), frames: frames.near },
        { ...sideOf(lab.far), frames: frames.far },
      ],
    });
    expect(check).toEqual({ ok: true, datagrams: 16, matched: 16, problems: [] });
  });

  it("has the documents' routes", async () => {
    expect(await checkRoutes(lab.near)).toMatchObject({ ok: true, problems: [] });
  });

  it('takes one from the TTL at each end and answers with Time Exceeded', async () => {
    const argv = ['traceroute', '-n', '-q', '1', '-w', '2', lab.far.containerAddress];
    const { stdout } = await run(inNamespace(lab.near.container, argv), { timeoutMs: 30_000 });
    const hops = [...stdout.matchAll(/^\s*\d+\s+([\d.]+|\*)/gm)].map(([, address]) => address);
    // Host 1 forwards, the tunnel's ends each take one, host 2 forwards. The near end answers its own
    // containers from their gateway.
    expect(hops).toEqual(['100.96.1.1', '100.96.1.1', '100.96.2.0', '100.96.2.0', '100.96.2.3']);
    expect((await counters(lab.nearDaemon, 'encapsulate')).icmpTimeExceeded).toBeGreaterThan(0);
    expect((await counters(lab.farDaemon, 'decapsulate')).icmpTimeExceeded).toBeGreaterThan(0);
  });

  it('answers an unknown destination with net-unreachable at once', async () => {
    const before = await counters(lab.nearDaemon, 'encapsulate');
    const started = Date.now();
    const argv = ['ping', '-n', '-c', '1', '-W', '5', '100.96.9.9'];
    const { stdout, code } = await run(inNamespace(lab.near.container, argv), { accept: [1] });
    expect(code).toBe(1);
    expect(stdout).toContain('From 100.96.1.1 icmp_seq=1 Destination Net Unreachable');
    // Far below the 5 s ping would wait for silence.
    expect(Date.now() - started).toBeLessThan(2_000);
    const after = await counters(lab.nearDaemon, 'encapsulate');
    expect(after.drops['no_route']).toBe((before.drops['no_route'] ?? 0) + 1);
    expect(after.icmpUnreachable).toBe(before.icmpUnreachable + 1);
  });

  it('delivers no IPv6 and no garbage', async () => {
    const addresses = { source: '100.96.2.3', destination: '100.96.1.2' };
    const faulty: Record<string, Buffer[]> = {
      short: [0, 1, 19].map((size) => Buffer.alloc(size, 0x45)),
      bad_version: [
        ipv4Packet({ ...addresses, version: 6, payload: Buffer.alloc(40) }),
        Buffer.alloc(100, 0xff),
        Buffer.alloc(100, 0),
      ],
      bad_header: [
        ipv4Packet({ ...addresses, headerWords: 4 }),
        ipv4Packet({ ...addresses, headerWords: 15 }),
      ],
      bad_length: [
        ipv4Packet({ ...addresses, totalLength: 21 }),
        ipv4Packet({ ...addresses, totalLength: 19 }),
      ],
      bad_checksum: [ipv4Packet({ ...addresses, checksum: 0x1234 })],
    };
    const before = await counters(lab.nearDaemon, 'decapsulate');
    const device = await linkPackets(lab.near.host, 'flannel0');
    for (const [reason, datagrams] of Object.entries(faulty)) {
      await sendDatagrams(lab.far, lab.near.address, datagrams);
      const expected = (before.drops[reason] ?? 0) + datagrams.length;
      const drops = await waitForDrops(lab.nearDaemon, 'decapsulate', reason, expected);
      expect(drops[reason]).toBe(expected);
    }
    expect((await linkPackets(lab.near.host, 'flannel0')).rx).toBe(device.rx);
  });

  it('takes datagrams of every size, and goes on', async () => {
    const sizes = [20, 21, 27, 28, 1471, 1472, 1473, 9000, 65507];
    const before = await counters(lab.nearDaemon, 'decapsulate');
    const device = await linkPackets(lab.near.host, 'flannel0');
    const datagrams = sizes.map((size) =>
      ipv4Packet({
        source: lab.far.containerAddress,
        destination: lab.near.containerAddress,
        payload: Buffer.alloc(size - 20, 0x5a),
      }),
    );
    await sendDatagrams(lab.far, lab.near.address, datagrams);
    // Whole or not at all: each is written as it is, whatever its length.
    await expect
      .poll(async () => (await counters(lab.nearDaemon, 'decapsulate')).sentPackets)
      .toBe(before.sentPackets + sizes.length);
    const after = await counters(lab.nearDaemon, 'decapsulate');
    expect(after.sentBytes - before.sentBytes).toBe(sizes.reduce((sum, size) => sum + size, 0));
    expect((await linkPackets(lab.near.host, 'flannel0')).rx).toBe(device.rx + sizes.length);
    const garbage = [65507, 32768, 1500].map((size) => Buffer.alloc(size, 0x77));
    await sendDatagrams(lab.far, lab.near.address, garbage);
    const dropped = (before.drops['bad_version'] ?? 0) + garbage.length;
    await waitForDrops(lab.nearDaemon, 'decapsulate', 'bad_version', dropped);
    expect(await ping(lab.near, lab.far.containerAddress, { count: 2 })).toMatchObject({
      received: 2,
    });
  });
});
