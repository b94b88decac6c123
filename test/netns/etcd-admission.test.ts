/**
 * Leases as they are found in clusters, judged by real routes: flannel's README network and the
 * documents' own 10.0.0.0/8 over hosts at 10.168.0.x, keys of other lengths and forms, and what is no
 * route and must hinder nobody.
 */
import { writeFile } from 'node:fs/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { ipBatch } from '../../src/testbed/topology.js';
import {
  attributes,
  EtcdLab,
  leaseKey,
  subnetFileOf,
  type EtcdDaemon,
} from '../support/etcd-lab.js';

let lab: EtcdLab;
beforeAll(async () => {
  lab = await EtcdLab.setUp();
});
afterAll(() => lab.tearDown());
afterEach(() => lab.reset());

const README = {
  Network: '10.0.0.0/8',
  SubnetLen: 20,
  SubnetMin: '10.10.0.0',
  SubnetMax: '10.99.0.0',
  Backend: { Type: 'udp', Port: 7890 },
};
const WIDE = { Network: '10.0.0.0/8', Backend: { Type: 'udp' } };

const routesOf = async (daemon: EtcdDaemon): Promise<Record<string, string>> =>
  Object.fromEntries(
    (await daemon.status()).routes.map(({ subnet, nextHop }) => [subnet, nextHop]),
  );
const ownOf = async (daemon: EtcdDaemon): Promise<string> =>
  (await daemon.status()).lease?.subnet ?? '';
const reasonsOf = async (daemon: EtcdDaemon): Promise<Record<string, string>> =>
  Object.fromEntries((await daemon.status()).rejected.map(({ key, reason }) => [key, reason]));
const problemsOf = async (daemon: EtcdDaemon): Promise<string[]> =>
  (await daemon.status()).problems.map(({ id }) => id);
const put = (name: string, value: string) => lab.client.put(leaseKey(name)).value(value);

describe('a Network over the hosts themselves', () => {
  it.each([
    ["flannel's README", README, []],
    ["the documents' 10.0.0.0/8", WIDE, []],
    ['the same with --ip-masq', WIDE, ['--ip-masq']],
  ])('%s: each node is a route of the other, and packets go', async (_name, config, flags) => {
    await lab.configure(config);
    const near = await lab.start(lab.near, { earlier: null, flags });
    const far = await lab.start(lab.far, { earlier: null, flags });
    await Promise.all([near.ready(), far.ready()]);
    await near.until('a route', 5_000, async () => (await near.metric('routes')) === 1);
    const tunnel = (await ownOf(far)).replace(/\/\d+$/, '');
    await lab.reaches(lab.near, tunnel);
    const stream = lab.stream(lab.near, tunnel);
    // The underlay is as it was: hosts reach each other beside the tunnel.
    await lab.reaches(lab.near, '10.168.0.3');
    const { sent, received } = await stream.end();
    expect(received).toBe(sent);
    expect([await reasonsOf(near), await problemsOf(near)]).toEqual([{}, []]);
  });

  it('a lease that covers the hosts takes none of them away, and is itself no route', async () => {
    await lab.configure(WIDE);
    await lab.putLease('10.168.0.0/24', '10.168.0.9');
    const near = await lab.start(lab.near, { earlier: null });
    const far = await lab.start(lab.far, { earlier: null });
    await Promise.all([near.ready(), far.ready()]);
    await near.until('the route', 5_000, async () => (await near.metric('routes')) === 1);
    await lab.reaches(lab.near, (await ownOf(far)).replace('/24', ''));
    expect(await reasonsOf(near)).toEqual({
      '10.168.0.0-24': "10.168.0.0/24 covers this host's own address",
    });
    // Another link of this host's, with a host on it that comes later: the lease over it gives way.
    await lab.putLease('10.169.0.0/24', '10.168.0.9');
    await near.until('its route', 5_000, async () => '10.169.0.0/24' in (await routesOf(near)));
    await ipBatch(lab.near.host, ['route add 10.169.0.0/25 via 10.168.0.1 dev eth0']);
    await lab.putLease('10.7.0.0/24', '10.169.0.7');
    await near.until('the host', 5_000, async () => '10.7.0.0/24' in (await routesOf(near)));
    expect((await reasonsOf(near))['10.169.0.0-24']).toBe(
      '10.169.0.0/24 covers 10.169.0.7, the address of a host',
    );
    await ipBatch(lab.near.host, ['route del 10.169.0.0/25']);
  });

  it('a PublicIP that only the overlay leads to is a loop until the host has a route', async () => {
    await lab.configure(WIDE);
    await lab.putLease('10.7.0.0/24', '10.200.0.7');
    const near = await lab.start(lab.near, { earlier: null });
    await near.ready();
    expect(await problemsOf(near)).toEqual(['all_leases_rejected']);
    const { body } = await near.get('/metrics');
    expect(body).toContain('flannelette_problem{problem="all_leases_rejected"} 1');
    expect((await near.readyz()).detail.problems).toMatchObject([
      { message: expect.stringMatching(/10\.200\.0\.7 .*a routing loop/) as string },
    ]);
    expect(near.log().filter((line) => line['problem'] === 'all_leases_rejected')).toHaveLength(1);
    await ipBatch(lab.near.host, ['route add 10.200.0.0/24 via 10.168.0.1 dev eth0']);
    await near.until('the route', 10_000, async () => (await near.metric('routes')) === 1);
    await near.until('no problem', 10_000, async () => (await problemsOf(near)).length === 0);
    await ipBatch(lab.near.host, ['route del 10.200.0.0/24']);
  });

  it('gets no subnet that covers a host, whatever is free', async () => {
    // Three subnets: this host's, another's and one without hosts.
    await lab.configure({ ...WIDE, SubnetMin: '10.168.0.0', SubnetMax: '10.168.2.0' });
    await lab.putLease('10.7.0.0/24', '10.168.1.7');
    const near = await lab.start(lab.near, { earlier: '10.168.0.1/24' });
    await near.ready();
    expect(await ownOf(near)).toBe('10.168.2.0/24');
  });
});

