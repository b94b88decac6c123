/** A registration over a backend that is not udp: what it asks the store for, and what it hands on. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { parseIpv4 } from '../../../src/config/ipv4.js';
import { parseNetworkConfig } from '../../../src/config/network.js';
import { systemError } from '../../../src/errors.js';
import { silentLogger } from '../../../src/log.js';
import type { Backend, Forwarder } from '../../../src/network/forwarder.js';
import { register, type RegistrationParts } from '../../../src/network/registration.js';
import type { RouteChange } from '../../../src/network/route-table.js';
import { CONFIG_TEXT, FakeStore, lease, OWN_IP, OWN_SUBNET } from '../../support/fake-store.js';

const config = parseNetworkConfig(CONFIG_TEXT);
const address = parseIpv4('test', OWN_IP);
const external = { name: 'eth0', address, publicIp: address, mtu: 1500 };
const OWN = lease(OWN_SUBNET, OWN_IP, 1_000);
const PEER = lease('100.96.2.0/24', '10.168.0.3', 1_000);
const attributes = {
  publicIp: address,
  backendType: 'vxlan',
  backendData: { VNI: 1, VtepMAC: 'aa:00:00:00:00:01' },
};

const stops: AbortController[] = [];
const kernels: ReturnType<typeof kernelBackend>[] = [];
afterEach(() => {
  kernels.length = 0;
  for (const stop of stops.splice(0)) stop.abort();
});

type Known = Partial<Omit<RegistrationParts, 'store'>> & { readonly store?: FakeStore };

/** It grants the lease that it has. */
function ownStore(): FakeStore {
  const store = new FakeStore();
  store.next = OWN;
  return store;
}

/** A backend whose packets the kernel alone carries. */
function kernelBackend() {
  const applied: (readonly RouteChange[])[] = [];
  const facts = { mtu: 1450, minExternalMtu: 118, leaseAttributes: attributes, udpPort: undefined };
  const forwarder: Forwarder & { closed: boolean } = {
    ...facts,
    device: 'flannel.1',
    closed: false,
    apply: (changes) => applied.push(changes),
    reach: () => ({ way: 'tunnel' }),
    health: () => ({ error: undefined, restarts: 0 }),
    counters: () => undefined,
    close: () => {
      forwarder.closed = true;
    },
  };
  const backend: Backend = { ...facts, open: () => forwarder };
  return { backend, forwarder, applied };
}

async function running({ store = ownStore(), ...known }: Known = {}) {
  const stop = new AbortController();
  stops.push(stop);
  const kernel = kernelBackend();
  kernels.push(kernel);
  const { backend } = kernel;
  const log = silentLogger();
  const parts = { store, backend, config, external, previousSubnet: undefined, view: undefined };
  const network = await register({ ...parts, log, ...known }, stop.signal);
  void network.run(stop.signal);
  return { store, stop, network, ...kernel };
}

describe('lease attributes', () => {
  it("are the backend's whenever a lease is asked for, the first time and again", async () => {
    const { store, network } = await running();
    expect(store.requests[0]?.attributes).toEqual(attributes);
    expect(network.leaseRequest.attributes).toEqual(attributes);
  });

  it("are the backend's also in a lease taken over from the network before", async () => {
    const { store, network } = await running({ lease: OWN });
    expect(store.requests).toEqual([]);
    expect(network.lease).toEqual({ ...OWN, attributes });
  });
});

describe('a lease that is told last', () => {
  const before = { lease: OWN, announceLast: true };

  /** Notes what happens; of routes when they are asked for the lease. */
  function told(order: string[]): FakeStore {
    const store = new FakeStore();
    store.snapshot(OWN, PEER);
    store.acquireLease = async () => {
      order.push(kernels.at(-1)?.applied.length === 1 ? 'routes' : 'nothing', 'lease');
      return Promise.resolve(lease(OWN_SUBNET, OWN_IP, 2_000));
    };
    return store;
  }

  it('is asked for when the others are known and forwarded to', async () => {
    const order: string[] = [];
    const { store, network } = await running({ ...before, store: told(order) });
    expect(order).toEqual(['routes', 'lease']);
    expect(store.requests).toEqual([]);
    expect(network.routes.size).toBe(1);
    expect(network.lease.expiresAt).toBe(2_000);
  });

  it.each([
    [
      'another subnet is granted',
      lease('100.96.9.0/24', OWN_IP, 2_000),
      '100.96.9.0/24 in place of 100.96.1.0/24',
    ],
    ['the store refuses', systemError('not now'), 'not now'],
  ])('leaves nothing behind when %s', async (_, answer, message) => {
    const store = new FakeStore();
    store.snapshot(OWN, PEER);
    if (answer instanceof Error) store.acquireError = answer;
    else store.next = answer;
    await expect(running({ ...before, store })).rejects.toThrow(message);
    expect(kernels.at(-1)?.forwarder.closed).toBe(true);
  });
});

