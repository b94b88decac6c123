/**
 * A change of the backend without a gap: the network before goes on beside the new one, each with routes to
 * the hosts whose leases are its own, until every host has changed.
 *
 *   old --routes to hosts that have not changed--+
 *                                                +--> a host changes: its lease has the new BackendType
 *   new --routes to hosts that have--------------+
 *
 * A host hears of another's change before it has changed itself; until then it goes on by the backend before
 * (RouteTable), as that other does. A route is the new one's before it ceases to be the old one's.
 *
 * Routes to single subnets, which vxlan and host-gw have, go before the wider one of udp, whose forwarding
 * takes leases of every type: so udp carries what the other does not have.
 */
import { pause } from '../abort.js';
import type { Registration } from '../network/registration.js';

const LOOK_MS = 500;
/** Hosts that have not seen our new lease yet send by the backend before. */
const GRACE_MS = 5_000;

/** A network that follows the store, until it is ended. */
export class RunningNetwork {
  readonly network: Registration;
  /** Resolves when it has ended; rejects when it ended by itself. */
  readonly running: Promise<undefined>;
  readonly #end = new AbortController();

  constructor(network: Registration, signal: AbortSignal) {
    this.network = network;
    const both = AbortSignal.any([signal, this.#end.signal]);
    this.running = network.run(both).then(() => undefined);
    this.running.catch(() => undefined);
  }

  /** Aborts when it was told to end. */
  get ending(): AbortSignal {
    return this.#end.signal;
  }

  async end(): Promise<void> {
    this.#end.abort();
    await this.running.catch(() => undefined);
  }
}

/** Ends by itself, some seconds after the last host has changed. */
export class RetiringNetwork {
  readonly #running: RunningNetwork;
  readonly #next: Registration;
  readonly #done: Promise<void>;

  constructor(running: RunningNetwork, next: Registration, onEnd: () => void) {
    this.#running = running;
    this.#next = next;
    running.network.silence();
    next.succeed(running.network);
    this.#done = this.#follow().finally(onEnd);
  }

  /** At once. Idempotent. */
  async end(): Promise<void> {
    await this.#running.end();
    await this.#done;
  }

  async #follow(): Promise<void> {
    const { ending } = this.#running;
    await Promise.race([this.#next.synced.catch(() => undefined), this.#running.running]).catch(
      () => undefined,
    );
    while (!ending.aborted && this.#isNeeded()) await pause(LOOK_MS, ending);
    await pause(GRACE_MS, ending);
    await this.#running.end();
  }

  /** A host is reached by it alone. */
  #isNeeded(): boolean {
    const { routes, forwarder } = this.#running.network;
    // One that takes leases of its own type only loses its routes as the hosts change.
    if (forwarder.leaseFault !== undefined) return routes.size > 0;
    return routes.routes().some(({ subnet }) => this.#next.routes.get(subnet) === undefined);
  }
}
