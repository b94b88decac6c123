/**
 * Routes and settings of a host that hinder the overlay: found, named, and mended by the command
 * named. In the network namespace of the test itself, whose devices are bridges.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { contains, parseCidr, parseIpv4, sameCidr, type Cidr } from '../../src/config/ipv4.js';
import { hostInterfaces } from '../../src/dataplane/dataplane.js';
import { kernelRoutesWithin, kernelWaysTo } from '../../src/dataplane/kernel-routes.js';
import { checkHost, type OverlayView } from '../../src/host/checks/checks.js';
import { run } from '../../src/testbed/programs.js';
import type { Problem } from '../../src/problems.js';
import { requireIsolation } from '../support/test-lab.js';

const ROUTING = { within: kernelRoutesWithin, waysTo: kernelWaysTo, interfaces: hostInterfaces };
const VIEW: OverlayView = {
  network: parseCidr('network', '100.96.0.0/16'),
  subnet: parseCidr('subnet', '100.96.1.0/24'),
  device: 'flannel0',
  external: { name: 'eth0', address: parseIpv4('address', '10.168.0.2') },
  bridges: ['docker0'],
  peers: [
    { subnet: parseCidr('subnet', '100.96.2.0/24'), address: parseIpv4('address', '10.168.0.3') },
    { subnet: parseCidr('subnet', '100.96.3.0/24'), address: parseIpv4('address', '10.168.0.4') },
  ],
  holderOf: (ip) => VIEW.peers.find(({ subnet }) => contains(subnet, ip))?.subnet,
  isDirect: () => false,
  masquerades: false,
  routing: ROUTING,
};
const DEVICES = ['flannel0', 'docker0', 'eth0', 'eth1', 'flannel.1', 'tailscale0'];

const shell = async (command: string): Promise<unknown> => run(['sh', '-ec', command]);
const sysctl = async (key: string, value: number): Promise<unknown> =>
  run(['sysctl', '-qw', `net.ipv4.${key}=${value}`]);

beforeEach(async () => {
  await requireIsolation();
  await shell('ip link set lo up');
  for (const device of DEVICES) {
    await shell(`ip link add ${device} type bridge; ip link set ${device} up`);
  }
  await shell(`ip address add 100.96.1.0/32 dev flannel0; ip route add 100.96.0.0/16 dev flannel0
    ip address add 100.96.1.1/24 dev docker0; ip address add 10.168.0.2/24 dev eth0
    ip route add default via 10.168.0.1`);
  await sysctl('ip_forward', 1);
  for (const name of ['all', 'default', ...DEVICES]) {
    await sysctl(`conf.${name.replace('.', '/')}.rp_filter`, 0);
  }
});
afterEach(async () => {
  for (const device of DEVICES) await shell(`ip link delete ${device} 2>/dev/null || true`);
  await shell(
    'ip rule show | grep -q 52 && ip rule del lookup 52; ip route flush table 52 || true',
  );
  await shell('ip rule del priority 5000 2>/dev/null || true');
});

async function findings(view: Partial<OverlayView> = {}): Promise<readonly Problem[]> {
  const { problems, unchecked } = await checkHost({ ...VIEW, ...view });
  expect(unchecked).toEqual([]);
  return problems;
}

/** Finds one problem, mends it as told, and finds none. */
async function mended(id: string, view: Partial<OverlayView> = {}): Promise<string> {
  const [problem, ...more] = await findings(view);
  expect(more).toEqual([]);
  expect(problem?.id).toBe(id);
  await shell(problem?.remedy ?? 'false');
  expect(await findings(view)).toEqual([]);
  return problem?.message ?? '';
}

it('finds nothing on a host as it should be', async () => {
  expect(await findings()).toEqual([]);
});

