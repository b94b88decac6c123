/**
 * Where a daemon tells of itself: HTTP on a unix socket beside subnet.env, for `flannelette
 * status`, and on TCP when asked for, for Kubernetes and Prometheus.
 *
 *   /healthz  200 while the process lives     /metrics  Prometheus text
 *   /readyz   200 once traffic can flow       /status   JSON, see DaemonStatus
 *
 * Over TCP the right column, and the detail of /readyz, are for this host alone by default, and for who
 * shows a token where there is one.
 *
 * The unix socket doubles as the lock of its path (unix-socket.ts). It alone takes a request that changes
 * something:
 *
 *   PUT /mode/NAME   the data plane goes on in that mode
 *   PUT /step-aside/SECONDS   another program is to have the port within so many seconds
 *   PUT /takeover/1  another daemon is given the descriptors of the data plane (takeover.ts)
 *   PUT /switch/1    this one stops, and the other goes on
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { lookup } from 'node:dns/promises';
import type { ListenOptions } from 'node:net';
import { errnoOf, messageOf, systemError } from '../errors.js';
import { isThisHost, namesThisHost } from './access.js';
import type { BearerToken } from './bearer-token.js';
import { Connections } from './connections.js';
import { listenPrivately } from './unix-socket.js';

export interface StatusSource {
  readonly ready: () => { readonly ready: boolean; readonly [detail: string]: unknown };
  readonly status: () => unknown;
  readonly metrics: () => Promise<{ readonly contentType: string; readonly text: string }>;
  /** Throws when it cannot be done now, or there is no such mode. */
  readonly changeMode: (mode: string) => void;
  /** Throws when it cannot be done now, or the time is none. */
  readonly stepAside: (seconds: string) => void;
  /** Another daemon takes over: see takeover.ts. Each throws when it cannot be; `left` ends this one. */
  readonly handover?: {
    give(version: string): object;
    end(version: string): void;
    left(): void;
  };
}

export interface TcpAddress {
  /** An address or a name; empty for every address. */
  readonly host: string;
  readonly port: number;
  /** Answer everything to everybody, not to this host alone. */
  readonly open?: boolean;
  /** What others than this host have to show; with it `open` says nothing. */
  readonly token?: BearerToken | undefined;
}

interface Reply {
  readonly code: number;
  readonly type: string;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Called when it has been sent. */
  readonly sent?: () => void;
}

const TEXT = 'text/plain; charset=utf-8';
const JSON_TYPE = 'application/json; charset=utf-8';
/** Of PUT, with the mode behind it; on the unix socket alone, which is the owner's. */
const MODE_PATH = '/mode/';
const ASIDE_PATH = '/step-aside/';
const TAKEOVER_PATH = '/takeover/';
const SWITCH_PATH = '/switch/';
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
const TOKEN_WANTED: Reply = {
  code: 401,
  type: TEXT,
  body: 'for this host, and for who shows the token of --healthz-token-file: Authorization: Bearer TOKEN\n',
  headers: { 'www-authenticate': 'Bearer' },
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
    const place = { path, name: 'status socket' };
    await listenPrivately(place, () => this.#listen({ path }, () => 'owner'));
  }

  /** Listens on TCP and returns the port, which the kernel chooses when 0 is given. */
  async listenTcp(address: TcpAddress): Promise<number> {
    const { host, port, open = false, token } = address;
    const access = async (request: IncomingMessage): Promise<Access> => {
      const known = isThisHost(request);
      if (!known && token === undefined && !open) return FOR_THIS_HOST;
      if (!known && token !== undefined && !(await token.accepts(request.headers.authorization))) {
        return TOKEN_WANTED;
      }
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
    access: (request: IncomingMessage) => Access | Promise<Access>,
  ): Promise<Server> {
    const limits = {
      keepAliveTimeout: this.#idleMs,
      // Never, as far as that goes: Connections has a timer for each.
      connectionsCheckingInterval: 2 ** 31 - 1,
    };
    const connections = new Connections(this.#idleMs);
    const server = createServer(limits, (request, response) => {
      connections.asked(request.socket);
      void this.#answer(request, response, access);
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

  async #answer(
    request: IncomingMessage,
    response: ServerResponse,
    access: (request: IncomingMessage) => Access | Promise<Access>,
  ): Promise<void> {
    request.resume();
    let reply: Reply;
    try {
      reply = await this.#reply(request, await access(request));
    } catch (error) {
      reply = { code: 500, type: TEXT, body: `${messageOf(error)}\n` };
    }
    response.writeHead(reply.code, {
      'content-type': reply.type,
      'content-length': Buffer.byteLength(reply.body),
      'cache-control': 'no-store',
      ...reply.headers,
    });
    const { sent } = reply;
    // Also when the other end did not wait for it.
    if (sent !== undefined) response.once('close', sent);
    response.end(request.method === 'HEAD' ? undefined : reply.body);
  }

  /** What the owner alone may ask for; undefined when it is nothing of that. */
  #change(path: string): Reply | undefined {
    const { changeMode, stepAside, handover } = this.#source;
    const behind = (prefix: string): string => path.slice(prefix.length);
    if (path.startsWith(MODE_PATH)) {
      const mode = behind(MODE_PATH);
      return attempt(() => {
        changeMode(mode);
        return { mode };
      });
    }
    if (path.startsWith(ASIDE_PATH)) {
      return attempt(() => {
        stepAside(behind(ASIDE_PATH));
        return {};
      });
    }
    if (handover === undefined) return undefined;
    if (path.startsWith(TAKEOVER_PATH)) return attempt(() => handover.give(behind(TAKEOVER_PATH)));
    if (!path.startsWith(SWITCH_PATH)) return undefined;
    const reply = attempt(() => {
      handover.end(behind(SWITCH_PATH));
      return {};
    });
    if (reply.code !== 200) return reply;
    const sent = (): void => {
      handover.left();
    };
    return { ...reply, sent };
  }

  async #reply(request: IncomingMessage, access: Access): Promise<Reply> {
    const path = (request.url ?? '/').split('?', 1)[0] ?? '/';
    const changed = request.method === 'PUT' && access === 'owner' ? this.#change(path) : undefined;
    if (changed !== undefined) return changed;
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

function attempt(action: () => object): Reply {
  try {
    return { code: 200, type: JSON_TYPE, body: toJson(action()) };
  } catch (error) {
    return { code: 409, type: TEXT, body: `${messageOf(error)}\n` };
  }
}

function toJson(value: unknown): string {
  return `${JSON.stringify(value)}\n`;
}
