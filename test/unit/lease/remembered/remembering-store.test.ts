import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { parseIpv4 } from '../../../../src/config/ipv4.js';
import { parseNetworkConfig } from '../../../../src/config/network.js';
import { isConfig } from '../../../../src/network/registry.js';
import { systemError } from '../../../../src/errors.js';
import { STORE_AWAY, STORE_REFUSES } from '../../../../src/lease/store-errors.js';
import {
  formatRemembered,
  parseRemembered,
  readRemembered,
  rememberedPath,
  writeRemembered,
  type RememberedLeases,
} from '../../../../src/lease/remembered/remembered-file.js';
import { RememberingStore } from '../../../../src/lease/remembered/remembering-store.js';
import type { Lease, LeaseEvent, LeaseRequest } from '../../../../src/lease/store.js';
import { silentLogger } from '../../../../src/log.js';
import { CONFIG_TEXT, FakeStore, lease, OWN_IP, OWN_SUBNET } from '../../../support/fake-store.js';

const EXPIRY = Date.parse('2026-11-22T12:00:00.000Z');
const AS_OF = Date.parse('2026-11-21T12:00:00.000Z');
const OWN = lease(OWN_SUBNET, OWN_IP, EXPIRY);
const PEER = lease('100.96.2.0/24', '10.168.0.3');
const REMEMBERED: RememberedLeases = {
  store: 'memory',
  asOf: AS_OF,
  config: CONFIG_TEXT,
  own: OWN,
  leases: [OWN, PEER],
};
const REQUEST: LeaseRequest = {
  config: parseNetworkConfig(CONFIG_TEXT),
  attributes: { publicIp: parseIpv4('test', OWN_IP) },
  previousSubnet: undefined,
};
const away = () => systemError('etcd does not answer', { code: STORE_AWAY });

let directory: string;
let path: string;
let stop: AbortController;
const stores: RememberingStore[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'flannelette-remember-'));
  path = rememberedPath(join(directory, 'subnet.env'));
  stop = new AbortController();
});
afterEach(async () => {
  stop.abort();
  for (const store of stores.splice(0)) await store.close();
  await rm(directory, { recursive: true });
});

async function open(inner = new FakeStore()) {
  const store = await RememberingStore.open(inner, path, {
    isConfig,
    log: silentLogger(),
    patienceMs: 50,
    saveAfterMs: 20,
  });
  stores.push(store);
  return { inner, store };
}

/** Collects events until there are `count`. */
async function take(store: RememberingStore, count: number): Promise<LeaseEvent[]> {
  const events: LeaseEvent[] = [];
  for await (const event of store.watchLeases(stop.signal)) {
    events.push(event);
    if (events.length === count) break;
  }
  return events;
}

describe('the file', () => {
  it('lies beside subnet.env and is a lease file with a few lines more', () => {
    expect(rememberedPath('/run/flannel/subnet.env')).toBe('/run/flannel/subnet.env.leases.json');
    expect(formatRemembered(REMEMBERED)).toBe(`{
  "version": 1,
  "store": "memory",
  "asOf": "2026-11-21T12:00:00.000Z",
  "own": "100.96.1.0-24",
  "config": ${CONFIG_TEXT},
  "leases": {
    "100.96.1.0-24": {"PublicIP":"10.168.0.2","PublicIPv6":null,"expiresAt":"2026-11-22T12:00:00.000Z"},
    "100.96.2.0-24": {"PublicIP":"10.168.0.3","PublicIPv6":null}
  }
}
`);
  });

  it('says the same when read again', async () => {
    await writeRemembered(path, formatRemembered(REMEMBERED));
    expect(await readRemembered(path)).toEqual(REMEMBERED);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(await readdir(directory)).toEqual(['subnet.env.leases.json']);
  });

  it('leaves out expiries that only the store knows', () => {
    const unknown = lease('100.96.2.0/24', '10.168.0.3', Infinity);
    const text = formatRemembered({ ...REMEMBERED, own: undefined, leases: [unknown] });
    expect(parseRemembered(text)).toMatchObject({ own: undefined, leases: [PEER] });
  });

  it('is missing before there was one, and refused when it makes no sense', async () => {
    expect(await readRemembered(path)).toBeUndefined();
    for (const text of ['', '{"version":2}', '{"version":1,"leases":{}}', 'null']) {
      await writeFile(path, text);
      await expect(readRemembered(path)).rejects.toThrow('are of no use');
    }
  });

  it('is not written where that cannot be, and the error says so', async () => {
    await writeFile(join(directory, 'file'), '');
    await expect(writeRemembered(join(directory, 'file', 'x'), '{}')).rejects.toMatchObject({
      kind: 'system',
      code: expect.stringMatching(/ENOTDIR|EEXIST/) as string,
    });
  });
});

