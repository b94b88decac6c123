/** Waits between attempts at a store that does not answer: 0.1 s, doubling to 5 s. */
import { setTimeout as delay } from 'node:timers/promises';

const FIRST_MS = 100;
const LIMIT_MS = 5_000;

export class Backoff {
  #next = FIRST_MS;

  /** Milliseconds that the next wait takes. */
  get nextMs(): number {
    return this.#next;
  }

  /** Resolves after the wait, or at once when the signal aborts. */
  async wait(signal: AbortSignal): Promise<void> {
    const ms = this.#next;
    this.#next = Math.min(ms * 2, LIMIT_MS);
    await delay(ms, undefined, { signal }).catch(() => undefined);
  }

  reset(): void {
    this.#next = FIRST_MS;
  }
}
