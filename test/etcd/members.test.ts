/** Which member of etcd a store talks to, and over which connections. */
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { parseIpv4 } from '../../src/config/ipv4.js';
import { parseNetworkConfig } from '../../src/config/network.js';
import { waitFor } from '../../src/testbed/programs.js';
import { STORE_AWAY } from '../../src/lease/store-errors.js';
import type { EtcdStore } from '../../src/lease/etcd/etcd-store.js';
import {
  leaseRequest,
  openStore,
  PREFIX,
  startEtcd,
  Watcher,
  type TestEtcd,
} from '../support/etcd.js';
import { EtcdCluster } from '../support/etcd-cluster.js';

const never = new AbortController().signal;

/** Two that know nothing of each other, so that the answer says who gave it. */
let one: TestEtcd;
let two: TestEtcd;
let store: EtcdStore | undefined;

beforeAll(async () => {
  one = await startEtcd();
  two = await startEtcd();
  await one.client.put(`${PREFIX}/config`).value('one');
  await two.client.put(`${PREFIX}/config`).value('two');
});
afterAll(async () => {
  await one.end();
  await two.end();
});
afterEach(async () => {
  await store?.close();
  store = undefined;
});

it('stays with one member until that cannot be reached, and then with the next', async () => {
  store = openStore([one.server.endpoint, two.server.endpoint]);
  const answers = async (count: number): Promise<(string | undefined)[]> => {
    const all = [];
    for (let n = 0; n < count; n += 1) all.push(await store?.readNetworkConfig(never));
    return all;
  };
  expect(await answers(3)).toEqual(['one', 'one', 'one']);
  await one.server.kill();
  expect(await answers(2)).toEqual(['two', 'two']);
  await one.server.restart();
  expect(await answers(3)).toEqual(['two', 'two', 'two']);
  await two.server.kill();
  expect(await answers(2)).toEqual(['one', 'one']);
  await two.server.restart();
  expect(await answers(2)).toEqual(['one', 'one']);
});

it('reconnect: the next call is over a new connection, and the old ones are closed', async () => {
  const relay = await startRelay(Number(new URL(one.server.endpoint).port));
  try {
    store = openStore([`http://127.0.0.1:${relay.port}`]);
    await store.readNetworkConfig(never);
    await store.readNetworkConfig(never);
    expect(relay.taken()).toBe(1);
    store.reconnect();
    expect(await store.readNetworkConfig(never)).toBe('one');
    expect(relay.taken()).toBe(2);
    await waitFor('the end of the old connection', 5_000, () => relay.open() === 1 || undefined);
  } finally {
    relay.end();
  }
});

it('members that are dead or silent before the first that answers cost a moment, not their time-outs', async () => {
  // A listener nobody accepts from, as a stopped etcd is, and one that accepts and says nothing.
  const silent = createServer(() => undefined);
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  const mute = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
  const dead = await startEtcd();
  dead.server.freeze();
  try {
    store = openStore([mute, dead.server.endpoint, 'http://127.0.0.1:1', one.server.endpoint]);
    const started = performance.now();
    expect(await store.readNetworkConfig(never)).toBe('one');
    // Each costs a quarter of a second; a time-out would be ten.
    expect(performance.now() - started).toBeLessThan(5_000);
    const again = performance.now();
    expect(await store.readNetworkConfig(never)).toBe('one');
    expect(performance.now() - again).toBeLessThan(1_000);
  } finally {
    silent.close();
    await dead.end();
  }
});

it('what is wrong with each member is told when none can be used', async () => {
  store = openStore(['http://127.0.0.1:1', 'http://nowhere.invalid:2379']);
  await expect(store.readNetworkConfig(never)).rejects.toMatchObject({
    code: STORE_AWAY,
    message: expect.stringMatching(
      /does not answer: http:\/\/127\.0\.0\.1:1: connection refused; http:\/\/nowhere\.invalid:2379: its name cannot be resolved/,
    ) as string,
  });
});

it('members of both schemes are asked each by its own', async () => {
  store = openStore([one.server.endpoint.replace('http', 'https'), two.server.endpoint]);
  expect(await store.readNetworkConfig(never)).toBe('two');
});

describe('an etcd that is far away', () => {
  it('has a new daemon wait for a few round trips, not for one after the other', async () => {
    const roundTripMs = 1_000;
    const relay = await startRelay(Number(new URL(one.server.endpoint).port), roundTripMs);
    try {
      store = openStore([`http://127.0.0.1:${relay.port}`], { prefix: '/far' });
      const config = parseNetworkConfig('{"Network":"100.96.0.0/16"}');
      const started = performance.now();
      await store.readNetworkConfig(never);
      await store.acquireLease(leaseRequest('10.168.0.2', { config }), never);
      const watcher = new Watcher(store);
      await watcher.until('snapshot');
      // HTTP/2, configuration, listing and grant, put; seven when each waits for the one before.
      expect(performance.now() - started).toBeLessThan(6 * roundTripMs);
      await watcher.end();
    } finally {
      relay.end();
    }
  });

  it('is reached also when an answer takes longer than silence is allowed at first', async () => {
    const relay = await startRelay(Number(new URL(one.server.endpoint).port), 6_000);
    try {
      store = openStore([`http://127.0.0.1:${relay.port}`]);
      await expect(store.readNetworkConfig(never)).rejects.toMatchObject({ code: STORE_AWAY });
      expect(await store.readNetworkConfig(never)).toBe('one');
    } finally {
      relay.end();
    }
  });
});

