/** What the udp backend makes of the host it runs on: where the kernel would send, and who is out of reach. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { HostView, Way } from '../../../src/network/host-view.js';
import { contains, parseCidr, parseIpv4 } from '../../../src/config/ipv4.js';
import { parseNetworkConfig } from '../../../src/config/network.js';
import { silentLogger } from '../../../src/log.js';
import { ProblemBoard } from '../../../src/problems.js';
import { fakeDataPlanes } from '../../support/fake-dataplane.js';
import { registerUdp } from '../../support/udp-network.js';
import { FakeStore, lease } from '../../support/fake-store.js';

const ip = (text: string): number => parseIpv4('test', text);
const README =
  '{"Network":"10.0.0.0/8","SubnetLen":20,"SubnetMin":"10.10.0.0","SubnetMax":"10.99.0.0"}';
const OWN = lease('10.10.16.0/20', '10.168.0.2');
const PEER = lease('10.10.32.0/20', '10.168.0.3');

const stops: AbortController[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop.abort();
});

/** A host at 10.168.0.2/24, whose kernel sends as `way` says; eth0's subnet alone is not the overlay's. */
async function running(configText = README, own = OWN) {
  const store = new FakeStore();
  store.next = own;
  const planes = fakeDataPlanes();
  const eth0 = parseCidr('test', '10.168.0.0/24');
  const asked: string[] = [];
  const host = {
    way: (address: number): Way => (contains(eth0, address) ? 'elsewhere' : 'overlay'),
  };
  const view: HostView = {
    addresses: () => [{ address: ip('10.168.0.2'), prefix: 24 }],
    ways: (device, destinations) => {
      asked.push(device ?? 'none');
      return destinations.map((address) => host.way(address));
    },
  };
  const problems = new ProblemBoard(silentLogger());
  const external = {
    name: 'eth0',
    address: ip('10.168.0.2'),
    publicIp: ip('10.168.0.2'),
    mtu: 1500,
  };
  const stop = new AbortController();
  stops.push(stop);
  const config = parseNetworkConfig(configText);
  const parts = { store, external, problems, config, open: planes.open, view };
  const network = await registerUdp(parts, stop.signal);
  void network.run(stop.signal);
  const reasons = () => network.followState().rejected.map(({ reason }) => reason);
  return { store, network, problems, host, asked, reasons };
}

describe("flannel's README network over hosts at 10.168.0.x", () => {
  it('has routes to the hosts, and nothing to say', async () => {
    const { store, network, problems, asked } = await running();
    store.snapshot(OWN, PEER);
    await network.synced;
    expect(network.routes.lookup(ip('10.10.32.3'))?.nextHop).toBe(ip('10.168.0.3'));
    expect([network.followState().rejected, problems.all]).toEqual([[], []]);
    expect(new Set(asked)).toEqual(new Set(['flannel0']));
  });

  it('asks for a lease with where it is, so that none covers it', async () => {
    const { store, network } = await running();
    expect(store.requests[0]).toMatchObject({
      hostAddresses: [{ address: ip('10.168.0.2'), prefix: 24 }],
      tunnelAddress: ip('10.168.0.2'),
    });
    expect(network.leaseRequest.hostAddresses).toEqual(store.requests[0]?.hostAddresses);
  });

  it("a host whose route came late is a route as soon as the kernel's lead to it", async () => {
    const { store, network, host, problems, reasons } = await running();
    store.snapshot(OWN, lease('10.10.32.0/20', '10.20.0.3'));
    await network.synced;
    expect(reasons()).toEqual([expect.stringMatching(/10\.20\.0\.3 .*routing loop,/)]);
    expect(problems.all).toMatchObject([{ id: 'all_leases_rejected' }]);
    host.way = () => 'elsewhere';
    await vi.waitFor(
      () => {
        expect([network.routes.size, problems.all]).toEqual([1, []]);
      },
      { timeout: 10_000 },
    );
  });

  it('knows the broadcast address of its link', async () => {
    const { store, network, reasons } = await running();
    store.snapshot(OWN, lease('10.10.32.0/20', '10.168.0.255'));
    await network.synced;
    expect(reasons()).toEqual(['PublicIP 10.168.0.255 is the broadcast address of 10.168.0.0/24']);
  });
});