describe('a network that succeeds another', () => {
  it('has a route before the other gives it up, and puts it once more', async () => {
    const former = await running();
    former.store.snapshot(OWN, PEER);
    await former.network.synced;
    const next = await running();
    next.network.succeed(former.network);
    const order: unknown[] = [];
    for (const [name, { forwarder }] of Object.entries({ former, next })) {
      forwarder.apply = (changes) => order.push([name, ...changes.map(({ type }) => type)]);
    }
    former.backend.leaseFault = () => 'of another backend';
    next.store.snapshot(OWN, PEER);
    await next.network.synced;
    expect(order).toEqual([
      ['next', 'add'],
      ['former', 'remove'],
      ['next', 'update'],
    ]);
    // What is closed is let be.
    former.stop.abort();
    await expect.poll(() => former.forwarder.closed).toBe(true);
    next.store.snapshot(OWN);
    await expect.poll(() => order.length).toBe(4);
    expect(order.at(-1)).toEqual(['next', 'remove']);
  });
});

describe('routes', () => {
  it('reach the forwarder as changes, and are taken away with it', async () => {
    const { store, network, applied, forwarder, stop } = await running();
    store.snapshot(OWN, PEER);
    await network.synced;
    expect(applied).toEqual([
      [{ type: 'add', route: { subnet: PEER.subnet, nextHop: PEER.attributes.publicIp } }],
    ]);
    stop.abort();
    await expect.poll(() => forwarder.closed).toBe(true);
  });
});

describe('a port that another program has', () => {
  /** Registers while it is taken; `free` ends that. */
  function waiting(
    openAside?: (
      kernel: ReturnType<typeof kernelBackend>,
      ...given: Parameters<Backend['open']>
    ) => ReturnType<Backend['open']>,
  ) {
    const store = new FakeStore();
    store.next = OWN;
    const stop = new AbortController();
    stops.push(stop);
    const kernel = kernelBackend();
    let taken = true;
    let failed = false;
    let told = 0;
    const backend: Backend = {
      ...kernel.backend,
      open: (...given) => {
        if (failed) throw systemError('no device', { code: 'EPERM' });
        if (taken) throw systemError('taken', { code: 'EADDRINUSE' });
        return kernel.backend.open(...given);
      },
      ...(openAside === undefined ? {} : { openAside: (...given) => openAside(kernel, ...given) }),
    };
    const onPortTaken = (): void => {
      told += 1;
    };
    const parts = { store, backend, config, external, previousSubnet: undefined, view: undefined };
    const network = register({ ...parts, log: silentLogger(), onPortTaken }, stop.signal);
    const free = (): void => {
      taken = false;
    };
    const fail = (): void => {
      failed = true;
    };
    return { ...kernel, store, stop, network, free, fail, told: () => told };
  }
  const PEER_ROUTE = { subnet: PEER.subnet, nextHop: PEER.attributes.publicIp };

  it('is waited for, and the leases that were read meanwhile are in force at once', async () => {
    const { store, network, free, told, applied } = waiting();
    await expect.poll(told).toBe(1);
    store.snapshot(OWN, PEER);
    await delay(20);
    expect(applied).toEqual([]);
    free();
    const found = await network;
    // Before the network runs and follows the store.
    expect(applied).toEqual([[{ type: 'add', route: PEER_ROUTE }]]);
    await found.synced;
    expect(told()).toBe(1);
  });

  it('is taken once it is free, and packets go on beside who has it until then', async () => {
    const steps: string[] = [];
    let taken = true;
    const back = (): void => {
      if (taken) throw systemError('taken', { code: 'EADDRINUSE' });
      steps.push('back');
    };
    const { store, network, told, applied, free } = waiting((kernel, lease, routes) => {
      steps.push('open');
      const forwarder = kernel.backend.open(lease, routes);
      return Object.assign(forwarder, { aside: { step: () => undefined, back } });
    });
    await expect.poll(told).toBe(1);
    await delay(20);
    // Not without the leases.
    expect(steps).toEqual([]);
    store.snapshot(OWN, PEER);
    const found = await network;
    expect(applied).toEqual([[{ type: 'add', route: PEER_ROUTE }]]);
    let isFree = false;
    void found.portFree.then(() => (isFree = true));
    await delay(200);
    expect([steps, isFree]).toEqual([['open'], false]);
    free();
    taken = false;
    await found.portFree;
    expect(steps).toEqual(['open', 'back']);
    expect(told()).toBe(1);
  });

  it('is waited for where nothing goes beside who has it, and no more than once tried', async () => {
    let tries = 0;
    const { store, network, told, free } = waiting(() => {
      tries += 1;
      throw systemError('nf_tables', { code: 'EOPNOTSUPP' });
    });
    await expect.poll(told).toBe(1);
    store.snapshot(OWN, PEER);
    await expect.poll(() => tries).toBe(1);
    await delay(50);
    free();
    await (
      await network
    ).portFree;
    expect(tries).toBe(1);
  });

  it('is waited for without the store too', async () => {
    const { network, free, applied, told } = waiting();
    await expect.poll(told).toBe(1);
    free();
    await network;
    expect(applied).toEqual([]);
  });

  it('is not waited for, and the store not followed, after another error', async () => {
    const { network, fail, store, told } = waiting();
    await expect.poll(told).toBe(1);
    await expect.poll(() => store.watching).toBe(true);
    fail();
    await expect(network).rejects.toThrow('no device');
    await expect.poll(() => store.watching).toBe(false);
  });

  it('is not waited for when the signal aborts', async () => {
    const { network, stop, told } = waiting();
    await expect.poll(told).toBe(1);
    stop.abort();
    await expect(network).rejects.toThrow();
  });
});
