/**
 * Who may send into the tunnel: only the holder of the lease of a packet's source, or a lease holder
 * whose PublicIP is the packet's source, and only to this host's own subnet. A third host on the
 * switch plays the stranger.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ipv4Packet } from '../support/packets.js';
import { inNamespace, run } from '../../src/testbed/programs.js';
import { writeLeaseFile } from '../../src/testbed/daemon-process.js';
import { addHost, hostPlan, ipBatch, removeHost } from '../../src/testbed/topology.js';
import { ping } from '../../src/testbed/traffic.js';
import {
  counters,
  linkPackets,
  sendDatagrams,
  TestLab,
  waitForDrops,
} from '../support/test-lab.js';

const stranger = hostPlan(3);
const good = { source: '100.96.2.3', destination: '100.96.1.2' };

describe('with the source check', () => {
  let lab: TestLab;
  beforeAll(async () => {
    lab = await TestLab.setUp();
    await addHost(stranger);
  });
  afterAll(async () => {
    await removeHost(stranger);
    await lab.tearDown();
  });

  it.each([
    ['a host without a lease', 'unknown_source', stranger, good],
    [
      'an inner source of another subnet',
      'source_mismatch',
      hostPlan(2),
      { source: '100.96.7.7', destination: '100.96.1.2' },
    ],
    [
      "an inner source of the receiver's own subnet",
      'source_mismatch',
      hostPlan(2),
      { source: '100.96.1.9', destination: '100.96.1.2' },
    ],
    [
      'a host without a lease that names itself',
      'unknown_source',
      stranger,
      { source: stranger.address, destination: '100.96.1.2' },
    ],
    [
      "an inner source that is another node's own address",
      'source_mismatch',
      hostPlan(2),
      { source: stranger.address, destination: '100.96.1.2' },
    ],
    [
      "an inner source that is the receiver's own address",
      'source_mismatch',
      hostPlan(2),
      { source: hostPlan(1).address, destination: '100.96.1.2' },
    ],
    [
      'an inner source from outside',
      'source_mismatch',
      hostPlan(2),
      { source: '8.8.8.8', destination: '100.96.1.2' },
    ],
    [
      "a lease holder's own address on its way elsewhere",
      'foreign_destination',
      hostPlan(2),
      { source: hostPlan(2).address, destination: '8.8.8.8' },
    ],
    [
      'an inner destination elsewhere',
      'foreign_destination',
      hostPlan(2),
      { source: '100.96.2.3', destination: '8.8.8.8' },
    ],
  ] as const)('refuses %s', async (_what, reason, from, addresses) => {
    const before = (await counters(lab.nearDaemon, 'decapsulate')).drops[reason] ?? 0;
    const device = await linkPackets(lab.near.host, 'flannel0');
    await sendDatagrams(from, lab.near.address, [ipv4Packet(addresses)]);
    const drops = await waitForDrops(lab.nearDaemon, 'decapsulate', reason, before + 1);
    expect(drops[reason]).toBe(before + 1);
    expect((await linkPackets(lab.near.host, 'flannel0')).rx).toBe(device.rx);
  });

  it.each([
    ['from its subnet', good.source],
    ['from its own address', hostPlan(2).address],
  ])('delivers what the lease holder sends %s', async (_what, source) => {
    const device = await linkPackets(lab.near.host, 'flannel0');
    await sendDatagrams(lab.far, lab.near.address, [ipv4Packet({ ...good, source })]);
    await expect
      .poll(async () => (await linkPackets(lab.near.host, 'flannel0')).rx)
      .toBe(device.rx + 1);
  });
});

/** Node 2 sends as 10.168.0.30, the PublicIP of its lease, and has 10.168.0.3 itself. */
describe('behind a NAT', () => {
  const publicIp = '10.168.0.30';
  let lab: TestLab;
  beforeAll(async () => {
    lab = await TestLab.bare(2);
    const hosts = [lab.near, { ...lab.far, address: publicIp }];
    await writeLeaseFile(hosts);
    await ipBatch(lab.far.host, [`address add ${publicIp}/32 dev eth0`]);
    const udp = ['-p', 'udp', '-j'];
    const nat = (...argv: string[]) =>
      run(inNamespace(lab.far.host, ['iptables', '-w', '-t', 'nat', ...argv]));
    await nat('-A', 'POSTROUTING', '-o', 'eth0', ...udp, 'SNAT', '--to-source', publicIp);
    await nat('-A', 'PREROUTING', '-d', publicIp, ...udp, 'DNAT', '--to', lab.far.address);
    for (const plan of lab.hosts) {
      const flags = plan === lab.far ? [`--public-ip=${publicIp}`] : [];
      await lab.attachContainer(await lab.startDaemon(plan, { flags }));
      const off = ['all', 'flannel0'].map((name) => `net.ipv4.conf.${name}.rp_filter=0`);
      await run(inNamespace(plan.host, ['sysctl', '-qw', ...off]));
    }
  });
  afterAll(() => lab.tearDown());

  const pings = { count: 3, intervalSeconds: 0.02 };

  it('containers reach each other, and the node at its PublicIP', async () => {
    for (const address of [lab.far.containerAddress, publicIp]) {
      expect(await ping(lab.near, address, pings)).toMatchObject({ received: 3 });
    }
    const { drops } = await counters(lab.nearDaemon, 'decapsulate');
    expect(drops).toMatchObject({ unknown_source: 0, source_mismatch: 0 });
  });

  it('answers from an address that its lease does not name are refused', async () => {
    const { drops } = await counters(lab.nearDaemon, 'decapsulate');
    expect(await ping(lab.near, lab.far.address, pings)).toMatchObject({ received: 0 });
    const before = drops['source_mismatch'] ?? 0;
    await waitForDrops(lab.nearDaemon, 'decapsulate', 'source_mismatch', before + 3);
  });
});

describe('with --source-check=false', () => {
  let lab: TestLab;
  beforeAll(async () => {
    lab = await TestLab.setUp({ flags: ['--source-check=false'] });
    await addHost(stranger);
  });
  afterAll(async () => {
    await removeHost(stranger);
    await lab.tearDown();
  });

  it('delivers what a stranger sends', async () => {
    const device = await linkPackets(lab.near.host, 'flannel0');
    await sendDatagrams(stranger, lab.near.address, [ipv4Packet(good)]);
    await expect
      .poll(async () => (await linkPackets(lab.near.host, 'flannel0')).rx)
      .toBe(device.rx + 1);
  });
});