describe('with its store there', () => {
  it('passes everything on and remembers it', async () => {
    const { inner, store } = await open();
    inner.next = OWN;
    expect(await store.readNetworkConfig(stop.signal)).toBe(CONFIG_TEXT);
    expect(await store.acquireLease(REQUEST, stop.signal)).toEqual(OWN);
    inner.snapshot(OWN);
    inner.send({ type: 'put', lease: PEER });
    expect((await take(store, 2)).map(({ type }) => type)).toEqual(['snapshot', 'put']);
    await vi.waitFor(async () => {
      expect(await readRemembered(path)).toMatchObject({ own: OWN, leases: [OWN, PEER] });
    });
    const renewed = await store.renewLease(OWN, stop.signal);
    await vi.waitFor(async () => {
      expect((await readRemembered(path))?.own?.expiresAt).toBe(renewed.expiresAt);
    });
  });

  it('prefers its word to what is remembered', async () => {
    await writeRemembered(path, formatRemembered(REMEMBERED));
    const { inner, store } = await open();
    inner.config = '{"Network":"100.97.0.0/16"}';
    expect(await store.readNetworkConfig(stop.signal)).toBe(inner.config);
    inner.snapshot(PEER);
    expect(await take(store, 1)).toEqual([{ type: 'snapshot', leases: [PEER], rejected: [] }]);
  });

  it('keeps a moment before the fault as the time all was true', async () => {
    const { inner, store } = await open();
    await store.readNetworkConfig(stop.signal);
    inner.snapshot(OWN);
    inner.send({ type: 'degraded', error: away() });
    await take(store, 2);
    const before = Date.now();
    await new Promise((resolve) => setTimeout(resolve, 60));
    await store.close();
    expect((await readRemembered(path))?.asOf).toBeLessThanOrEqual(before);
  });

  it('writes nothing before the store has told its leases', async () => {
    await writeRemembered(path, formatRemembered(REMEMBERED));
    const before = await readFile(path, 'utf8');
    const { store } = await open();
    await store.readNetworkConfig(stop.signal);
    await store.acquireLease(REQUEST, stop.signal);
    await store.close();
    expect(await readFile(path, 'utf8')).toBe(before);
  });

  it('goes on when nothing can be kept', async () => {
    await mkdir(path);
    const { inner, store } = await open();
    await store.readNetworkConfig(stop.signal);
    inner.snapshot(OWN);
    inner.send({ type: 'put', lease: PEER });
    expect(await take(store, 2)).toHaveLength(2);
    await store.close();
  });
});

