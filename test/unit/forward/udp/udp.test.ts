import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { Registration } from '../../../../src/network/registration.js';
import { createBackend } from '../../../../src/network/registry.js';
import { formatCidr, parseIpv4 } from '../../../../src/config/ipv4.js';
import { parseNetworkConfig } from '../../../../src/config/network.js';
import { systemError } from '../../../../src/errors.js';
import { STORE_AWAY, STORE_REFUSES } from '../../../../src/lease/store-errors.js';
import { silentLogger } from '../../../../src/log.js';
import { ProblemBoard } from '../../../../src/problems.js';
import { counters, fakeDataPlanes } from '../../../support/fake-dataplane.js';
import { FakeKernelRoutes } from '../../../support/fake-kernel-routes.js';
import { registerUdp, withType } from '../../../support/udp-network.js';
import { CONFIG_TEXT, FakeStore, lease, OWN_IP, OWN_SUBNET } from '../../../support/fake-store.js';

const config = parseNetworkConfig(CONFIG_TEXT);
const ip = (text: string): number => parseIpv4('test', text);
const OWN = lease(OWN_SUBNET, OWN_IP, 1_000);
const PEER = lease('100.96.2.0/24', '10.168.0.3', 1_000);
const ENETDOWN = 100;
const EBADFD = 77;

const stops: AbortController[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop.abort();
  vi.useRealTimers();
});

function setUp(mtu = 1500) {
  const store = new FakeStore();
  store.next = OWN;
  const planes = fakeDataPlanes();
  const external = { name: 'eth0', address: ip(OWN_IP), publicIp: ip(OWN_IP), mtu };
  const problems = new ProblemBoard(silentLogger());
  const parts = { store, external, problems, config, open: planes.open };
  const stop = new AbortController();
  stops.push(stop);
  const register = () => registerUdp(parts, stop.signal);
  return { store, planes, register, stop, problems };
}

async function running() {
  const parts = setUp();
  const network = await parts.register();
  const done = network.run(parts.stop.signal);
  parts.store.snapshot(OWN);
  await network.synced;
  const [plane] = parts.planes.opened;
  if (plane === undefined) throw new Error('no data plane was opened');
  return { ...parts, network, done, plane };
}

function totals(network: Registration, direction = 'encapsulate'): number | undefined {
  const { threads } = network.forwarder.counters() ?? { threads: [] };
  return threads.find((thread) => thread.direction === direction)?.sentPackets;
}

describe('registerNetwork', () => {
  it('opens the data plane on the lease and the external interface', async () => {
    const { register, planes } = setUp();
    const network = await register();
    expect(network.mtu).toBe(1472);
    expect(planes.opened[0]?.options).toMatchObject({
      tunName: 'flannel%d',
      tunAddress: ip('100.96.1.0'),
      network: ip('100.96.0.0'),
      networkPrefix: 16,
      subnet: ip('100.96.1.0'),
      subnetPrefix: 24,
      mtu: 1472,
      bindAddress: ip(OWN_IP),
      port: 8285,
      mode: 'batch',
      sourceCheck: true,
    });
    expect(planes.opened[0]?.started).toBe(false);
    network.close();
    expect(planes.live()).toBe(0);
  });

  it('rejects with nothing open when the lease or the device is refused', async () => {
    const { register, planes, store } = setUp();
    planes.failures.push(systemError('UDP port 8285 is taken (EADDRINUSE)'));
    await expect(register()).rejects.toThrow('is taken');
    store.acquireError = systemError('no free subnet');
    await expect(register()).rejects.toThrow('no free subnet');
    expect(planes.opened).toEqual([]);
  });

  it('keeps the MTU within what a datagram and a link can be', async () => {
    const { register, planes } = setUp(65_536);
    (await register()).close();
    expect(planes.opened[0]?.options.mtu).toBe(65_507);
    const small = setUp(90);
    await expect(small.register()).rejects.toThrow(
      'MTU of eth0: 90 is not valid: expected at least 96 bytes',
    );
    expect(small.store.requests).toEqual([]);
  });
});

