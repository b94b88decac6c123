/**
 * Bounds what strangers can hold of the daemon: so many connections, the oldest goes for a new one,
 * and some descriptors are left free, because a data plane that has to be opened again needs them. Who
 * asks nothing in time goes as well: a timer for each connection, where Node's own check of them would
 * wake an idle daemon each second.
 */
import { readdirSync, readFileSync } from 'node:fs';
import type { Socket } from 'node:net';

/** As many as probes, scrapers and people ever need. */
export const MAX_CONNECTIONS = 64;

/** Descriptors a data plane takes with its device, sockets, pipes and netlink, and some more. */
const RESERVE = 24;

/** Those of one server: who holds the TCP port does not keep the unix socket from anybody. */
export class Connections {
  /** In the order of their last request; each with the end of its time to ask. */
  readonly #open = new Map<Socket, NodeJS.Timeout>();
  readonly #limit = readDescriptorLimit();
  readonly #askWithinMs: number;

  constructor(askWithinMs: number) {
    this.#askWithinMs = askWithinMs;
  }

  /** Takes a new connection, and ends as many of the oldest as it takes to stay within the bounds. */
  add(socket: Socket): void {
    this.#await(socket);
    socket.once('close', () => this.#forget(socket));
    if (this.#open.size > MAX_CONNECTIONS) this.#endOldest();
    // Ended ones give their descriptors back in the event loop's next turn: one for one suffices.
    if (this.#free() < Math.min(RESERVE, this.#limit / 8)) this.#endOldest();
  }

  /** A connection that asked something is not the oldest any more. */
  asked(socket: Socket): void {
    if (this.#forget(socket)) this.#await(socket);
  }

  #await(socket: Socket): void {
    const late = (): void => {
      socket.destroy();
    };
    this.#open.set(socket, setTimeout(late, this.#askWithinMs).unref());
  }

  #forget(socket: Socket): boolean {
    clearTimeout(this.#open.get(socket));
    return this.#open.delete(socket);
  }

  #endOldest(): void {
    const [oldest] = this.#open.keys();
    if (oldest === undefined) return;
    this.#forget(oldest);
    oldest.destroy();
  }

  #free(): number {
    try {
      return this.#limit - readdirSync('/proc/self/fd').length;
    } catch {
      // No descriptor left to read the directory by.
      return 0;
    }
  }
}

/** RLIMIT_NOFILE of this process; Infinity where it cannot be read. */
function readDescriptorLimit(): number {
  try {
    const limits = readFileSync('/proc/self/limits', 'utf8');
    return Number(/^Max open files\s+(\d+)/m.exec(limits)?.[1] ?? Infinity);
  } catch {
    return Infinity;
  }
}