describe('without its store', () => {
  const absent = () => {
    const inner = new FakeStore();
    inner.configErrors.push(away(), away());
    inner.acquireErrors.push(away(), away());
    return inner;
  };

  it('starts from what is remembered, says how old that is, and follows the store later', async () => {
    await writeRemembered(path, formatRemembered(REMEMBERED));
    const { inner, store } = await open(absent());
    expect(await store.readNetworkConfig(stop.signal)).toBe(CONFIG_TEXT);
    expect(await store.acquireLease(REQUEST, stop.signal)).toEqual(OWN);
    inner.send({ type: 'degraded', error: away() });
    const events = take(store, 4);
    inner.send({ type: 'recovered' });
    inner.snapshot(OWN);
    expect(await events).toMatchObject([
      { type: 'snapshot', leases: [OWN, PEER], asOf: AS_OF },
      { type: 'degraded' },
      { type: 'recovered' },
      { type: 'snapshot', leases: [OWN] },
    ]);
  });

  it('does not wait longer than its patience for a store that is silent', async () => {
    await writeRemembered(path, formatRemembered(REMEMBERED));
    const { inner, store } = await open();
    const hang = (_: unknown, signal?: AbortSignal) =>
      new Promise<never>((_resolve, reject) => {
        signal?.addEventListener('abort', () => {
          reject(new Error('aborted'));
        });
      });
    inner.readNetworkConfig = () => hang(undefined);
    inner.acquireLease = hang;
    expect(await store.readNetworkConfig(stop.signal)).toBe(CONFIG_TEXT);
    expect(await store.acquireLease(REQUEST, stop.signal)).toEqual(OWN);
    const events = take(store, 4);
    setTimeout(() => {
      inner.snapshot(OWN);
    }, 100);
    expect(await events).toMatchObject([
      { type: 'snapshot', asOf: AS_OF },
      {
        type: 'degraded',
        error: { message: expect.stringContaining('2026-11-21T12:00') as string },
      },
      { type: 'recovered' },
      { type: 'snapshot', leases: [OWN] },
    ]);
  });

  it('takes the subnet along when the address has changed', async () => {
    await writeRemembered(path, formatRemembered(REMEMBERED));
    const { store } = await open(absent());
    const attributes = { publicIp: parseIpv4('test', '10.168.0.9') };
    const moved = { ...REQUEST, attributes, formerPublicIp: parseIpv4('test', OWN_IP) };
    expect(await store.acquireLease(moved, stop.signal)).toEqual({ ...OWN, attributes });
  });

  it.each([
    ['nothing is remembered', async () => undefined],
    ['the file is torn', () => writeFile(path, '{')],
    [
      'the file is of another store',
      () => writeRemembered(path, formatRemembered({ ...REMEMBERED, store: 'elsewhere' })),
    ],
  ])('waits when %s', async (_what, prepare) => {
    await prepare();
    const { store } = await open(absent());
    await expect(store.readNetworkConfig(stop.signal)).rejects.toMatchObject({ code: STORE_AWAY });
    await expect(store.acquireLease(REQUEST, stop.signal)).rejects.toMatchObject({
      code: STORE_AWAY,
    });
  });

  it.each([
    ['of another host', lease(OWN_SUBNET, '10.168.0.9')],
    ['out of range', lease('100.97.1.0/24', OWN_IP)],
  ])('waits for a lease when the remembered one is %s', async (_what, own) => {
    await writeRemembered(path, formatRemembered({ ...REMEMBERED, own, leases: [own] }));
    const { store } = await open(absent());
    await expect(store.acquireLease(REQUEST, stop.signal)).rejects.toMatchObject({
      code: STORE_AWAY,
    });
  });

  it('never takes a lease back from memory once the store has spoken', async () => {
    await writeRemembered(path, formatRemembered(REMEMBERED));
    const { inner, store } = await open();
    await store.readNetworkConfig(stop.signal);
    inner.acquireErrors.push(away());
    await expect(store.acquireLease(REQUEST, stop.signal)).rejects.toMatchObject({
      code: STORE_AWAY,
    });
  });

  it('shows the store’s own error once there is one, in place of the silence', async () => {
    await writeRemembered(path, formatRemembered(REMEMBERED));
    const { inner, store } = await open();
    const refusal = systemError('permission denied', { code: STORE_REFUSES });
    setTimeout(() => {
      inner.send({ type: 'degraded', error: refusal });
    }, 100);
    expect(await take(store, 3)).toMatchObject([
      { type: 'snapshot', asOf: AS_OF },
      {
        type: 'degraded',
        error: { message: expect.stringContaining('has not answered') as string },
      },
      { type: 'degraded', error: refusal },
    ]);
  });

  it('starts from what is remembered when it refuses, too', async () => {
    await writeRemembered(path, formatRemembered(REMEMBERED));
    const inner = new FakeStore();
    inner.configErrors.push(systemError('permission denied', { code: STORE_REFUSES }));
    const { store } = await open(inner);
    expect(await store.readNetworkConfig(stop.signal)).toBe(CONFIG_TEXT);
  });

  it('passes an error on that waiting does not mend', async () => {
    await writeRemembered(path, formatRemembered(REMEMBERED));
    const inner = new FakeStore();
    inner.configErrors.push(systemError('authentication failed'));
    const { store } = await open(inner);
    await expect(store.readNetworkConfig(stop.signal)).rejects.toThrow('authentication failed');
  });
});