describe('routes', () => {
  it('starts to forward with the first publication, not before', async () => {
    const { register, planes, store, stop } = setUp();
    const network = await register();
    void network.run(stop.signal);
    await turn();
    expect(planes.opened[0]?.started).toBe(false);
    store.snapshot(OWN, PEER);
    await network.synced;
    expect(planes.opened[0]?.started).toBe(true);
    expect(planes.opened[0]?.published).toEqual([[ip('100.96.2.0'), 24, ip('10.168.0.3')]]);
    expect(network.routes.lookup(ip('100.96.2.3'))?.nextHop).toBe(ip('10.168.0.3'));
  });

  it('publishes a burst of changes once', async () => {
    const { store, plane, network } = await running();
    for (let host = 2; host < 102; host += 1) {
      store.send({ type: 'put', lease: lease(`100.96.${host}.0/24`, `10.168.1.${host}`) });
    }
    store.send({ type: 'delete', subnet: PEER.subnet });
    await vi.waitFor(() => {
      expect(network.routes.size).toBe(99);
    });
    await turn();
    await turn();
    expect(plane.published).toHaveLength(2);
    expect(plane.published[1]).toHaveLength(101 * 3);
    expect(plane.published[1]?.slice(-3)).toEqual([ip('100.96.2.0'), 24, 0]);
    expect(plane.routes.size).toBe(99);
  });

  it('publishes each change of a stream once, and takes away what a later snapshot lacks', async () => {
    const { store, plane, network } = await running();
    for (let host = 2; host < 40; host += 1) {
      store.send({ type: 'put', lease: lease(`100.96.${host}.0/24`, `10.168.1.${host}`) });
      await turn();
    }
    await vi.waitFor(() => {
      expect(plane.routes.size).toBe(38);
    });
    expect(plane.published.flat()).toHaveLength(38 * 3);
    store.snapshot(OWN, PEER);
    await vi.waitFor(() => {
      expect(plane.routes.size).toBe(1);
    });
    expect(plane.routes.get(`${ip('100.96.2.0')}/24`)).toBe(ip('10.168.0.3'));
    expect(network.routes.size).toBe(1);
  });

  it('does not publish what changes no route, such as a renewal', async () => {
    const { store, plane, network } = await running();
    store.send({ type: 'put', lease: { ...OWN, expiresAt: 2_000 } });
    await vi.waitFor(() => {
      expect(network.lease.expiresAt).toBe(2_000);
    });
    await turn();
    expect(plane.published).toHaveLength(1);
  });

  it('shows rejected leases and a store that cannot be followed, and keeps the routes', async () => {
    const { store, network } = await running();
    store.send({ type: 'put', lease: PEER });
    store.send({ type: 'put', lease: lease('10.0.0.0/24', '10.168.0.4') });
    store.send({ type: 'degraded', error: new Error('torn') });
    await vi.waitFor(() => {
      expect(network.followState().storeError).toBe('torn');
    });
    expect(network.followState().rejected.map(({ key }) => key)).toEqual(['10.0.0.0-24']);
    expect(network.routes.size).toBe(1);
    store.send({ type: 'recovered' });
    store.snapshot(OWN, PEER);
    await vi.waitFor(() => {
      expect(network.followState().rejected).toEqual([]);
    });
    expect(network.followState().storeError).toBeUndefined();
  });
});

describe('entries of the store that cannot be read', () => {
  const entry = { key: '100.96.2.0-24', reason: 'not JSON' };

  it('leave the route they had, also through a resynchronisation', async () => {
    const { store, network } = await running();
    store.send({ type: 'put', lease: PEER });
    store.send({ type: 'rejected', entry });
    await vi.waitFor(() => {
      expect(network.followState().rejected).toEqual([entry]);
    });
    expect(network.routes.size).toBe(1);
    store.send({ type: 'snapshot', leases: [OWN], rejected: [entry] });
    store.send({ type: 'degraded', error: new Error('turn') });
    await vi.waitFor(() => {
      expect(network.followState().storeError).toBe('turn');
    });
    expect(network.routes.lookup(ip('100.96.2.3'))?.nextHop).toBe(ip('10.168.0.3'));
    store.send({ type: 'delete', subnet: PEER.subnet }, { type: 'cleared', key: entry.key });
    await vi.waitFor(() => {
      expect(network.followState().rejected).toEqual([]);
    });
    expect(network.routes.size).toBe(0);
  });

  it('are kept to show up to a thousand', async () => {
    const { store, network } = await running();
    for (let index = 0; index < 1_200; index += 1) {
      store.send({ type: 'rejected', entry: { key: `bad-${index}`, reason: 'bad' } });
    }
    store.send({ type: 'degraded', error: new Error('turn') });
    await vi.waitFor(() => {
      expect(network.followState().storeError).toBe('turn');
    });
    expect(network.followState().rejected).toHaveLength(1_000);
  });
});

