/**
 * Kubernetes API servers for tests: the one in this process and, where it could be built, kube-apiserver
 * with an etcd of its own. Both are held to the same behaviour.
 *
 *   store under test -> Cut (a TCP proxy that can be closed) -> API server
 *   the test         -----------------------------------------> API server
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EtcdServer } from '../../src/testbed/etcd-server.js';
import { Program, run, waitFor } from '../../src/testbed/programs.js';
import { freePort } from './etcd.js';
import { KubeApi } from './kube-api.js';
import type { Json, KubeObject } from './kube-objects.js';
import { openssl, type Pki } from './pki.js';
import { cachedTool, toolAt } from '../../src/testbed/tools.js';

export const ADMIN_TOKEN = 'token-of-the-tests-administrator';

export interface ApiServer {
  readonly url: string;
  /** `VERB RESOURCE` of what a user asked for. */
  requestsOf(user: string): Promise<Set<string>>;
  /** Ends it, and starts it at the same address with no past to watch from. */
  restartCompacted(): Promise<void>;
  end(): Promise<void>;
}

export interface ServerKind {
  readonly name: string;
  /** Why its tests are skipped. */
  readonly missing: string | undefined;
  /** With the certificate `apiserver` of the pki; at the loopback's address unless told. */
  readonly start: (pki: Pki, address?: string) => Promise<ApiServer>;
}

const IN_PROCESS: ServerKind = {
  name: 'the API server in this process',
  missing: undefined,
  start: async (pki, address) => new InProcess(pki, address).started(),
};

const binary = cachedTool('kube-apiserver')?.path;

const REAL: ServerKind = {
  name: 'kube-apiserver',
  missing: binary === undefined ? 'it was not built' : undefined,
  start: (pki, address) => KubeApiserver.start(binary ?? '', pki, address),
};

/** Where there is no Go there is no kube-apiserver, and nothing of it is skipped. */
export const SERVERS: readonly ServerKind[] =
  binary === undefined && toolAt('go') === undefined ? [IN_PROCESS] : [IN_PROCESS, REAL];

/** The most real that there is here: kube-apiserver unless this machine has no Go to build it. */
export function startApiServer(pki: Pki, address: string): Promise<ApiServer> {
  const { name, missing, start } = SERVERS.at(-1) ?? IN_PROCESS;
  if (missing !== undefined) throw new Error(`${name}: ${missing}`);
  return start(pki, address);
}

export class InProcess implements ApiServer {
  readonly api: KubeApi;

  constructor(pki: Pki, address = '127.0.0.1') {
    this.api = new KubeApi({
      address,
      certFile: pki.file('apiserver.pem'),
      keyFile: pki.file('apiserver.key'),
      adminToken: ADMIN_TOKEN,
    });
  }

  async started(): Promise<this> {
    await this.api.start();
    return this;
  }

  get url(): string {
    return this.api.url;
  }

  requestsOf(user: string): Promise<Set<string>> {
    const made = this.api.requests.filter((one) => one.user === user);
    return Promise.resolve(new Set(made.map(({ verb, resource }) => `${verb} ${resource}`)));
  }

  async restartCompacted(): Promise<void> {
    await this.api.stop();
    this.api.objects.compact();
    await this.api.start();
  }

  end(): Promise<void> {
    return this.api.stop();
  }
}

class KubeApiserver implements ApiServer {
  readonly url: string;
  readonly #argv: readonly string[];
  readonly #directory: string;
  readonly #etcd: EtcdServer;
  #program: Program;

  private constructor(directory: string, etcd: EtcdServer, url: string, argv: readonly string[]) {
    this.url = url;
    this.#directory = directory;
    this.#etcd = etcd;
    this.#argv = argv;
    this.#program = new Program(argv);
  }

