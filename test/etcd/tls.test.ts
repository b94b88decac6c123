/**
 * TLS to a real etcd: what is trusted, which mistakes there are and how each is told, and certificates
 * that are renewed while a store is open.
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { copyFile, readFile, rm, writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { STORE_AWAY, STORE_MISCONFIGURED } from '../../src/lease/store-errors.js';
import type { EtcdOptions } from '../../src/lease/etcd/etcd-options.js';
import type { EtcdStore } from '../../src/lease/etcd/etcd-store.js';
import type { Problem } from '../../src/problems.js';
import {
  CONFIG,
  etcdClient,
  openStore,
  PREFIX,
  startEtcd,
  type TestEtcd,
} from '../support/etcd.js';
import { openssl, Pki } from '../support/pki.js';

const never = new AbortController().signal;
const TEXT = JSON.stringify(CONFIG);

let pki: Pki;
const file = (name: string): string => pki.file(name);
const etcds: TestEtcd[] = [];
const stores: EtcdStore[] = [];
const saved = new Map<string, string | undefined>();

beforeAll(async () => {
  pki = await Pki.create();
  await pki.authority('ca');
  await pki.authority('other-ca');
  await pki.certificate('server', 'ca');
  await pki.certificate('client', 'ca');
});
afterAll(() => pki.end());

beforeEach(() => {
  // Each of them would hide that the system's store is not looked at.
  for (const name of [
    'NODE_EXTRA_CA_CERTS',
    'SSL_CERT_FILE',
    'SSL_CERT_DIR',
    'GRPC_DEFAULT_SSL_ROOTS_FILE_PATH',
  ]) {
    saved.set(name, process.env[name]);
    Reflect.deleteProperty(process.env, name);
  }
});
afterEach(async () => {
  for (const [name, value] of saved) {
    if (value === undefined) Reflect.deleteProperty(process.env, name);
    else process.env[name] = value;
  }
  for (const store of stores.splice(0)) await store.close();
  for (const etcd of etcds.splice(0)) await etcd.end();
});

/** An etcd that shows a certificate and holds a configuration. */
async function serve(name: string, clientCa?: string): Promise<TestEtcd> {
  const tls = {
    cert: file(`${name}.pem`),
    key: file(`${name}.key`),
    ...(clientCa === undefined ? {} : { clientCa: file(`${clientCa}.pem`) }),
  };
  const etcd = await startEtcd({ tls });
  etcds.push(etcd);
  return etcd;
}

/** Written with what any etcd here lets in: without a look at its certificate. */
async function configure({ server }: TestEtcd, credentials: Record<string, string>): Promise<void> {
  const read = async (name: string) => readFile(file(name));
  const client = etcdClient(server, {
    credentials: {
      rootCertificate: await read(credentials['ca'] ?? 'ca.pem'),
      ...(credentials['own'] === undefined
        ? {}
        : {
            privateKey: await read(`${credentials['own']}.key`),
            certChain: await read(`${credentials['own']}.pem`),
          }),
    },
  });
  await client.put(`${PREFIX}/config`).value(TEXT);
  client.close();
}

function open(endpoint: string, more: Partial<EtcdOptions> = {}) {
  const problems: Problem[][] = [];
  const report = (now: readonly Problem[]): void => {
    problems.push([...now]);
  };
  const store = openStore([endpoint], more, { report });
  stores.push(store);
  return { store, problems };
}

async function refused(endpoint: string, more: Partial<EtcdOptions> = {}) {
  const { store, problems } = open(endpoint, more);
  const error = await store.readNetworkConfig(never).then(
    () => new Error('it was let in'),
    (failure: unknown) => failure as Error,
  );
  return { error, problems: problems.at(-1) ?? [] };
}

/** The mistake is told in one line, as one of configuration, and is on the board. */
async function isTold(endpoint: string, more: Partial<EtcdOptions>, says: RegExp): Promise<void> {
  const { error, problems } = await refused(endpoint, more);
  expect(error.message).toMatch(says);
  expect(error).toMatchObject({ code: STORE_MISCONFIGURED });
  expect(error.message).not.toMatch(/\n|Resolution note|\.\.\/deps/);
  expect(problems).toEqual([{ id: 'etcd_tls', message: error.message }]);
}