describe('keys of other forms', () => {
  it('and lengths are routes as for flanneld, where they overlap nothing of ours', async () => {
    await lab.configure();
    await put('100.96.2.7-24', '{"publicip":"10.168.0.21"}');
    await put('100.96.3.0-24&fd00:3::-64', attributes('10.168.0.22'));
    await put('100.96.16.0-20', attributes('10.168.0.23'));
    await put('100.96.17.128-26', attributes('10.168.0.24'));
    const near = await lab.start(lab.near);
    await near.ready();
    await put('100.96.0.0-20', attributes('10.168.0.25'));
    await near.until(
      'the rejection',
      5_000,
      async () => (await near.metric('rejected_leases')) === 1,
    );
    expect(await routesOf(near)).toEqual({
      '100.96.2.0/24': '10.168.0.21',
      '100.96.3.0/24': '10.168.0.22',
      '100.96.16.0/20': '10.168.0.23',
      '100.96.17.128/26': '10.168.0.24',
    });
    expect(Object.keys(await reasonsOf(near))).toEqual(['100.96.0.0-20']);
    // The usual key beside one of them counts, and outlives it.
    await put('100.96.2.0-24', attributes('10.168.0.31'));
    await near.until('the usual', 5_000, async () => {
      return (await routesOf(near))['100.96.2.0/24'] === '10.168.0.31';
    });
    await lab.client.delete().key(leaseKey('100.96.2.7-24'));
    await put('100.96.9.0-24', attributes('10.168.0.39'));
    await near.until(
      'what came after',
      5_000,
      async () => '100.96.9.0/24' in (await routesOf(near)),
    );
    expect((await routesOf(near))['100.96.2.0/24']).toBe('10.168.0.31');
  });

  it('a dual-stack key holds its subnet: nobody else gets it', async () => {
    await lab.configure({
      Network: '100.96.0.0/16',
      SubnetMin: '100.96.1.0',
      SubnetMax: '100.96.2.0',
    });
    await put('100.96.1.0-24&fd00:1::-64', attributes('10.168.0.21'));
    const near = await lab.start(lab.near, { earlier: '100.96.1.1/24' });
    await near.ready();
    expect(await ownOf(near)).toBe('100.96.2.0/24');
    expect(await routesOf(near)).toEqual({ '100.96.1.0/24': '10.168.0.21' });
  });

  it('a change of SubnetLen, node by node, cuts nobody off', async () => {
    await lab.configure();
    const { near, far } = await lab.startBoth();
    await lab.configure({ Network: '100.96.0.0/16', SubnetLen: 26, Backend: { Type: 'udp' } });
    await far.terminate();
    const again = await lab.start(lab.far);
    await again.ready();
    const subnet = await ownOf(again);
    expect(subnet).toMatch(/\/26$/);
    await near.until('the new subnet', 5_000, async () => subnet in (await routesOf(near)));
    await lab.reaches(lab.near, subnet.replace('/26', ''));
    await lab.reaches(lab.far, lab.near.tunAddress);
    expect(await reasonsOf(near)).toEqual({});
  });
});

