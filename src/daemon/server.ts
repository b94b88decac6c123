/**
 * Where a daemon tells of itself: HTTP on a unix socket beside subnet.env, for `flannelette
 * status`, and on TCP when asked for, for Kubernetes and Prometheus.
 *
 *   /healthz  200 while the process lives     /metrics  Prometheus text
 *   /readyz   200 once traffic can flow       /status   JSON, see DaemonStatus
 *
 * Over TCP the right column, and the detail of /readyz, are for this host alone by default.
 *
 * The unix socket doubles as the lock of its path: a daemon that answers there keeps a second one
 * out, and what a killed daemon left is replaced. It alone takes a request that changes something:
 *
 *   PUT /mode/NAME   the data plane goes on in that mode
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { lookup } from 'node:dns/promises';
import { chmod, lstat, unlink } from 'node:fs/promises';
import { connect, type ListenOptions } from 'node:net';
import { dirname } from 'node:path';
import { makeDirectory } from '../directory.js';
import { errnoOf, messageOf, systemError } from '../errors.js';
import { isThisHost, namesThisHost } from './access.js';
import { requestJson } from './status-client.js';
import { Connections } from './connections.js';

export interface StatusSource {
  readonly ready: () => { readonly ready: boolean; readonly [detail: string]: unknown };
  readonly status: () => unknown;
  readonly metrics: () => Promise<{ readonly contentType: string; readonly text: string }>;
  /** Throws when it cannot be done now, or there is no such mode. */
  readonly changeMode: (mode: string) => void;
}

export interface TcpAddress {
  /** An address or a name; empty for every address. */
  readonly host: string;
  readonly port: number;
  /** Answer everything to everybody, not to this host alone. */
  readonly open?: boolean;
}

interface Reply {
  readonly code: number;
  readonly type: string;
  readonly body: string;
}

const TEXT = 'text/plain; charset=utf-8';
const JSON_TYPE = 'application/json; charset=utf-8';
/** Of PUT, with the mode behind it; on the unix socket alone, which is the owner's. */
const MODE_PATH = '/mode/';
const PATHS = ['/healthz', '/readyz', '/metrics', '/status'];
/** Milliseconds a connection may say nothing, or take to ask. */
const IDLE_MS = 5_000;

/** `owner` may also change something; `full` tells everything; otherwise a reply says why not. */
type Access = 'owner' | 'full' | Reply;

const FOR_THIS_HOST: Reply = {
  code: 403,
  type: TEXT,
  body: 'for this host alone: --healthz-ip opens it to everyone who reaches the address\n',
};
const NOT_THIS_HOST: Reply = {
  code: 421,
  type: TEXT,
  body: 'the Host header names another host: ask by address, or by the name of this host\n',
};

export class StatusServer {
  readonly #source: StatusSource;
  readonly #idleMs: number;
  readonly #servers: Server[] = [];

  constructor(source: StatusSource, idleMs = IDLE_MS) {
    this.#source = source;
    this.#idleMs = idleMs;
  }

  /** Listens on a unix socket of mode 0600; a system error names a daemon that is there already. */
  async listenUnix(path: string): Promise<void> {
    await makeDirectory(dirname(path)).catch((error: unknown) => {
      throw socketError(path, error);
    });
    await removeStaleSocket(path);
    try {
      await this.#listen({ path }, () => 'owner');
      await chmod(path, 0o600);
    } catch (error) {
      throw socketError(path, error);
    }
  }

  /** Listens on TCP and returns the port, which the kernel chooses when 0 is given. */
  async listenTcp(address: TcpAddress): Promise<number> {
    const { host, port, open = false } = address;
    const access = (request: IncomingMessage): Access => {
      if (!open && !isThisHost(request)) return FOR_THIS_HOST;
      return namesThisHost(request, host) ? 'full' : NOT_THIS_HOST;
    };
    try {
      // An IPv4 address before one of IPv6, as flanneld takes a name.
      const { address: ip } =
        host === '' ? { address: host } : await lookup(host, { verbatim: false });
      const server = await this.#listen({ host: ip, port }, access);
      const bound = server.address();
      return typeof bound === 'object' && bound !== null ? bound.port : port;
    } catch (error) {
      const code = errnoOf(error);
      const why =
        code === 'EADDRINUSE'
          ? 'is taken (EADDRINUSE): expected a free TCP port'
          : `cannot be listened on: ${messageOf(error)}`;
      throw systemError(`--healthz-port: ${host}:${port} ${why}`, {
        field: '--healthz-port',
        value: port,
        cause: error,
        ...(code === undefined ? {} : { code }),
      });
    }
  }

  /** Ends every connection and removes the socket file. Idempotent. */
  async close(): Promise<void> {
    const servers = this.#servers.splice(0);
    await Promise.all(
      servers.map((server) => {
        const closed = new Promise<void>((resolve) =>
          server.close(() => {
            resolve();
          }),
        );
        server.closeAllConnections();
        return closed;
      }),
    );
  }

