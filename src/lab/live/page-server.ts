/**
 * The live page's HTTP server: files, server-sent events and commands, on 127.0.0.1 only. It runs
 * outside the lab's namespaces, where the browser is; the lab is reached through `onCommand` and
 * `publish`.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { errnoOf, messageOf, systemError } from '../../errors.js';
import type { PageFile } from './files.js';
import type { Command } from './messages.js';
import {
  BODY_LIMIT,
  checkRequest,
  isRefusal,
  parseCommand,
  type Refusal,
  type Wanted,
} from './requests.js';

/** Resolves to why a command is not done now, or to null. */
export type CommandHandler = (command: Command) => Promise<string | null>;

const LOOPBACK = '127.0.0.1';
/** Pages that follow the events at once. */
const FOLLOWERS_MAX = 16;
/** A page that does not read what it is sent is let go. */
const UNREAD_BYTES_MAX = 1024 * 1024;

const HEADERS = {
  'cache-control': 'no-store',
  'content-security-policy':
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
};

export class PageServer {
  readonly port: number;
  readonly #server: Server;
  readonly #files: ReadonlyMap<string, PageFile>;
  readonly #onCommand: CommandHandler;
  readonly #followers = new Set<ServerResponse>();
  /** The last event of each name, for a page that comes later. */
  readonly #latest = new Map<string, string>();

  private constructor(
    server: Server,
    files: ReadonlyMap<string, PageFile>,
    onCommand: CommandHandler,
  ) {
    this.#server = server;
    this.#files = files;
    this.#onCommand = onCommand;
    this.port = (server.address() as AddressInfo).port;
    server.on('request', (request, response) => {
      void this.#answer(request, response);
    });
  }

  /** Listens on a port of the loopback, on a free one when it is 0. */
  static async listen(
    port: number,
    files: ReadonlyMap<string, PageFile>,
    onCommand: CommandHandler,
  ): Promise<PageServer> {
    const server = createServer();
    server.maxConnections = 4 * FOLLOWERS_MAX;
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => {
        reject(explain(port, error));
      });
      server.listen(port, LOOPBACK, resolve);
    });
    return new PageServer(server, files, onCommand);
  }

  get url(): string {
    return `http://${LOOPBACK}:${this.port}/`;
  }

  /** Sends an event to every page, now and when it comes. */
  publish(name: string, data: object): void {
    const text = `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
    this.#latest.set(name, text);
    for (const follower of this.#followers) {
      if (follower.writableLength > UNREAD_BYTES_MAX) follower.destroy();
      else follower.write(text);
    }
  }

  /** Ends every connection, after what was published last. */
  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const follower of this.#followers) follower.end();
    this.#server.closeIdleConnections();
    const timer = setTimeout(() => {
      this.#server.closeAllConnections();
    }, 500);
    await closed;
    clearTimeout(timer);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // A page that is closed in the middle of an answer is no error.
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    const { method = '', url = '', headers } = request;
    const paths = new Set(this.#files.keys());
    const wanted = checkRequest({ method, url, headers }, this.port, paths);
    if (isRefusal(wanted)) {
      send(response, wanted);
      return;
    }
    try {
      await this.#serve(wanted, request, response);
    } catch (error) {
      send(response, { status: 503, message: messageOf(error) });
    }
  }

  async #serve(wanted: Wanted, request: IncomingMessage, response: ServerResponse): Promise<void> {
    switch (wanted.kind) {
      case 'file': {
        const { type, body } = this.#files.get(wanted.path) as PageFile;
        response.writeHead(200, {
          ...HEADERS,
          'content-type': type,
          'content-length': body.length,
        });
        response.end(request.method === 'HEAD' ? undefined : body);
        break;
      }
      case 'events':
        this.#follow(request, response);
        break;
      case 'command':
        await this.#command(request, response);
        break;
    }
  }

  #follow(request: IncomingMessage, response: ServerResponse): void {
    if (request.method === 'HEAD' || this.#followers.size >= FOLLOWERS_MAX) {
      const message = `${FOLLOWERS_MAX} pages at most`;
      send(
        response,
        request.method === 'HEAD'
          ? { status: 405, allow: 'GET', message: 'HEAD /events: expected GET' }
          : { status: 503, message },
      );
      return;
    }
    response.writeHead(200, { ...HEADERS, 'content-type': 'text/event-stream' });
    response.write('retry: 1000\n\n');
    for (const text of this.#latest.values()) response.write(text);
    this.#followers.add(response);
    response.on('close', () => this.#followers.delete(response));
  }

  async #command(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await readBody(request);
    const command = typeof body === 'string' ? parseCommand(body) : body;
    if (isRefusal(command)) {
      send(response, command);
      return;
    }
    const refused = await this.#onCommand(command);
    if (refused === null) response.writeHead(202, HEADERS).end();
    else send(response, { status: 409, message: refused });
  }
}

async function readBody(request: IncomingMessage): Promise<string | Refusal> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  // A body that is too long is left alone, not the connection: the answer goes there.
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    bytes += (chunk as Buffer).length;
    if (bytes > BODY_LIMIT) {
      return { status: 413, message: `body: too long, expected at most ${BODY_LIMIT} bytes` };
    }
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function send(response: ServerResponse, { status, message, allow }: Refusal): void {
  response.writeHead(status, {
    ...HEADERS,
    'content-type': 'text/plain; charset=utf-8',
    // What is left of the request is not read.
    connection: 'close',
    ...(allow === undefined ? {} : { allow }),
  });
  response.end(`${message}\n`);
}

function explain(port: number, error: Error): Error {
  const code = errnoOf(error);
  const why =
    code === 'EADDRINUSE'
      ? 'is taken (EADDRINUSE): expected a free TCP port, or --web=0 for any'
      : `cannot be listened on: ${messageOf(error)}`;
  return systemError(`--web: ${LOOPBACK}:${port} ${why}`, {
    field: '--web',
    value: port,
    cause: error,
    ...(code === undefined ? {} : { code }),
  });
}
