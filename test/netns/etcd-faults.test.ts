/**
 * What an operator gets wrong about etcd, and what administrators do to it while daemons run: each is
 * told where one looks, costs no packet, and heals without anybody restarting a daemon.
 */
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { EtcdServer } from '../../src/testbed/etcd-server.js';
import { GATEWAY, LAB_DIRECTORY } from '../../src/testbed/topology.js';
import { CONFIG, EtcdLab, ENDPOINT, PREFIX, type EtcdDaemon } from '../support/etcd-lab.js';
import { etcdClient } from '../support/etcd.js';
import { Pki } from '../support/pki.js';

const USER = ['--etcd-username=flannel', '--etcd-password=the-secret'];

let lab: EtcdLab;
beforeAll(async () => {
  lab = await EtcdLab.setUp();
});
afterAll(() => lab.tearDown());
beforeEach(() => lab.configure());
afterEach(() => lab.reset());

/** Everything one sees of a daemon. */
async function shown(daemon: EtcdDaemon): Promise<string> {
  const { body: metrics } = await daemon.get('/metrics');
  const all = [daemon.program.stderr, daemon.program.stdout, metrics];
  return [...all, JSON.stringify(await daemon.status()), (await daemon.get('/readyz')).body].join(
    '\n',
  );
}

describe('authentication', () => {
  async function asRoot<T>(work: (client: EtcdLab['client']) => PromiseLike<T>): Promise<T> {
    const auth = { username: 'root', password: 'root' };
    const client = etcdClient({ endpoint: ENDPOINT }, { auth });
    try {
      return await work(client);
    } finally {
      client.close();
    }
  }

  beforeEach(async () => {
    const { auth } = lab.client;
    await auth.userAdd({ name: 'root', password: 'root' });
    await auth.roleAdd({ name: 'root' });
    await auth.userGrantRole({ user: 'root', role: 'root' });
    await auth.roleAdd({ name: 'flannel' });
    await auth.userAdd({ name: 'flannel', password: 'the-secret' });
    await auth.userGrantRole({ user: 'flannel', role: 'flannel' });
  });
  afterEach(async () => {
    await asRoot(({ auth }) => auth.authDisable()).catch(() => undefined);
    const { auth } = lab.client;
    for (const name of ['root', 'flannel']) {
      await auth.userDelete({ name });
      await auth.roleDelete({ role: name });
    }
  });

  it('switched off, on, refused, granted and off again under traffic costs nothing', async () => {
    const { near, far } = await lab.startBoth({ flags: USER });
    await near.logged('etcd has authentication switched off: user and password have no effect');
    const stream = lab.stream(lab.near, lab.far.tunAddress);
    await lab.client.auth.authEnable();
    // The role may do nothing yet: the next thing asked is refused.
    await lab.killStore();
    await lab.restoreStore();
    for (const daemon of [near, far]) {
      await daemon.until('the refusal', 15_000, async () => {
        const { code, detail } = await daemon.readyz();
        const ids = detail.problems.map(({ id }) => id);
        return code === 200 && detail.store.fault === 'refused' && ids.includes('etcd_permission');
      });
    }
    const key = Buffer.from(`${PREFIX}/`);
    const end = Buffer.from(`${PREFIX}0`);
    await asRoot(({ auth }) =>
      auth.roleGrantPermission({
        name: 'flannel',
        perm: { permType: 'Readwrite', key, range_end: end },
      }),
    );
    const followed = (daemon: EtcdDaemon) =>
      daemon.until('the store', 15_000, async () => (await daemon.readyz()).detail.store.ok);
    await followed(near);
    await followed(far);
    expect((await near.readyz()).detail.problems).toEqual([]);
    await asRoot(({ auth }) => auth.authDisable());
    await lab.putLease('100.96.40.0/24', '10.168.0.40');
    await near.until('a route', 5_000, async () => (await near.status()).routes.length === 2);
    const { sent, received } = await stream.end();
    expect(sent).toBeGreaterThan(50);
    expect(received).toBe(sent);
    expect(await shown(near)).not.toContain('the-secret');
  });

  it('a start without permission waits, says what is missing, and goes on when it is granted', async () => {
    await lab.client.auth.authEnable();
    const daemon = await lab.start(lab.near, { flags: USER });
    await daemon.until('the refusal', 10_000, async () => {
      const { code, detail } = await daemon.readyz();
      return code === 503 && detail.store.fault === 'refused' && detail.problems.length === 1;
    });
    expect((await daemon.readyz()).detail.store.error).toMatch(
      /user "flannel" may not read \/coreos\.com\/network\/config/,
    );
    await asRoot(({ auth }) => auth.authDisable());
    await daemon.ready();
  });
});

it('certificates that are wrong are told as configuration; put right on disk the daemon starts', async () => {
  const pki = await Pki.create();
  await pki.authority('ca');
  await pki.authority('other-ca');
  await pki.certificate('server', 'ca', { names: `IP:${GATEWAY}` });
  const server = await EtcdServer.start({
    directory: join(LAB_DIRECTORY, 'etcd-tls'),
    address: GATEWAY,
    port: 2479,
    tls: { cert: pki.file('server.pem'), key: pki.file('server.key') },
  });
  try {
    const { readFile } = await import('node:fs/promises');
    const rootCertificate = await readFile(pki.file('ca.pem'));
    const admin = etcdClient(server, { credentials: { rootCertificate } });
    await admin.put(`${PREFIX}/config`).value(JSON.stringify(CONFIG));
    admin.close();
    await copyFile(pki.file('other-ca.pem'), pki.file('trusted.pem'));
    const daemon = await lab.start(lab.near, {
      flags: [`--etcd-endpoints=${server.endpoint}`, `--etcd-cafile=${pki.file('trusted.pem')}`],
    });
    await daemon.until('the mistake', 10_000, async () => {
      const { code, detail } = await daemon.readyz();
      return code === 503 && detail.store.fault === 'configuration';
    });
    const { problems } = (await daemon.readyz()).detail;
    expect(problems).toMatchObject([
      {
        id: 'etcd_tls',
        message: expect.stringMatching(/signed by none of --etcd-cafile/) as string,
      },
    ]);
    expect((await daemon.status()).problems).toEqual(problems);
    await copyFile(pki.file('ca.pem'), pki.file('trusted.pem'));
    await daemon.ready();
    expect((await daemon.readyz()).detail.problems).toEqual([]);
    // Standard error is JSON lines and nothing else.
    expect(daemon.program.stderr.trim().split('\n')).toHaveLength(daemon.log().length);
  } finally {
    await server.stop();
    await pki.end();
  }
});

it('user and password in an endpoint have no effect and are shown nowhere', async () => {
  const endpoint = ENDPOINT.replace('//', '//flannel:the-secret@');
  const daemon = await lab.start(lab.near, { flags: [`--etcd-endpoints=${endpoint}`] });
  await daemon.ready();
  await daemon.logged(
    '--etcd-endpoints: http://10.168.0.1:2379 is used without the user and password given with it; use --etcd-username and --etcd-password',
  );
  expect(await shown(daemon)).not.toContain('the-secret');
  const bad = await lab.start(lab.far, {
    flags: ['--etcd-endpoints=ftp://flannel:the-secret@10.168.0.1:2379'],
  });
  expect(await bad.program.ended).toBe(2);
  expect(bad.program.stderr).toMatch(
    /--etcd-endpoints: "ftp:\/\/\*\*\*@10\.168\.0\.1:2379" is not valid/,
  );
  expect(bad.program.stderr).not.toContain('the-secret');
});
