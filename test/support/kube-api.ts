/**
 * A Kubernetes API server in this process, with the semantics that a client has to live with: resource
 * versions, watches from one of them, bookmarks, 410 after a compaction, pages, patches of object and
 * status, conflicts, tokens of service accounts and RBAC. test/kube holds it against kube-apiserver.
 */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import {
  isObject,
  mergePatch,
  Objects,
  StatusError,
  type Json,
  type KubeObject,
} from './kube-objects.js';

export interface KubeApiOptions {
  readonly certFile: string;
  readonly keyFile: string;
  /** Where it listens; the loopback unless told. */
  readonly address?: string;
  /** Of a member of system:masters. */
  readonly adminToken: string;
  /** Between bookmarks, in milliseconds; kube-apiserver's is about a minute. */
  readonly bookmarkMs?: number;
}

interface User {
  readonly name: string;
  readonly groups: readonly string[];
}

interface Target {
  readonly group: string;
  readonly collection: string;
  readonly resource: string;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
  readonly subresource: string | undefined;
}

interface Call extends Target {
  readonly verb: string;
  readonly query: URLSearchParams;
  readonly type: string;
  readonly body: Json;
}

/** What a test does to a request instead of its answer; undefined lets it pass. */
export type Intercept = (
  call: Pick<Call, 'verb' | 'resource' | 'subresource' | 'name'>,
  response: ServerResponse,
) => StatusError | 'handled' | undefined;

export class KubeApi {
  readonly objects = new Objects();
  /** `USER VERB RESOURCE` of every request that was authenticated. */
  readonly requests: { readonly user: string; readonly verb: string; readonly resource: string }[] =
    [];
  intercept: Intercept = () => undefined;
  /** Watches are told nothing while it is set. */
  mute = false;
  bookmarkMs: number;
  readonly #options: KubeApiOptions;
  readonly #tokens = new Map<
    string,
    { readonly user: User; readonly account: string; readonly uid: string }
  >();
  readonly #pages = new Map<string, { readonly version: number; readonly rest: KubeObject[] }>();
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  #port = 0;

  constructor(options: KubeApiOptions) {
    this.#options = options;
    this.bookmarkMs = options.bookmarkMs ?? 60_000;
  }

  get url(): string {
    return `https://${this.#options.address ?? '127.0.0.1'}:${this.#port}`;
  }

