/** Routes to peers that do not lead out of this host. */
import { describe, expect, it } from 'vitest';
import { parseCidr, parseIpv4, type Ipv4 } from '../../../src/config/ipv4.js';
import type { HostInterfaceInfo } from '../../../src/host/interface.js';
import { PeerRoutes } from '../../../src/host/peer-routes.js';

const ip = (text: string) => parseIpv4('test', text);
const OVERLAY = { device: 'flannel0', subnet: parseCidr('test', '10.1.1.0/24') };
const EXTERNAL = {
  name: 'eth0',
  address: ip('10.168.0.2'),
  publicIp: ip('10.168.0.2'),
  mtu: 1500,
};

function device(index: number, name: string, text: string): HostInterfaceInfo {
  const addresses = [{ address: ip(text), prefix: 24 }];
  return { name, index, mtu: 1500, up: true, loopback: name === 'lo', addresses };
}

const INTERFACES = [
  device(1, 'lo', '127.0.0.1'),
  device(2, 'eth0', '10.168.0.2'),
  device(3, 'flannel0', '10.1.1.0'),
  device(4, 'kube0', '10.1.1.1'),
  device(5, 'flannel.1', '10.244.1.0'),
];

/** Interfaces by PublicIP; `lo` is an address of this host's own, '' no route. */
function look(ways: Record<string, string>, ...peers: Ipv4[]) {
  const asked: [Ipv4, Ipv4][] = [];
  const routes = new PeerRoutes({
    interfaces: () => INTERFACES,
    outgoingInterfaces: (destinations, source) =>
      destinations.map((destination) => {
        asked.push([destination, source]);
        const [, name = 'eth0'] =
          Object.entries(ways).find(([key]) => ip(key) === destination) ?? [];
        return INTERFACES.find((candidate) => candidate.name === name)?.index ?? 0;
      }),
    defaultGateway: (name) => Promise.resolve(name === 'eth0' ? ip('10.168.0.1') : undefined),
  });
  const all = peers.length > 0 ? peers : Object.keys(ways).map(ip);
  const again = () => routes.look({ peers: all, external: EXTERNAL, overlay: OVERLAY });
  return { asked, ways, again, all };
}

describe('the route to a peer', () => {
  it('that leads out is nothing to tell, nor is one that is missing', async () => {
    const { again, asked } = look({ '10.168.0.3': 'eth0', '10.168.0.4': '' });
    expect(await again()).toEqual([]);
    expect(asked).toEqual([
      [ip('10.168.0.3'), EXTERNAL.address],
      [ip('10.168.0.4'), EXTERNAL.address],
    ]);
  });

  it.each([
    ['our own device', 'flannel0'],
    ['the bridge of our containers', 'kube0'],
    ["another flannel's device", 'flannel.1'],
  ])('that leads into %s is told with the way out', async (_what, name) => {
    const { again, ways } = look({ '10.169.0.3': name });
    expect(await again()).toEqual([
      {
        id: 'peer_route_into_overlay',
        message: `the route to 10.169.0.3 leads into ${name}: datagrams for that node never leave the overlay`,
        remedy: 'ip route replace 10.169.0.3/32 via 10.168.0.1 dev eth0',
      },
    ]);
    ways['10.169.0.3'] = 'eth0';
    expect(await again()).toEqual([]);
  });

  it('on the same link has no gateway in its remedy', async () => {
    const [problem] = await look({ '10.168.0.3': 'flannel0' }).again();
    expect(problem?.remedy).toBe('ip route replace 10.168.0.3/32 dev eth0');
  });

  it('to an address of this host is told', async () => {
    expect(await look({ '10.168.0.50': 'lo' }).again()).toMatchObject([
      { id: 'peer_address_is_local', message: expect.stringContaining('10.168.0.50') as string },
    ]);
  });

  it('is one problem for many peers, and none for a peer that left', async () => {
    const ways = Object.fromEntries([...Array(5).keys()].map((n) => [`10.169.0.${n}`, 'flannel0']));
    const { again, all } = look(ways);
    const [problem, ...others] = await again();
    expect(others).toEqual([]);
    expect(problem?.message).toContain('10.169.0.0, 10.169.0.1, 10.169.0.2 and 2 more');
    all.splice(0);
    expect(await again()).toEqual([]);
  });

  it('is looked up a few hundred at a time, in turn', async () => {
    const peers = [...Array(1_300).keys()].map((n) => ip('10.200.0.0') + n);
    const { again, asked } = look({ '10.200.4.0': 'flannel0' }, ...peers);
    const found: number[] = [];
    for (let turn = 0; turn < 4; turn += 1) found.push((await again()).length);
    // The 1,025th is found in the third turn and remembered in the fourth.
    expect(found).toEqual([0, 0, 1, 1]);
    expect(asked.slice(0, 1_300).map(([destination]) => destination)).toEqual(peers);
    expect(asked[1_300]?.[0]).toBe(peers[0]);
  });
});
