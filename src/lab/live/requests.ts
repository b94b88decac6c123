/**
 * Which requests the live page's server takes. It listens on the loopback, which keeps other machines
 * out but not other pages in the same browser:
 *
 *   Host    names the loopback and our port: a name bound to 127.0.0.1 by its owner (DNS rebinding) is refused
 *   Origin  of a command is the page itself: a form or script of another page is refused
 *   type    of a command is JSON, which a page of another origin cannot send unasked (CORS preflight)
 */
import type { IncomingHttpHeaders } from 'node:http';
import { inputError, messageOf } from '../../errors.js';
import type { Command, PageMode } from './messages.js';

export const PAGE_MODES: readonly PageMode[] = ['basic', 'batch', 'offload', 'kernel'];
const PLAIN_COMMANDS = ['ping', 'tcp', 'udp', 'stop', 'add-host', 'remove-host'] as const;
export const COMMAND_NAMES: readonly string[] = [...PLAIN_COMMANDS, 'mode'];

/** Longest body of a command in bytes; all of them are shorter. */
export const BODY_LIMIT = 1_024;

export interface Refusal {
  readonly status: 400 | 403 | 404 | 405 | 409 | 413 | 415 | 503;
  readonly message: string;
  /** Methods that the path takes, of status 405. */
  readonly allow?: string;
}

export interface RequestHead {
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
}

/** What is asked for: a file of the page, the events, or a command whose body is still to come. */
export type Wanted =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'events' }
  | { readonly kind: 'command' };

/** Judges a request to a server on `port` that has the files of `paths`. */
export function checkRequest(
  { method, url, headers }: RequestHead,
  port: number,
  paths: ReadonlySet<string>,
): Wanted | Refusal {
  const own = [`127.0.0.1:${port}`, `localhost:${port}`];
  const { host, origin } = headers;
  if (host === undefined || !own.includes(host)) {
    return refuse(403, 'Host', host, own.join(' or '));
  }
  const path = url.split('?', 1)[0] ?? '';
  if (path === '/command') {
    if (method !== 'POST') return notAllowed(method, path, 'POST');
    if (origin !== `http://${host}`) return refuse(403, 'Origin', origin, `http://${host}`);
    const type = headers['content-type']?.split(';', 1)[0]?.trim();
    if (type !== 'application/json') {
      return refuse(415, 'Content-Type', type, 'application/json');
    }
    return { kind: 'command' };
  }
  if (path !== '/events' && !paths.has(path)) {
    return { status: 404, message: `${method} ${path}: there is no such page` };
  }
  if (method !== 'GET' && method !== 'HEAD') return notAllowed(method, path, 'GET, HEAD');
  return path === '/events' ? { kind: 'events' } : { kind: 'file', path };
}

/** Reads the body of a command. */
export function parseCommand(body: string): Command | Refusal {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch (error) {
    return refuse(400, 'body', body, `JSON (${messageOf(error)})`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return refuse(400, 'body', value, 'a JSON object');
  }
  const { command, mode, ...more } = value as Record<string, unknown>;
  const [unknown] = Object.keys(more);
  if (unknown !== undefined) return refuse(400, unknown, more[unknown], 'no such field');
  if (command === 'mode') {
    const known = PAGE_MODES.find((name) => name === mode);
    return known === undefined
      ? refuse(400, 'mode', mode, PAGE_MODES.join(', '))
      : { command, mode: known };
  }
  const plain = PLAIN_COMMANDS.find((name) => name === command);
  if (plain === undefined) return refuse(400, 'command', command, COMMAND_NAMES.join(', '));
  return mode === undefined
    ? { command: plain }
    : refuse(400, 'mode', mode, 'none: it belongs to the command mode');
}

export function isRefusal(value: object): value is Refusal {
  return 'status' in value;
}

function refuse(
  status: Refusal['status'],
  field: string,
  value: unknown,
  expected: string,
): Refusal {
  return { status, message: inputError(field, value, expected).message };
}

function notAllowed(method: string, path: string, allow: string): Refusal {
  return { status: 405, allow, message: `${method} ${path}: expected ${allow}` };
}
