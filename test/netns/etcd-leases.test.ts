/**
 * What others do to the leases: our own revoked or taken, bad ones beside good ones, a flood. Good
 * leases forward whatever stands beside them.
 */
import { readFile } from 'node:fs/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { inNamespace, run } from '../../src/testbed/programs.js';
import { attributes, CONFIG, EtcdLab, leaseKey, type EtcdDaemon } from '../support/etcd-lab.js';

let lab: EtcdLab;
beforeAll(async () => {
  lab = await EtcdLab.setUp();
});
afterAll(() => lab.tearDown());
beforeEach(() => lab.configure());
afterEach(() => lab.reset());

const routes = async (daemon: EtcdDaemon): Promise<Record<string, string>> =>
  Object.fromEntries(
    (await daemon.status()).routes.map(({ subnet, nextHop }) => [subnet, nextHop]),
  );
const rejected = async (daemon: EtcdDaemon): Promise<Record<string, string>> =>
  Object.fromEntries((await daemon.status()).rejected.map(({ key, reason }) => [key, reason]));

describe("a daemon's own lease", () => {
  it('is acquired again when its grant is revoked: the same subnet, next to nothing lost', async () => {
    const { near } = await lab.startBoth();
    const before = await lab.stored('100.96.1.0/24');
    const stream = lab.stream(lab.near, lab.far.tunAddress);
    await lab.client.leaseClient.leaseRevoke({ ID: before?.lease ?? '' });
    await near.until('a new grant', 5_000, async () => {
      const now = await lab.stored('100.96.1.0/24');
      return now !== undefined && now.lease !== before?.lease && now.lease !== '0';
    });
    await lab.reaches(lab.near, lab.far.tunAddress);
    const after = await lab.stored('100.96.1.0/24');
    expect(after?.value.toString()).toBe(attributes('10.168.0.2'));
    expect(await lab.leases()).toEqual(['100.96.1.0-24', '100.96.2.0-24']);
    expect(await near.logged('lease lost; acquiring again')).toMatchObject({
      reason: 'the lease of 100.96.1.0/24 is gone from the store',
    });
    expect((await near.status()).lease).toMatchObject({ subnet: '100.96.1.0/24', lost: null });
    expect((await near.status()).dataPlane?.restarts).toBe(0);
    // Only until its key was there again did the other host have no route back.
    const { sent, received } = await stream.end();
    expect(sent - received).toBeLessThan(100);
  });

  it('taken over by another host: another subnet, told to everybody who asks', async () => {
    const { near } = await lab.startBoth();
    await lab.putLease('100.96.1.0/24', '10.168.0.9');
    let subnet = '';
    await near.until('another subnet', 10_000, async () => {
      subnet = (await near.status()).lease?.subnet ?? '';
      return subnet !== '100.96.1.0/24' && (await near.readyz()).code === 200;
    });
    const address = subnet.replace('.0/24', '.1/24');
    expect(await near.subnetEnv()).toContain(`FLANNEL_SUBNET=${address}\n`);
    expect((await lab.stored(subnet))?.value.toString()).toBe(attributes('10.168.0.2'));
    expect((await lab.stored('100.96.1.0/24'))?.value.toString()).toBe(attributes('10.168.0.9'));
    expect(await routes(near)).toMatchObject({ '100.96.1.0/24': '10.168.0.9' });
    await lab.reaches(lab.far, subnet.replace('/24', ''));
  });

  it('taken over while no subnet is free: ends with code 1 and says so', async () => {
    await lab.configure({ ...CONFIG, SubnetMin: '100.96.1.0', SubnetMax: '100.96.1.0' });
    const daemon = await lab.start(lab.near);
    await daemon.ready();
    await lab.putLease('100.96.1.0/24', '10.168.0.9');
    expect(await daemon.program.ended).toBe(1);
    expect(daemon.program.stderr.trim().split('\n').at(-1)).toMatch(/no free subnet in Network/);
  });
});

