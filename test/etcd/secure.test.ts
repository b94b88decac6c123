/** TLS with a CA alone and with client certificates, user and password, and how each is refused. */
import { writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { STORE_MISCONFIGURED, STORE_REFUSES } from '../../src/lease/store-errors.js';
import type { EtcdOptions } from '../../src/lease/etcd/etcd-options.js';
import {
  CONFIG,
  etcdClient,
  leaseRequest,
  openStore,
  PREFIX,
  startEtcd,
  Watcher,
} from '../support/etcd.js';
import { Pki } from '../support/pki.js';

const never = new AbortController().signal;
let pki: Pki;
const file = (name: string): string => pki.file(name);

beforeAll(async () => {
  pki = await Pki.create();
  await pki.authority('ca');
  await pki.authority('other-ca');
  await pki.certificate('server', 'ca');
  await pki.certificate('client', 'ca');
  await pki.certificate('stranger', 'other-ca');
});
afterAll(() => pki.end());

/** Acquires a lease and sees it in a watch. */
async function works(endpoint: string, more: Partial<EtcdOptions>): Promise<void> {
  const store = openStore([endpoint], more);
  const watcher = new Watcher(store);
  try {
    expect(await store.readNetworkConfig(never)).toBe(JSON.stringify(CONFIG));
    await watcher.until('snapshot');
    const lease = await store.acquireLease(leaseRequest('10.168.0.2'), never);
    expect((await watcher.until('put')).lease.subnet).toEqual(lease.subnet);
  } finally {
    await watcher.end();
    await store.close();
  }
}

async function refused(endpoint: string, more: Partial<EtcdOptions>): Promise<unknown> {
  const store = openStore([endpoint], more);
  try {
    return await store.readNetworkConfig(never).then(
      () => undefined,
      (error: unknown) => error,
    );
  } finally {
    await store.close();
  }
}

describe('TLS', () => {
  it('is checked by the CA alone', async () => {
    const tls = { cert: file('server.pem'), key: file('server.key') };
    const etcd = await startEtcd({ tls });
    try {
      const { endpoint } = etcd.server;
      expect(endpoint).toMatch(/^https:/);
      const admin = etcdClient(etcd.server, { credentials: await credentials('ca') });
      await admin.put(`${PREFIX}/config`).value(JSON.stringify(CONFIG));
      admin.close();
      await works(endpoint, { caFile: file('ca.pem') });
      expect(await refused(endpoint, { caFile: file('other-ca.pem') })).toMatchObject({
        code: STORE_MISCONFIGURED,
        message: expect.stringMatching(/certificate/) as string,
      });
      expect(await refused(endpoint, {})).toMatchObject({ code: STORE_MISCONFIGURED });
    } finally {
      await etcd.end();
    }
  });

  it('with client certificates lets in those the server’s CA has signed', async () => {
    const tls = { cert: file('server.pem'), key: file('server.key'), clientCa: file('ca.pem') };
    const etcd = await startEtcd({ tls });
    try {
      const { endpoint } = etcd.server;
      const admin = etcdClient(etcd.server, { credentials: await credentials('ca', 'client') });
      await admin.put(`${PREFIX}/config`).value(JSON.stringify(CONFIG));
      admin.close();
      const own = { caFile: file('ca.pem'), certFile: file('client.pem') };
      await works(endpoint, { ...own, keyFile: file('client.key') });
      const foreign = { certFile: file('stranger.pem'), keyFile: file('stranger.key') };
      expect(await refused(endpoint, { caFile: file('ca.pem') })).toMatchObject({
        code: STORE_MISCONFIGURED,
      });
      expect(await refused(endpoint, { caFile: file('ca.pem'), ...foreign })).toMatchObject({
        code: STORE_MISCONFIGURED,
      });
    } finally {
      await etcd.end();
    }
  });
});

describe('PEM files', () => {
  const open = (more: Partial<EtcdOptions>) => () => openStore(['https://127.0.0.1:1'], more);

  it('that are missing or something else are named', async () => {
    expect(open({ caFile: file('none.pem') })).toThrow(/^--etcd-cafile: cannot read .*none\.pem/);
    await writeFile(file('text.pem'), 'hello');
    expect(open({ caFile: file('text.pem') })).toThrow(/--etcd-cafile: .* is not a PEM file/);
  });
});

describe('user and password', () => {
  it('are needed where etcd wants them, and a wrong one is a refusal, not an absence', async () => {
    const etcd = await startEtcd();
    const { endpoint } = etcd.server;
    const { client } = etcd;
    try {
      await client.put(`${PREFIX}/config`).value(JSON.stringify(CONFIG));
      await client.auth.userAdd({ name: 'root', password: 'secret' });
      await client.auth.roleAdd({ name: 'root' });
      await client.auth.userGrantRole({ user: 'root', role: 'root' });
      await client.auth.userAdd({ name: 'nobody', password: 'nothing' });
      await client.auth.authEnable();
      await works(endpoint, { username: 'root', password: 'secret' });
      for (const [username, password, says] of [
        ['root', 'wrong', /authentication failed/],
        ['nobody', 'nothing', /permission denied/],
      ] as const) {
        const error = await refused(endpoint, { username, password });
        expect(error).toMatchObject({ kind: 'system', code: STORE_REFUSES });
        expect(String(error)).toMatch(/etcd at http:.* refuses: /);
        expect(String(error)).toMatch(says);
        expect(String(error)).not.toContain('secret');
      }
      expect(await refused(endpoint, {})).toMatchObject({ kind: 'system', code: STORE_REFUSES });
    } finally {
      await etcd.end();
    }
  });
});

async function credentials(ca: string, own?: string) {
  const { readFile } = await import('node:fs/promises');
  const rootCertificate = await readFile(file(`${ca}.pem`));
  if (own === undefined) return { rootCertificate };
  const [privateKey, certChain] = await Promise.all([
    readFile(file(`${own}.key`)),
    readFile(file(`${own}.pem`)),
  ]);
  return { rootCertificate, privateKey, certChain };
}