describe('trust', () => {
  it.each([
    ['an authority', 'ca', 'ca.pem'],
    ['an intermediate authority alone', 'intermediate', 'intermediate.pem'],
    ['the server’s certificate itself', 'ca', 'server-of-ca.pem'],
    ['a bundle of several authorities', 'ca', 'bundle.pem'],
    ['a file with CRLF and comments', 'ca', 'crlf.pem'],
  ])('by %s', async (_what, signer, trusted) => {
    await pki.certificate('intermediate', 'ca', { ca: true });
    const name = `server-of-${signer}`;
    await pki.certificate(name, signer);
    const [ca, other] = [await readFile(file('ca.pem')), await readFile(file('other-ca.pem'))];
    await writeFile(file('bundle.pem'), Buffer.concat([other, ca]));
    await writeFile(file('crlf.pem'), `# ours\r\n\r\n${ca.toString().replaceAll('\n', '\r\n')}`);
    const etcd = await serve(name);
    const { store, problems } = open(etcd.server.endpoint, { caFile: file(trusted) });
    expect(await store.readNetworkConfig(never)).toBeUndefined();
    expect(problems).toEqual([]);
  });

  it('by an authority over a chain that the server sends', async () => {
    await pki.certificate('intermediate', 'ca', { ca: true });
    await pki.certificate('chained', 'intermediate');
    const own = await readFile(file('chained.pem'));
    await writeFile(
      file('chained.pem'),
      Buffer.concat([own, await readFile(file('intermediate.pem'))]),
    );
    const etcd = await serve('chained');
    await configure(etcd, {});
    const { store } = open(etcd.server.endpoint, { caFile: file('ca.pem') });
    expect(await store.readNetworkConfig(never)).toBe(TEXT);
  });

  it.each(['SSL_CERT_FILE', 'SSL_CERT_DIR'])(
    'without --etcd-cafile by the system’s store, which %s names',
    async (variable) => {
      const etcd = await serve('server');
      await configure(etcd, {});
      const { endpoint } = etcd.server;
      await isTold(endpoint, {}, /signed by none of this system's \d+ trusted certificates/);
      process.env[variable] = variable === 'SSL_CERT_FILE' ? file('ca.pem') : pki.directory;
      const { store } = open(endpoint);
      expect(await store.readNetworkConfig(never)).toBe(TEXT);
    },
  );

  it('by name', async () => {
    await pki.certificate('named', 'ca', { names: 'DNS:localhost' });
    const etcd = await serve('named');
    const endpoint = etcd.server.endpoint.replace('127.0.0.1', 'localhost');
    const { store } = open(endpoint, { caFile: file('ca.pem') });
    expect(await store.readNetworkConfig(never)).toBeUndefined();
  });

  it('writes nothing to standard error, to an address neither', async () => {
    const warnings: Error[] = [];
    const keep = (warning: Error): void => {
      warnings.push(warning);
    };
    process.on('warning', keep);
    const etcd = await serve('server');
    const { store } = open(etcd.server.endpoint, { caFile: file('ca.pem') });
    await store.readNetworkConfig(never);
    await new Promise((resolve) => setImmediate(resolve));
    process.off('warning', keep);
    expect(warnings).toEqual([]);
  });
});

describe('a mistake is told in one line and is one of configuration', () => {
  const ca = () => ({ caFile: file('ca.pem') });

  it('another authority', async () => {
    const etcd = await serve('server');
    await isTold(
      etcd.server.endpoint,
      { caFile: file('other-ca.pem') },
      /etcd's certificate \(issued by "ca"\) is signed by none of --etcd-cafile .*other-ca\.pem$/,
    );
  });

  it('a chain that is not sent', async () => {
    await pki.certificate('intermediate', 'ca', { ca: true });
    await pki.certificate('unchained', 'intermediate');
    const etcd = await serve('unchained');
    await isTold(etcd.server.endpoint, ca(), /\(issued by "intermediate"\) is signed by none of/);
  });

  it.each([
    ['expired', { from: -3, to: -1 }, /etcd's certificate expired on 20.*Z, by this host's clock$/],
    ['not valid yet', { from: 1, to: 3 }, /etcd's certificate is not valid before 20.*Z, by/],
  ])('a certificate that is %s', async (_what, dates, says) => {
    await pki.certificate('dated', 'ca', dates);
    const etcd = await serve('dated');
    await isTold(etcd.server.endpoint, ca(), says);
  });

  it.each([
    [
      'address',
      'IP:10.168.0.9,DNS:etcd.example',
      '127.0.0.1',
      /not for 127\.0\.0\.1, but for .*10\.168\.0\.9/,
    ],
    ['name', 'DNS:etcd.example', 'localhost', /not for localhost, but for DNS:etcd\.example/],
  ])('a certificate for another %s', async (_what, names, host, says) => {
    await pki.certificate('elsewhere', 'ca', { names });
    const etcd = await serve('elsewhere');
    await isTold(etcd.server.endpoint.replace('127.0.0.1', host), ca(), says);
  });

  it('http to a server with TLS', async () => {
    const etcd = await serve('server');
    const endpoint = etcd.server.endpoint.replace('https', 'http');
    await isTold(endpoint, {}, /the server speaks TLS: write https:\/\/ instead of http:\/\//);
  });

  it('https to a server without', async () => {
    const etcd = await startEtcd();
    etcds.push(etcd);
    const endpoint = etcd.server.endpoint.replace('http', 'https');
    await isTold(endpoint, ca(), /does not speak TLS: write http:\/\/ instead of https:\/\//);
  });

  it('a port of something else', async () => {
    const web = createServer((_request, response) => response.end('hello'));
    await new Promise<void>((resolve) => web.listen(0, '127.0.0.1', resolve));
    const { port } = web.address() as AddressInfo;
    await isTold(`http://127.0.0.1:${port}`, {}, /not the client port of etcd v3/);
    web.close();
  });

  it('no client certificate where one is asked for', async () => {
    const etcd = await serve('server', 'ca');
    await isTold(etcd.server.endpoint, ca(), /asks for a client certificate: give --etcd-certfile/);
  });

  it.each([
    ['foreign', 'other-ca', {}, /etcd refuses the certificate of --etcd-certfile \(TLS alert/],
    ['expired', 'ca', { from: -3, to: -1 }, /the certificate of --etcd-certfile expired on 20/],
  ])('a client certificate that is %s', async (_what, signer, dates, says) => {
    await pki.certificate('bad-client', signer, dates);
    const etcd = await serve('server', 'ca');
    const own = { certFile: file('bad-client.pem'), keyFile: file('bad-client.key') };
    await isTold(etcd.server.endpoint, { ...ca(), ...own }, says);
  });

  it('while an absence is an absence', async () => {
    const { error, problems } = await refused('https://127.0.0.1:1', ca());
    expect(error).toMatchObject({ code: STORE_AWAY });
    expect(error.message).toMatch(/does not answer: connection refused$/);
    expect(problems).toEqual([]);
  });

  it('and is taken back when it is put right', async () => {
    await pki.certificate('replaced', 'other-ca');
    const etcd = await serve('replaced');
    const { store, problems } = open(etcd.server.endpoint, ca());
    await expect(store.readNetworkConfig(never)).rejects.toMatchObject({
      code: STORE_MISCONFIGURED,
    });
    expect(problems.at(-1)).toHaveLength(1);
    await pki.certificate('replaced', 'ca');
    await etcd.server.kill();
    await etcd.server.restart();
    expect(await store.readNetworkConfig(never)).toBeUndefined();
    expect(problems.at(-1)).toEqual([]);
  });
});

describe('files', () => {
  const trying = (more: Partial<EtcdOptions>) => () => open('https://127.0.0.1:1', more);
  const own = () => ({ certFile: file('client.pem'), keyFile: file('client.key') });

  it('that are of no use are named at the start', async () => {
    await writeFile(file('text.pem'), 'hello');
    await writeFile(file('torn.pem'), '-----BEGIN CERTIFICATE-----\nAAAA\n');
    await pki.certificate('second', 'ca');
    await openssl(
      'ec',
      '-aes256',
      '-passout',
      'pass:x',
      '-in',
      file('client.key'),
      '-out',
      file('old.key'),
    );
    await openssl(
      'pkcs8',
      '-topk8',
      '-passout',
      'pass:x',
      '-in',
      file('client.key'),
      '-out',
      file('new.key'),
    );
    for (const [more, says] of [
      [{ caFile: file('none.pem') }, /^--etcd-cafile: cannot read .*none\.pem: ENOENT/],
      [{ caFile: file('text.pem') }, /^--etcd-cafile: .*text\.pem is not a PEM file/],
      [{ caFile: file('torn.pem') }, /^--etcd-cafile: .*torn\.pem cannot be used/],
      [{ caFile: file('client.key') }, /^--etcd-cafile: .*client\.key holds no certificate/],
      [
        { ...own(), keyFile: file('client.pem') },
        /^--etcd-keyfile: .*client\.pem holds no private key/,
      ],
      [
        { ...own(), keyFile: file('second.key') },
        /^--etcd-keyfile: .* is not the key of --etcd-certfile .*client\.pem/,
      ],
      [{ ...own(), keyFile: file('old.key') }, /^--etcd-keyfile: .*old\.key is encrypted/],
      [{ ...own(), keyFile: file('new.key') }, /^--etcd-keyfile: .*new\.key is encrypted/],
    ] as const) {
      expect(trying(more)).toThrow(says);
    }
  });

  it('certificate and key in one file, with CRLF, are taken', async () => {
    const both = `${await readFile(file('client.key'), 'utf8')}${await readFile(file('client.pem'), 'utf8')}`;
    await writeFile(file('both.pem'), both.replaceAll('\n', '\r\n'));
    const etcd = await serve('server', 'ca');
    const { store } = open(etcd.server.endpoint, {
      caFile: file('ca.pem'),
      certFile: file('both.pem'),
      keyFile: file('both.pem'),
    });
    expect(await store.readNetworkConfig(never)).toBeUndefined();
  });

  it('a client certificate with its chain, and keys of every form, are taken', async () => {
    await pki.certificate('client-ca', 'ca', { ca: true });
    await pki.certificate('chained-client', 'client-ca');
    const [own, between] = ['chained-client.pem', 'client-ca.pem'].map((name) => file(name));
    await writeFile(
      file('chain.pem'),
      Buffer.concat([await readFile(own ?? ''), await readFile(between ?? '')]),
    );
    const key = file('chained-client.key');
    await openssl('ec', '-in', key, '-out', file('sec1.key'));
    await openssl('ecparam', '-name', 'prime256v1', '-out', file('parameters.pem'));
    const sec1 = Buffer.concat([
      await readFile(file('parameters.pem')),
      await readFile(file('sec1.key')),
    ]);
    await writeFile(file('with-parameters.key'), sec1);
    const etcd = await serve('server', 'ca');
    for (const keyFile of [key, file('sec1.key'), file('with-parameters.key')]) {
      const { store } = open(etcd.server.endpoint, {
        caFile: file('ca.pem'),
        certFile: file('chain.pem'),
        keyFile,
      });
      expect(await store.readNetworkConfig(never)).toBeUndefined();
    }
  });

  it('renewed on disk are read for the next connection', async () => {
    // Its start is no part of the certificate's time.
    const etcd = await serve('server', 'ca');
    await pki.certificate('short', 'ca', { to: 6 / 86_400 });
    const expired = delay(7_000);
    const options = {
      caFile: file('ca.pem'),
      certFile: file('short.pem'),
      keyFile: file('short.key'),
    };
    const { store, problems } = open(etcd.server.endpoint, options);
    expect(await store.readNetworkConfig(never)).toBeUndefined();
    await etcd.server.kill();
    // A connection made before would go on.
    await expired;
    await etcd.server.restart();
    const ended = async () =>
      expect(store.readNetworkConfig(never)).rejects.toThrow(
        /the certificate of --etcd-certfile expired on/,
      );
    await expect
      .poll(() =>
        store.readNetworkConfig(never).then(
          () => true,
          () => false,
        ),
      )
      .toBe(false);
    await ended();
    expect(problems.at(-1)).toMatchObject([{ id: 'etcd_tls' }]);
    await pki.certificate('short', 'ca');
    expect(await store.readNetworkConfig(never)).toBeUndefined();
    expect(problems.at(-1)).toEqual([]);
  });

  it('that are gone when they are to be read again are told, and what was read stays in use', async () => {
    await copyFile(file('ca.pem'), file('moved.pem'));
    const etcd = await serve('server');
    const { store, problems } = open(etcd.server.endpoint, { caFile: file('moved.pem') });
    await store.readNetworkConfig(never);
    await rm(file('moved.pem'));
    store.reconnect();
    expect(await store.readNetworkConfig(never)).toBeUndefined();
    expect(problems.at(-1)).toEqual([
      {
        id: 'etcd_tls',
        message: expect.stringMatching(
          /--etcd-cafile: cannot read .*what was read before is in use/,
        ) as string,
      },
    ]);
    await copyFile(file('ca.pem'), file('moved.pem'));
    store.reconnect();
    await store.readNetworkConfig(never);
    expect(problems.at(-1)).toEqual([]);
  });
});