  /** The same port as before. */
  async start(): Promise<void> {
    const { certFile, keyFile } = this.#options;
    const tls = { cert: readFileSync(certFile), key: readFileSync(keyFile) };
    const server = createServer(tls, (request, response) => {
      void this.#answer(request, response);
    });
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.#port, this.#options.address ?? '127.0.0.1', resolve);
    });
    this.#port = (server.address() as AddressInfo).port;
    this.#server = server;
  }

  async stop(): Promise<void> {
    const closed = new Promise((resolve) => this.#server?.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const user = this.#authenticate(request.headers.authorization);
      const call = await parseCall(request);
      const resource =
        call.resource + (call.subresource === undefined ? '' : `/${call.subresource}`);
      this.requests.push({ user: user.name, verb: call.verb, resource });
      this.#authorize(user, call, resource);
      const instead = this.intercept(call, response);
      if (instead === 'handled') return;
      if (instead !== undefined) throw instead;
      if (call.verb === 'watch') this.#watch(call, response);
      else send(response, call.verb === 'create' ? 201 : 200, this.#run(call));
    } catch (error) {
      const status =
        error instanceof StatusError ? error : new StatusError(500, 'InternalError', String(error));
      send(response, status.code, status.body);
    }
  }

  #authenticate(header: string | undefined): User {
    if (header === undefined)
      return { name: 'system:anonymous', groups: ['system:unauthenticated'] };
    const token = header.replace(/^Bearer /, '');
    if (token === this.#options.adminToken) return { name: 'admin', groups: ['system:masters'] };
    const known = this.#tokens.get(token);
    const account = this.objects
      .all('serviceaccounts')
      .find(({ metadata }) => metadata.uid === known?.uid);
    if (known === undefined || account === undefined) {
      throw new StatusError(401, 'Unauthorized', 'Unauthorized');
    }
    return known.user;
  }

  #authorize({ name, groups }: User, call: Call, resource: string): void {
    if (groups.includes('system:masters')) return;
    const bound = this.objects
      .all('clusterrolebindings')
      .filter(({ subjects }) =>
        (subjects as Json[]).some(
          ({ kind, namespace, name: account }) =>
            kind === 'ServiceAccount' &&
            `system:serviceaccount:${String(namespace)}:${String(account)}` === name,
        ),
      )
      .map(({ roleRef }) => (roleRef as Json).name);
    const rules = this.objects
      .all('clusterroles')
      .filter(({ metadata }) => bound.includes(metadata.name))
      .flatMap((role) => role.rules as Record<string, string[] | undefined>[]);
    const allowed = rules.some(
      ({ apiGroups = [], resources = [], verbs = [] }) =>
        apiGroups.includes(call.group) && resources.includes(resource) && verbs.includes(call.verb),
    );
    if (allowed) return;
    const object = call.name === undefined ? '' : ` "${call.name}"`;
    const scope =
      call.namespace === undefined
        ? 'at the cluster scope'
        : `in the namespace "${call.namespace}"`;
    throw new StatusError(
      403,
      'Forbidden',
      `${call.resource}${object} is forbidden: User "${name}" cannot ${call.verb} resource "${resource}" in API group "${call.group}" ${scope}`,
    );
  }

  #run(call: Call): Json {
    const { verb, collection, resource, name = '', subresource, body, query } = call;
    switch (verb) {
      case 'list':
        return this.#list(call);
      case 'get':
        return this.objects.get(collection, name);
      case 'create':
        if (subresource === 'token') return this.#issueToken(call);
        if (query.get('dryRun') === 'All') return body;
        if (call.namespace !== undefined) this.objects.get('/api/v1/namespaces', call.namespace);
        return this.objects.create(collection, resource === 'nodes' ? defaultedNode(body) : body);
      case 'update':
        return this.objects.update(collection, name, (before) => {
          const after = { ...before, ...body };
          after.metadata = { ...before.metadata, ...(body.metadata as Json) };
          return resource === 'nodes' ? nodeUpdate(before, after, subresource) : after;
        });
      case 'patch':
        return this.objects.update(collection, name, (before) => {
          const strategic = call.type.startsWith('application/strategic-merge-patch+json');
          if (!strategic && !call.type.startsWith('application/merge-patch+json')) {
            throw new StatusError(415, 'UnsupportedMediaType', `no patch of type ${call.type}`);
          }
          const after = mergePatch(before, body, strategic) as KubeObject;
          return resource === 'nodes' ? nodeUpdate(before, after, subresource) : after;
        });
      case 'delete':
        return this.objects.delete(collection, name);
      default:
        throw new StatusError(405, 'MethodNotAllowed', verb);
    }
  }

  #list({ collection, query }: Call): Json {
    const limit = Number(query.get('limit') ?? 0);
    const token = query.get('continue');
    const page =
      token === null
        ? { version: this.objects.version, rest: this.objects.list(collection) }
        : this.#pages.get(token);
    if (page === undefined || (token !== null && page.version < this.objects.compacted)) {
      const message =
        'The provided continue parameter is too old to display a consistent list result.';
      throw new StatusError(410, 'Expired', message);
    }
    const { version, rest } = page;
    const items = limit === 0 ? rest : rest.slice(0, limit);
    const metadata: Json = { resourceVersion: String(version) };
    if (items.length < rest.length) {
      const next = randomUUID();
      this.#pages.set(next, { version, rest: rest.slice(items.length) });
      metadata.continue = next;
      metadata.remainingItemCount = rest.length - items.length;
    }
    return { kind: 'List', apiVersion: 'v1', metadata, items };
  }

  #watch({ collection, query }: Call, response: ServerResponse): void {
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    const write = (event: Json): void => {
      if (!this.mute) response.write(`${JSON.stringify(event)}\n`);
    };
    const from = Number(query.get('resourceVersion') ?? 0);
    let stop: () => void;
    try {
      stop = this.objects.watch(collection, from, ({ type, object }) => {
        write({ type, object });
      });
    } catch (error) {
      if (!(error instanceof StatusError)) throw error;
      response.end(`${JSON.stringify({ type: 'ERROR', object: error.body })}\n`);
      return;
    }
    const bookmarks =
      query.get('allowWatchBookmarks') === 'true'
        ? setInterval(() => {
            const metadata = { resourceVersion: String(this.objects.version) };
            write({ type: 'BOOKMARK', object: { kind: 'Node', apiVersion: 'v1', metadata } });
          }, this.bookmarkMs)
        : undefined;
    const seconds = Number(query.get('timeoutSeconds') ?? 3_600);
    const end = setTimeout(() => response.end(), seconds * 1_000);
    response.once('close', () => {
      stop();
      clearInterval(bookmarks);
      clearTimeout(end);
    });
  }

  #issueToken({ collection, name = '', namespace = '' }: Call): Json {
    const { uid } = this.objects.get(collection, name).metadata;
    const token = randomUUID();
    const account = `system:serviceaccount:${namespace}:${name}`;
    this.#tokens.set(token, { user: { name: account, groups: [] }, account, uid });
    return { kind: 'TokenRequest', apiVersion: 'authentication.k8s.io/v1', status: { token } };
  }
}

