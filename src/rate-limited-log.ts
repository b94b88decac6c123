/**
 * At most one line a second for what traffic can cause. What was held back is counted and said in
 * the next line, so a flood shows as a number and not as a full disk.
 */
const INTERVAL_MS = 1_000;

export class RateLimitedLog {
  readonly #write: (fields: Record<string, unknown>) => void;
  readonly #now: () => number;
  #next = Number.NEGATIVE_INFINITY;
  #held = 0;

  /** `now` is a monotonic clock in milliseconds. */
  constructor(
    write: (fields: Record<string, unknown>) => void,
    now: () => number = () => performance.now(),
  ) {
    this.#write = write;
    this.#now = now;
  }

  /** Writes the fields, or holds them back; `repeated` more like it are already counted in. */
  report(fields: Record<string, unknown>, repeated = 0): void {
    const now = this.#now();
    if (now < this.#next) {
      this.#held += 1 + repeated;
      return;
    }
    const more = this.#held + repeated;
    this.#held = 0;
    this.#next = now + INTERVAL_MS;
    this.#write(more === 0 ? fields : { ...fields, more });
  }
}
