/** Waits between attempts at a store that does not answer: doubling up to a limit. */
import { setTimeout as delay } from 'node:timers/promises';

export interface BackoffOptions {
  /** Milliseconds of the first wait; default 100. */
  readonly firstMs?: number;
  /** Milliseconds of the longest wait, jitter apart; default 5 s. */
  readonly limitMs?: number;
  /** Each wait is longer by a random part of up to this share of it; default none. */
  readonly jitter?: number;
}

export class Backoff {
  readonly #firstMs: number;
  readonly #limitMs: number;
  readonly #jitter: number;
  #next: number;

  constructor({ firstMs = 100, limitMs = 5_000, jitter = 0 }: BackoffOptions = {}) {
    this.#firstMs = firstMs;
    this.#limitMs = limitMs;
    this.#jitter = jitter;
    this.#next = firstMs;
  }

  /** Milliseconds that the next wait takes, jitter apart. */
  get nextMs(): number {
    return this.#next;
  }

  /** Resolves after the wait, or at once when the signal aborts. */
  async wait(signal: AbortSignal): Promise<void> {
    const ms = this.#next * (1 + this.#jitter * Math.random());
    this.#next = Math.min(this.#next * 2, this.#limitMs);
    await delay(ms, undefined, { signal }).catch(() => undefined);
  }

  reset(): void {
    this.#next = this.#firstMs;
  }
}