/** Each with what is said of it; the hosts' own are 100.96.1.0/24 and 100.96.2.0/24. */
const BAD = [
  ['100.96.10.0-24', 'not JSON', /not JSON/],
  ['100.96.11.0-24', '{"PublicIP":"10.168.0.300"}', /PublicIP: "10\.168\.0\.300"/],
  ['100.96.12.0-24', '{"BackendType":"udp"}', /PublicIP/],
  ['100.96.13.0-24', '[]', /not a JSON object/],
  ['10.5.0.0-24', attributes('10.168.0.50'), /outside Network 100\.96\.0\.0\/16/],
  ['100.96.0.0-17', attributes('10.168.0.51'), /wrong length: expected at least \/18/],
  ['100.96.0.0-20', attributes('10.168.0.51'), /overlaps this host's own subnet 100\.96\.1\.0\/24/],
  ['100.96.1.128-25', attributes('10.168.0.52'), /overlaps this host's own subnet/],
  ['100.96.14.0-24', attributes('10.168.0.2'), /PublicIP 10\.168\.0\.2 is this host's own/],
  ['100.96.15.0-24', attributes('127.0.0.1'), /PublicIP 127\.0\.0\.1 is a loopback address/],
  ['100.96.16.0-24', attributes('224.0.0.1'), /PublicIP 224\.0\.0\.1 is a multicast address/],
  ['100.96.17.0-24', attributes('0.0.0.0'), /PublicIP 0\.0\.0\.0 is an address of 0\.0\.0\.0\/8/],
  ['100.96.18.0-24', attributes('100.96.2.1'), /inside Network 100\.96\.0\.0\/16: a routing loop/],
  ['100.96.19.0-33', attributes('10.168.0.53'), /not a subnet key/],
  ['$(reboot)\n', attributes('10.168.0.54'), /not a subnet key/],
] as const;

describe('bad leases', () => {
  it.each([
    ['there before the daemon', false],
    ['put while it runs', true],
  ] as const)('%s: the good ones forward, the bad ones are told', async (_when, late) => {
    const put = () => Promise.all(BAD.map(([subnet, value]) => lab.putLease(subnet, value)));
    // The hosts' own are reserved: what overlaps them would keep them from taking these.
    await lab.putLease('100.96.1.0/24', '10.168.0.2');
    await lab.putLease('100.96.2.0/24', '10.168.0.3');
    await lab.putLease('100.96.30.0/24', '10.168.0.30');
    if (!late) await put();
    const near = await lab.start(lab.near);
    await near.ready();
    const far = await lab.start(lab.far);
    await far.ready();
    if (late) await put();
    await near.until('all bad ones seen', 5_000, async () => {
      return (await near.metric('rejected_leases')) === BAD.length;
    });
    const reasons = await rejected(near);
    for (const [key, , reason] of BAD) expect(reasons[key]).toMatch(reason);
    expect(await routes(near)).toEqual({
      '100.96.2.0/24': '10.168.0.3',
      '100.96.30.0/24': '10.168.0.30',
    });
    await lab.reaches(lab.near, lab.far.tunAddress);
    await lab.reaches(lab.far, lab.near.tunAddress);

    // Mended or deleted, none is left of them.
    for (const [key] of BAD) {
      if (/^100\.96\.1\d\.0-24$/.test(key)) await lab.putLease(key, '10.168.0.60');
      else await lab.deleteLease(key);
    }
    await near.until('none', 5_000, async () => (await near.metric('rejected_leases')) === 0);
    const mended = await routes(near);
    expect(Object.values(mended).filter((nextHop) => nextHop === '10.168.0.60')).toHaveLength(9);
    expect(Object.keys(mended)).toHaveLength(11);
    expect((await near.status()).rejected).toEqual([]);
  });

  it('a good lease that becomes unreadable keeps its route; one that turns harmful loses it', async () => {
    const near = await lab.start(lab.near);
    await near.ready();
    await lab.putLease('100.96.31.0/24', '10.168.0.31');
    await lab.putLease('100.96.32.0/24', '10.168.0.32');
    await near.until('both routes', 5_000, async () => {
      return Object.keys(await routes(near)).length === 2;
    });
    await lab.putLease('100.96.31.0/24', 'half a wri');
    await lab.putLease('100.96.32.0/24', '127.0.0.1');
    await near.until('both told', 5_000, async () => (await near.metric('rejected_leases')) === 2);
    expect(await routes(near)).toEqual({ '100.96.31.0/24': '10.168.0.31' });
    await lab.deleteLease('100.96.31.0/24');
    await near.until('no route', 5_000, async () => Object.keys(await routes(near)).length === 0);
  });
});

describe('a flood', () => {
  it('of 2,000 leases becomes routes, over a compaction and a restart by kill -9', async () => {
    await lab.configure({ ...CONFIG, SubnetLen: 28 });
    const near = await lab.start(lab.near, { earlier: '100.96.1.1/28' });
    const far = await lab.start(lab.far, { earlier: '100.96.2.1/28' });
    await Promise.all([near.ready(), far.ready()]);
    await lab.reaches(lab.near, lab.far.tunAddress);
    const stream = lab.stream(lab.near, lab.far.tunAddress);
    await flood(2_000, '10.168.1.');
    await near.until('2,001 routes', 10_000, async () => (await near.metric('routes')) === 2_001);
    const { sent, received } = await stream.end();
    expect(received).toBe(sent);

    near.program.kill('SIGKILL');
    await near.program.ended;
    const { header } = await lab.client.get('none').exec();
    await lab.client.kv.compact({ revision: header.revision });
    const again = await lab.start(lab.near);
    await again.ready();
    expect((await again.status()).lease?.subnet).toBe('100.96.1.0/28');
    expect(await again.metric('routes')).toBe(2_001);
    await lab.reaches(lab.near, lab.far.tunAddress);
    await lab.client.delete().prefix(leaseKey('100.96.1'));
    await again.until('only what is left', 10_000, async () => {
      const left = (await lab.leases()).filter((key) => key !== '100.96.1.0-28').length;
      return (await again.metric('routes')) === left;
    });
  });
});

/** `count` leases of /28 from 100.96.100.0 on, hundreds at once; the holder is `prefix` and a number. */
async function flood(count: number, prefix: string): Promise<void> {
  const first = 100 * 256;
  for (let at = 0; at < count; at += 200) {
    const size = Math.min(200, count - at);
    const puts = Array.from({ length: size }, (_, i) => {
      const network = first + (at + i) * 16;
      const subnet = `100.96.${network >> 8}.${network & 255}/28`;
      return lab.putLease(subnet, `${prefix}${1 + ((at + i) % 250)}`);
    });
    await Promise.all(puts);
  }
}

describe('what a killed daemon left in the kernel', () => {
  const of = (address: string, type?: string): string =>
    JSON.stringify({
      PublicIP: address,
      PublicIPv6: null,
      ...(type === undefined ? {} : { BackendType: type }),
      ...(type === 'vxlan' ? { BackendData: { VNI: 1, VtepMAC: '02:00:00:00:00:09' } } : {}),
    });
  const kernelRoutes = async (): Promise<string[]> => {
    const { stdout } = await run(inNamespace(lab.near.host, ['ip', '-4', 'route']));
    return stdout.split('\n').flatMap((line) => /^100\.96\.\d+\.0\/24 .*/.exec(line.trim()) ?? []);
  };

  it.each([
    ['host-gw', { Type: 'host-gw' }, 'host-gw'],
    ['vxlan with DirectRouting', { Type: 'vxlan', DirectRouting: true }, 'vxlan'],
    ['udp with DirectRouting', { Type: 'udp', DirectRouting: true }, undefined],
  ])(
    'goes with the leases that ended meanwhile, and nothing else: %s',
    async (_, backend, type) => {
      await lab.configure({ ...CONFIG, Backend: backend });
      await lab.putLease('100.96.2.0/24', of('10.168.0.3', type));
      await lab.putLease('100.96.8.0/24', of('10.168.0.8', type));
      await lab.putLease('100.96.9.0/24', of('10.168.0.9', type));
      const first = await lab.start(lab.near);
      await first.ready();
      expect(await kernelRoutes()).toEqual([
        '100.96.2.0/24 via 10.168.0.3 dev eth0',
        '100.96.8.0/24 via 10.168.0.8 dev eth0',
        '100.96.9.0/24 via 10.168.0.9 dev eth0',
      ]);
      const remembered = `${first.subnetFile}.leases.json`;
      await first.until('remembered', 15_000, async () =>
        (await readFile(remembered, 'utf8')).includes('100.96.9.0-24'),
      );
      first.program.kill('SIGKILL');
      await first.program.ended;
      const own = ['100.96.7.0/24', 'via', '10.168.0.7', 'dev', 'eth0'];
      await run(inNamespace(lab.near.host, ['ip', 'route', 'add', ...own]));
      // One ended, one is of a host now that is not on the segment.
      await lab.deleteLease('100.96.8.0/24');
      await lab.putLease('100.96.9.0/24', of('192.0.2.9', type));
      const second = await lab.start(lab.near);
      await second.ready();
      await second.until('no route left', 5_000, async () => {
        const direct = (await kernelRoutes()).filter((route) => route.endsWith('dev eth0'));
        return direct.join() === `100.96.2.0/24 via 10.168.0.3 dev eth0,${own.join(' ')}`;
      });
      await run(inNamespace(lab.near.host, ['ip', 'route', 'del', ...own]));
    },
  );
});