describe('the age of the leases', () => {
  it('is none while the store is followed, and counts from when it was last', async () => {
    const { store, network } = await running();
    expect(network.followState().leasesAsOf).toBeUndefined();
    const before = Date.now();
    store.send({ type: 'degraded', error: new Error('away') });
    await vi.waitFor(() => {
      expect(network.followState().leasesAsOf).toBeGreaterThanOrEqual(before);
    });
    store.send({ type: 'recovered' });
    await vi.waitFor(() => {
      expect(network.followState().leasesAsOf).toBeUndefined();
    });
    store.send({ type: 'snapshot', leases: [OWN], rejected: [], asOf: 1_000 });
    store.send({ type: 'degraded', error: new Error('away') });
    await vi.waitFor(() => {
      expect(network.followState().storeError).toBe('away');
    });
    expect(network.followState().leasesAsOf).toBe(1_000);
  });
});

describe('a store that cannot be followed', () => {
  it('shows the newest reason and its kind, since the first', async () => {
    const { store, network } = await running();
    store.send({ type: 'degraded', error: systemError('away', { code: STORE_AWAY }) });
    await vi.waitFor(() => {
      expect(network.followState()).toMatchObject({
        storeError: 'away',
        storeFault: 'unreachable',
      });
    });
    const since = network.followState().leasesAsOf;
    store.send({ type: 'degraded', error: systemError('refused', { code: STORE_REFUSES }) });
    await vi.waitFor(() => {
      expect(network.followState()).toMatchObject({ storeError: 'refused', storeFault: 'refused' });
    });
    expect(network.followState().leasesAsOf).toBe(since);
    store.send({ type: 'recovered' });
    await vi.waitFor(() => {
      expect(network.followState().storeFault).toBeUndefined();
    });
  });
});

describe('own lease', () => {
  it('keeps the expiry that is known when the store cannot tell one', async () => {
    const { store, network } = await running();
    store.send({ type: 'put', lease: lease(OWN_SUBNET, OWN_IP, Infinity) });
    store.send({ type: 'degraded', error: new Error('turn') });
    await vi.waitFor(() => {
      expect(network.followState().storeError).toBe('turn');
    });
    expect(network.lease.expiresAt).toBe(1_000);
  });

  it('that was a reservation and got a grant is due at once', async () => {
    const { store, network } = await running();
    network.adoptLease(lease(OWN_SUBNET, OWN_IP, undefined));
    store.send({ type: 'put', lease: lease(OWN_SUBNET, OWN_IP, Infinity) });
    await vi.waitFor(() => {
      expect(network.lease.expiresAt).toBeLessThanOrEqual(Date.now());
    });
  });

  it.each([
    ['deleted', { type: 'delete', subnet: OWN.subnet }, 'is gone from the store'],
    [
      'taken over',
      { type: 'put', lease: lease(OWN_SUBNET, '10.168.0.9') },
      'was taken over by 10.168.0.9',
    ],
    ['missing', { type: 'snapshot', leases: [PEER], rejected: [] }, 'is gone from the store'],
  ] as const)('is reported lost when %s, and taken up again', async (_name, event, reason) => {
    const { store, network, planes } = await running();
    const changed = vi.fn();
    network.onLeaseChange(changed);
    store.send(event);
    await vi.waitFor(() => {
      expect(network.leaseLost).toContain(reason);
    });
    expect(changed).toHaveBeenCalledTimes(1);
    network.adoptLease(lease(OWN_SUBNET, OWN_IP, 5_000));
    expect(network.leaseLost).toBeUndefined();
    expect(network.lease.expiresAt).toBe(5_000);
    expect(planes.opened).toHaveLength(1);
    expect(planes.live()).toBe(1);
  });
});