async function parseCall(request: IncomingMessage): Promise<Call> {
  const url = new URL(request.url ?? '/', 'https://server');
  const target = parseTarget(url.pathname);
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const text = Buffer.concat(chunks).toString('utf8');
  const isWatch = ['true', '1'].includes(url.searchParams.get('watch') ?? '');
  const reading = target.name !== undefined ? 'get' : isWatch ? 'watch' : 'list';
  const verbs: Readonly<Record<string, string>> = {
    GET: reading,
    POST: 'create',
    PUT: 'update',
    PATCH: 'patch',
    DELETE: 'delete',
  };
  return {
    ...target,
    verb: verbs[request.method ?? ''] ?? 'none',
    query: url.searchParams,
    type: request.headers['content-type'] ?? '',
    body: text === '' ? {} : (JSON.parse(text) as Json),
  };
}

function parseTarget(path: string): Target {
  const match = /^\/(?:api\/v1|apis\/([^/]+)\/[^/]+)\/(.*)$/.exec(path);
  if (match === null) throw new StatusError(404, 'NotFound', `the server could not find ${path}`);
  const group = match[1] ?? '';
  const base = path.slice(0, path.length - (match[2]?.length ?? 0) - 1);
  const words = (match[2] ?? '').split('/').map(decodeURIComponent);
  const namespaced = words[0] === 'namespaces' && words.length > 2;
  const namespace = namespaced ? words[1] : undefined;
  const [resource = '', name, subresource] = namespaced ? words.slice(2) : words;
  const collection = `${base}${namespaced ? `/namespaces/${namespace ?? ''}` : ''}/${resource}`;
  return { group, collection, resource, namespace, name, subresource };
}

/** The first podCIDR and podCIDR are one field in two forms. */
function defaultedNode(given: Json): Json {
  const spec = isObject(given.spec) ? { ...given.spec } : {};
  if (typeof spec.podCIDR === 'string' && spec.podCIDRs === undefined)
    spec.podCIDRs = [spec.podCIDR];
  if (spec.podCIDR === undefined && Array.isArray(spec.podCIDRs)) spec.podCIDR = spec.podCIDRs[0];
  return { ...given, spec };
}

/** What an update of the object, or of its status alone, may change. */
function nodeUpdate(
  before: KubeObject,
  after: KubeObject,
  subresource: string | undefined,
): KubeObject {
  if (subresource === 'status') return { ...after, spec: before.spec ?? {} };
  const updated = defaultedNode({ ...after, status: before.status ?? {} }) as KubeObject;
  const { podCIDR } = before.spec ?? {};
  if (podCIDR !== undefined && podCIDR !== updated.spec?.podCIDR) {
    const message = `Node "${before.metadata.name}" is invalid: spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid`;
    throw new StatusError(422, 'Invalid', message);
  }
  return updated;
}

function send(response: ServerResponse, status: number, body: Json): void {
  if (response.headersSent) {
    response.end();
    return;
  }
  const text = JSON.stringify(body);
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
  });
  response.end(text);
}
