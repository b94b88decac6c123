/** The etcd store against a real etcd: keys and values to the byte, races, watches, faults. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { formatCidr, formatIpv4, parseIpv4 } from '../../src/config/ipv4.js';
import { parseNetworkConfig } from '../../src/config/network.js';
import { EtcdServer } from '../../src/testbed/etcd-server.js';
import { LEASE_LOST, STORE_AWAY } from '../../src/lease/store-errors.js';
import { bootClock } from '../../src/lease/expiry.js';
import type { EtcdStore } from '../../src/lease/etcd/etcd-store.js';
import type { Lease } from '../../src/lease/store.js';
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

const NEAR = '10.168.0.2';
const FAR = '10.168.0.3';
const never = new AbortController().signal;
const text = (lease: Lease): string =>
  `${formatCidr(lease.subnet)} ${formatIpv4(lease.attributes.publicIp)}`;

let etcd: TestEtcd;
const stores: EtcdStore[] = [];
const watchers: Watcher[] = [];

beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(() => etcd.end());
beforeEach(async () => {
  await etcd.client.delete().all();
  await etcd.client.put(`${PREFIX}/config`).value(JSON.stringify(CONFIG));
});
afterEach(async () => {
  for (const watcher of watchers.splice(0)) await watcher.end();
  for (const store of stores.splice(0)) await store.close();
});

function open(...more: Parameters<typeof openStore> extends [unknown, ...infer R] ? R : never) {
  const store = openStore([etcd.server.endpoint], ...more);
  stores.push(store);
  return store;
}

function watch(store: EtcdStore): Watcher {
  const watcher = new Watcher(store);
  watchers.push(watcher);
  return watcher;
}

const key = (name: string): string => `${PREFIX}/subnets/${name}`;
const put = (name: string, value: string) => etcd.client.put(key(name)).value(value);
const reserve = (name: string, ip: string) => put(name, `{"PublicIP":"${ip}","PublicIPv6":null}`);

async function keys(): Promise<string[]> {
  return (await etcd.client.getAll().prefix(`${PREFIX}/subnets/`).keys()).sort();
}

async function stored(name: string) {
  const { kvs } = await etcd.client.kv.range({ key: Buffer.from(key(name)) });
  return kvs[0];
}

describe('the configuration', () => {
  it('is the text of PREFIX/config, undefined while there is none', async () => {
    const store = open();
    expect(await store.readNetworkConfig(never)).toBe(JSON.stringify(CONFIG));
    await etcd.client.delete().key(`${PREFIX}/config`);
    expect(await store.readNetworkConfig(never)).toBeUndefined();
    expect(store.location).toBe(`${etcd.server.endpoint}/coreos.com/network`);
  });
});

describe('acquiring', () => {
  it('writes flannel’s key and value to the byte, with a grant of 24 h', async () => {
    const store = open();
    const request = leaseRequest(NEAR, { previousSubnet: subnet('100.96.1.0/24') });
    const lease = await store.acquireLease(request, never);
    expect(await keys()).toEqual(['/coreos.com/network/subnets/100.96.1.0-24']);
    const kv = await stored('100.96.1.0-24');
    expect(kv?.value.toString()).toBe('{"PublicIP":"10.168.0.2","PublicIPv6":null}');
    const { grantedTTL } = await etcd.client.leaseClient.leaseTimeToLive({ ID: kv?.lease ?? '' });
    expect(grantedTTL).toBe('86400');
    expect((lease.expiresAt ?? 0) - Date.now()).toBeGreaterThan(86_300_000);
  });

  it('takes its own lease again, with a new grant', async () => {
    const store = open();
    const first = await store.acquireLease(leaseRequest(NEAR), never);
    const before = await stored(formatCidr(first.subnet).replace('/', '-'));
    const again = await open().acquireLease(leaseRequest(NEAR), never);
    expect(again.subnet).toEqual(first.subnet);
    const after = await stored(formatCidr(first.subnet).replace('/', '-'));
    expect(after?.lease).not.toBe(before?.lease);
    expect(await keys()).toHaveLength(1);
  });

  it('deletes its own lease when that is out of range, and chooses another', async () => {
    const grant = await etcd.client.leaseClient.leaseGrant({ TTL: 600 });
    await reserve('100.97.1.0-24', NEAR).lease(grant.ID);
    const lease = await open().acquireLease(leaseRequest(NEAR), never);
    expect(await keys()).toEqual([key(formatCidr(lease.subnet).replace('/', '-'))]);
    expect(formatCidr(lease.subnet)).toMatch(/^100\.96\./);
  });

  it('leaves a previous subnet that another host holds', async () => {
    await reserve('100.96.1.0-24', FAR);
    const request = leaseRequest(NEAR, { previousSubnet: subnet('100.96.1.0/24') });
    const lease = await open().acquireLease(request, never);
    expect(formatCidr(lease.subnet)).not.toBe('100.96.1.0/24');
  });

  it('never takes the subnet of an entry that cannot be read', async () => {
    const config = parseNetworkConfig(
      '{"Network":"100.96.0.0/16","SubnetMin":"100.96.1.0","SubnetMax":"100.96.2.0"}',
    );
    await put('100.96.1.0-24', 'garbage');
    const lease = await open().acquireLease(leaseRequest(NEAR, { config }), never);
    expect(formatCidr(lease.subnet)).toBe('100.96.2.0/24');
  });

  it('says that every subnet is taken', async () => {
    const config = parseNetworkConfig(
      '{"Network":"100.96.0.0/16","SubnetMin":"100.96.1.0","SubnetMax":"100.96.1.0"}',
    );
    await reserve('100.96.1.0-24', FAR);
    await expect(open().acquireLease(leaseRequest(NEAR, { config }), never)).rejects.toThrow(
      'no free subnet in Network 100.96.0.0/16',
    );
  });

  it('keeps the subnet when the external address has changed', async () => {
    const store = open();
    const first = await store.acquireLease(leaseRequest(NEAR), never);
    const moved = leaseRequest('10.168.0.9', { formerPublicIp: parseIpv4('', NEAR) });
    const lease = await store.acquireLease(moved, never);
    expect(lease.subnet).toEqual(first.subnet);
    const kv = await stored(formatCidr(lease.subnet).replace('/', '-'));
    expect(kv?.value.toString()).toBe('{"PublicIP":"10.168.0.9","PublicIPv6":null}');
  });

  it('gives twenty hosts that race for the same subnets one each', async () => {
    const config = parseNetworkConfig(
      '{"Network":"100.96.0.0/16","SubnetMin":"100.96.1.0","SubnetMax":"100.96.20.0"}',
    );
    const previousSubnet = subnet('100.96.1.0/24');
    const leases = await Promise.all(
      Array.from({ length: 20 }, (_, host) =>
        open().acquireLease(
          leaseRequest(`10.168.0.${host + 1}`, { config, previousSubnet }),
          new AbortController().signal,
        ),
      ),
    );
    expect(new Set(leases.map(({ subnet: of }) => formatCidr(of))).size).toBe(20);
    expect(await keys()).toHaveLength(20);
    // Grants of lost races are given back.
    const { leases: grants } = await etcd.client.leaseClient.leaseLeases();
    const used = new Set<string>();
    for (const { subnet: of } of leases) {
      used.add((await stored(formatCidr(of).replace('/', '-')))?.lease ?? '');
    }
    const all = new Set(grants.map(({ ID }) => ID));
    for (const id of used) expect(all.has(id)).toBe(true);
  });
});

describe('a reservation', () => {
  it('is taken over and stays permanent, to the byte', async () => {
    await put('100.96.7.0-24', '{"PublicIP":"10.168.0.2"}');
    const store = open();
    const lease = await store.acquireLease(leaseRequest(NEAR), never);
    expect(text(lease)).toBe('100.96.7.0/24 10.168.0.2');
    expect(lease.expiresAt).toBeUndefined();
    const renewed = await store.renewLease(lease, never);
    expect(renewed.expiresAt).toBeUndefined();
    const kv = await stored('100.96.7.0-24');
    expect(kv).toMatchObject({ lease: '0', version: '1' });
  });

  it('out of range is left to who wrote it', async () => {
    await reserve('100.97.1.0-24', NEAR);
    await open().acquireLease(leaseRequest(NEAR), never);
    expect(await keys()).toContain(key('100.97.1.0-24'));
  });

  it('follows a changed address without getting a grant', async () => {
    await reserve('100.96.7.0-24', NEAR);
    const moved = leaseRequest('10.168.0.9', { formerPublicIp: parseIpv4('', NEAR) });
    const lease = await open().acquireLease(moved, never);
    expect(lease.expiresAt).toBeUndefined();
    expect(await stored('100.96.7.0-24')).toMatchObject({ lease: '0', version: '2' });
  });
});

describe('renewing', () => {
  it('puts the key with a new grant', async () => {
    let now = Date.now();
    const store = open({}, { clocks: { boot: bootClock, now: () => now } });
    const lease = await store.acquireLease(leaseRequest(NEAR), never);
    const name = formatCidr(lease.subnet).replace('/', '-');
    const before = await stored(name);
    now += 82_800_000;
    const renewed = await store.renewLease(lease, never);
    expect(renewed.expiresAt).toBe(now + 86_400_000);
    const after = await stored(name);
    expect(after?.lease).not.toBe(before?.lease);
    expect(after?.version).toBe('2');
  });

  it('of a key that is gone, or another host’s, is a lost lease', async () => {
    const store = open();
    const lease = await store.acquireLease(leaseRequest(NEAR), never);
    const name = formatCidr(lease.subnet).replace('/', '-');
    await reserve(name, FAR);
    await expect(store.renewLease(lease, never)).rejects.toMatchObject({
      code: LEASE_LOST,
      message: expect.stringContaining('it now belongs to 10.168.0.3') as string,
    });
    await etcd.client.delete().key(key(name));
    await expect(store.renewLease(lease, never)).rejects.toMatchObject({ code: LEASE_LOST });
    expect(await keys()).toEqual([]);
  });

  it('never happens by itself: an unrenewed lease ends', async () => {
    const store = open({}, { leaseSeconds: 2 });
    const watcher = watch(open());
    await watcher.next();
    const lease = await store.acquireLease(leaseRequest(NEAR), never);
    expect((await watcher.until('put')).lease.subnet).toEqual(lease.subnet);
    expect((await watcher.until('delete')).subnet).toEqual(lease.subnet);
    expect(await keys()).toEqual([]);
  });
});

describe('watching', () => {
  it('begins with all that is there, the bad entries by name and reason', async () => {
    await reserve('100.96.2.0-24', FAR);
    await put('100.96.3.0-24', 'garbage');
    await put('100.96.4.0-24', '{"PublicIP":"10.168.0.999"}');
    await put('nonsense', '{"PublicIP":"10.168.0.5"}');
    const first = await watch(open()).until('snapshot');
    expect(first.leases.map(text)).toEqual(['100.96.2.0/24 10.168.0.3']);
    expect(first.rejected).toEqual([
      { key: '100.96.3.0-24', reason: expect.stringContaining('not JSON') as string },
      { key: '100.96.4.0-24', reason: expect.stringContaining('10.168.0.999') as string },
      { key: 'nonsense', reason: expect.stringContaining('not a subnet key') as string },
    ]);
  });

  it('tells each change, and skips what cannot be read without losing the rest', async () => {
    const watcher = watch(open());
    await watcher.next();
    await reserve('100.96.2.0-24', FAR);
    await put('100.96.2.0-24', '{"PublicIP":');
    await put('what', '1');
    await reserve('100.96.3.0-24', '10.168.0.4');
    await etcd.client.delete().key(key('what'));
    await etcd.client.delete().key(key('100.96.2.0-24'));
    for (let count = 0; count < 7; count += 1) await watcher.next();
    expect(watcher.events.slice(1)).toMatchObject([
      { type: 'put', lease: { subnet: subnet('100.96.2.0/24') } },
      { type: 'rejected', entry: { key: '100.96.2.0-24' } },
      { type: 'rejected', entry: { key: 'what' } },
      { type: 'put', lease: { subnet: subnet('100.96.3.0/24') } },
      { type: 'cleared', key: 'what' },
      { type: 'delete', subnet: subnet('100.96.2.0/24') },
      { type: 'cleared', key: '100.96.2.0-24' },
    ]);
  });

  it('tells a changed PublicIP and a revoked grant', async () => {
    const store = open();
    const lease = await store.acquireLease(leaseRequest(NEAR), never);
    const name = formatCidr(lease.subnet).replace('/', '-');
    const watcher = watch(store);
    const first = await watcher.until('snapshot');
    expect(first.leases[0]?.expiresAt).toBe(lease.expiresAt);
    const grant = await etcd.client.leaseClient.leaseGrant({ TTL: 600 });
    await reserve(name, FAR).lease(grant.ID);
    expect(await watcher.next()).toMatchObject({
      type: 'put',
      lease: { attributes: { publicIp: parseIpv4('', FAR) }, expiresAt: Infinity },
    });
    await etcd.client.leaseClient.leaseRevoke({ ID: grant.ID });
    expect(await watcher.next()).toMatchObject({ type: 'delete', subnet: lease.subnet });
  });

  it('sees no change twice and none too few while the listing is taken', async () => {
    const writing = (async () => {
      for (let host = 1; host <= 200; host += 1) await reserve(`100.96.${host}.0-24`, '10.168.1.1');
    })();
    const watcher = watch(open());
    const seen = new Set<string>();
    const first = await watcher.until('snapshot');
    for (const { subnet: of } of first.leases) seen.add(formatCidr(of));
    while (seen.size < 200) {
      const { lease } = await watcher.until('put');
      expect(seen.has(formatCidr(lease.subnet))).toBe(false);
      seen.add(formatCidr(lease.subnet));
    }
    await writing;
  });

  it('ends at once when told to', async () => {
    const stop = new AbortController();
    const events = open().watchLeases(stop.signal)[Symbol.asyncIterator]();
    await events.next();
    const next = events.next();
    stop.abort();
    expect((await next).done).toBe(true);
  });
});

describe('an etcd that goes away', () => {
  it('killed: degraded, and on its return what was missed', async () => {
    const watcher = watch(open());
    await watcher.next();
    await etcd.server.kill();
    const { error } = await watcher.until('degraded');
    expect(error).toMatchObject({ code: STORE_AWAY });
    await expect(open().readNetworkConfig(never)).rejects.toMatchObject({ code: STORE_AWAY });
    await etcd.server.restart();
    await reserve('100.96.2.0-24', FAR);
    await watcher.until('recovered');
    expect((await watcher.until('put')).lease.subnet).toEqual(subnet('100.96.2.0/24'));
    expect(watcher.events.map(({ type }) => type)).toEqual([
      'snapshot',
      'degraded',
      'recovered',
      'put',
    ]);
  });

  it('stopped: noticed within 20 s, and followed again when it goes on', async () => {
    const watcher = watch(open());
    await watcher.next();
    etcd.server.freeze();
    await watcher.until('degraded');
    etcd.server.thaw();
    await reserve('100.96.2.0-24', FAR);
    expect((await watcher.until('put')).lease.subnet).toEqual(subnet('100.96.2.0/24'));
  });

  it('compacted meanwhile: lists again', async () => {
    const watcher = watch(open());
    await watcher.next();
    await reserve('100.96.2.0-24', FAR);
    await watcher.next();
    await etcd.server.kill();
    await watcher.until('degraded');
    // The same data at another address, where the watch cannot follow.
    const aside = await EtcdServer.start({ directory: etcd.directory, port: await freePort() });
    const client = etcdClient(aside);
    await client.delete().key(key('100.96.2.0-24'));
    const { header } = await client
      .put(key('100.96.3.0-24'))
      .value('{"PublicIP":"10.168.0.3","PublicIPv6":null}');
    await client.kv.compact({ revision: header.revision, physical: true });
    client.close();
    await aside.stop();
    await etcd.server.restart();
    await watcher.until('recovered');
    const { leases } = await watcher.until('snapshot');
    expect(leases.map(text)).toEqual(['100.96.3.0/24 10.168.0.3']);
    await reserve('100.96.4.0-24', FAR);
    expect((await watcher.next()).type).toBe('put');
  });

  it('replaced by an older one: lists again', async () => {
    const watcher = watch(open());
    await reserve('100.96.2.0-24', FAR);
    await watcher.until('snapshot');
    await etcd.server.kill();
    await rm(join(etcd.directory, 'etcd'), { recursive: true });
    await watcher.until('degraded');
    await etcd.server.restart();
    await watcher.until('recovered');
    expect((await watcher.until('snapshot')).leases).toEqual([]);
  });

  it('of several endpoints one that answers is enough', async () => {
    const dead = 'http://127.0.0.1:1';
    const store = openStore([dead, etcd.server.endpoint, dead]);
    stores.push(store);
    for (let attempt = 0; attempt < 5; attempt += 1) {
      expect(await store.readNetworkConfig(never)).toBeDefined();
    }
    const watcher = watch(store);
    await watcher.until('snapshot');
    await reserve('100.96.2.0-24', FAR);
    await watcher.until('put');
  });
});
