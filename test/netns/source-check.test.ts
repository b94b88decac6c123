/**
 * Who may send into the tunnel: only the holder of the lease of a packet's source, and only to this
 * host's own subnet. A third host on the switch plays the stranger.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ipv4Packet } from '../support/packets.js';
import { addHost, hostPlan, removeHost } from '../../src/lab/topology.js';
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
    lab = await TestLab.raise();
    await addHost(stranger);
  });
  afterAll(async () => {
    await removeHost(stranger);
    await lab.lower();
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

  it('delivers what the lease holder sends', async () => {
    const device = await linkPackets(lab.near.host, 'flannel0');
    await sendDatagrams(lab.far, lab.near.address, [ipv4Packet(good)]);
    await expect
      .poll(async () => (await linkPackets(lab.near.host, 'flannel0')).rx)
      .toBe(device.rx + 1);
  });
});

describe('with --source-check=false', () => {
  let lab: TestLab;
  beforeAll(async () => {
    lab = await TestLab.raise({ flags: ['--source-check=false'] });
    await addHost(stranger);
  });
  afterAll(async () => {
    await removeHost(stranger);
    await lab.lower();
  });

  it('delivers what a stranger sends', async () => {
    const device = await linkPackets(lab.near.host, 'flannel0');
    await sendDatagrams(stranger, lab.near.address, [ipv4Packet(good)]);
    await expect
      .poll(async () => (await linkPackets(lab.near.host, 'flannel0')).rx)
      .toBe(device.rx + 1);
  });
});
