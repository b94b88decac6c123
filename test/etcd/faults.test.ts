/** What happens to etcd and to a lease in it while a daemon keeps one, at the store. */
import { cp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Etcd3 } from 'etcd3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { formatIpv4, subnetKey } from '../../src/config/ipv4.js';
import { EtcdServer } from '../../src/testbed/etcd-server.js';
import { STORE_REFUSES } from '../../src/lease/store-errors.js';
import { bootClock, remainingMs } from '../../src/lease/expiry.js';
import type { EtcdStore, EtcdStoreOptions } from '../../src/lease/etcd/etcd-store.js';
import type { Lease } from '../../src/lease/store.js';
import type { Problem } from '../../src/problems.js';
import {
  CONFIG,
  etcdClient,
  freePort,
  leaseRequest,
  openStore,
  PREFIX,
  startEtcd,
  subnet,
  Watcher,
  type TestEtcd,
} from '../support/etcd.js';

const IP = '10.168.0.2';
const KEY = `${PREFIX}/subnets/100.96.1.0-24`;
const REQUEST = leaseRequest(IP, { previousSubnet: subnet('100.96.1.0/24') });
const HOUR = 3_600_000;
const never = new AbortController().signal;

let etcd: TestEtcd;
const stores: EtcdStore[] = [];
const watchers: Watcher[] = [];

async function start(flags: readonly string[] = []): Promise<void> {
  etcd = await startEtcd({ flags });
  await etcd.client.put(`${PREFIX}/config`).value(JSON.stringify(CONFIG));
}
afterEach(async () => {
  for (const watcher of watchers.splice(0)) await watcher.end();
  for (const store of stores.splice(0)) await store.close();
  await etcd.end();
});

function open(options: Partial<EtcdStoreOptions> = {}) {
  const problems: Problem[][] = [];
  const report = (now: readonly Problem[]): void => {
    problems.push([...now]);
  };
  const store = openStore([etcd.server.endpoint], {}, { report, ...options });
  stores.push(store);
  return { store, problems: () => problems.at(-1) ?? [] };
}

function watch(store: EtcdStore): Watcher {
  const watcher = new Watcher(store);
  watchers.push(watcher);
  return watcher;
}

/** A watch whose events somebody takes, as a daemon does. */
function follow(store: EtcdStore): void {
  const watcher = watch(store);
  void (async () => {
    for (;;) await watcher.next();
  })().catch(() => undefined);
}

/** etcd3 refuses to call for a while after an error. */
async function anew<T>(work: (client: Etcd3) => PromiseLike<T>): Promise<T> {
  const client = etcdClient(etcd.server);
  try {
    return await work(client);
  } finally {
    client.close();
  }
}

async function grantOf(key = KEY): Promise<string> {
  const { kvs } = await anew((client) => client.get(key).exec());
  return kvs[0]?.lease ?? '';
}

describe('hosts with one address', () => {
  beforeEach(() => start());

  it('both say so: each hears that its lease was renewed by another', async () => {
    const one = open();
    const lease = await one.store.acquireLease(REQUEST, never);
    follow(one.store);
    const two = open();
    expect((await two.store.acquireLease(REQUEST, never)).subnet).toEqual(lease.subnet);
    follow(two.store);
    for (const { problems } of [one, two]) {
      await expect.poll(problems, { timeout: 5_000 }).toEqual([
        {
          id: 'lease_shared_address',
          message: expect.stringMatching(
            /another host has renewed the lease of 100\.96\.1\.0\/24 under this host's PublicIP 10\.168\.0\.2/,
          ) as string,
        },
      ]);
    }
    // Nor do they write the lease in turns from then on.
    const settled = await grantOf();
    await watch(open().store).until('snapshot');
    expect(await grantOf()).toBe(settled);
  });

  it('is noticed by the renewal as well, and taken back once nobody else renews', async () => {
    const one = open();
    const lease = await one.store.acquireLease(REQUEST, never);
    await open().store.acquireLease(REQUEST, never);
    const renewed = await one.store.renewLease(lease, never);
    expect(one.problems()).toMatchObject([{ id: 'lease_shared_address' }]);
    await expect
      .poll(async () => {
        const before = await grantOf();
        await new Promise((resolve) => setTimeout(resolve, 200));
        return before === (await grantOf());
      })
      .toBe(true);
    await one.store.renewLease(renewed, never);
    expect(one.problems()).toEqual([]);
  });

  it('is no such thing: renewals of one’s own, a reservation, another host', async () => {
    const { store, problems } = open();
    const lease = await store.acquireLease(REQUEST, never);
    const watcher = watch(store);
    await watcher.until('snapshot');
    await store.renewLease(await store.renewLease(lease, never), never);
    await watcher.until('put');
    await watcher.until('put');
    await etcd.client.put(KEY).value(`{"PublicIP":"${IP}","PublicIPv6":null}`);
    expect((await watcher.until('put')).lease.expiresAt).toBeUndefined();
    const grant = await etcd.client.leaseClient.leaseGrant({ TTL: 600 });
    await etcd.client.put(KEY).value('{"PublicIP":"10.168.0.9"}').lease(grant.ID);
    await watcher.until('put');
    expect(problems()).toEqual([]);
  });
});

