/**
 * Bounds what strangers can hold of the daemon: so many connections, the oldest goes for a new one,
 * and some descriptors are left free, because a data plane that has to be opened again needs them.
 */
import { readdirSync, readFileSync } from 'node:fs';
import type { Socket } from 'node:net';

/** As many as probes, scrapers and people ever need. */
export const MAX_CONNECTIONS = 64;

/** Descriptors a data plane takes with its device, sockets, pipes and netlink, and some more. */
const RESERVE = 24;

/** Those of one server: who holds the TCP port does not keep the unix socket from anybody. */
export class Connections {
  /** In the order of their last request. */
  readonly #open = new Set<Socket>();
  readonly #limit = readDescriptorLimit();

  /** Takes a new connection, and ends as many of the oldest as it takes to stay within the bounds. */
  add(socket: Socket): void {
    this.#open.add(socket);
    socket.once('close', () => this.#open.delete(socket));
    if (this.#open.size > MAX_CONNECTIONS) this.#endOldest();
    // Ended ones give their descriptors back in the event loop's next turn: one for one suffices.
    if (this.#free() < Math.min(RESERVE, this.#limit / 8)) this.#endOldest();
  }

  /** A connection that asks something is not the oldest any more. */
  touch(socket: Socket): void {
    if (this.#open.delete(socket)) this.#open.add(socket);
  }

  #endOldest(): void {
    const [oldest] = this.#open;
    if (oldest === undefined) return;
    this.#open.delete(oldest);
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
