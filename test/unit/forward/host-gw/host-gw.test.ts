/** The host-gw backend over a kernel that the test plays. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { parseCidr, parseIpv4 } from '../../../../src/config/ipv4.js';
import { parseNetworkConfig } from '../../../../src/config/network.js';
import type { HostInterface } from '../../../../src/dataplane/dataplane.js';
import type { Lease } from '../../../../src/lease/store.js';
import { silentLogger } from '../../../../src/log.js';
import { register } from '../../../../src/network/registration.js';
import { createBackend } from '../../../../src/network/registry.js';
import { ProblemBoard } from '../../../../src/problems.js';
import { FakeKernelRoutes } from '../../../support/fake-kernel-routes.js';
import { FakeStore, lease, OWN_IP, OWN_SUBNET } from '../../../support/fake-store.js';

const ip = (text: string) => parseIpv4('test', text);
const hostGw = (subnet: string, publicIp: string) => {
  const udp = lease(subnet, publicIp, 1_000);
  return { ...udp, attributes: { ...udp.attributes, backendType: 'host-gw' } };
};
const OWN = hostGw(OWN_SUBNET, OWN_IP);
const PEER = hostGw('100.96.2.0/24', '10.168.0.3');
const ETH0 = 2;

const eth0 = (index: number) => ({
  name: 'eth0',
  index,
  mtu: 1500,
  up: true,
  loopback: false,
  addresses: [] as HostInterface['addresses'],
});

const stops: AbortController[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop.abort();
  vi.useRealTimers();
});

interface Before {
  readonly kernel?: FakeKernelRoutes;
  readonly formerLeases?: readonly Lease[];
}

async function running(
  publicIp = OWN_IP,
  { kernel = new FakeKernelRoutes(), formerLeases }: Before = {},
) {
  const device = eth0(ETH0);
  const store = new FakeStore();
  store.next = OWN;
  const config = parseNetworkConfig('{"Network":"100.96.0.0/16","Backend":{"Type":"host-gw"}}');
  const external = { name: 'eth0', address: ip(OWN_IP), publicIp: ip(publicIp), mtu: 1500 };
  const log = silentLogger();
  const problems = new ProblemBoard(log);
  const backend = createBackend(
    { config, external, problems, log },
    { mode: 'batch', sourceCheck: true, kernelRoutes: kernel, interfaces: () => [device] },
  );
  const stop = new AbortController();
  stops.push(stop);
  const parts = { store, backend, config, external, previousSubnet: undefined, view: undefined };
  const network = await register({ ...parts, problems, log, formerLeases }, stop.signal);
  const done = network.run(stop.signal);
  const shown = () => problems.all.map(({ id, message }) => `${id}: ${message}`);
  return { kernel, store, network, problems, stop, done, shown, device };
}

async function withPeer() {
  const parts = await running();
  parts.store.snapshot(OWN, PEER);
  await parts.network.synced;
  return parts;
}

describe('a network of host-gw', () => {
  it("asks for a lease of its type, with the interface's whole MTU", async () => {
    const { store, network } = await running();
    expect(store.requests[0]?.attributes).toEqual({ publicIp: ip(OWN_IP), backendType: 'host-gw' });
    expect([network.mtu, network.forwarder.device, network.forwarder.counters()]).toEqual([
      1500,
      undefined,
      undefined,
    ]);
  });

  it('has a route by each host, follows its lease, and takes the routes away at the end', async () => {
    const { kernel, store, stop, done } = await withPeer();
    expect(kernel.show()).toEqual(['100.96.2.0/24 via 10.168.0.3 dev 2']);
    store.send({ type: 'put', lease: hostGw('100.96.2.0/24', '10.168.0.9') });
    store.send({ type: 'put', lease: hostGw('100.96.3.0/24', '10.168.0.4') });
    await vi.waitFor(() => {
      expect(kernel.show().sort()).toEqual([
        '100.96.2.0/24 via 10.168.0.9 dev 2',
        '100.96.3.0/24 via 10.168.0.4 dev 2',
      ]);
    });
    store.send({ type: 'delete', subnet: parseCidr('x', '100.96.3.0/24') });
    await vi.waitFor(() => {
      expect(kernel.show()).toEqual(['100.96.2.0/24 via 10.168.0.9 dev 2']);
    });
    kernel.routes.push({
      destination: parseCidr('x', '100.96.2.0/24'),
      gateway: ip('10.168.0.1'),
      interfaceIndex: ETH0,
      metric: 100,
    });
    stop.abort();
    await done;
    expect(kernel.show()).toEqual(['100.96.2.0/24 via 10.168.0.1 dev 2 metric 100']);
  });

  it('takes away what a run before left for leases that have ended, and no other route', async () => {
    const kernel = new FakeKernelRoutes();
    const formerLeases = [3, 4, 5, 6, 8].map((n) => hostGw(`100.96.${n}.0/24`, `10.168.0.${n}`));
    const put = (subnet: string, gateway: string): void => {
      kernel.put({
        destination: parseCidr('x', subnet),
        gateway: ip(gateway),
        interfaceIndex: ETH0,
      });
    };
    put('100.96.3.0/24', '10.168.0.3');
    // By another host than the lease said, and of a subnet that never had one.
    put('100.96.4.0/24', '10.168.0.44');
    put('100.96.7.0/24', '10.168.0.7');
    put('100.96.6.0/24', '10.168.0.6');
    put('100.96.8.0/24', '10.168.0.8');
    // Of a host now that the kernel has no way to.
    kernel.refuses.set(ip('192.0.2.8'), 'ENETUNREACH');
    const { store, network } = await running(OWN_IP, { kernel, formerLeases });
    store.snapshot(
      OWN,
      hostGw('100.96.6.0/24', '10.168.0.6'),
      hostGw('100.96.8.0/24', '192.0.2.8'),
    );
    await network.synced;
    expect(kernel.show().sort()).toEqual([
      '100.96.4.0/24 via 10.168.0.44 dev 2',
      '100.96.6.0/24 via 10.168.0.6 dev 2',
      '100.96.7.0/24 via 10.168.0.7 dev 2',
    ]);
  });

  it('makes no route of a lease of another backend, and says why', async () => {
    const { kernel, store, network } = await running();
    store.snapshot(OWN, lease('100.96.2.0/24', '10.168.0.3', 1_000));
    await network.synced;
    expect(kernel.show()).toEqual([]);
    expect(network.followState().rejected).toEqual([
      {
        key: '100.96.2.0-24',
        reason: "BackendType is missing, as in a lease of udp: this host's backend is host-gw",
      },
    ]);
  });

  it('does not work through NAT, and names PublicIP', async () => {
    await expect(running('192.0.2.7')).rejects.toThrow(
      'PublicIP: "192.0.2.7" is not valid: expected the address of eth0, 10.168.0.2',
    );
  });
});

describe('routes in the kernel', () => {
  it('go when their subnet is of a host now that cannot be reached', async () => {
    const { kernel, store, shown } = await withPeer();
    kernel.refuses.set(ip('192.0.2.3'), 'ENETUNREACH');
    store.send({ type: 'put', lease: hostGw('100.96.2.0/24', '192.0.2.3') });
    await vi.waitFor(() => {
      expect(shown()).toHaveLength(1);
    });
    expect(kernel.show()).toEqual([]);
  });

  it('are put back when they are taken away or replaced', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const { kernel } = await withPeer();
    kernel.routes = [];
    await vi.advanceTimersByTimeAsync(3_000);
    expect(kernel.show()).toEqual(['100.96.2.0/24 via 10.168.0.3 dev 2']);
    kernel.put({ ...PEER, destination: PEER.subnet, gateway: ip('10.168.0.1'), interfaceIndex: 3 });
    await vi.advanceTimersByTimeAsync(3_000);
    expect(kernel.show()).toEqual(['100.96.2.0/24 via 10.168.0.3 dev 2']);
    const { puts } = kernel;
    await vi.advanceTimersByTimeAsync(10_000);
    expect(kernel.puts).toBe(puts);
  });

  it('leave by the external interface that is made again, whatever its index', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const { kernel, device } = await withPeer();
    device.index = 7;
    kernel.routes = [];
    await vi.advanceTimersByTimeAsync(3_000);
    expect(kernel.show()).toEqual(['100.96.2.0/24 via 10.168.0.3 dev 7']);
    device.name = 'br0';
    device.index = 9;
    device.addresses = [{ address: ip(OWN_IP), prefix: 24, permanent: true, deprecated: false }];
    await vi.advanceTimersByTimeAsync(3_000);
    expect(kernel.show()).toEqual(['100.96.2.0/24 via 10.168.0.3 dev 9']);
  });

  it('to a host off the segment are a problem that names it, until it is on it', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const { kernel, store, network, shown } = await withPeer();
    kernel.refuses.set(ip('10.169.0.4'), 'ENETUNREACH');
    store.send({ type: 'put', lease: hostGw('100.96.3.0/24', '10.169.0.4') });
    await expect
      .poll(() => shown())
      .toEqual([
        'route_refused: no route 100.96.3.0/24 via 10.169.0.4: that host is not on the segment of eth0 (ENETUNREACH), and every host has to be on one layer-2 segment',
      ]);
    expect(network.forwarder.health().error).toBeUndefined();
    kernel.refuses.set(ip('10.168.0.3'), 'ENETDOWN');
    kernel.routes = [];
    await vi.advanceTimersByTimeAsync(3_000);
    expect(network.forwarder.health().error).toMatch(/^no route 100\.96\./);
    kernel.refuses.clear();
    await vi.advanceTimersByTimeAsync(3_000);
    expect([shown(), network.forwarder.health().error]).toEqual([[], undefined]);
    expect(kernel.show().sort()).toEqual([
      '100.96.2.0/24 via 10.168.0.3 dev 2',
      '100.96.3.0/24 via 10.169.0.4 dev 2',
    ]);
  });
});