describe('that no other host can be reached is said before anybody is told that traffic can flow', () => {
  it('when every lease is rejected, by whom ever', async () => {
    const { store, network, problems } = await running();
    store.send({
      type: 'snapshot',
      leases: [OWN],
      rejected: [{ key: '10.10.32.0-20', reason: 'the value is not JSON' }],
    });
    await network.synced;
    expect(problems.all).toEqual([
      {
        id: 'all_leases_rejected',
        message:
          "no other host can be reached: every lease but this host's own is rejected, 10.10.32.0-20 because the value is not JSON",
      },
    ]);
    store.send({ type: 'put', lease: PEER });
    await vi.waitFor(
      () => {
        expect(problems.all).toEqual([]);
      },
      { timeout: 10_000 },
    );
  });

  it.each([
    ['overlay', 'the route to 192.0.2.3, as to the others, leads into flannel0 itself'],
    ['none', 'there is no route to 192.0.2.3 or any other'],
  ] as const)('when the way to all is %s', async (way, why) => {
    const { store, network, problems, host } = await running();
    host.way = () => way;
    store.snapshot(OWN, lease('10.10.32.0/20', '192.0.2.3'), lease('10.10.48.0/20', '192.0.2.4'));
    await network.synced;
    expect(problems.all).toEqual([
      { id: 'no_peer_reachable', message: `no other host can be reached: ${why}` },
    ]);
    host.way = (address) => (address === ip('192.0.2.4') ? 'elsewhere' : way);
    await vi.waitFor(
      () => {
        expect(problems.all).toEqual([]);
      },
      { timeout: 10_000 },
    );
  });

  it('a kernel that refuses to tell is asked again, and nothing ends', async () => {
    const { store, network, problems, host, reasons } = await running();
    host.way = () => {
      throw new Error('EMFILE');
    };
    store.snapshot(OWN, PEER, lease('10.10.48.0/20', '192.0.2.4'));
    await network.synced;
    expect([network.routes.size, reasons().length, problems.all]).toEqual([1, 1, []]);
    host.way = () => 'elsewhere';
    await vi.waitFor(
      () => {
        expect([network.routes.size, reasons()]).toEqual([2, []]);
      },
      { timeout: 10_000 },
    );
  });

  it('but not to a host that is alone', async () => {
    const { store, network, problems } = await running();
    store.snapshot(OWN);
    await network.synced;
    expect(problems.all).toEqual([]);
  });
});

describe("another's key for this host's subnet", () => {
  it.each(['10.10.16.9-20', '10.10.16.0-20&fd00::-64'])(
    '%s does not cost it the lease',
    async (key) => {
      const { store, network } = await running();
      const claim = { ...lease('10.10.16.0/20', '10.168.0.9'), key };
      store.snapshot(OWN, claim);
      await network.synced;
      store.send({ type: 'put', lease: claim }, { type: 'delete', subnet: OWN.subnet, key });
      store.send({ type: 'put', lease: PEER });
      await vi.waitFor(() => {
        expect(network.routes.size).toBe(1);
      });
      expect(network.leaseLost).toBeUndefined();
    },
  );
});

it("others' keys and values are shown cut", async () => {
  const { store, network } = await running();
  const key = 'x'.repeat(100_000);
  store.send({ type: 'snapshot', leases: [OWN], rejected: [{ key, reason: 'r' }] });
  await network.synced;
  expect(network.followState().rejected[0]?.key).toHaveLength(60);
  store.send({ type: 'cleared', key });
  await vi.waitFor(() => {
    expect(network.followState().rejected).toEqual([]);
  });
});