  async #listen(
    options: ListenOptions,
    access: (request: IncomingMessage) => Access,
  ): Promise<Server> {
    const limits = {
      keepAliveTimeout: this.#idleMs,
      // Never, as far as that goes: Connections has a timer for each.
      connectionsCheckingInterval: 2 ** 31 - 1,
    };
    const connections = new Connections(this.#idleMs);
    const server = createServer(limits, (request, response) => {
      connections.asked(request.socket);
      void this.#answer(request, response, access(request));
    });
    server.on('connection', (socket) => {
      connections.add(socket);
    });
    // One who does not read the answer.
    server.setTimeout(2 * this.#idleMs);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(options, () => {
        server.off('error', reject);
        resolve();
      });
    });
    // Accept errors (EMFILE) must not end the daemon: the kernel keeps the connection queued.
    server.on('error', () => undefined);
    this.#servers.push(server);
    return server;
  }

  async #answer(request: IncomingMessage, response: ServerResponse, access: Access): Promise<void> {
    request.resume();
    let reply: Reply;
    try {
      reply = await this.#reply(request, access);
    } catch (error) {
      reply = { code: 500, type: TEXT, body: `${messageOf(error)}\n` };
    }
    response.writeHead(reply.code, {
      'content-type': reply.type,
      'content-length': Buffer.byteLength(reply.body),
      'cache-control': 'no-store',
    });
    response.end(request.method === 'HEAD' ? undefined : reply.body);
  }

  #changeMode(mode: string): Reply {
    try {
      this.#source.changeMode(mode);
    } catch (error) {
      return { code: 409, type: TEXT, body: `${messageOf(error)}\n` };
    }
    return { code: 200, type: JSON_TYPE, body: toJson({ mode }) };
  }

  async #reply(request: IncomingMessage, access: Access): Promise<Reply> {
    const path = (request.url ?? '/').split('?', 1)[0] ?? '/';
    if (request.method === 'PUT' && access === 'owner' && path.startsWith(MODE_PATH)) {
      return this.#changeMode(path.slice(MODE_PATH.length));
    }
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      return { code: 405, type: TEXT, body: 'only GET and HEAD\n' };
    }
    const tellsAll = access === 'owner' || access === 'full';
    switch (path) {
      case '/healthz':
        return { code: 200, type: TEXT, body: 'ok' };
      case '/readyz': {
        const { ready, ...detail } = this.#source.ready();
        const body = toJson(tellsAll ? { ready, ...detail } : { ready });
        return { code: ready ? 200 : 503, type: JSON_TYPE, body };
      }
      case '/metrics': {
        if (!tellsAll) return access;
        const { contentType, text } = await this.#source.metrics();
        return { code: 200, type: contentType, body: text };
      }
      case '/status':
        if (!tellsAll) return access;
        return { code: 200, type: JSON_TYPE, body: toJson(this.#source.status()) };
      default:
        return { code: 404, type: TEXT, body: `not found; there are ${PATHS.join(', ')}\n` };
    }
  }
}

function toJson(value: unknown): string {
  return `${JSON.stringify(value)}\n`;
}

/** Removes the socket of a dead daemon; throws when a live one, or something else, is there. */
async function removeStaleSocket(path: string): Promise<void> {
  const found = await lstat(path).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw socketError(path, error);
  });
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw systemError(`${path} is in the way of the status socket: it exists and is not a socket`, {
      field: '--subnet-file',
      value: path,
    });
  }
  const refused = await connectError(path);
  if (refused === 'ENOENT') return;
  if (refused === 'ECONNREFUSED') {
    await unlink(path).catch((error: unknown) => {
      if (errnoOf(error) !== 'ENOENT') throw socketError(path, error);
    });
    return;
  }
  if (refused === 'EACCES' || refused === 'EPERM') {
    throw systemError(`cannot tell whether a daemon listens on ${path} (${refused}): run as root`, {
      field: '--subnet-file',
      value: path,
      code: refused,
    });
  }
  throw systemError(
    `another daemon${await pidAt(path)} answers on ${path}: stop it, or give this one its own --subnet-file`,
    { field: '--subnet-file', value: path, code: 'EADDRINUSE' },
  );
}

/** `undefined` when somebody accepts. */
function connectError(path: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once('connect', () => {
      socket.destroy();
      resolve(undefined);
    });
    socket.once('error', (error) => {
      resolve(errnoOf(error) ?? 'EIO');
    });
  });
}

async function pidAt(path: string): Promise<string> {
  try {
    const status = await requestJson(path, '/status', 1_000);
    if (typeof status === 'object' && status !== null && 'pid' in status) {
      return ` (pid ${String(status.pid)})`;
    }
  } catch {
    // It accepts but does not answer: blocked, or not one of ours. Its path says enough.
  }
  return '';
}

function socketError(path: string, error: unknown): Error {
  const code = errnoOf(error);
  return systemError(`cannot create the status socket ${path}: ${messageOf(error)}`, {
    field: '--subnet-file',
    value: path,
    cause: error,
    ...(code === undefined ? {} : { code }),
  });
}