describe('an etcd without space', () => {
  beforeEach(() => start(['--quota-backend-bytes=300000']));

  async function fill(): Promise<void> {
    for (let n = 0; ; n += 1) {
      const full = await etcd.client
        .put('filler')
        .value('x'.repeat(50_000))
        .exec()
        .then(
          () => false,
          () => true,
        );
      if (full) return;
    }
  }

  it('keeps leases that there are: the renewal goes on with their grant', async () => {
    const { store, problems } = open();
    const lease = await store.acquireLease(REQUEST, never);
    const grant = await grantOf();
    await fill();
    const renewed = await store.renewLease(lease, never);
    expect(renewed.subnet).toEqual(lease.subnet);
    expect(remainingMs(renewed)).toBeGreaterThan(23 * HOUR);
    expect(await grantOf()).toBe(grant);
    expect(problems()).toMatchObject([{ id: 'etcd_no_space', remedy: /etcdctl alarm disarm/ }]);
    // So does a start.
    expect((await open().store.acquireLease(REQUEST, never)).subnet).toEqual(lease.subnet);
    const { kvs } = await anew((client) => client.get(KEY).exec());
    expect(kvs[0]?.version).toBe('1');
  });

  it('refuses new leases, says how to mend that, and the next attempt works', async () => {
    await fill();
    const { store, problems } = open();
    expect(await store.readNetworkConfig(never)).toBe(JSON.stringify(CONFIG));
    await expect(store.acquireLease(REQUEST, never)).rejects.toMatchObject({
      code: STORE_REFUSES,
      message: expect.stringMatching(/quota is used up \(NOSPACE\)/) as string,
    });
    expect(problems()).toMatchObject([{ id: 'etcd_no_space' }]);
    await anew(async (client) => {
      const { header } = await client.get('filler').exec();
      await client.kv.compact({ revision: header.revision, physical: true });
      await client.maintenance.defragment();
      const { alarms } = await client.maintenance.alarm({ action: 'Get', alarm: 'Nospace' });
      for (const { memberID } of alarms) {
        await client.maintenance.alarm({ action: 'Deactivate', memberID, alarm: 'Nospace' });
      }
    });
    await store.acquireLease(REQUEST, never);
    expect(problems()).toEqual([]);
  });
});

