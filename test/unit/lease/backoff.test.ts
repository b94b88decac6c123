import { afterEach, describe, expect, it, vi } from 'vitest';
import { Backoff } from '../../../src/lease/backoff.js';

const never = new AbortController().signal;
afterEach(() => {
  vi.restoreAllMocks();
});

/** Milliseconds that the next wait took. */
async function waited(backoff: Backoff): Promise<number> {
  const started = performance.now();
  await backoff.wait(never);
  return performance.now() - started;
}

describe('a wait', () => {
  it('doubles up to the limit, and begins again after a reset', async () => {
    const backoff = new Backoff({ firstMs: 1, limitMs: 4 });
    const next: number[] = [];
    for (let attempt = 0; attempt < 4; attempt += 1) {
      next.push(backoff.nextMs);
      await backoff.wait(never);
    }
    expect(next).toEqual([1, 2, 4, 4]);
    backoff.reset();
    expect(backoff.nextMs).toBe(1);
  });

  it('is longer by a random part, so that many do not come back at one moment', async () => {
    // A timer may be a millisecond early.
    vi.spyOn(Math, 'random').mockReturnValue(0.99);
    expect(await waited(new Backoff({ firstMs: 50, jitter: 1 }))).toBeGreaterThan(97);
  });

  it('ends at once when it is not wanted any more', async () => {
    const stop = new AbortController();
    const waiting = new Backoff({ firstMs: 60_000 }).wait(stop.signal);
    stop.abort();
    await waiting;
  });
});