describe('a store that began anew', () => {
  const third = lease('100.96.3.0/24', '10.168.0.4');

  async function openShort() {
    const inner = new FakeStore();
    const store = await RememberingStore.open(inner, path, {
      isConfig,
      log: silentLogger(),
      graceMs: 50,
    });
    stores.push(store);
    inner.next = OWN;
    await store.acquireLease(REQUEST, stop.signal);
    return { inner, store };
  }
  const restarted = (...leases: Lease[]): LeaseEvent => ({
    type: 'snapshot',
    leases,
    rejected: [],
    restarted: true,
  });

  it('keeps the others’ leases for a moment, not this host’s own, and ends those that stay away', async () => {
    const { inner, store } = await openShort();
    inner.snapshot(OWN, PEER, third);
    inner.send(restarted(), { type: 'put', lease: third });
    expect(await take(store, 4)).toMatchObject([
      { type: 'snapshot', leases: [OWN, PEER, third] },
      { type: 'snapshot', leases: [PEER, third] },
      { type: 'put', lease: third },
      { type: 'delete', subnet: PEER.subnet },
    ]);
  });

  it('does not keep what an ordinary listing misses, nor what was deleted since', async () => {
    const { inner, store } = await openShort();
    inner.snapshot(OWN, PEER, third);
    inner.snapshot(OWN, third);
    inner.send(restarted(OWN), { type: 'delete', subnet: third.subnet });
    const events = await take(store, 4);
    expect(events).toMatchObject([
      { type: 'snapshot' },
      { type: 'snapshot', leases: [OWN, third] },
      { type: 'snapshot', leases: [OWN, third] },
      { type: 'delete', subnet: third.subnet },
    ]);
    await new Promise((resolve) => setTimeout(resolve, 80));
    inner.send({ type: 'put', lease: PEER });
    expect((await take(store, 2)).at(-1)).toEqual({ type: 'put', lease: PEER });
  });
});

describe('a new watch', () => {
  const third = lease('100.96.3.0/24', '10.168.0.4');
  const leasesOf = (event: LeaseEvent | undefined) =>
    event?.type === 'snapshot' ? event.leases : undefined;

  it('starts with what is known, without waiting for the store', async () => {
    const { inner, store } = await open();
    inner.snapshot(OWN, PEER);
    inner.send({ type: 'put', lease: third }, { type: 'delete', subnet: PEER.subnet });
    await take(store, 3);
    expect(await take(store, 1)).toEqual([
      { type: 'snapshot', leases: [OWN, third], rejected: [] },
    ]);
  });

  it('says since when that may be out of date, and why; then the store counts again', async () => {
    const { inner, store } = await open();
    const before = Date.now();
    inner.snapshot(OWN);
    const error = away();
    inner.send({ type: 'degraded', error });
    await take(store, 2);

    inner.send({ type: 'recovered' });
    inner.snapshot(OWN, PEER);
    const events = await take(store, 4);
    expect(events.map(({ type }) => type)).toEqual([
      'snapshot',
      'degraded',
      'recovered',
      'snapshot',
    ]);
    expect(events[0]).toMatchObject({ leases: [OWN] });
    const { asOf } = events[0] as { asOf: number };
    expect(asOf).toBeGreaterThanOrEqual(before);
    expect(asOf).toBeLessThanOrEqual(Date.now());
    expect(events[1]).toEqual({ type: 'degraded', error });
    expect(leasesOf(events[3])).toEqual([OWN, PEER]);
    expect(leasesOf((await take(store, 1))[0])).toEqual([OWN, PEER]);
  });
});

it('reconnect is passed on to the store', async () => {
  const { inner, store } = await open();
  store.reconnect();
  expect(inner.reconnects).toBe(1);
});

describe('a store whose configuration lies apart', () => {
  it('has not answered because its configuration was read', async () => {
    await writeRemembered(path, formatRemembered({ ...REMEMBERED, publicIp: '203.0.113.7' }));
    const inner = Object.assign(new FakeStore(), {
      configLocation: '/etc/net-conf.json',
      anySubnetLength: true,
      readPublicIp: () => Promise.reject(away()),
    });
    inner.acquireError = away();
    const { store } = await open(inner);
    expect(store.configLocation).toBe('/etc/net-conf.json');
    expect(store.anySubnetLength).toBe(true);
    expect(await store.readPublicIp(stop.signal)).toBe('203.0.113.7');
    expect(await store.readNetworkConfig(stop.signal)).toBe(CONFIG_TEXT);
    expect(await store.acquireLease(REQUEST, stop.signal)).toEqual({ ...OWN, deadline: undefined });
    inner.config = undefined;
    expect(await store.readNetworkConfig(stop.signal)).toBeUndefined();
  });

  it('remembers what it says of the public address', async () => {
    const inner = Object.assign(new FakeStore(), {
      configLocation: '/etc/net-conf.json',
      readPublicIp: () => Promise.resolve('203.0.113.9'),
    });
    const { store } = await open(inner);
    expect(await store.readPublicIp(stop.signal)).toBe('203.0.113.9');
    await store.readNetworkConfig(stop.signal);
    inner.snapshot(PEER);
    await take(store, 1);
    await store.close();
    expect((await readRemembered(path))?.publicIp).toBe('203.0.113.9');
  });
});