describe('a route', () => {
  it.each([
    [
      'of a leftover flannel.1',
      'ip route add 100.96.2.0/24 via 100.96.2.0 dev flannel.1 onlink',
      'flannel.1',
    ],
    ['to one container', 'ip route add 100.96.3.7 dev eth1', 'eth1'],
    ['wider than a subnet', 'ip route add 100.96.2.0/23 dev eth1', 'eth1'],
    [
      'of Tailscale to a host with the address of a container',
      'ip rule add priority 5270 lookup 52; ip route add 100.96.3.9 dev tailscale0 table 52',
      'tailscale0',
    ],
    ['into nowhere', 'ip route add blackhole 100.96.2.0/24', 'nowhere'],
    ['that is unreachable', 'ip route add unreachable 100.96.3.0/25', 'nowhere'],
    [
      'of a table that is asked before',
      'ip rule add priority 5270 lookup 52; ip route add default dev tailscale0 table 52',
      'tailscale0',
    ],
  ])('%s is named and mended', async (_what, command, where) => {
    await shell(command);
    expect(await mended('overlay_route_taken')).toContain(where);
  });

  it.each([
    ['of the own subnet', 'ip route add 100.96.1.128/25 dev docker0'],
    ['to a subnet that nobody holds', 'ip route add 100.96.9.0/24 dev eth1'],
    ['elsewhere', 'ip route add 100.97.0.0/16 dev flannel.1'],
    [
      'of a table that is asked later',
      'ip rule add priority 40000 lookup 52; ip route add 100.96.2.0/24 dev eth1 table 52',
    ],
    [
      'that sends to the next table',
      'ip rule add priority 5270 lookup 52; ip route add throw 100.96.2.0/24 table 52',
    ],
    [
      'that another one beats',
      'ip route add 100.96.2.0/24 dev eth1 metric 50; ip route add 100.96.2.0/24 dev flannel0 metric 5',
    ],
  ])('%s is not named', async (_what, command) => {
    await shell(command);
    expect(await findings()).toEqual([]);
    await shell('ip rule del priority 40000 2>/dev/null || true');
  });

  it('is named unless its host is meant to be reached directly', async () => {
    await shell('ip route add 100.96.2.0/24 via 10.168.0.3 dev eth0');
    const isDirect = (subnet: Cidr): boolean => sameCidr(subnet, VIEW.peers[0]!.subnet);
    expect(await findings({ isDirect })).toEqual([]);
    expect(await mended('overlay_route_taken')).toContain('by eth0');
  });

  it('is not judged while the device has none', async () => {
    await shell('ip route del 100.96.0.0/16 dev flannel0');
    expect(await findings()).toEqual([]);
  });
});

describe('a strict reverse path filter', () => {
  it.each([
    ['of the device', 'conf.flannel0.rp_filter', 'flannel0'],
    ['of the external interface', 'conf.eth0.rp_filter', 'eth0'],
  ])('%s is named and mended', async (_what, key, device) => {
    await sysctl(key, 1);
    expect(await mended('rp_filter_strict')).toContain(`strict on ${device} `);
  });

  it('of all devices is named for both, and each device may be loose all the same', async () => {
    await sysctl('conf.all.rp_filter', 1);
    const found = await findings();
    expect(found.map(({ id }) => id)).toEqual(['rp_filter_strict', 'rp_filter_strict']);
    for (const { remedy = 'false' } of found) await shell(remedy);
    expect(await findings()).toEqual([]);
  });

  it('does no harm where containers are masqueraded, or on other devices', async () => {
    await sysctl('conf.all.rp_filter', 1);
    expect(await findings({ masquerades: true })).toEqual([]);
    await sysctl('conf.all.rp_filter', 0);
    await sysctl('conf.docker0.rp_filter', 1);
    expect(await findings()).toEqual([]);
  });

  it('drops datagrams whose way back is another', async () => {
    await sysctl('conf.eth0.rp_filter', 1);
    await shell('ip route add 10.168.0.4 dev eth1');
    expect(await mended('rp_filter_strict', { masquerades: true })).toContain('eth1');
  });
});

describe('forwarding', () => {
  it('that is off is named and mended', async () => {
    await sysctl('ip_forward', 0);
    await mended('ip_forward_off');
  });

  it.each(['flannel0', 'docker0'])('that is off on %s alone is too', async (device) => {
    await sysctl(`conf.${device}.forwarding`, 0);
    expect(await mended('ip_forward_off')).toContain(device);
  });

  it('that is off elsewhere is not', async () => {
    await sysctl('conf.eth1.forwarding', 0);
    expect(await findings()).toEqual([]);
  });
});

describe('where the kernel does not tell its routes', () => {
  it('nothing is found, and the reason is told', async () => {
    await shell('ip route add blackhole 100.96.2.0/24');
    const within = (): never => {
      throw new Error('RTM_GETROUTE: EAGAIN');
    };
    const { problems, unchecked } = await checkHost({ ...VIEW, routing: { ...ROUTING, within } });
    await shell('ip route del blackhole 100.96.2.0/24');
    expect(problems).toEqual([]);
    expect(unchecked).toEqual(['RTM_GETROUTE: EAGAIN']);
  });
});