it('a proxy of the environment is not asked', async () => {
  const names = [
    'http_proxy',
    'HTTP_PROXY',
    'https_proxy',
    'HTTPS_PROXY',
    'grpc_proxy',
    'ALL_PROXY',
  ];
  const saved = names.map((name) => [name, process.env[name]] as const);
  for (const name of names) process.env[name] = 'http://127.0.0.1:1';
  try {
    store = openStore([one.server.endpoint]);
    expect(await store.readNetworkConfig(never)).toBe('one');
  } finally {
    for (const [name, value] of saved) {
      if (value === undefined) Reflect.deleteProperty(process.env, name);
      else process.env[name] = value;
    }
  }
});

it('localhost is found on whichever of its addresses etcd listens', async () => {
  store = openStore([one.server.endpoint.replace('127.0.0.1', 'localhost')]);
  expect(await store.readNetworkConfig(never)).toBe('one');
});

it('a member that has lost its quorum says so, and is left for one that has it', async () => {
  const cluster = await EtcdCluster.start();
  try {
    await cluster.client.put(`${PREFIX}/config`).value('three');
    store = openStore([cluster.endpoints[0] ?? '']);
    const watcher = new Watcher(store);
    await watcher.until('snapshot');
    expect(await store.readNetworkConfig(never)).toBe('three');
    await cluster.kill(1);
    await cluster.kill(2);
    // It hears nothing any more, but its connections stay.
    const { error } = await watcher.until('degraded');
    expect(error).toMatchObject({
      code: STORE_AWAY,
      message: expect.stringMatching(/no leader/) as string,
    });
    const other = openStore([cluster.endpoints[0] ?? '', one.server.endpoint]);
    expect(await other.readNetworkConfig(never)).toBe('one');
    await other.close();
    await cluster.restart(1);
    await watcher.until('recovered');
    await watcher.end();
  } finally {
    await cluster.end();
  }
});

it('calls that are given up, and connections closed under them, leave the process alive', async () => {
  // Node aborts when streams or sessions are ended inside a callback of nghttp2.
  const filled = leaseRequest('10.168.0.3', { config: parseNetworkConfig(ONE_SUBNET) });
  store = openStore([one.server.endpoint], { prefix: '/full' });
  await store.acquireLease(
    { ...filled, attributes: { publicIp: parseIpv4('', '10.168.0.2') } },
    never,
  );
  for (let round = 0; round < 100; round += 1) {
    const late = openStore([one.server.endpoint], { prefix: '/full' });
    const stop = new AbortController();
    const watcher = new Watcher(late);
    // Fails after its grant, which is given back while the store is closed.
    await expect(late.acquireLease(filled, never)).rejects.toThrow('no free subnet');
    const reading = late.readNetworkConfig(stop.signal).catch(() => undefined);
    if (round % 3 === 1) await late.readNetworkConfig(never);
    if (round % 3 === 2) await new Promise((resolve) => setImmediate(resolve));
    stop.abort();
    await late.close();
    await Promise.all([reading, watcher.end()]);
  }
});

const ONE_SUBNET =
  '{"Network":"100.96.0.0/28","SubnetLen":30,"SubnetMin":"100.96.0.4","SubnetMax":"100.96.0.4"}';

interface Relay {
  readonly port: number;
  /** Connections there have been, and are. */
  taken(): number;
  open(): number;
  end(): void;
}

/** Bytes take half of `roundTripMs` in each direction. */
async function startRelay(target: number, roundTripMs = 0): Promise<Relay> {
  const sockets = new Set<Socket>();
  let taken = 0;
  const server: Server = createServer((near) => {
    taken += 1;
    const far = connect(target, '127.0.0.1');
    sockets.add(near);
    near.on('close', () => {
      sockets.delete(near);
      far.destroy();
    });
    near.on('error', () => far.destroy());
    far.on('error', () => near.destroy());
    far.on('close', () => near.destroy());
    if (roundTripMs === 0) {
      near.pipe(far).pipe(near);
      return;
    }
    const pass = (from: Socket, to: Socket): void => {
      from.on('data', (chunk) => setTimeout(() => to.write(chunk), roundTripMs / 2));
    };
    pass(near, far);
    pass(far, near);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    taken: () => taken,
    open: () => sockets.size,
    end: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
