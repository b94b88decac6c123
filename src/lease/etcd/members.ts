/**
 * Which member of etcd is used, and over which connection.
 *
 * One member is used until it cannot be reached or is left; then the next is, and stays in use. A new
 * connection is sought at all of them, starting with that next one, each a moment after the other: so
 * members that are dead or silent cost a fraction of a second, not their time-outs.
 */
import { messageOf } from '../../errors.js';
import { TlsCredentials } from './credentials.js';
import { dial, DialError, parseEndpoint, STAGGER_MS, type Endpoint } from './dial.js';
import { explain, type Fault } from './etcd-faults.js';
import type { GrpcConnection } from './grpc.js';
import type { EtcdOptions } from './etcd-options.js';
import { firstToSucceed } from './race.js';
import { unlessAborted } from '../timing.js';

/** No member could be connected to: what is wrong with each, in the order they were tried. */
export class NoMemberError extends Error {
  readonly faults: readonly Fault[];

  constructor(faults: readonly Fault[]) {
    super(
      faults.length === 1
        ? (faults[0]?.why ?? '')
        : faults.map(({ endpoint, why }) => `${endpoint}: ${why}`).join('; '),
    );
    this.faults = faults;
  }
}

class FaultError extends Error {
  readonly fault: Fault;

  constructor(fault: Fault) {
    super(fault.why);
    this.fault = fault;
  }
}

export interface MembersOptions {
  /** How long the peer may be silent now. */
  readonly silenceMs: () => number;
  /** A connection was made; `stale` says why the PEM files could not be read again for it. */
  readonly connected: (stale: string | undefined) => void;
}

export class Members {
  readonly #endpoints: readonly Endpoint[];
  readonly #tls: TlsCredentials | undefined;
  readonly #options: MembersOptions;
  /** Index of the endpoint to use, or to begin with. */
  #first = 0;
  #connection: GrpcConnection | undefined;
  #seeking: { readonly end: AbortController; readonly found: Promise<GrpcConnection> } | undefined;
  #closed = false;

  /** `options` are normalised. Throws a system error for PEM files that are of no use. */
  constructor(options: EtcdOptions, more: MembersOptions) {
    this.#endpoints = options.endpoints.map(parseEndpoint);
    this.#tls = this.#endpoints.some(({ secure }) => secure)
      ? new TlsCredentials(options)
      : undefined;
    this.#options = more;
  }

  get count(): number {
    return this.#endpoints.length;
  }

  /** The connection in use, or a new one. Rejects with a NoMemberError or the signal's reason. */
  async connection(signal: AbortSignal): Promise<GrpcConnection> {
    for (;;) {
      signal.throwIfAborted();
      const current = this.#connection;
      if (current?.usable === true) return current;
      if (this.#closed) throw new Error('the lease store is closed');
      if (current !== undefined) this.leave(current);
      const seeking = (this.#seeking ??= this.#seek());
      try {
        return await unlessAborted(signal, seeking.found);
      } catch (error) {
        // Started again meanwhile, from another address.
        if (seeking.end.signal.aborted && !this.#closed && !signal.aborted) continue;
        throw error;
      }
    }
  }

  /**
   * Begins with the next member from now on. The only member is left when its connection is of no
   * use; else it is asked again over the same one.
   */
  leave(connection: GrpcConnection): void {
    if (connection !== this.#connection) return;
    if (this.count === 1 && connection.usable) return;
    this.#connection = undefined;
    this.#first = (this.#first + 1) % this.count;
    connection.close();
  }

  /** Ends the connection; the next call makes one, beginning with the same member. */
  reconnect(): void {
    this.#connection?.close();
    this.#connection = undefined;
    this.#seeking?.end.abort(new Error('started again'));
    this.#seeking = undefined;
  }

  close(): void {
    this.#closed = true;
    this.reconnect();
  }

  #seek() {
    const end = new AbortController();
    const found = this.#race(end.signal).finally(() => {
      if (this.#seeking?.end === end) this.#seeking = undefined;
    });
    found.catch(() => undefined);
    return { end, found };
  }

  async #race(signal: AbortSignal): Promise<GrpcConnection> {
    const order = this.#endpoints.map((_, turn) => (this.#first + turn) % this.count);
    const tries = order.map((index) => async (own: AbortSignal) => {
      const connection = await this.#dial(index, own);
      return { index, connection };
    });
    let winner: { readonly index: number; readonly connection: GrpcConnection };
    try {
      winner = await firstToSucceed(tries, STAGGER_MS, signal, ({ connection }) => {
        connection.close();
      });
    } catch (error) {
      if (!(error instanceof AggregateError)) throw error;
      throw new NoMemberError(
        (error.errors as Error[]).map((one, turn) =>
          one instanceof FaultError
            ? one.fault
            : {
                endpoint: this.#endpoints[order[turn] ?? 0]?.text ?? '',
                why: messageOf(one),
                misconfigured: false,
                silent: false,
              },
        ),
      );
    }
    if (signal.aborted) {
      winner.connection.close();
      throw signal.reason as Error;
    }
    this.#first = winner.index;
    this.#connection = winner.connection;
    this.#options.connected(this.#tls?.stale);
    return winner.connection;
  }

  async #dial(index: number, signal: AbortSignal): Promise<GrpcConnection> {
    const endpoint = this.#endpoints[index];
    if (endpoint === undefined) throw new RangeError('no such endpoint');
    const { silenceMs } = this.#options;
    try {
      return await dial(endpoint, { tls: this.#tls, silenceMs }, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof DialError)) throw error;
      throw new FaultError(await explain(error, signal));
    }
  }
}
