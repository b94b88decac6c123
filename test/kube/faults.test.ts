/** What an API server does to a client that kube-apiserver does only on bad days: silence, nonsense, conflicts. */
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { parseIpv4 } from '../../src/config/ipv4.js';
import { parseNetworkConfig } from '../../src/config/network.js';
import type { KubeTiming } from '../../src/lease/kube/kube-client.js';
import { KUBE_DEFAULTS } from '../../src/lease/kube/kube-options.js';
import { KubeStore } from '../../src/lease/kube/kube-store.js';
import { STORE_AWAY } from '../../src/lease/store-errors.js';
import { silentLogger } from '../../src/log.js';
import { waitFor } from '../../src/testbed/programs.js';
import { Admin, InProcess } from '../support/kube-cluster.js';
import { StatusError } from '../support/kube-objects.js';
import { Pki } from '../support/pki.js';
import { Watcher } from '../support/watcher.js';

const never = new AbortController().signal;
const A = 'flannel.alpha.coreos.com';
const managed = (publicIp: string) => ({
  [`${A}/kube-subnet-manager`]: 'true',
  [`${A}/public-ip`]: publicIp,
});
const REQUEST = {
  config: parseNetworkConfig('{"Network":"10.244.0.0/16"}'),
  attributes: { publicIp: parseIpv4('PublicIP', '10.168.0.2') },
  previousSubnet: undefined,
};
const QUICK = { silenceMs: 400, quietMs: 300, staleMs: 1_000_000, watchMs: 60_000 };

let pki: Pki;
let server: InProcess;
let admin: Admin;
let directory: string;
let store: KubeStore | undefined;
let watcher: Watcher | undefined;

beforeAll(async () => {
  pki = await Pki.create();
  await pki.authority('ca');
  await pki.certificate('apiserver', 'ca');
});
afterAll(() => pki.end());
beforeEach(async () => {
  server = await new InProcess(pki).started();
  admin = new Admin(server);
  directory = await mkdtemp(join(tmpdir(), 'flannelette-account-'));
  await copyFile(pki.file('ca.pem'), join(directory, 'ca.crt'));
  // The role is another file's matter.
  await writeFile(join(directory, 'token'), 'token-of-the-tests-administrator');
  await admin.createNode('node-1', ['10.244.1.0/24']);
  await admin.createNode('node-2', ['10.244.2.0/24'], managed('10.168.0.3'));
});
afterEach(async () => {
  await watcher?.end();
  await store?.close();
  watcher = undefined;
  store = undefined;
  await server.end();
  await rm(directory, { recursive: true });
});

async function open(timing: Partial<KubeTiming> = QUICK): Promise<KubeStore> {
  const options = {
    ...KUBE_DEFAULTS,
    apiUrl: server.url,
    nodeName: 'node-1',
    serviceAccountPath: directory,
  };
  store = await KubeStore.open(options, { log: silentLogger(), timing });
  return store;
}

async function watch(timing?: Partial<KubeTiming>): Promise<Watcher> {
  watcher = new Watcher(await open(timing));
  await watcher.until('snapshot');
  return watcher;
}

const count = (verb: string, resource = 'nodes'): number =>
  server.api.requests.filter((one) => one.verb === verb && one.resource === resource).length;

/** The next watch gets these lines and nothing else. */
function nextWatchSays(text: string): void {
  server.api.intercept = ({ verb }, response) => {
    if (verb !== 'watch') return undefined;
    server.api.intercept = () => undefined;
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(text);
    return 'handled';
  };
}

describe('a quiet watch', () => {
  it('is checked by another request, and kept when that is answered', async () => {
    const following = await watch();
    const next = following.next();
    await waitFor('three checks', 5_000, () => (count('get') >= 3 ? true : undefined));
    expect(count('watch')).toBe(1);
    await admin.annotate('node-2', managed('10.168.0.4'));
    expect((await next).type).toBe('put');
  });

  it('is an outage when that is not answered, told within seconds', async () => {
    const following = await watch();
    server.api.intercept = () => 'handled';
    server.api.mute = true;
    const { error } = await following.until('degraded');
    expect(error).toMatchObject({ code: STORE_AWAY });
    expect(error.message).toBe(`${server.url}: no answer within 0.4 s`);
    server.api.intercept = () => undefined;
    server.api.mute = false;
    await following.until('recovered');
  }, 20_000);

  it('is begun again when it stays quiet, though the server answers', async () => {
    server.api.mute = true;
    const following = await watch({ ...QUICK, staleMs: 800 });
    const next = following.until('put');
    await admin.annotate('node-2', managed('10.168.0.4'));
    await waitFor('another watch', 5_000, () => (count('watch') > 1 ? true : undefined));
    server.api.mute = false;
    await next;
    expect(count('list')).toBe(1);
  });

  it('is kept up to date by bookmarks: what they passed may be compacted', async () => {
    server.api.bookmarkMs = 50;
    const following = await watch();
    const next = following.until('put');
    for (let beat = 0; beat < 5; beat += 1) {
      await admin.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: `n${beat}` } });
    }
    // A bookmark after the last of them.
    await new Promise((resolve) => setTimeout(resolve, 300));
    await server.restartCompacted();
    await admin.annotate('node-2', managed('10.168.0.4'));
    await next;
    expect(following.events.filter(({ type }) => type === 'snapshot')).toHaveLength(1);
  });
});

