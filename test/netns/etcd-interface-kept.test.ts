/**
 * What does not move a tunnel: an external address that is there is kept, whatever else appears on the
 * host, and the address of the start is taken again when it is back.
 *
 *   host-1: eth0 10.168.0.2, chosen by its default route; then a VPN, a virtual address, a default
 *   route into flannel0, a new name, a bridge over it, the interface made anew
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { inNamespace, run } from '../../src/testbed/programs.js';
import { GATEWAY, ipBatch, switchPort, SWITCH, type HostPlan } from '../../src/testbed/topology.js';
import {
  attributes,
  ENDPOINT,
  EtcdLab,
  subnetFileOf,
  type EtcdDaemon,
} from '../support/etcd-lab.js';
import { linkPackets } from '../support/test-lab.js';

let lab: EtcdLab;
beforeAll(async () => {
  lab = await EtcdLab.setUp();
  // Else the switch takes its own from its ports, which come and go, and neighbours have the old one.
  await ipBatch(undefined, [`link set ${SWITCH} address 02:00:00:00:00:01`]);
});
afterAll(() => lab.tearDown());
beforeEach(() => lab.configure());
afterEach(async () => {
  await lab.reset();
  // Whatever became of eth0: a new one, as the lab made it.
  const port = switchPort(lab.near);
  await run(['ip', 'link', 'delete', port], { accept: [0, 1] });
  const links = ['br1', 'tun9', 'lan0', 'eth0'];
  for (const name of links) await onNear(['ip', 'link', 'delete', name], [0, 1]);
  await ipBatch(undefined, [
    `link add ${port} type veth peer name eth0 netns ${lab.near.host}`,
    `link set ${port} master ${SWITCH} up`,
  ]);
  await ipBatch(lab.near.host, [
    `address add ${lab.near.address}/24 dev eth0`,
    'link set eth0 up',
    `route add default via ${GATEWAY} dev eth0`,
  ]);
});

const onNear = (argv: string[], accept = [0]) => run(inNamespace(lab.near.host, argv), { accept });

/** Both daemons; the near one chooses by its default route, unless told. */
async function startBoth(choice: string[] = []): Promise<EtcdDaemon> {
  const file = `--subnet-file=${subnetFileOf(lab.near)}`;
  const onlyFlags = [`--etcd-endpoints=${ENDPOINT}`, file, ...choice];
  const near = await lab.start(lab.near, { onlyFlags });
  const far = await lab.start(lab.far);
  await Promise.all([near.ready(), far.ready()]);
  await lab.reaches(lab.near, lab.far.tunAddress);
  return near;
}

const publicIp = async () => (await lab.stored('100.96.1.0/24'))?.value.toString();
const registrations = (daemon: EtcdDaemon) =>
  daemon.log().filter(({ msg }) => msg === 'network registered').length;

/** Long enough for a change to be seen twice; then nothing was lost and nothing has moved. */
async function nothingMoves(near: EtcdDaemon, change: () => Promise<unknown>): Promise<void> {
  const stream = lab.stream(lab.far, lab.near.tunAddress);
  await change();
  const looks = (await linkPackets(lab.near.host, 'flannel0')).rx;
  await near.until('four seconds of pings', 15_000, async () => {
    return (await linkPackets(lab.near.host, 'flannel0')).rx - looks > 200;
  });
  const { sent, received } = await stream.end();
  expect(sent - received).toBe(0);
  expect(await publicIp()).toBe(attributes('10.168.0.2'));
  expect(registrations(near)).toBe(1);
}

describe('an address that is there is kept', () => {
  it('when a VPN brings a better default route', async () => {
    const near = await startBoth();
    await nothingMoves(near, () =>
      ipBatch(lab.near.host, [
        'tuntap add tun9 mode tun',
        'address add 10.8.0.6/24 dev tun9',
        'link set tun9 up',
        'route delete default',
        `route add default via ${GATEWAY} dev eth0 metric 100`,
        'route add default dev tun9 metric 50',
      ]),
    );
    expect((await near.status()).external?.name).toBe('eth0');
  });

  it('when the default route leads into flannel0', async () => {
    const near = await startBoth();
    await nothingMoves(near, () => ipBatch(lab.near.host, ['route replace default dev flannel0']));
  });

  it('when a virtual address comes first', async () => {
    const near = await startBoth();
    // Too short a moment for the address to be missed, but it is the second from now on.
    await ipBatch(lab.near.host, [
      'address add 10.168.0.50/32 dev eth0',
      'address delete 10.168.0.2/24 dev eth0',
      'address add 10.168.0.2/24 dev eth0',
      `route replace default via ${GATEWAY} dev eth0`,
    ]);
    await lab.reaches(lab.far, lab.near.tunAddress);
    await nothingMoves(near, () => Promise.resolve());
  });

  it('when its lifetime is over and another one is preferred', async () => {
    const near = await startBoth();
    await nothingMoves(near, () =>
      ipBatch(lab.near.host, [
        'address change 10.168.0.2/24 dev eth0 valid_lft 3600 preferred_lft 0',
        'address add 10.168.0.22/24 dev eth0',
      ]),
    );
  });
});

