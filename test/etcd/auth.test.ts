/**
 * Users, passwords, permissions and tokens of a real etcd, and all of it changed while a store is open:
 * nothing of it may end a daemon, and each refusal is told and heals by itself.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { STORE_AWAY, STORE_REFUSES } from '../../src/lease/store-errors.js';
import type { EtcdStore } from '../../src/lease/etcd/etcd-store.js';
import type { EtcdOptions } from '../../src/lease/etcd/etcd-options.js';
import type { Problem } from '../../src/problems.js';
import { run } from '../../src/testbed/programs.js';
import {
  CONFIG,
  etcdClient,
  leaseRequest,
  openStore,
  PREFIX,
  startEtcd,
  subnet,
  Watcher,
  type TestEtcd,
} from '../support/etcd.js';
import { Pki } from '../support/pki.js';

const never = new AbortController().signal;
const TEXT = JSON.stringify(CONFIG);
const FLANNEL = { username: 'flannel', password: 'the-password' };
const REQUEST = leaseRequest('10.168.0.2', { previousSubnet: subnet('100.96.1.0/24') });

/** What an administrator does, each time as if newly logged in. */
class Admin {
  readonly #etcd: TestEtcd;
  #authEnabled = false;

  constructor(etcd: TestEtcd) {
    this.#etcd = etcd;
  }

