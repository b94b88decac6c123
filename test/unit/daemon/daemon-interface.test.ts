/** A daemon whose external interface changes while it runs, with everything around it faked. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { pause } from '../../../src/abort.js';
import { parseIpv4 } from '../../../src/config/ipv4.js';
import { Daemon, type DaemonDependencies } from '../../../src/daemon/daemon.js';
import { systemError } from '../../../src/errors.js';
import type { HostInterfaceInfo } from '../../../src/host/interface.js';
import { STORE_AWAY } from '../../../src/lease/store-errors.js';
import { silentLogger } from '../../../src/log.js';
import { fakeDataPlanes, type FakeDataPlanes } from '../../support/fake-dataplane.js';
import { FakeFirewall } from '../../support/fake-firewall.js';
import { FakeStore, lease, OWN_IP, OWN_SUBNET } from '../../support/fake-store.js';

const OWN = lease(OWN_SUBNET, OWN_IP, Date.now() + 86_400_000);
const PEER = lease('100.96.2.0/24', '10.168.0.3');

let directory: string;
const stops: (() => Promise<void>)[] = [];
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'flannelette-daemon-'));
});
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
  await rm(directory, { recursive: true });
});

/** A daemon that is ready on a host with eth0 alone; `change` makes eth0 another. */
async function running(more: Partial<DaemonDependencies> = {}, ...others: HostInterfaceInfo[]) {
  const store = new FakeStore();
  store.next = OWN;
  const planes = fakeDataPlanes();
  const addresses = [{ address: parseIpv4('test', OWN_IP), prefix: 24 }];
  const eth0 = { name: 'eth0', index: 2, mtu: 1500, up: true, loopback: false, addresses };
  const host: HostInterfaceInfo[] = [eth0, ...others];
  const subnetFile = join(directory, 'subnet.env');
  const daemon = new Daemon(
    { store: { kind: 'file', path: 'unused' }, subnetFile },
    silentLogger(),
    {
      openStore: () => Promise.resolve(store),
      openDataPlane: planes.open,
      hostInterfaces: () => host,
      defaultInterface: () => Promise.resolve('eth0'),
      outgoingInterfaces: (destinations) => destinations.map(() => 2),
      probeKernel: () => [],
      createFirewall: (kind) => new FakeFirewall(kind),
      // Seconds pass ten times as fast.
      pause: (ms, signal) => pause(ms / 10, signal),
      ...more,
    },
  );
  const controller = new AbortController();
  const done = daemon.run(controller.signal);
  stops.push(async () => {
    controller.abort();
    await done.catch(() => undefined);
  });
  store.snapshot(OWN, PEER);
  await vi.waitFor(() => {
    expect(daemon.readiness().ready).toBe(true);
  });
  const change = (now: Partial<HostInterfaceInfo>): void => {
    host[0] = { ...eth0, ...now };
  };
  return { store, planes, daemon, change };
}

async function opened(planes: FakeDataPlanes, count: number): Promise<void> {
  await vi.waitFor(() => {
    expect(planes.opened).toHaveLength(count);
  }, 8_000);
}

/** The newest one forwards. */
async function started(planes: FakeDataPlanes): Promise<void> {
  await vi.waitFor(() => {
    expect(planes.opened.at(-1)?.started).toBe(true);
  });
}