describe('a watch', () => {
  it('that the server ends goes on without a word', async () => {
    const following = await watch({ ...QUICK, watchMs: 500 });
    const next = following.until('put');
    await waitFor('three watches', 15_000, () => (count('watch') >= 3 ? true : undefined));
    await admin.annotate('node-2', managed('10.168.0.4'));
    await next;
    expect(following.events.map(({ type }) => type)).toEqual(['snapshot', 'put']);
    expect(count('list')).toBe(1);
  }, 20_000);

  it.each([
    ['is no JSON', 'nonsense\n', 'a line is not JSON: "nonsense"'],
    [
      'is no event',
      '{"type":"ADDED","object":{}}\n',
      'its answer is not one of the Kubernetes API',
    ],
    ['never ends', 'x'.repeat(5 * 1024 * 1024), 'a line has more than 4194304 bytes'],
    [
      'is an error of the server',
      '{"type":"ERROR","object":{"kind":"Status","code":500,"message":"etcd is slow"}}\n',
      'it answers watch nodes with 500 (etcd is slow)',
    ],
  ])('whose line %s is an outage, and begun again', async (_, line, words) => {
    nextWatchSays(line);
    const following = await watch();
    const { error } = await following.until('degraded');
    expect(error.message).toBe(`${server.url}: ${words}`);
    await following.until('recovered');
    await admin.annotate('node-2', managed('10.168.0.4'));
    await following.until('put');
    expect(count('list')).toBe(1);
  });

  it.each([410, 504])('whose past is gone (%i) lists again', async (code) => {
    const message = code === 504 ? 'Too large resource version: 9, current: 3' : 'too old';
    const object = { kind: 'Status', code, message };
    nextWatchSays(`${JSON.stringify({ type: 'ERROR', object })}\n`);
    const following = await watch();
    await following.until('snapshot');
    expect(following.events.some(({ type }) => type === 'degraded')).toBe(false);
  });
});

describe('a request', () => {
  it('that ends in a conflict or an overload is an absence', async () => {
    const used = await open();
    for (const [code, reason] of [
      [409, 'Conflict'],
      [429, 'TooManyRequests'],
      [503, 'ServiceUnavailable'],
    ] as const) {
      server.api.intercept = ({ verb }) =>
        verb === 'patch' ? new StatusError(code, reason, 'later') : undefined;
      await expect(used.acquireLease(REQUEST, never)).rejects.toMatchObject({
        code: STORE_AWAY,
        message: `${server.url}: it answers patch nodes/status/node-1 with ${code} (later)`,
      });
    }
    server.api.intercept = () => undefined;
    await used.acquireLease(REQUEST, never);
  });

  it('that is not answered ends, and a stop ends it at once', async () => {
    server.api.intercept = () => 'handled';
    const used = await open();
    await expect(used.acquireLease(REQUEST, never)).rejects.toMatchObject({ code: STORE_AWAY });
    await used.close();
    const patient = await open({ ...QUICK, silenceMs: 60_000 });
    const stop = new AbortController();
    const waiting = patient.acquireLease(REQUEST, stop.signal);
    setTimeout(() => {
      stop.abort(new Error('stopped'));
    }, 50);
    await expect(waiting).rejects.toThrow('stopped');
  });

  it('to something else than an API server is told as that', async () => {
    const used = await open();
    server.api.intercept = (_, response) => {
      response.end('<html>welcome</html>');
      return 'handled';
    };
    await expect(used.acquireLease(REQUEST, never)).rejects.toThrow(
      `${server.url}: its answer is not one of the Kubernetes API`,
    );
  });

  it('in a listing whose pages become too old starts the listing again', async () => {
    for (let at = 3; at < 700; at += 1) server.api.objects.create('/api/v1/nodes', node(at));
    let failed = false;
    server.api.intercept = ({ verb }) => {
      if (verb !== 'list' || failed || count('list') < 2) return undefined;
      failed = true;
      return new StatusError(410, 'Expired', 'too old');
    };
    watcher = new Watcher(await open());
    const { leases } = await watcher.until('snapshot');
    expect(leases).toHaveLength(698);
    expect(count('list')).toBe(4);
  });
});

function node(at: number) {
  const metadata = { name: `n${at}`, annotations: managed(`172.16.${at >> 8}.${at & 255}`) };
  return { metadata, spec: { podCIDR: `10.${at >> 8}.${at & 255}.0/24` } };
}
