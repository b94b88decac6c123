import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { firstToSucceed } from '../../../../src/lease/etcd/race.js';

const never = new AbortController().signal;
let discarded: string[];
let started: string[];

beforeEach(() => {
  vi.useFakeTimers();
  discarded = [];
  started = [];
});
afterEach(() => {
  vi.useRealTimers();
});

/** A try that comes to its end after so long, whether or not it is still wanted. */
function attempt(name: string, ms: number, error?: Error) {
  return () => {
    started.push(name);
    return new Promise<string>((resolve, reject) => {
      setTimeout(() => {
        if (error === undefined) resolve(name);
        else reject(error);
      }, ms);
    });
  };
}

const race = (tries: Parameters<typeof firstToSucceed<string>>[0], signal = never) =>
  firstToSucceed(tries, 250, signal, (late) => discarded.push(late));

it('the first that succeeds counts; the slow are not waited for, and what they give is discarded', async () => {
  const outcome = race([attempt('dead', 10_000), attempt('slow', 600), attempt('live', 5)]);
  await vi.advanceTimersByTimeAsync(506);
  await expect(outcome).resolves.toBe('live');
  await vi.advanceTimersByTimeAsync(20_000);
  expect(discarded).toEqual(['slow', 'dead']);
});

it('one that has its answer in time is the only one that is asked', async () => {
  const outcome = race([attempt('first', 200), attempt('second', 1)]);
  await vi.advanceTimersByTimeAsync(200);
  await expect(outcome).resolves.toBe('first');
  await vi.advanceTimersByTimeAsync(1_000);
  expect(started).toEqual(['first']);
  expect(vi.getTimerCount()).toBe(0);
});

it('the next starts at once when one has failed', async () => {
  const outcome = race([attempt('refused', 1, new Error('no')), attempt('live', 1)]);
  await vi.advanceTimersByTimeAsync(2);
  await expect(outcome).resolves.toBe('live');
});

it('when all fail their errors are told in their order', async () => {
  const outcome = race([attempt('a', 300, new Error('one')), attempt('b', 1, new Error('two'))]);
  const checked = expect(outcome).rejects.toMatchObject({
    errors: [new Error('one'), new Error('two')],
  });
  await vi.advanceTimersByTimeAsync(400);
  await checked;
});

it('ends with the signal’s reason, starts none then, and leaves no timer', async () => {
  const stop = new AbortController();
  const outcome = race([attempt('a', 1_000), attempt('b', 1_000)], stop.signal);
  const checked = expect(outcome).rejects.toThrow('enough');
  stop.abort(new Error('enough'));
  await checked;
  await vi.advanceTimersByTimeAsync(2_000);
  expect(started).toEqual(['a']);
  expect(discarded).toEqual(['a']);
  await expect(race([attempt('c', 1)], stop.signal)).rejects.toThrow('enough');
  expect(started).toEqual(['a']);
});
