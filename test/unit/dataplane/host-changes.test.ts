import { afterEach, describe, expect, it, vi } from 'vitest';
import {
  lookAtHost,
  untilHostChanges,
  type HostChanges,
} from '../../../src/dataplane/host-changes.js';

/** Changes that a test makes. */
class Scripted implements HostChanges {
  version = 0;
  told = true;
  readonly #listeners = new Set<() => void>();

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  touch(): void {
    this.version += 1;
    for (const listener of this.#listeners) listener();
  }

  get listeners(): number {
    return this.#listeners.size;
  }
}

afterEach(() => {
  vi.useRealTimers();
});

describe('looks at the host', () => {
  const start = (changes: HostChanges | undefined) => {
    vi.useFakeTimers();
    let looks = 0;
    const look = (): void => {
      looks += 1;
    };
    return { count: () => looks, looks: lookAtHost(look, { restMs: 1_000 }, changes) };
  };

  it('come after a change, many changes at once make one, and none comes while nothing changes', () => {
    const changes = new Scripted();
    const { count, looks } = start(changes);
    vi.advanceTimersByTime(30_000);
    expect(count()).toBe(0);
    for (let i = 0; i < 100; i += 1) changes.touch();
    vi.advanceTimersByTime(20);
    expect(count()).toBe(1);
    changes.touch();
    vi.advanceTimersByTime(900);
    expect(count()).toBe(1);
    vi.advanceTimersByTime(100);
    expect(count()).toBe(2);
    vi.advanceTimersByTime(59_000);
    expect(count()).toBe(2);
    vi.advanceTimersByTime(1_000);
    expect(count()).toBe(3);
    looks.end();
    changes.touch();
    vi.advanceTimersByTime(200_000);
    expect(count()).toBe(3);
    expect(changes.listeners).toBe(0);
  });

  it.each([
    ['the kernel has no watch', Object.assign(new Scripted(), { told: false })],
    ['there is none', undefined],
  ])('come again and again where %s', (_why, changes) => {
    const { count, looks } = start(changes);
    vi.advanceTimersByTime(10_500);
    expect(count()).toBe(10);
    looks.end();
  });
});

describe('looks that have to come often', () => {
  it('come each second although changes are told of, for as long as they have to', () => {
    vi.useFakeTimers();
    let looks = 0;
    let busy = true;
    const rests = { restMs: 1_000, often: () => busy };
    const look = (): void => {
      looks += 1;
    };
    const watch = lookAtHost(look, rests, new Scripted());
    vi.advanceTimersByTime(5_500);
    expect(looks).toBe(5);
    busy = false;
    vi.advanceTimersByTime(30_000);
    expect(looks).toBe(6);
    watch.end();
  });
});

describe('a wait for the host to change', () => {
  it('ends with the change, and rests when it changed during the look', async () => {
    const changes = new Scripted();
    const { signal } = new AbortController();
    const wait = untilHostChanges(changes);
    const first = wait(150, signal);
    setTimeout(() => {
      changes.touch();
    }, 5);
    await first;
    changes.touch();
    const before = performance.now();
    await wait(150, signal);
    expect(performance.now() - before).toBeGreaterThan(140);
  });

  it('is the longer the longer a look takes, while changes do not cease', async () => {
    const changes = new Scripted();
    const { signal } = new AbortController();
    const wait = untilHostChanges(changes);
    const flaps = setInterval(() => {
      changes.touch();
    }, 2);
    const waited = async (): Promise<number> => {
      const before = performance.now();
      await wait(5_000, signal);
      return performance.now() - before;
    };
    expect(await waited()).toBeLessThan(400);
    const began = performance.now();
    while (performance.now() - began < 10); // A look: nothing is told meanwhile.
    expect(await waited()).toBeGreaterThan(490);
    clearInterval(flaps);
  });

  it('ends when its signal aborts', async () => {
    const changes = new Scripted();
    const end = new AbortController();
    const waiting = untilHostChanges(changes)(1_000, end.signal);
    end.abort();
    await waiting;
    expect(changes.listeners).toBe(0);
  });
});
