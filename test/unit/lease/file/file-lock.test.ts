/** The lock of the lease file, against holders that are processes of their own. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { withFileLock } from '../../../../src/lease/file/file-lock.js';

const NEVER = new AbortController().signal;
const done = (): Promise<string> => Promise.resolve('done');

let directory: string;
let path: string;
let holder: ChildProcess | undefined;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'flannelette-'));
  path = join(directory, 'leases.json');
});
afterEach(async () => {
  vi.unstubAllEnvs();
  holder?.kill('SIGKILL');
  holder = undefined;
  await rm(directory, { recursive: true, force: true });
});

/** Another process takes the lock and keeps it until it is killed. */
async function hold(): Promise<ChildProcess> {
  const child = spawn('flock', ['--no-fork', directory, 'sh', '-c', 'echo held; exec sleep 60'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  holder = child;
  await once(child.stdout, 'data');
  return child;
}

const openFiles = async (): Promise<number> => (await readdir('/proc/self/fd')).length;

it('lets one in at a time, and leaves no file and no descriptor', async () => {
  const before = await openFiles();
  let inside = 0;
  let most = 0;
  const work = async (): Promise<void> => {
    most = Math.max(most, ++inside);
    await new Promise(setImmediate);
    inside--;
  };
  await Promise.all(Array.from({ length: 8 }, () => withFileLock(path, NEVER, work)));
  expect(most).toBe(1);
  expect(await readdir(directory)).toEqual([]);
  expect(await openFiles()).toBe(before);
});

it('is given up when the work fails', async () => {
  const failing = withFileLock(path, NEVER, () => Promise.reject(new Error('no')));
  await expect(failing).rejects.toThrow('no');
  expect(await withFileLock(path, NEVER, done)).toBe('done');
});

it('waits for a stopped process, which keeps it, and goes on when it is killed', async () => {
  const other = await hold();
  other.kill('SIGSTOP');
  const cancel = new AbortController();
  const work = vi.fn(done);
  const cancelled = withFileLock(path, cancel.signal, work);
  const waiting = withFileLock(path, NEVER, done);
  cancel.abort(new Error('no longer wanted'));
  await expect(cancelled).rejects.toThrow('no longer wanted');
  await expect(withFileLock(path, NEVER, work, 300)).rejects.toMatchObject({
    kind: 'system',
    code: 'ELOCKED',
    field: '--lease-file',
    message: `the lease file ${path} stayed locked for 0.3 s; if no daemon is changing it, a stopped process holds the lock: fuser ${directory} tells which`,
  });
  other.kill('SIGKILL');
  expect(await waiting).toBe('done');
  expect(work).not.toHaveBeenCalled();
});

it('names what is missing: the directory, the program', async () => {
  const absent = join(directory, 'absent', 'leases.json');
  await expect(withFileLock(absent, NEVER, done)).rejects.toMatchObject({
    code: 'ENOENT',
    message: expect.stringContaining(`cannot lock the lease file ${absent}: ENOENT`) as string,
  });
  vi.stubEnv('PATH', directory);
  await expect(withFileLock(path, NEVER, done)).rejects.toThrow(
    `cannot lock the lease file ${path}: flock is not installed: install util-linux`,
  );
});
