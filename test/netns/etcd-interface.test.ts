/**
 * The external interface changes under a running daemon: the lease, the tunnel and subnet.env follow,
 * the subnet stays.
 *
 *   host-1 eth0: 10.168.0.2 -> 10.168.0.22, MTU 1500 -> 1400 -> 9000, gone and back, down and up
 */
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { inNamespace, run } from '../../src/testbed/programs.js';
import { ipBatch } from '../../src/testbed/topology.js';
import { attributes, EtcdLab, type EtcdDaemon } from '../support/etcd-lab.js';

let lab: EtcdLab;
beforeAll(async () => {
  lab = await EtcdLab.setUp();
});
afterAll(() => lab.tearDown());
beforeEach(() => lab.configure());
afterEach(async () => {
  await lab.reset();
  await ipBatch(lab.near.host, [
    'link set eth0 up mtu 1500',
    'address flush dev eth0',
    `address add ${lab.near.address}/24 dev eth0`,
    'route replace default via 10.168.0.1 dev eth0',
  ]);
});

async function bothWays(deadlineMs: number): Promise<void> {
  await lab.reaches(lab.near, lab.far.tunAddress, deadlineMs);
  await lab.reaches(lab.far, lab.near.tunAddress, deadlineMs);
}
const ready = (daemon: EtcdDaemon, deadlineMs: number) => daemon.ready(deadlineMs);

it('another address: the same key tells it, and the tunnel works again within 5 s', async () => {
  const { near, far } = await lab.startBoth();
  const before = await lab.stored('100.96.1.0/24');
  await ipBatch(lab.near.host, [
    'address delete 10.168.0.2/24 dev eth0',
    'address add 10.168.0.22/24 dev eth0',
    'route replace default via 10.168.0.1 dev eth0',
  ]);
  const began = performance.now();
  await near.until('a lease with the new address', 10_000, async () => {
    return (await lab.stored('100.96.1.0/24'))?.value.toString() === attributes('10.168.0.22');
  });
  await bothWays(5_000);
  expect(performance.now() - began).toBeLessThan(5_000);
  expect(await lab.leases()).toEqual(['100.96.1.0-24', '100.96.2.0-24']);
  // The same key, written anew: nobody took the route away in between.
  expect((await lab.stored('100.96.1.0/24'))?.create_revision).toBe(before?.create_revision);
  await ready(near, 5_000);
  expect((await near.status()).external).toMatchObject({
    address: '10.168.0.22',
    publicIp: '10.168.0.22',
  });
  expect((await far.status()).routes).toEqual([
    { subnet: '100.96.1.0/24', nextHop: '10.168.0.22', way: 'tunnel' },
  ]);
  // The store is followed from the new address.
  await lab.putLease('100.96.40.0/24', '10.168.0.40');
  await near.until('a new route', 5_000, async () => (await near.status()).routes.length === 2);
});

it('another MTU: device and subnet.env follow, down and up', async () => {
  const { near } = await lab.startBoth();
  expect(await near.subnetEnv()).toContain('FLANNEL_MTU=1472\n');
  for (const [mtu, inner] of [
    [1400, 1372],
    [9000, 8972],
  ] as const) {
    await ipBatch(lab.near.host, [`link set eth0 mtu ${mtu}`]);
    await near.until(`MTU ${inner}`, 5_000, async () => {
      const { mtu: now, ready: forwards } = await near.status();
      return now === inner && forwards;
    });
    expect(await near.subnetEnv()).toContain(`FLANNEL_MTU=${inner}\n`);
    const { stdout } = await run(
      inNamespace(lab.near.host, ['ip', '-j', 'link', 'show', 'flannel0']),
    );
    expect(JSON.parse(stdout)).toMatchObject([{ mtu: inner }]);
    await bothWays(5_000);
  }
  expect(await lab.leases()).toEqual(['100.96.1.0-24', '100.96.2.0-24']);
});

it('another MTU while the store is away: forwarding goes on with the lease in force', async () => {
  const { near } = await lab.startBoth();
  await lab.killStore();
  await ipBatch(lab.near.host, ['link set eth0 mtu 1400']);
  await near.until('the new MTU', 5_000, async () => {
    const { mtu, ready: forwards } = await near.status();
    return mtu === 1372 && forwards;
  });
  expect(await near.subnetEnv()).toContain('FLANNEL_MTU=1372\n');
  await bothWays(5_000);
});

it('an address that goes for seconds and comes back: the tunnel is back within 5 s', async () => {
  const { near } = await lab.startBoth();
  await ipBatch(lab.near.host, ['address delete 10.168.0.2/24 dev eth0']);
  await near.logged('no external interface now; waiting', 5_000);
  // It takes no other subnet, and does not end.
  expect((await near.status()).lease).toMatchObject({ subnet: '100.96.1.0/24', lost: null });
  await ipBatch(lab.near.host, ['address add 10.168.0.2/24 dev eth0']);
  await bothWays(5_000);
  await ready(near, 5_000);
  await near.until('the store', 10_000, async () => (await near.readyz()).detail.store.ok);
});

it('a link that goes down for seconds and comes up: the tunnel is back within 5 s', async () => {
  const { near } = await lab.startBoth();
  await ipBatch(lab.near.host, ['link set eth0 down']);
  const lost = lab.stream(lab.far, lab.near.tunAddress);
  const argv = ['ping', '-q', '-n', '-c', '3', '-W', '1', lab.far.tunAddress];
  await run(inNamespace(lab.near.host, argv), { accept: [1, 2] });
  expect(near.program.running).toBe(true);
  expect((await lost.end()).received).toBe(0);
  await ipBatch(lab.near.host, ['link set eth0 up']);
  await bothWays(5_000);
  await ready(near, 5_000);
  expect((await near.status()).lease?.subnet).toBe('100.96.1.0/24');
  await near.until('the store', 10_000, async () => (await near.readyz()).detail.store.ok);
});
