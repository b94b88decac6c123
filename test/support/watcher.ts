/** What tests do with a store's watch. */
import type { LeaseEvent, LeaseStore } from '../../src/lease/store.js';

/** A watch whose events are taken one by one. */
export class Watcher {
  readonly events: LeaseEvent[] = [];
  readonly #iterator: AsyncIterator<LeaseEvent>;
  readonly #stop = new AbortController();

  constructor(store: Pick<LeaseStore, 'watchLeases'>) {
    this.#iterator = store.watchLeases(this.#stop.signal)[Symbol.asyncIterator]();
  }

  async next(): Promise<LeaseEvent> {
    const result = await this.#iterator.next();
    if (result.done === true) throw new Error('the watch ended');
    this.events.push(result.value);
    return result.value;
  }

  /** The next event of a type; others on the way are kept in `events`. */
  async until<T extends LeaseEvent['type']>(type: T): Promise<Extract<LeaseEvent, { type: T }>> {
    for (;;) {
      const event = await this.next();
      if (event.type === type) return event as Extract<LeaseEvent, { type: T }>;
    }
  }

  async end(): Promise<void> {
    this.#stop.abort();
    await this.#iterator.return?.();
  }
}