  static async start(binary: string, pki: Pki, address = '127.0.0.1'): Promise<KubeApiserver> {
    const directory = await mkdtemp(join(tmpdir(), 'flannelette-kube-'));
    const file = (name: string): string => join(directory, name);
    await writeFile(file('tokens.csv'), `${ADMIN_TOKEN},admin,admin,"system:masters"\n`);
    const policy = {
      apiVersion: 'audit.k8s.io/v1',
      kind: 'Policy',
      rules: [{ level: 'Metadata' }],
    };
    await writeFile(file('audit.yaml'), JSON.stringify(policy));
    await openssl('genrsa', '-out', file('accounts.key'), '2048');
    const flags = ['--unsafe-no-fsync=true'];
    const etcd = await EtcdServer.start({ directory, port: await freePort(), flags });
    const port = await freePort();
    const server = new KubeApiserver(directory, etcd, `https://${address}:${port}`, [
      binary,
      `--etcd-servers=${etcd.endpoint}`,
      `--bind-address=${address}`,
      `--secure-port=${port}`,
      `--tls-cert-file=${pki.file('apiserver.pem')}`,
      `--tls-private-key-file=${pki.file('apiserver.key')}`,
      `--cert-dir=${file('certs')}`,
      '--service-account-issuer=https://kubernetes.default.svc',
      `--service-account-key-file=${file('accounts.key')}`,
      `--service-account-signing-key-file=${file('accounts.key')}`,
      '--authorization-mode=RBAC',
      `--token-auth-file=${file('tokens.csv')}`,
      '--service-cluster-ip-range=10.96.0.0/16',
      // A pod of the tests needs no account: nobody runs it.
      '--disable-admission-plugins=ServiceAccount',
      `--audit-policy-file=${file('audit.yaml')}`,
      `--audit-log-path=${file('audit.log')}`,
      '--shutdown-watch-termination-grace-period=0s',
    ]);
    try {
      await server.#ready();
      return server;
    } catch (error) {
      await server.end();
      throw error;
    }
  }

  async requestsOf(user: string): Promise<Set<string>> {
    const text = await readFile(join(this.#directory, 'audit.log'), 'utf8');
    const made = new Set<string>();
    for (const line of text.split('\n')) {
      if (line === '') continue;
      const {
        verb,
        user: by,
        objectRef,
      } = JSON.parse(line) as {
        verb: string;
        user: { username: string };
        objectRef?: { resource: string; subresource?: string };
      };
      if (by.username !== user || objectRef === undefined) continue;
      const { resource, subresource } = objectRef;
      made.add(`${verb} ${resource}${subresource === undefined ? '' : `/${subresource}`}`);
    }
    return made;
  }

  async restartCompacted(): Promise<void> {
    this.#program.kill('SIGKILL');
    await this.#program.ended;
    const etcdctl = (...argv: string[]) =>
      run(['env', 'ETCDCTL_API=3', 'etcdctl', `--endpoints=${this.#etcd.endpoint}`, ...argv]);
    const { stdout } = await etcdctl('endpoint', 'status', '--write-out=json');
    const [status] = JSON.parse(stdout) as { Status: { header: { revision: number } } }[];
    await etcdctl('compact', String(status?.Status.header.revision));
    this.#program = new Program(this.#argv);
    await this.#ready();
  }

  async end(): Promise<void> {
    await this.#program.stop(500);
    await this.#etcd.stop();
    await rm(this.#directory, { recursive: true });
  }

  async #ready(): Promise<void> {
    await waitFor('kube-apiserver', 60_000, async () => {
      if (!this.#program.running) throw new Error(this.#program.stderr.slice(-2_000));
      return ask(this.url, 'GET', '/readyz').then(
        ({ status }) => (status === 200 ? true : undefined),
        () => undefined,
      );
    });
  }
}

/** The TCP connections of the store, to be cut and let through again. */
export class Cut {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #open = true;

  private constructor(target: URL) {
    this.#server = createServer((near) => {
      if (!this.#open) {
        near.destroy();
        return;
      }
      const far = connect({ host: target.hostname, port: Number(target.port) });
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(one);
        one.on('error', () => undefined);
        one.once('close', () => {
          this.#sockets.delete(one);
          other.destroy();
        });
        one.pipe(other);
      }
    });
  }

