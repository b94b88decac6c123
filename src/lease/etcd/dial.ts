/**
 * A connection to one endpoint, by stages: name -> TCP -> TLS -> HTTP/2. Each stage has its time, all
 * addresses of a name are raced, and no proxy of the environment is asked. A stage that fails says so
 * in one line (`faults.ts`).
 */
import { lookup } from 'node:dns/promises';
import { connect as connectTcp, isIP, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import type { TlsCredentials, TlsMaterial } from './credentials.js';
import { GrpcConnection } from './grpc.js';
import { firstToSucceed } from './race.js';
import { unlessAborted, within } from '../timing.js';

/** A member of etcd as given, and in its parts. */
export interface Endpoint {
  /** `https://10.168.0.1:2379`: what messages show. */
  readonly text: string;
  readonly secure: boolean;
  /** A name, or an address without brackets. */
  readonly host: string;
  readonly port: number;
}

export type Stage = 'resolve' | 'connect' | 'tls' | 'http2';

export interface DialFailure {
  readonly stage: Stage;
  readonly endpoint: Endpoint;
  /** The address that was tried; the name's own while that was not resolved. */
  readonly address: string;
  readonly tls: TlsMaterial | undefined;
  readonly cause: unknown;
}

export class DialError extends Error {
  readonly failure: DialFailure;

  constructor(failure: DialFailure) {
    super(`${failure.stage} failed`, { cause: failure.cause });
    this.failure = failure;
  }
}

export interface DialOptions {
  readonly tls: TlsCredentials | undefined;
  /** How long a peer that is connected may be silent. */
  readonly silenceMs: () => number;
}

/**
 * For a name and for TCP. The kernel asks again after 1, 3 and 7 s: a path that comes back is found
 * within 4 s, and an attempt that goes on would leave longer and longer gaps.
 */
const CONNECT_MS = 8_000;

/** Between the starts of attempts at the addresses of a name (RFC 8305). */
export const STAGGER_MS = 250;
const MAX_ADDRESSES = 8;

export function parseEndpoint(text: string): Endpoint {
  const { protocol, hostname, port } = new URL(text);
  const secure = protocol === 'https:';
  return {
    text,
    secure,
    host: hostname.replace(/^\[(.*)\]$/, '$1'),
    port: Number(port === '' ? (secure ? 443 : 80) : port),
  };
}

/** Rejects with a DialError, of several addresses with the first one's, or with the signal's reason. */
export async function dial(
  endpoint: Endpoint,
  options: DialOptions,
  signal: AbortSignal,
): Promise<GrpcConnection> {
  const tls = endpoint.secure ? await loadTls(endpoint, options) : undefined;
  const addresses = await resolve(endpoint, signal);
  const tries = addresses.map(
    (address) => (own: AbortSignal) => dialAddress(endpoint, address, tls, options, own),
  );
  try {
    return await firstToSucceed(tries, STAGGER_MS, signal, (late) => {
      late.close();
    });
  } catch (error) {
    if (!(error instanceof AggregateError)) throw error;
    // What got furthest says most: of a name's two addresses one may lead nowhere.
    const failures = error.errors.filter((one) => one instanceof DialError);
    const order: readonly Stage[] = ['http2', 'tls', 'connect', 'resolve'];
    const [best = error] = failures.toSorted(
      (a, b) => order.indexOf(a.failure.stage) - order.indexOf(b.failure.stage),
    );
    throw best;
  }
}

async function loadTls(endpoint: Endpoint, { tls }: DialOptions): Promise<TlsMaterial | undefined> {
  try {
    return await tls?.load();
  } catch (cause) {
    throw new DialError({ stage: 'tls', endpoint, address: endpoint.host, tls: undefined, cause });
  }
}

async function dialAddress(
  endpoint: Endpoint,
  address: string,
  tls: TlsMaterial | undefined,
  { silenceMs }: DialOptions,
  signal: AbortSignal,
): Promise<GrpcConnection> {
  let stage: Stage = 'connect';
  let socket: Socket | undefined;
  try {
    const tcp = await within(CONNECT_MS, signal, (own) => openSocket(address, endpoint.port, own));
    socket = tcp;
    if (tls !== undefined) {
      stage = 'tls';
      socket = await within(silenceMs(), signal, (own) => openTls(tcp, endpoint, tls, own));
    }
    stage = 'http2';
    const ready = socket;
    const session = { endpoint: endpoint.text, silenceMs };
    return await within(silenceMs(), signal, (own) => GrpcConnection.open(ready, session, own));
  } catch (cause) {
    // Within a session it is the session's.
    if (stage !== 'http2') socket?.destroy();
    signal.throwIfAborted();
    throw new DialError({ stage, endpoint, address, tls, cause });
  }
}

async function resolve(endpoint: Endpoint, signal: AbortSignal): Promise<readonly string[]> {
  const { host } = endpoint;
  if (isIP(host) !== 0) return [host];
  try {
    const found = await within(CONNECT_MS, signal, (own) =>
      unlessAborted(own, lookup(host, { all: true })),
    );
    return found.slice(0, MAX_ADDRESSES).map(({ address }) => address);
  } catch (cause) {
    signal.throwIfAborted();
    throw new DialError({ stage: 'resolve', endpoint, address: host, tls: undefined, cause });
  }
}

/** A TCP connection to an address. */
export function openSocket(host: string, port: number, signal: AbortSignal): Promise<Socket> {
  const socket = connectTcp({ host, port, noDelay: true });
  return opened(socket, 'connect', signal);
}

/** TLS over a connected socket, the peer's certificate checked against the endpoint's name. */
export function openTls(
  socket: Socket,
  { host }: Endpoint,
  { context }: Pick<TlsMaterial, 'context'>,
  signal: AbortSignal,
): Promise<TLSSocket> {
  const secured = connectTls({
    socket,
    secureContext: context,
    ALPNProtocols: ['h2'],
    // An address is checked as such, and must not be sent as a server name (RFC 6066).
    ...(isIP(host) === 0 ? { servername: host } : { host }),
  });
  return opened(secured, 'secureConnect', signal);
}

function opened<S extends Socket>(socket: S, event: string, signal: AbortSignal): Promise<S> {
  return new Promise((resolve, reject) => {
    const done = (how: () => void): void => {
      socket.off(event, open);
      socket.off('error', fail);
      socket.off('close', closed);
      signal.removeEventListener('abort', abort);
      how();
    };
    const open = (): void => {
      done(() => {
        resolve(socket);
      });
    };
    const fail = (error: Error): void => {
      done(() => {
        // Errors after the first one are consequences of it.
        socket.on('error', () => undefined);
        socket.destroy();
        reject(error);
      });
    };
    const closed = (): void => {
      fail(new Error('the server closed the connection'));
    };
    const abort = (): void => {
      fail(signal.reason as Error);
    };
    socket.once(event, open);
    socket.once('error', fail);
    socket.once('close', closed);
    signal.addEventListener('abort', abort, { once: true });
    if (signal.aborted) abort();
  });
}
