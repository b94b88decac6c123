/**
 * One writer at a time, across processes: flock(2) on the directory that holds the lease file.
 *
 * The kernel gives the lock up with the descriptor, so a process that dies leaves nothing to be
 * judged stale and taken over, and one that is stopped (SIGSTOP) keeps it. The directory and not the
 * file, because the file is replaced by rename while locked. Node has no flock: flock(1) of
 * util-linux takes it on a descriptor that both processes share, and ends (the lock belongs to the
 * open file description).
 */
import { spawn } from 'node:child_process';
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errnoOf, messageOf, systemError } from '../../errors.js';
import { leaseFileError } from './file-read.js';

/** Longer than a queue of a hundred writers of a full file. */
const GIVE_UP_MS = 20_000;
/** Where flock(1) finds the directory: the first descriptor after standard error. */
const SHARED_FD = 3;

/**
 * Runs `work` under the lock of `path`. Rejects with a system error when the lock cannot be had for
 * `giveUpMs` (ELOCKED) or at all, or with the signal's reason when aborted while waiting.
 */
export async function withFileLock<T>(
  path: string,
  signal: AbortSignal,
  work: () => Promise<T>,
  giveUpMs = GIVE_UP_MS,
): Promise<T> {
  signal.throwIfAborted();
  const directory = await open(dirname(path), 'r').catch((error: unknown) => {
    throw cannotLock(path, messageOf(error), error);
  });
  try {
    const givenUp = AbortSignal.timeout(giveUpMs);
    try {
      await takeLock(directory.fd, AbortSignal.any([signal, givenUp]));
    } catch (error) {
      signal.throwIfAborted();
      if (givenUp.aborted) throw stayedLocked(path, giveUpMs, error);
      const missing = errnoOf(error) === 'ENOENT';
      const why = missing ? 'flock is not installed: install util-linux' : messageOf(error);
      throw cannotLock(path, why, error);
    }
    return await work();
  } finally {
    await directory.close();
  }
}

/** Waits for the lock of the open file `fd`; `signal` ends the wait. */
function takeLock(fd: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn('flock', ['-x', `${SHARED_FD}`], {
      stdio: ['ignore', 'ignore', 'pipe', fd],
      signal,
      killSignal: 'SIGKILL',
    });
    let said = '';
    child.stderr?.on('data', (text: Buffer) => (said += text.toString()));
    child.once('error', reject);
    child.once('close', (code, killedBy) => {
      if (code === 0) resolve();
      else reject(new Error(said.trim() || `flock ended with ${code ?? killedBy}`));
    });
  });
}

function cannotLock(path: string, why: string, cause: unknown): Error {
  return leaseFileError(`cannot lock the lease file ${path}: ${why}`, path, cause);
}

function stayedLocked(path: string, afterMs: number, cause: unknown): Error {
  return systemError(
    `the lease file ${path} stayed locked for ${afterMs / 1000} s; if no daemon is changing it, ` +
      `a stopped process holds the lock: fuser ${dirname(path)} tells which`,
    { code: 'ELOCKED', field: '--lease-file', value: path, cause },
  );
}
