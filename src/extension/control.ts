/**
 * How a command reaches the data plane that `flannelette extension up` left running: one HTTP request on
 * a unix socket of mode 0600, JSON both ways.
 *
 *   GET /status   who it is: pid and settings
 *   POST /post, /add, /remove, /down   what the command was given; answered once it is done
 *
 * Requests are done one after the other, in the order in which they came.
 */
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { isObject } from '../config/json.js';
import { requestJson } from '../daemon/status-client.js';
import { listenPrivately } from '../daemon/unix-socket.js';
import { errnoOf, FlannelletteError, messageOf, systemError, type ErrorKind } from '../errors.js';
import type { Environment } from './contract.js';

/** A lease's value is at most 64 KiB, here with every character escaped. */
const MAX_REQUEST_BYTES = 512 * 1024;
/** Longer than any command takes; see START_MS of the data plane. */
const TIMEOUT_MS = 60_000;

export const COMMANDS = ['post', 'add', 'remove', 'down'] as const;
export type CommandName = (typeof COMMANDS)[number];

export interface Request {
  readonly env: Environment;
  readonly data: string;
}

export interface Identity {
  readonly pid: number;
  /** Two data planes with the same text are the same. */
  readonly settings: string;
}

type Reply =
  | { readonly text: string }
  | { readonly error: { readonly kind: ErrorKind; readonly message: string } };

export type Handlers = Readonly<Record<CommandName, (request: Request) => Promise<string>>>;

/** Where the files of one instance are, all beside its subnet file. */
export function extensionPaths(subnetFile: string): {
  readonly socket: string;
  readonly log: string;
} {
  return { socket: `${subnetFile}.control`, log: `${subnetFile}.log` };
}

export class ControlServer {
  readonly #handlers: Handlers;
  readonly #identity: Identity;
  readonly #server: Server;
  /** The work under way. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(identity: Identity, handlers: Handlers) {
    this.#identity = identity;
    this.#handlers = handlers;
    this.#server = createServer((request, response) => {
      void this.#answer(request).then(({ code, body }) => {
        response.writeHead(code, { 'content-type': 'application/json', connection: 'close' });
        response.end(`${JSON.stringify(body)}\n`);
      });
    });
  }

  /** Rejects with a system error, EADDRINUSE when another data plane is there. */
  async listen(path: string): Promise<void> {
    const place = { path, name: 'control socket' };
    await listenPrivately(place, () => {
      return new Promise<void>((resolve, reject) => {
        this.#server.once('error', reject).listen(path, () => {
          this.#server.off('error', reject).on('error', () => undefined);
          resolve();
        });
      });
    });
  }

  /** Takes no more requests, answers those that are there, and removes the socket. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => {
        resolve();
      });
      this.#server.closeIdleConnections();
    });
  }

  async #answer(request: IncomingMessage): Promise<{ code: number; body: unknown }> {
    const path = request.url ?? '';
    if (path === '/status') return { code: 200, body: this.#identity };
    const name = COMMANDS.find((command) => path === `/${command}`);
    if (name === undefined || request.method !== 'POST') return { code: 404, body: {} };
    const work = this.#last.then(async () => this.#handlers[name](await readRequest(request)));
    this.#last = work.catch(() => undefined);
    return { code: 200, body: await work.then((text): Reply => ({ text }), failed) };
  }
}

function failed(error: unknown): Reply {
  const kind = error instanceof FlannelletteError ? error.kind : 'system';
  return { error: { kind, message: messageOf(error) } };
}

async function readRequest(request: IncomingMessage): Promise<Request> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_REQUEST_BYTES) {
      throw systemError(`the request is too long: expected at most ${MAX_REQUEST_BYTES} bytes`);
    }
    chunks.push(chunk);
  }
  // Written by the same package's command, on a socket that is closed to others.
  return JSON.parse(Buffer.concat(chunks).toString('utf8')) as Request;
}

/** What the data plane said. Throws the error it answered with, or why there is no answer. */
export async function tell(
  subnetFile: string,
  name: CommandName,
  request: Request,
): Promise<string> {
  const { socket } = extensionPaths(subnetFile);
  const reply = (await requestJson(socket, `/${name}`, TIMEOUT_MS, { body: request }).catch(
    (error: unknown) => {
      throw unanswered(subnetFile, error);
    },
  )) as Reply;
  if ('text' in reply) return reply.text;
  throw new FlannelletteError(reply.error.kind, reply.error.message);
}

/** The data plane that is there; undefined when none answers. */
export async function identify(subnetFile: string): Promise<Identity | undefined> {
  try {
    const found = await requestJson(extensionPaths(subnetFile).socket, '/status', TIMEOUT_MS);
    return isObject(found) ? (found as unknown as Identity) : undefined;
  } catch (error) {
    if (isNobody(errnoOf(error))) return undefined;
    throw unanswered(subnetFile, error);
  }
}

function isNobody(code: string | undefined): boolean {
  return code === 'ENOENT' || code === 'ECONNREFUSED';
}

function unanswered(subnetFile: string, error: unknown): FlannelletteError {
  const { socket, log } = extensionPaths(subnetFile);
  const code = errnoOf(error);
  const detail = {
    cause: error,
    field: '--subnet-file',
    value: subnetFile,
    ...(code === undefined ? {} : { code }),
  };
  if (code === 'ENOENT') {
    const first =
      'flannelette extension up (PreStartupCommand) comes first, with this --subnet-file';
    return systemError(`no data plane answers on ${socket} (${code}): ${first}`, detail);
  }
  if (isNobody(code) || code === 'ECONNRESET') {
    return systemError(
      `the data plane behind ${socket} is gone (${code ?? ''}), its last words are in ${log}: restart flanneld to start it again`,
      detail,
    );
  }
  return systemError(`no answer from the data plane on ${socket}: ${messageOf(error)}`, detail);
}