describe('the external interface of a daemon that runs', () => {
  const address = (text: string) => ({ address: parseIpv4('test', text), prefix: 24 });
  const away = () => systemError('etcd does not answer', { code: STORE_AWAY });

  it('forwards from another address while the store is away, which hears of it later', async () => {
    const { store, planes, daemon, change } = await running();
    store.acquireErrors.push(away(), away());
    change({ addresses: [address('10.168.0.77')] });
    await opened(planes, 2);
    // What a store that is away knows: the lease under the former address.
    store.snapshot(OWN, PEER);
    await started(planes);
    expect(planes.opened[1]?.options.bindAddress).toBe(parseIpv4('test', '10.168.0.77'));
    expect([...(planes.opened[1]?.routes.values() ?? [])]).toEqual([
      parseIpv4('test', '10.168.0.3'),
    ]);
    expect(daemon.status().lease?.lost).toBe(`the lease of ${OWN_SUBNET} still names ${OWN_IP}`);
    store.next = lease(OWN_SUBNET, '10.168.0.77', Date.now() + 86_400_000);
    await vi.waitFor(() => {
      expect(daemon.status().lease?.lost).toBeNull();
    }, 5_000);
    expect(store.requests.at(-1)).toMatchObject({
      attributes: { publicIp: parseIpv4('test', '10.168.0.77') },
      formerPublicIp: parseIpv4('test', OWN_IP),
      previousSubnet: OWN.subnet,
    });
    expect(planes.opened).toHaveLength(2);
    // The former address may be another host's by now: a lease lost later is not looked for under it.
    store.send({ type: 'delete', subnet: OWN.subnet });
    const asked = store.requests.length;
    await vi.waitFor(() => {
      expect(store.requests.length).toBeGreaterThan(asked);
    });
    expect(store.requests.at(-1)?.formerPublicIp).toBeUndefined();
  });

  it('changes twice while the store is away: the store is asked under what it knows', async () => {
    const { store, planes, change } = await running();
    store.acquireErrors.push(...Array.from({ length: 20 }, away));
    for (const [at, text] of [
      [1, '10.168.0.77'],
      [2, '10.168.0.78'],
    ] as const) {
      change({ addresses: [address(text)] });
      await opened(planes, at + 1);
      store.snapshot(OWN, PEER);
      await started(planes);
    }
    store.acquireErrors.splice(0);
    store.next = lease(OWN_SUBNET, '10.168.0.78', Date.now() + 86_400_000);
    const asked = store.requests.length;
    await vi.waitFor(() => {
      expect(store.requests.length).toBeGreaterThan(asked);
    }, 5_000);
    expect(store.requests.at(-1)).toMatchObject({
      attributes: { publicIp: parseIpv4('test', '10.168.0.78') },
      formerPublicIp: parseIpv4('test', OWN_IP),
    });
  });

  it('is tried again when its new address cannot be bound', async () => {
    const { store, planes, daemon, change } = await running();
    const refused = () => systemError('bind: EADDRNOTAVAIL', { code: 'EADDRNOTAVAIL' });
    planes.failures.push(refused(), refused());
    change({ addresses: [address('10.168.0.77')] });
    await opened(planes, 2);
    store.snapshot(OWN, PEER);
    await started(planes);
    // subnet.env is written after that.
    await vi.waitFor(() => {
      expect(daemon.readiness().ready).toBe(true);
    });
  });

  it('goes back when its new address is gone before it could be bound', async () => {
    const { store, planes, daemon, change } = await running();
    planes.failures.push(systemError('bind: EADDRNOTAVAIL', { code: 'EADDRNOTAVAIL' }));
    change({ addresses: [address('10.168.0.77')] });
    await vi.waitFor(() => {
      expect(planes.failures).toEqual([]);
    }, 5_000);
    change({});
    await opened(planes, 2);
    store.snapshot(OWN, PEER);
    await started(planes);
    expect(planes.opened[1]?.options.bindAddress).toBe(parseIpv4('test', OWN_IP));
    expect(daemon.status().lease?.lost).toBeNull();
  });

  it('keeps its MTU when the new one is too small, and says so', async () => {
    const { planes, daemon, change } = await running();
    change({ mtu: 95 });
    await vi.waitFor(() => {
      expect(daemon.readiness().problems).toMatchObject([
        { id: 'external_mtu_too_small', remedy: 'ip link set eth0 mtu 1500' },
      ]);
    }, 3_000);
    change({});
    await vi.waitFor(() => {
      expect(daemon.readiness().problems).toEqual([]);
    }, 3_000);
    expect(planes.opened).toHaveLength(1);
  });

  it('that is gone is a problem until it is back', async () => {
    const { planes, daemon, change } = await running();
    change({ addresses: [] });
    await vi.waitFor(() => {
      expect(daemon.status().problems).toMatchObject([{ id: 'external_address_gone' }]);
    }, 3_000);
    change({});
    await vi.waitFor(() => {
      expect(daemon.status().problems).toEqual([]);
    }, 3_000);
    expect(planes.opened).toHaveLength(1);
  });

  it('goes on under another name without a new network', async () => {
    const { planes, daemon, change } = await running();
    change({ name: 'lan0' });
    await vi.waitFor(() => {
      expect(daemon.status().external).toMatchObject({ name: 'lan0', address: OWN_IP });
    }, 4_000);
    expect(planes.opened).toHaveLength(1);
  });

  it('with a route to a peer that leads into the overlay: told from the start', async () => {
    let way = 9;
    const outgoingInterfaces = (destinations: readonly number[]) => destinations.map(() => way);
    const device = { mtu: 1472, up: true, loopback: false, addresses: [] };
    const flannel0 = { name: 'flannel0', index: 9, ...device };
    const { daemon } = await running({ outgoingInterfaces }, flannel0);
    await vi.waitFor(() => {
      expect(daemon.status().problems).toMatchObject([{ id: 'peer_route_into_overlay' }]);
    });
    expect(daemon.readiness().ready).toBe(true);
    way = 2;
    await vi.waitFor(() => {
      expect(daemon.status().problems).toEqual([]);
    }, 8_000);
  });
});
