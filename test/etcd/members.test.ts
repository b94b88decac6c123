/** Which member of etcd a store talks to, and over which connections. */
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { waitFor } from '../../src/lab/commands.js';
import type { EtcdStore } from '../../src/lease/etcd/store.js';
import { openStore, PREFIX, startEtcd, type TestEtcd } from '../support/etcd.js';

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

interface Relay {
  readonly port: number;
  /** Connections there have been, and are. */
  taken(): number;
  open(): number;
  end(): void;
}

async function startRelay(target: number): Promise<Relay> {
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
    near.pipe(far).pipe(near);
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