describe('an address that goes and comes', () => {
  it('is followed to an interface of another name, without a new network', async () => {
    const near = await startBoth(['--iface=eth0']);
    await ipBatch(lab.near.host, [
      'link set eth0 down',
      'link set eth0 name lan0',
      'link set lan0 up',
      `route replace default via ${GATEWAY} dev lan0`,
    ]);
    await near.until('the new name', 5_000, async () => {
      return (await near.status()).external?.name === 'lan0';
    });
    await lab.reaches(lab.near, lab.far.tunAddress);
    expect(registrations(near)).toBe(1);
    expect(await publicIp()).toBe(attributes('10.168.0.2'));
  });

  it('is followed to a bridge over its interface', async () => {
    const near = await startBoth(['--iface=eth0']);
    await ipBatch(lab.near.host, [
      'link add br1 type bridge',
      'link set br1 up',
      'link set eth0 master br1',
      'address flush dev eth0',
      'address add 10.168.0.2/24 dev br1',
      `route replace default via ${GATEWAY} dev br1`,
    ]);
    await near.until('the bridge', 5_000, async () => {
      return (await near.status()).external?.name === 'br1';
    });
    await lab.reaches(lab.near, lab.far.tunAddress);
    expect(await publicIp()).toBe(attributes('10.168.0.2'));
  });

  it('is taken again when a virtual address stood in for it', async () => {
    const near = await startBoth();
    await ipBatch(lab.near.host, [
      'address add 10.168.0.50/32 dev eth0',
      'address delete 10.168.0.2/24 dev eth0',
      `route replace ${GATEWAY} dev eth0`,
      `route replace default via ${GATEWAY} dev eth0`,
      'route replace 10.168.0.0/24 dev eth0',
    ]);
    await near.until('the virtual address', 8_000, async () => {
      return (await publicIp()) === attributes('10.168.0.50');
    });
    await lab.reaches(lab.far, lab.near.tunAddress, 8_000);
    await ipBatch(lab.near.host, ['address add 10.168.0.2/24 dev eth0']);
    await near.until('the former address', 8_000, async () => {
      return (await publicIp()) === attributes('10.168.0.2');
    });
    await lab.reaches(lab.far, lab.near.tunAddress, 8_000);
    expect(await lab.leases()).toEqual(['100.96.1.0-24', '100.96.2.0-24']);
  });

  it('is replaced by the one that is promoted', async () => {
    await onNear(['sysctl', '-qw', 'net.ipv4.conf.eth0.promote_secondaries=1']);
    await ipBatch(lab.near.host, ['address add 10.168.0.22/24 dev eth0']);
    const near = await startBoth(['--iface=eth0']);
    await ipBatch(lab.near.host, ['address delete 10.168.0.2/24 dev eth0']);
    await near.until('the secondary address', 8_000, async () => {
      return (await publicIp()) === attributes('10.168.0.22');
    });
    await lab.reaches(lab.far, lab.near.tunAddress, 8_000);
  });

  it('comes back with an interface that was made anew', async () => {
    const near = await startBoth(['--iface=eth0']);
    await run(['ip', 'link', 'delete', switchPort(lab.near)]);
    await near.until('told', 5_000, async () => {
      return (await near.status()).problems.some(({ id }) => id === 'external_address_gone');
    });
    const port = switchPort(lab.near);
    await ipBatch(undefined, [
      `link add ${port} type veth peer name eth0 netns ${lab.near.host}`,
      `link set ${port} master ${SWITCH} up`,
    ]);
    await ipBatch(lab.near.host, [
      'address add 10.168.0.2/24 dev eth0',
      'link set eth0 up',
      `route add default via ${GATEWAY} dev eth0`,
    ]);
    await lab.reaches(lab.near, lab.far.tunAddress);
    await near.until('no problem', 5_000, async () => (await near.status()).problems.length === 0);
    expect(registrations(near)).toBe(1);
  });

  it('is waited for when only the overlay is left', async () => {
    const near = await startBoth();
    await ipBatch(lab.near.host, [
      'route replace default dev flannel0',
      'address delete 10.168.0.2/24 dev eth0',
    ]);
    await near.until('told', 5_000, async () => {
      return (await near.status()).problems.some(({ id }) => id === 'external_address_gone');
    });
    await ipBatch(lab.near.host, [
      'address add 10.168.0.2/24 dev eth0',
      `route replace default via ${GATEWAY} dev eth0`,
    ]);
    await lab.reaches(lab.near, lab.far.tunAddress);
    expect(registrations(near)).toBe(1);
    expect(near.program.running).toBe(true);
  });
});