describe('a data plane that fails', () => {
  it('is replaced with its routes, its name and its counters', async () => {
    const { store, network, plane, planes } = await running();
    store.send({ type: 'put', lease: PEER });
    await vi.waitFor(() => {
      expect(plane.published).toHaveLength(2);
    });
    plane.threads = [counters('encapsulate', 10, { ringBytes: 50 }), counters('decapsulate', 4)];
    plane.emit('event', { type: 'fault', errno: EBADFD, operation: 'tun' });
    expect(plane.closed).toBe(true);
    expect(network.forwarder.health().error).toContain('EBADFD');
    expect(totals(network)).toBe(10);
    expect(network.forwarder.counters()?.threads[0]?.ringBytes).toBe(0);
    await vi.waitFor(() => {
      expect(planes.opened).toHaveLength(2);
    });
    const second = planes.opened[1];
    expect(second?.options.tunName).toBe('flannel0');
    expect(second?.started).toBe(true);
    expect(second?.published).toEqual([[ip('100.96.2.0'), 24, ip('10.168.0.3')]]);
    if (second !== undefined) second.threads = [counters('encapsulate', 3)];
    expect(totals(network)).toBe(13);
    expect(totals(network, 'decapsulate')).toBe(4);
    expect(network.forwarder.health()).toEqual({ error: undefined, restarts: 1 });
    expect(store.requests).toHaveLength(1);
  });

  it('is tried again with growing pauses of at most 4 s, also under another name', async () => {
    const { network, plane, planes, stop } = await running();
    vi.useFakeTimers();
    const names: string[] = [];
    const open = vi.spyOn(planes.failures, 'shift');
    for (let attempt = 0; attempt < 9; attempt += 1) {
      planes.failures.push(systemError(`refused ${attempt}`));
    }
    plane.emit('event', { type: 'fault', errno: ENETDOWN, operation: 'udp' });
    expect(network.forwarder.health().error).toContain('ENETDOWN');
    const times: number[] = [];
    for (let time = 0, seen = 0; time < 25_000; time += 100) {
      await vi.advanceTimersByTimeAsync(100);
      if (open.mock.calls.length > seen) times.push(time + 100);
      seen = open.mock.calls.length;
    }
    expect(times.slice(0, 8)).toEqual([100, 300, 700, 1500, 3100, 6300, 10_300, 14_300]);
    for (const { options } of planes.opened) names.push(options.tunName);
    expect(names).toHaveLength(2);
    expect(network.forwarder.health().error).toBeUndefined();
    stop.abort();
    expect(planes.live()).toBe(0);
  });

  it('is not replaced once the network is stopped', async () => {
    const { plane, planes, stop, done } = await running();
    vi.useFakeTimers();
    plane.emit('event', { type: 'fault', errno: ENETDOWN, operation: 'udp' });
    stop.abort();
    await done;
    await vi.advanceTimersByTimeAsync(10_000);
    expect(planes.opened).toHaveLength(1);
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe('a device that others change', () => {
  /** Ends with fake timers in force and the data plane forwarding. */
  async function forwarding() {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'setTimeout', 'clearTimeout'] });
    return running();
  }

  it('is checked each second while it forwards, and not after the end', async () => {
    const { plane, stop, done } = await forwarding();
    expect(plane.started).toBe(true);
    await vi.advanceTimersByTimeAsync(3_500);
    expect(plane.restoreCalls).toBe(3);
    stop.abort();
    await done;
    await vi.advanceTimersByTimeAsync(5_000);
    expect(plane.restoreCalls).toBe(3);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('is not looked after nor given away while it stands aside for another program', async () => {
    const { network, plane } = await forwarding();
    const { aside, handover } = network.forwarder;
    network.forwarder.changeMode?.('kernel');
    aside?.step();
    expect(plane.steps).toEqual(['aside']);
    // A program in the kernel has no port to leave.
    expect(plane.modes).toEqual(['kernel', 'offload']);
    const before = plane.restoreCalls;
    await vi.advanceTimersByTimeAsync(3_500);
    expect(plane.restoreCalls).toBe(before);
    expect(() => handover?.give('/run/take')).toThrow('it stands aside for another program');
    aside?.back();
    expect(plane.steps).toEqual(['aside', 'back']);
    await vi.advanceTimersByTimeAsync(2_500);
    expect(plane.restoreCalls).toBeGreaterThan(before);
    expect(() => handover?.give('/run/take')).not.toThrow();
  });

  it.each([
    ['as it was, where the kernel cannot', undefined, 1],
    ['a new one, where it was closed over it', systemError('closed', { code: 'EBADF' }), 2],
  ])('is %s, after a step aside that failed', async (_, found, opened) => {
    const { network, plane, planes } = await forwarding();
    plane.stepFailure = systemError('nf_tables: EOPNOTSUPP', { code: 'EOPNOTSUPP' });
    if (found !== undefined) plane.restorations.push(found);
    expect(() => network.forwarder.aside?.step()).toThrow('EOPNOTSUPP');
    await vi.advanceTimersByTimeAsync(2_000);
    expect(planes.opened).toHaveLength(opened);
    expect(planes.live()).toBe(1);
  });

  it('stays aside while another program has the port', async () => {
    const { network, plane, planes } = await forwarding();
    network.forwarder.aside?.step();
    plane.stepFailure = systemError('bind: EADDRINUSE', { code: 'EADDRINUSE' });
    expect(() => network.forwarder.aside?.back()).toThrow('EADDRINUSE');
    await vi.advanceTimersByTimeAsync(2_000);
    expect(planes.opened).toHaveLength(1);
    plane.stepFailure = undefined;
    network.forwarder.aside?.back();
    // Nothing is left to take back.
    network.forwarder.aside?.back();
    expect(plane.steps).toEqual(['aside', 'back']);
  });

  it('stays in service when the kernel refuses, and is tried again', async () => {
    const { network, plane, planes } = await forwarding();
    const refusal = systemError('RTM_NEWADDR: ENOBUFS', { code: 'ENOBUFS' });
    plane.restorations.push(refusal, refusal, { routeAdded: true });
    await vi.advanceTimersByTimeAsync(4_500);
    expect(plane.restoreCalls).toBe(4);
    expect(planes.opened).toHaveLength(1);
    expect(network.forwarder.health()).toEqual({ error: undefined, restarts: 0 });
  });

  it('is replaced when it is not in this network namespace any more', async () => {
    const { network, plane, planes } = await forwarding();
    plane.restorations.push(systemError('RTM_GETLINK: ENODEV', { code: 'ENODEV' }));
    await vi.advanceTimersByTimeAsync(1_000);
    expect(plane.closed).toBe(true);
    expect(network.forwarder.health().error).toContain(
      'flannel0 is gone from this network namespace',
    );
    await vi.advanceTimersByTimeAsync(200);
    expect(planes.opened).toHaveLength(2);
    expect(planes.opened[1]).toMatchObject({ started: true, device: 'flannel0' });
    expect(network.forwarder.health()).toEqual({ error: undefined, restarts: 1 });
  });

  it('puts on the problem board what was left as it is, and takes it off at the end', async () => {
    const { plane, problems, stop, done } = await forwarding();
    const down = { up: false };
    plane.restorations.push(down, down);
    await vi.advanceTimersByTimeAsync(2_000);
    expect(problems.all).toMatchObject([{ id: 'device_down', remedy: 'ip link set flannel0 up' }]);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(problems.all).toEqual([]);
    plane.restorations.push(down);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(problems.all).toHaveLength(1);
    stop.abort();
    await done;
    expect(problems.all).toEqual([]);
  });
});

describe('the end', () => {
  it('closes everything when the signal aborts', async () => {
    const { planes, stop, done, store } = await running();
    stop.abort();
    await done;
    expect(planes.live()).toBe(0);
    store.snapshot(OWN, PEER);
    await turn();
    expect(planes.opened[0]?.published).toHaveLength(1);
  });

  it('rejects those who wait for leases that never came', async () => {
    const { register, stop } = setUp();
    const network = await register();
    const done = network.run(stop.signal);
    stop.abort();
    await done;
    await expect(network.synced).rejects.toThrow('closed before');
  });
});

describe('createBackend', () => {
  const context = () => ({
    external: { name: 'eth0', address: ip(OWN_IP), publicIp: ip(OWN_IP), mtu: 1500 },
    log: silentLogger(),
  });
  const create = (type: string) =>
    createBackend(
      { ...context(), config: withType(config, type) },
      { mode: 'basic', sourceCheck: true },
    );

  it('gives the udp backend', () => {
    expect(create('udp').udpPort).toBe(8285);
    expect(formatCidr(config.network)).toBe('100.96.0.0/16');
  });

  it.each(['wireguard', 'ipip', 'udpp'])('refuses %s by name', (type) => {
    expect(() => create(type)).toThrow(
      `Backend.Type: ${JSON.stringify(type)} is not valid: expected "udp"`,
    );
  });
});

describe('DirectRouting', () => {
  const ON_LINK = lease('100.96.2.0/24', '10.168.0.3', 1_000);
  const OFF_LINK = lease('100.96.7.0/24', '192.0.2.7', 1_000);
  const eth0 = {
    name: 'eth0',
    index: 2,
    mtu: 1500,
    up: true,
    loopback: false,
    addresses: [{ address: ip(OWN_IP), prefix: 24, permanent: true, deprecated: false }],
  };

  async function direct(interfaces = [eth0]) {
    const kernelRoutes = new FakeKernelRoutes();
    const { store, planes, stop, problems } = setUp();
    const external = { name: 'eth0', address: ip(OWN_IP), publicIp: ip(OWN_IP), mtu: 1500 };
    const text = '{"Network":"100.96.0.0/16","Backend":{"Type":"udp","DirectRouting":true}}';
    const kernel = { kernelRoutes, interfaces: () => interfaces };
    const network = await registerUdp(
      {
        store,
        external,
        problems,
        kernel,
        config: parseNetworkConfig(text),
        open: planes.open,
      },
      stop.signal,
    );
    const done = network.run(stop.signal);
    store.snapshot(OWN, ON_LINK, OFF_LINK);
    await network.synced;
    const reached = () =>
      network.routes
        .routes()
        .map((route) => [formatCidr(route.subnet), network.forwarder.reach(route)]);
    return { kernelRoutes, store, planes, network, stop, done, reached };
  }

  it('gives the kernel a route to each host on the segment, and the tunnel all of them', async () => {
    const { kernelRoutes, planes, reached, stop, done } = await direct();
    expect(kernelRoutes.show()).toEqual(['100.96.2.0/24 via 10.168.0.3 dev 2']);
    expect(planes.opened[0]?.routes.size).toBe(2);
    expect(reached()).toEqual([
      ['100.96.2.0/24', { way: 'direct', why: 'on the segment of eth0' }],
      ['100.96.7.0/24', { way: 'tunnel', why: 'not on the segment of eth0' }],
    ]);
    stop.abort();
    await done;
    expect(kernelRoutes.show()).toEqual([]);
  });

  it('follows a host that moves off the segment and back', async () => {
    const { kernelRoutes, store, reached } = await direct();
    store.snapshot(OWN, lease('100.96.2.0/24', '192.0.2.3', 1_000));
    await vi.waitFor(() => {
      expect(kernelRoutes.show()).toEqual([]);
    });
    expect(reached()[0]).toEqual([
      '100.96.2.0/24',
      { way: 'tunnel', why: 'not on the segment of eth0' },
    ]);
    store.snapshot(OWN, ON_LINK);
    await vi.waitFor(() => {
      expect(kernelRoutes.show()).toEqual(['100.96.2.0/24 via 10.168.0.3 dev 2']);
    });
    store.snapshot(OWN);
    await vi.waitFor(() => {
      expect(kernelRoutes.show()).toEqual([]);
    });
  });

  it('leaves a host whose route the kernel refuses to the tunnel, and says so', async () => {
    const { kernelRoutes, store, network, reached } = await direct();
    kernelRoutes.refuses.set(ip('10.168.0.9'), 'EPERM');
    store.snapshot(OWN, lease('100.96.2.0/24', '10.168.0.9', 1_000));
    await vi.waitFor(() => {
      expect(kernelRoutes.puts).toBe(2);
    });
    expect(reached()[0]).toEqual([
      '100.96.2.0/24',
      { way: 'tunnel', why: 'no route 100.96.2.0/24 via 10.168.0.9: RTM_NEWROUTE: EPERM' },
    ]);
    expect(network.forwarder.health().error).toBeUndefined();
  });

  it('needs the external interface', async () => {
    await expect(direct([])).rejects.toThrow('interface eth0 is gone');
  });

  it('is true or false', () => {
    const text = '{"Network":"100.96.0.0/16","Backend":{"Type":"udp","DirectRouting":"yes"}}';
    const external = { name: 'eth0', address: ip(OWN_IP), publicIp: ip(OWN_IP), mtu: 1500 };
    const context = { config: parseNetworkConfig(text), external, log: silentLogger() };
    expect(() => createBackend(context, { mode: 'batch', sourceCheck: true })).toThrow(
      'Backend.DirectRouting: "yes" is not valid: expected true or false',
    );
  });
});