  async do<T>(work: (client: ReturnType<typeof etcdClient>) => PromiseLike<T>): Promise<T> {
    const auth = this.#authEnabled ? { auth: { username: 'root', password: 'root' } } : {};
    const client = etcdClient(this.#etcd.server, auth);
    try {
      return await work(client);
    } finally {
      client.close();
    }
  }

  /** A root, and a user with a role that may do what is granted to it. */
  async addUsers(): Promise<void> {
    await this.do(async ({ auth }) => {
      await auth.userAdd({ name: 'root', password: 'root' });
      await auth.roleAdd({ name: 'root' });
      await auth.userGrantRole({ user: 'root', role: 'root' });
      await auth.roleAdd({ name: 'flannel' });
      await auth.userAdd({ name: FLANNEL.username, password: FLANNEL.password });
      await auth.userGrantRole({ user: 'flannel', role: 'flannel' });
    });
  }

  async permit(permission: 'Read' | 'Readwrite', prefix: string): Promise<void> {
    const key = Buffer.from(prefix);
    const end = Buffer.from(
      `${prefix.slice(0, -1)}${String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1)}`,
    );
    await this.do(({ auth }) =>
      auth.roleGrantPermission({
        name: 'flannel',
        perm: { permType: permission, key, range_end: end },
      }),
    );
  }

  async forbid(prefix: string): Promise<void> {
    const end = `${prefix.slice(0, -1)}${String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1)}`;
    await this.do(({ auth }) =>
      auth.roleRevokePermission({
        role: 'flannel',
        key: Buffer.from(prefix),
        range_end: Buffer.from(end),
      }),
    );
  }

  async enable(): Promise<void> {
    await this.do(({ auth }) => auth.authEnable());
    this.#authEnabled = true;
  }

  async disable(): Promise<void> {
    await this.do(({ auth }) => auth.authDisable());
    this.#authEnabled = false;
  }

  async addUser(name: string, password: string): Promise<void> {
    await this.do(({ auth }) => auth.userAdd({ name, password }));
  }

  async lease(name: string, ip = '10.168.0.3'): Promise<void> {
    const value = `{"PublicIP":"${ip}","PublicIPv6":null}`;
    await this.do((client) => client.put(`${PREFIX}/subnets/${name}`).value(value));
  }
}

let pki: Pki;
let etcd: TestEtcd;
let admin: Admin;
const stores: EtcdStore[] = [];
const watchers: Watcher[] = [];
let jwtFlags: string[];

beforeAll(async () => {
  pki = await Pki.create();
  await run(['openssl', 'genrsa', '-out', pki.file('jwt.key'), '2048']);
  await run(['openssl', 'rsa', '-in', pki.file('jwt.key'), '-pubout', '-out', pki.file('jwt.pub')]);
  const keys = `pub-key=${pki.file('jwt.pub')},priv-key=${pki.file('jwt.key')}`;
  jwtFlags = [`--auth-token=jwt,${keys},sign-method=RS256,ttl=8h`];
});
afterAll(() => pki.end());

async function start(flags: readonly string[] = []): Promise<void> {
  etcd = await startEtcd({ flags: ['--bcrypt-cost=4', ...flags] });
  admin = new Admin(etcd);
  await etcd.client.put(`${PREFIX}/config`).value(TEXT);
  await admin.addUsers();
}

afterEach(async () => {
  for (const watcher of watchers.splice(0)) await watcher.end();
  for (const store of stores.splice(0)) await store.close();
  await etcd.end();
});

function open(more: Partial<EtcdOptions> = FLANNEL) {
  const problems: Problem[][] = [];
  const report = (now: readonly Problem[]): void => {
    problems.push([...now]);
  };
  const store = openStore([etcd.server.endpoint], more, { report });
  stores.push(store);
  return { store, problems: () => problems.at(-1) ?? [] };
}

function watch(store: EtcdStore): Watcher {
  const watcher = new Watcher(store);
  watchers.push(watcher);
  return watcher;
}

/** Asks until the answer is there: each refusal on the way has to be one. */
async function heals<T>(ask: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + 15_000;
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (performance.now() > deadline) throw error;
      expect([STORE_REFUSES, STORE_AWAY]).toContain((error as { code?: string }).code);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

describe('authentication switched off', () => {
  beforeEach(() => start());

  it('does not keep out a daemon that has a user', async () => {
    const { store, problems } = open();
    const watcher = watch(store);
    expect(await store.readNetworkConfig(never)).toBe(TEXT);
    await watcher.until('snapshot');
    const lease = await store.acquireLease(REQUEST, never);
    expect((await watcher.until('put')).lease.subnet).toEqual(lease.subnet);
    expect(problems()).toEqual([]);
  });

  it('or on while it runs costs nothing, and off and on again neither', async () => {
    await admin.permit('Readwrite', `${PREFIX}/`);
    const { store, problems } = open();
    const lease = await store.acquireLease(REQUEST, never);
    const watcher = watch(store);
    await watcher.until('snapshot');
    let host = 2;
    for (const change of [() => admin.enable(), () => admin.disable(), () => admin.enable()]) {
      await change();
      expect(await store.readNetworkConfig(never)).toBe(TEXT);
      await store.renewLease(lease, never);
      await admin.lease(`100.96.${host}.0-24`);
      for (;;) {
        const { subnet: seen } = (await watcher.until('put')).lease;
        if (seen.network === subnet(`100.96.${host}.0/24`).network) break;
      }
      host += 1;
    }
    expect(problems()).toEqual([]);
    expect(watcher.events.filter(({ type }) => type === 'degraded')).toEqual([]);
  });
});

describe.each([
  ['simple', () => []],
  ['JWT', () => jwtFlags],
])('%s tokens', (_kind, flags) => {
  beforeEach(async () => {
    await start(flags());
    await admin.permit('Readwrite', `${PREFIX}/`);
    await admin.enable();
  });

  it('are got anew when a user was added, for every kind of call', async () => {
    const { store, problems } = open();
    await store.readNetworkConfig(never);
    await admin.addUser('one', 'x');
    const lease = await store.acquireLease(REQUEST, never);
    await admin.addUser('two', 'x');
    expect((await store.renewLease(lease, never)).subnet).toEqual(lease.subnet);
    await admin.addUser('three', 'x');
    expect((await store.refreshLease(lease, never)).subnet).toEqual(lease.subnet);
    await admin.addUser('four', 'x');
    await watch(store).until('snapshot');
    expect(problems()).toEqual([]);
  });

  it('are got anew by a watch after etcd’s restart and an added user', async () => {
    const { store } = open();
    const watcher = watch(store);
    await watcher.until('snapshot');
    await admin.addUser('one', 'x');
    await etcd.server.kill();
    await watcher.until('degraded');
    await etcd.server.restart();
    await admin.lease('100.96.2.0-24');
    expect((await watcher.until('put')).lease.subnet).toEqual(subnet('100.96.2.0/24'));
  });
});

it.each([
  ['simple', () => ['--auth-token-ttl=1']],
  ['JWT', () => jwtFlags.map((flag) => flag.replace('ttl=8h', 'ttl=1s'))],
])('%s tokens that have ended are got anew', async (_kind, flags) => {
  await start(flags());
  await admin.permit('Readwrite', `${PREFIX}/`);
  await admin.enable();
  const { store, problems } = open();
  const watcher = watch(store);
  await watcher.until('snapshot');
  const lease = await store.acquireLease(REQUEST, never);
  // Longer than a token lives, which etcd counts in seconds.
  await new Promise((resolve) => setTimeout(resolve, 3_500));
  expect((await store.renewLease(lease, never)).subnet).toEqual(lease.subnet);
  expect(await store.readNetworkConfig(never)).toBe(TEXT);
  expect(problems()).toEqual([]);
});

describe('a refusal', () => {
  beforeEach(() => start());

  it.each([
    [
      'a wrong password',
      { username: 'flannel', password: 'wrong-secret' },
      /user "flannel" is not let in: authentication failed/,
    ],
    [
      'an unknown user',
      { username: 'newcomer', password: 'newcomers-secret' },
      /user "newcomer" is not let in: authentication failed/,
    ],
  ])(
    'of %s is told without the password, and ends when that is put right',
    async (_what, user, says) => {
      await admin.permit('Readwrite', `${PREFIX}/`);
      await admin.enable();
      const { store, problems } = open(user);
      const error: Error = await store.readNetworkConfig(never).then(
        () => new Error('it was let in'),
        (failure: unknown) => failure as Error,
      );
      expect(error).toMatchObject({ code: STORE_REFUSES, kind: 'system' });
      expect(error.message).toMatch(/^etcd at http:.* refuses: /);
      expect(error.message).toMatch(says);
      expect(JSON.stringify([error.message, problems()])).not.toContain('secret');
      expect(problems()).toEqual([{ id: 'etcd_credentials', message: error.message }]);
      if (user.username === 'newcomer') {
        await admin.addUser(user.username, user.password);
        await admin.do(({ auth }) => auth.userGrantRole({ user: 'newcomer', role: 'flannel' }));
      } else {
        await admin.do(({ auth }) =>
          auth.userChangePassword({ name: 'flannel', password: user.password }),
        );
      }
      expect(await heals(() => store.readNetworkConfig(never))).toBe(TEXT);
      expect(problems()).toEqual([]);
    },
  );

  it('of a daemon without user says what it wants', async () => {
    await admin.enable();
    const { store, problems } = open({});
    await expect(store.readNetworkConfig(never)).rejects.toMatchObject({
      code: STORE_REFUSES,
      message: expect.stringMatching(
        /asks for a user: give --etcd-username and --etcd-password/,
      ) as string,
    });
    expect(problems()).toMatchObject([{ id: 'etcd_credentials' }]);
    await admin.disable();
    expect(await store.readNetworkConfig(never)).toBe(TEXT);
    expect(problems()).toEqual([]);
  });

  it('of a missing permission names user, key and command, and ends when it is granted', async () => {
    await admin.enable();
    const { store, problems } = open();
    await expect(store.readNetworkConfig(never)).rejects.toMatchObject({
      code: STORE_REFUSES,
      message: expect.stringMatching(
        /user "flannel" may not read \/coreos\.com\/network\/config \(permission denied\)/,
      ) as string,
    });
    expect(problems()).toMatchObject([
      {
        id: 'etcd_permission',
        remedy: 'etcdctl role grant-permission ROLE --prefix=true readwrite /coreos.com/network/',
      },
    ]);
    await admin.permit('Read', `${PREFIX}/`);
    expect(await heals(() => store.readNetworkConfig(never))).toBe(TEXT);
    await watch(store).until('snapshot');
    await expect(store.acquireLease(REQUEST, never)).rejects.toMatchObject({
      code: STORE_REFUSES,
      message: expect.stringMatching(
        /may not write \/coreos\.com\/network\/subnets\/100\.96\.1\.0-24/,
      ) as string,
    });
    await admin.permit('Readwrite', `${PREFIX}/`);
    await heals(() => store.acquireLease(REQUEST, never));
    expect(problems()).toEqual([]);
  });

  it('of the watch takes the place of the first error, and ends as well', async () => {
    await admin.permit('Read', `${PREFIX}/`);
    await admin.enable();
    const { store } = open();
    const watcher = watch(store);
    await watcher.until('snapshot');
    await etcd.server.kill();
    expect((await watcher.until('degraded')).error).toMatchObject({ code: STORE_AWAY });
    await etcd.server.restart();
    await admin.forbid(`${PREFIX}/`);
    for (;;) {
      const { error } = await watcher.until('degraded');
      if ((error as { code?: string }).code !== STORE_REFUSES) continue;
      expect(error.message).toMatch(/may not read|may not watch/);
      break;
    }
    await admin.permit('Read', `${PREFIX}/`);
    await watcher.until('recovered');
    await admin.lease('100.96.2.0-24');
    await watcher.until('put');
  });
});
