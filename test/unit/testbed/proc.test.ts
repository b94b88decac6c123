import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, describe, expect, it } from 'vitest';
import {
  childrenByParent,
  childrenOf,
  parseParent,
  unlessEnded,
} from '../../../src/testbed/proc.js';

const ends: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  await Promise.all(ends.splice(0).map((end) => end()));
});

async function child(): Promise<number> {
  const started = spawn('sleep', ['30']);
  await once(started, 'spawn');
  ends.push(async () => {
    const ended = once(started, 'exit');
    started.kill('SIGKILL');
    await ended;
  });
  return started.pid ?? 0;
}

describe('the children of a process', () => {
  it.each([
    ['as the kernel lists them', childrenOf],
    ['by the parent of each process', childrenByParent],
  ])('are found %s', async (_, find) => {
    const [one, two] = [await child(), await child()];
    expect(await find(process.pid)).toEqual(expect.arrayContaining([one, two]));
    expect(await find(one)).toEqual([]);
  });

  it('are none of a process that has ended', async () => {
    const gone = await child();
    await Promise.all(ends.splice(0).map((end) => end()));
    await expect(childrenOf(gone)).rejects.toThrow('ENOENT');
  });

  it('are left out when they end while they are asked', async () => {
    const gone = await child();
    await Promise.all(ends.splice(0).map((end) => end()));
    expect(await unlessEnded(childrenOf(gone))).toBeUndefined();
    await expect(unlessEnded(Promise.reject(new Error('other')))).rejects.toThrow('other');
  });

  it('know their parent, whatever their name', () => {
    expect(parseParent('42 (a) b (c) S 7 42 42 0')).toBe(7);
    expect(parseParent('')).toBeUndefined();
  });
});
