/**
 * The status socket of a daemon whose directory takes none: it forwards all the same, says so, and
 * listens as soon as it can.
 */
import { errnoOf, messageOf } from '../errors.js';
import type { ProblemBoard } from '../problems.js';
import type { StatusServer } from './server.js';
import { pause, unlessAborted } from '../abort.js';

const RETRY_MS = 2_000;
/** A daemon that was taken over from has closed its sockets by then. */
const LISTEN_WAIT_MS = 10_000;
const LISTEN_RETRY_MS = 20;

export interface StatusSocketOptions {
  readonly server: Pick<StatusServer, 'listenUnix'>;
  readonly path: string;
  readonly problems: ProblemBoard;
  readonly retryMs?: number;
}

/**
 * Listens, or goes on trying until the signal aborts; `settled` resolves then, or when it listens.
 * Rejects when the path is another daemon's, or not one for a socket.
 */
export async function listenOnStatusSocket(
  options: StatusSocketOptions,
  signal: AbortSignal,
): Promise<{ readonly settled: Promise<void> }> {
  if (await attempt(options)) return { settled: Promise.resolve() };
  return { settled: retry(options, signal) };
}

/**
 * Listens once `free` has resolved, with what a daemon holds that ends then; nothing when `free` rejects.
 * Rejects when an address stays taken for LISTEN_WAIT_MS, or cannot be listened on.
 */
export async function listenAfter(
  free: Promise<void>,
  listeners: readonly (() => Promise<void>)[],
  signal: AbortSignal,
): Promise<void> {
  try {
    await unlessAborted(signal, free);
  } catch {
    return;
  }
  const until = performance.now() + LISTEN_WAIT_MS;
  for (const listen of listeners) await listenUntil(listen, until, signal);
}

async function listenUntil(
  listen: () => Promise<void>,
  until: number,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      await listen();
      return;
    } catch (error) {
      if (errnoOf(error) !== 'EADDRINUSE' || performance.now() > until) throw error;
    }
    await pause(LISTEN_RETRY_MS, signal);
  }
}

async function retry(options: StatusSocketOptions, signal: AbortSignal): Promise<void> {
  for (;;) {
    await pause(options.retryMs ?? RETRY_MS, signal);
    if (signal.aborted) return;
    // What keeps a daemon from starting does not end one that forwards: another has come meanwhile.
    if (await attempt(options).catch((error: unknown) => report(options, error))) return;
  }
}

/** False when the host has no place for a socket now. */
async function attempt(options: StatusSocketOptions): Promise<boolean> {
  const { server, path, problems } = options;
  try {
    await server.listenUnix(path);
  } catch (error) {
    const code = errnoOf(error);
    if (code === undefined || code === 'EADDRINUSE') throw error;
    return report(options, error);
  }
  problems.report('status-socket', []);
  return true;
}

function report({ problems }: StatusSocketOptions, error: unknown): false {
  problems.report('status-socket', [
    {
      id: 'status_socket_missing',
      message: `${messageOf(error)}: flannelette status cannot ask this daemon, and a second one is not kept away`,
    },
  ]);
  return false;
}