  static async to(url: string): Promise<Cut> {
    const cut = new Cut(new URL(url));
    await new Promise<void>((resolve) => cut.#server.listen(0, '127.0.0.1', resolve));
    return cut;
  }

  get url(): string {
    return `https://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#open = false;
    for (const socket of this.#sockets) socket.destroy();
  }

  open(): void {
    this.#open = true;
  }

  async end(): Promise<void> {
    this.close();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** What the cluster's administrator does. */
export class Admin {
  readonly #server: ApiServer;

  constructor(server: ApiServer) {
    this.#server = server;
  }

  async call(method: string, path: string, body?: unknown, type?: string): Promise<Json> {
    const { status, text } = await ask(this.#server.url, method, path, body, type);
    if (status >= 300) throw new Error(`${method} ${path}: ${status} ${text}`);
    return JSON.parse(text) as Json;
  }

  createNode(name: string, podCidrs: readonly string[], annotations: Json = {}): Promise<Json> {
    const spec = podCidrs.length === 0 ? {} : { podCIDR: podCidrs[0], podCIDRs: podCidrs };
    const metadata = { name, annotations };
    return this.call('POST', NODES, { apiVersion: 'v1', kind: 'Node', metadata, spec });
  }

  async node(name: string): Promise<KubeObject> {
    return (await this.call('GET', `${NODES}/${name}`)) as KubeObject;
  }

  /** A JSON merge patch. */
  patchNode(name: string, patch: Json): Promise<Json> {
    return this.call('PATCH', `${NODES}/${name}`, patch, 'application/merge-patch+json');
  }

  annotate(name: string, annotations: Json): Promise<Json> {
    return this.patchNode(name, { metadata: { annotations } });
  }

  /** What a kubelet does now and again. */
  heartbeat(name: string): Promise<Json> {
    const now = new Date().toISOString();
    const condition = { type: 'Ready', status: 'True', reason: now, lastHeartbeatTime: now };
    const patch = { status: { conditions: [condition] } };
    const type = 'application/strategic-merge-patch+json';
    return this.call('PATCH', `${NODES}/${name}/status`, patch, type);
  }

  async deleteNode(name: string): Promise<void> {
    await this.call('DELETE', `${NODES}/${name}`);
  }

  async deleteNodes(): Promise<void> {
    const { items } = await this.call('GET', NODES);
    for (const { metadata } of items as KubeObject[]) await this.deleteNode(metadata.name);
  }

  /** Creates the object at the collection it belongs to. */
  create(object: Json, query = ''): Promise<Json> {
    return this.call('POST', `${collectionOf(object)}${query}`, object);
  }

  async token(namespace: string, account: string): Promise<string> {
    const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`;
    const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: {} };
    const { status } = await this.call('POST', path, body);
    return String((status as Json).token);
  }
}

const NODES = '/api/v1/nodes';

/** Where objects of the kind are created: groups as in their apiVersion, the plural as Kubernetes has it. */
function collectionOf({ apiVersion, kind, metadata }: Json): string {
  const version = String(apiVersion);
  const { namespace } = metadata as Json;
  const base = version === 'v1' ? '/api/v1' : `/apis/${version}`;
  const within = typeof namespace === 'string' ? `/namespaces/${namespace}` : '';
  return `${base}${within}/${String(kind).toLowerCase()}s`;
}

/** The certificate is not looked at: it is the store's to do so. */
function ask(
  url: string,
  method: string,
  path: string,
  body?: unknown,
  type = 'application/json',
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const sent = body === undefined ? undefined : JSON.stringify(body);
    const headers = { authorization: `Bearer ${ADMIN_TOKEN}`, 'content-type': type };
    const options = { method, headers, rejectUnauthorized: false, agent: false } as const;
    const call = request(new URL(path, url), options, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
      response.once('end', () => {
        resolve({ status: response.statusCode ?? 0, text });
      });
      response.once('error', reject);
    });
    call.once('error', reject);
    call.end(sent);
  });
}