describe('what is no route', () => {
  const junk: readonly [string, string][] = [
    ['100.96.0.0-16', attributes('10.168.0.66')],
    ['0.0.0.0-0', attributes('10.168.0.66')],
    ['100.96.0.0-17', attributes('10.168.0.66')],
    ['100.96.128.0-17', 'not JSON'],
    ['100.0.0.0-8', 'not JSON'],
    ['100.96.64.0-18', attributes('127.0.0.1')],
    [
      '100.96.200.0-24',
      `{"PublicIP":"10.168.0.7","x":${'['.repeat(100_000)}${']'.repeat(100_000)}}`,
    ],
    ['100.96.201.0-24', attributes('10.168.0.255')],
    [`${'9'.repeat(500)}-24`, 'x'],
  ];

  it('hinders no allocation, at the start and when a lease is lost', async () => {
    await lab.configure();
    for (const [name, value] of junk) await put(name, value);
    const near = await lab.start(lab.near, { earlier: null });
    const far = await lab.start(lab.far, { earlier: null });
    await Promise.all([near.ready(), far.ready()]);
    await near.until('the route', 5_000, async () => (await near.metric('routes')) === 1);
    const subnet = await ownOf(near);
    await lab.reaches(lab.far, subnet.replace('/24', ''));
    expect(await near.metric('rejected_leases')).toBe(junk.length);
    await lab.deleteLease(subnet);
    await near.logged('lease lost; acquiring again');
    await near.until('it again', 10_000, async () =>
      (await lab.leases()).includes(subnet.replace('/', '-')),
    );
    expect(await ownOf(near)).toBe(subnet);
  });

  it('nor what is remembered of the others', async () => {
    await lab.configure();
    for (const [name, value] of junk) await put(name, value);
    await put('100.96.7.0-24', attributes('10.168.0.7'));
    const near = await lab.start(lab.near);
    await near.ready();
    await near.terminate();
    await lab.killStore();
    const again = await lab.start(lab.near);
    await again.ready();
    expect(await routesOf(again)).toMatchObject({ '100.96.7.0/24': '10.168.0.7' });
    expect(again.log().map(({ msg }) => msg)).not.toContain('no leases remembered');
  });
});

it('a subnet.env that people had their hands on keeps its subnet', async () => {
  await lab.configure();
  const near = await lab.start(lab.near, { earlier: null });
  await near.ready();
  await near.terminate();
  await lab.client.delete().prefix(leaseKey(''));
  const text = '# by hand\r\nexport FLANNEL_SUBNET="100.96.77.1/24"\r\nFLANNEL_MTU=lots\r\n)(\r\n';
  await writeFile(subnetFileOf(lab.near), text);
  const again = await lab.start(lab.near, { earlier: null });
  await again.ready();
  expect(await ownOf(again)).toBe('100.96.77.0/24');
});