describe('while etcd is stopped', () => {
  it('datagrams go out from a new address within 5 s, and the lease follows when etcd is back', async () => {
    const near = await lab.start(lab.near);
    const far = await lab.start(lab.far, { flags: ['--source-check=false'] });
    await Promise.all([near.ready(), far.ready()]);
    await lab.reaches(lab.near, lab.far.tunAddress);
    await lab.killStore();
    const stream = lab.stream(lab.near, lab.far.tunAddress);
    const received = async () => (await linkPackets(lab.far.host, 'flannel0')).rx;
    await ipBatch(lab.near.host, [
      'address delete 10.168.0.2/24 dev eth0',
      'address add 10.168.0.22/24 dev eth0',
      `route replace default via ${GATEWAY} dev eth0`,
    ]);
    const began = performance.now();
    const before = await received();
    await near.until('datagrams from the new address', 5_000, async () => {
      return (await received()) > before + 10;
    });
    expect(performance.now() - began).toBeLessThan(5_000);
    await stream.end();
    const { external, lease } = await near.status();
    expect(external?.publicIp).toBe('10.168.0.22');
    expect(lease?.lost).toBe('the lease of 100.96.1.0/24 still names 10.168.0.2');
    await lab.restoreStore();
    await near.until('the lease', 15_000, async () => {
      return (await publicIp()) === attributes('10.168.0.22');
    });
    await lab.reaches(lab.far, lab.near.tunAddress, 15_000);
    expect(await lab.leases()).toEqual(['100.96.1.0-24', '100.96.2.0-24']);
  });
});

describe('hosts that announce an address on the loopback', () => {
  const loopbacks: Record<string, string> = { 'host-1': '192.0.2.1', 'host-2': '192.0.2.2' };
  afterEach(async () => {
    for (const [host, address] of Object.entries(loopbacks)) {
      await run(inNamespace(host, ['ip', 'address', 'delete', `${address}/32`, 'dev', 'lo']));
    }
  });

  it('carry the tunnel by it, with the MTU of the link', async () => {
    for (const plan of [lab.near, lab.far]) {
      const other = plan === lab.near ? lab.far : lab.near;
      await ipBatch(plan.host, [
        `address add ${loopbacks[plan.host] ?? ''}/32 dev lo`,
        `route replace ${loopbacks[other.host] ?? ''} via ${other.address} src ${loopbacks[plan.host] ?? ''}`,
      ]);
    }
    const start = (plan: HostPlan) =>
      lab.start(plan, {
        onlyFlags: [
          `--etcd-endpoints=${ENDPOINT}`,
          `--subnet-file=${subnetFileOf(plan)}`,
          '--iface=lo',
        ],
      });
    const [near, far] = [await start(lab.near), await start(lab.far)];
    await Promise.all([near.ready(), far.ready()]);
    const large = ['ping', '-q', '-c1', '-W5', '-M', 'do', '-s', '1444', lab.far.tunAddress];
    await lab.reaches(lab.near, lab.far.tunAddress);
    await onNear(large);
    expect((await far.status()).routes).toEqual([
      { subnet: '100.96.1.0/24', nextHop: '192.0.2.1', way: 'tunnel' },
    ]);
    expect(await near.subnetEnv()).toContain('FLANNEL_MTU=1472');
  });
});

describe('without descriptors', () => {
  it('the interface is not taken for gone', async () => {
    const near = await startBoth();
    const pid = String(near.program.pid);
    const lines = () => near.log().map(({ msg }) => msg);
    await run(['prlimit', '--pid', pid, '--nofile=8:1024']);
    // It looks when something changes.
    await ipBatch(lab.near.host, ['address add 192.0.2.77/32 dev lo']);
    await near.logged('cannot read the interfaces; the external interface stays as it is');
    await run(['prlimit', '--pid', pid, '--nofile=1024:1024']);
    await lab.reaches(lab.near, lab.far.tunAddress);
    expect(lines()).not.toContain('no external interface now; waiting');
    expect(registrations(near)).toBe(1);
  });
});

describe('a route to another node that leads into the overlay', () => {
  it('is told with its remedy, which mends it', async () => {
    const near = await startBoth();
    await ipBatch(lab.near.host, ['route add 10.168.0.3/32 dev flannel0']);
    const found = async () =>
      (await near.status()).problems.find(({ id }) => id === 'peer_route_into_overlay');
    await near.until('told', 12_000, async () => (await found()) !== undefined);
    expect(await found()).toMatchObject({
      message:
        'the route to 10.168.0.3 leads into flannel0: datagrams for that node never leave the overlay',
      remedy: 'ip route replace 10.168.0.3/32 dev eth0',
    });
    const problems = async () => (await near.readyz()).detail.problems.map(({ id }) => id).sort();
    await expect
      .poll(problems, { timeout: 5_000 })
      .toEqual(['no_peer_reachable', 'peer_route_into_overlay']);
    await onNear(((await found())?.remedy ?? '').split(' '));
    await near.until('mended', 12_000, async () => (await found()) === undefined);
    await lab.reaches(lab.near, lab.far.tunAddress);
  });
});