describe('the end of a lease', () => {
  beforeEach(() => start());

  it('does not move with the wall clock', async () => {
    let ahead = 48 * HOUR;
    const clocks = { now: () => Date.now() + ahead, boot: bootClock };
    const { store } = open({ clocks });
    const lease = await store.acquireLease(REQUEST, never);
    ahead = 0;
    expect(Math.abs((remainingMs(lease, clocks) ?? 0) - 24 * HOUR)).toBeLessThan(10_000);
  });

  it('is what etcd says when asked, of a grant not known before as well', async () => {
    const { store } = open();
    const grant = await etcd.client.leaseClient.leaseGrant({ TTL: 600 });
    await etcd.client.put(KEY).value(`{"PublicIP":"${IP}","PublicIPv6":null}`).lease(grant.ID);
    // Of a start without etcd: years off.
    const remembered: Lease = {
      subnet: subnet('100.96.1.0/24'),
      attributes: REQUEST.attributes,
      expiresAt: Date.now() + 10_000 * HOUR,
    };
    const refreshed = await store.refreshLease(remembered, never);
    expect(remainingMs(refreshed)).toBeLessThanOrEqual(600_000);
    expect(remainingMs(refreshed)).toBeGreaterThan(590_000);
    await etcd.client.put(KEY).value(`{"PublicIP":"${IP}","PublicIPv6":null}`);
    expect((await store.refreshLease(refreshed, never)).expiresAt).toBeUndefined();
    await etcd.client.delete().key(KEY);
    expect(await store.refreshLease(refreshed, never)).toBe(refreshed);
  });
});

describe('a watch', () => {
  beforeEach(() => start());

  it('after an acquisition begins with what that has read, and misses nothing', async () => {
    const put = (name: string, ip: string) =>
      etcd.client.put(`${PREFIX}/subnets/${name}`).value(`{"PublicIP":"${ip}"}`);
    await put('100.96.2.0-24', '10.168.0.3');
    const grant = await etcd.client.leaseClient.leaseGrant({ TTL: 600 });
    // Out of range: the acquisition deletes it.
    await put('100.97.7.0-24', IP).lease(grant.ID);
    const { store } = open();
    await store.acquireLease(REQUEST, never);
    await put('100.96.3.0-24', '10.168.0.4');
    await etcd.client.delete().key(`${PREFIX}/subnets/100.96.2.0-24`);
    const watcher = watch(store);
    const { leases } = await watcher.until('snapshot');
    const shown = leases.map(
      (one) => `${subnetKey(one.subnet)} ${formatIpv4(one.attributes.publicIp)}`,
    );
    expect(shown.sort()).toEqual(['100.96.1.0-24 10.168.0.2', '100.96.2.0-24 10.168.0.3']);
    expect(await watcher.next()).toMatchObject({
      type: 'put',
      lease: { subnet: subnet('100.96.3.0/24') },
    });
    expect(await watcher.next()).toEqual({ type: 'delete', subnet: subnet('100.96.2.0/24') });
  });

  it('after an older backup was restored lists again, although its revision is ahead by then', async () => {
    const put = (name: string) =>
      anew((client) =>
        client.put(`${PREFIX}/subnets/${name}`).value('{"PublicIP":"10.168.0.9"}').exec(),
      );
    const saved = join(etcd.directory, 'saved');
    await etcd.server.kill();
    await cp(join(etcd.directory, 'etcd'), saved, { recursive: true });
    // Terms go on with each start: the backup's is older.
    for (const name of ['100.96.8.0-24', '100.96.9.0-24']) {
      await etcd.server.restart();
      await put(name);
      await etcd.server.kill();
    }
    await etcd.server.restart();
    const { store } = open();
    const watcher = watch(store);
    await watcher.until('snapshot');
    await put('100.96.2.0-24');
    await watcher.until('put');
    await etcd.server.kill();
    await watcher.until('degraded');
    await rm(join(etcd.directory, 'etcd'), { recursive: true });
    await cp(saved, join(etcd.directory, 'etcd'), { recursive: true });
    // Written at another address, where the watch cannot follow.
    const options = { directory: etcd.directory, port: await freePort() };
    const aside = await EtcdServer.start(options);
    const client = etcdClient(aside);
    for (let host = 10; host < 20; host += 1) {
      await client.put(`${PREFIX}/subnets/100.96.${host}.0-24`).value('{"PublicIP":"10.168.0.9"}');
    }
    client.close();
    await aside.stop();
    await etcd.server.restart();
    const { leases, restarted } = await watcher.until('snapshot');
    expect(restarted).toBe(true);
    expect(leases.map((one) => subnetKey(one.subnet))).not.toContain('100.96.2.0-24');
  });
});
