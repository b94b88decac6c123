/**
 * The leases of a store, known before there is anything to forward with: while a daemon waits for its port.
 * The first packets then do not wait for the store as well.
 */
import { keyOf } from '../lease/attributes.js';
import type { Lease, LeaseEvent, LeaseStore } from '../lease/store.js';

export class LeasesAhead {
  /** Resolves once the store has said what leases there are, or cannot be followed. */
  readonly asked: Promise<void>;
  readonly #end = new AbortController();
  #leases = new Map<string, Lease>();
  #isRead = false;

  /** Follows the store until `end`, or until the signal aborts. */
  constructor(store: LeaseStore, signal: AbortSignal) {
    const both = AbortSignal.any([signal, this.#end.signal]);
    this.asked = new Promise((resolve) => {
      void this.#follow(store, both, resolve);
    });
  }

  /** The store has said what leases there are. */
  get isRead(): boolean {
    return this.#isRead;
  }

  /** The leases as they were last known; none where the store did not say. Idempotent. */
  end(): readonly Lease[] {
    this.#end.abort();
    return [...this.#leases.values()];
  }

  async #follow(store: LeaseStore, signal: AbortSignal, asked: () => void): Promise<void> {
    try {
      for await (const event of store.watchLeases(signal)) {
        this.#apply(event);
        if (this.#isRead) asked();
      }
    } catch {
      // What hinders it is told by the network that follows the store later.
    }
    asked();
  }

  #apply(event: LeaseEvent): void {
    if (event.type === 'snapshot') {
      this.#leases = new Map(event.leases.map((lease) => [keyOf(lease), lease]));
      this.#isRead = true;
    } else if (event.type === 'put') this.#leases.set(keyOf(event.lease), event.lease);
    else if (event.type === 'delete') this.#leases.delete(keyOf(event));
  }
}
