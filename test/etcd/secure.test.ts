/** TLS with a CA alone and with client certificates, user and password, and how each is refused. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run } from '../../src/lab/commands.js';
import { STORE_AWAY } from '../../src/lease/errors.js';
import type { EtcdOptions } from '../../src/lease/etcd/options.js';
import { CONFIG, leaseRequest, openStore, PREFIX, startEtcd, Watcher } from '../support/etcd.js';

const never = new AbortController().signal;
let pki: string;
const file = (name: string): string => join(pki, name);

beforeAll(async () => {
  pki = await mkdtemp(join(tmpdir(), 'flannelette-pki-'));
  await authority('ca');
  await authority('other-ca');
  await certificate('server', 'ca');
  await certificate('client', 'ca');
  await certificate('stranger', 'other-ca');
});
afterAll(() => rm(pki, { recursive: true }));

async function openssl(...argv: string[]): Promise<void> {
  await run(['openssl', ...argv]);
}

async function authority(name: string): Promise<void> {
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const subject = ['-subj', `/CN=${name}`, '-days', '2'];
  const out = ['-keyout', file(`${name}.key`), '-out', file(`${name}.pem`)];
  await openssl('req', '-x509', ...key, ...subject, ...out);
}

async function certificate(name: string, ca: string): Promise<void> {
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const out = ['-keyout', file(`${name}.key`), '-out', file(`${name}.csr`)];
  await openssl('req', ...key, '-subj', `/CN=${name}`, ...out);
  await writeFile(file(`${name}.ext`), 'subjectAltName=IP:127.0.0.1\n');
  const signer = ['-CA', file(`${ca}.pem`), '-CAkey', file(`${ca}.key`), '-CAcreateserial'];
  const made = ['-extfile', file(`${name}.ext`), '-out', file(`${name}.pem`), '-days', '2'];
  await openssl('x509', '-req', '-in', file(`${name}.csr`), ...signer, ...made);
}

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
      const admin = etcd.server.client({ credentials: await credentials('ca') });
      await admin.put(`${PREFIX}/config`).value(JSON.stringify(CONFIG));
      admin.close();
      await works(endpoint, { caFile: file('ca.pem') });
      expect(await refused(endpoint, { caFile: file('other-ca.pem') })).toMatchObject({
        code: STORE_AWAY,
        message: expect.stringMatching(/certificate/) as string,
      });
      expect(await refused(endpoint, {})).toMatchObject({ code: STORE_AWAY });
    } finally {
      await etcd.end();
    }
  });

  it('with client certificates lets in those the server’s CA has signed', async () => {
    const tls = { cert: file('server.pem'), key: file('server.key'), clientCa: file('ca.pem') };
    const etcd = await startEtcd({ tls });
    try {
      const { endpoint } = etcd.server;
      const admin = etcd.server.client({ credentials: await credentials('ca', 'client') });
      await admin.put(`${PREFIX}/config`).value(JSON.stringify(CONFIG));
      admin.close();
      const own = { caFile: file('ca.pem'), certFile: file('client.pem') };
      await works(endpoint, { ...own, keyFile: file('client.key') });
      const foreign = { certFile: file('stranger.pem'), keyFile: file('stranger.key') };
      expect(await refused(endpoint, { caFile: file('ca.pem') })).toMatchObject({
        code: STORE_AWAY,
      });
      expect(await refused(endpoint, { caFile: file('ca.pem'), ...foreign })).toMatchObject({
        code: STORE_AWAY,
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
        expect(error).toMatchObject({ kind: 'system', code: undefined });
        expect(String(error)).toMatch(/etcd at http:.* refuses: /);
        expect(String(error)).toMatch(says);
        expect(String(error)).not.toContain('secret');
      }
      expect(await refused(endpoint, {})).toMatchObject({ kind: 'system', code: undefined });
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
