/**
 * One writer at a time, across processes: a directory `PATH.lock` that mkdir(2) makes or refuses.
 *
 * The holder refreshes the directory's mtime; one not refreshed for STALE_MS belonged to a process
 * that died and is taken over. A holder that was stopped for longer than that (SIGSTOP, a suspended
 * machine) has lost the lock without knowing, so it must ask `held()` right before it replaces the
 * file; the same question also catches two processes taking over one stale lock at the same time.
 */
import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { lock } from 'proper-lockfile';
import { errnoOf, messageOf, systemError } from '../errors.js';

/** After this long without a refresh (each second) a lock counts as left by a dead process. */
const STALE_MS = 3_000;
/** Between attempts: random, so that waiters do not move in step. */
const RETRY_MIN_MS = 5;
const RETRY_MAX_MS = 40;
/** Longer than a stale lock plus a queue of a hundred writers of a full file. */
const GIVE_UP_MS = 20_000;

export interface HeldLock {
  /** False once another process has taken the lock over. */
  held(): Promise<boolean>;
}

/**
 * Runs `work` under the lock of `path`, which must exist. Rejects with a system error when the lock
 * cannot be had for 20 s, or with the signal's reason when aborted while waiting.
 */
export async function withFileLock<T>(
  path: string,
  signal: AbortSignal,
  work: (lock: HeldLock) => Promise<T>,
): Promise<T> {
  let compromised = false;
  const release = await acquire(path, signal, () => {
    compromised = true;
  });
  const directory = `${path}.lock`;
  const isHeld = async (mine: string | undefined): Promise<boolean> =>
    !compromised && mine !== undefined && (await identityOf(directory)) === mine;
  const mine = await identityOf(directory);
  try {
    return await work({ held: () => isHeld(mine) });
  } finally {
    // Releasing removes the directory whoever made it, so a lost lock is left alone.
    if (await isHeld(mine)) await release().catch(() => undefined);
  }
}

async function acquire(
  path: string,
  signal: AbortSignal,
  onCompromised: () => void,
): Promise<() => Promise<void>> {
  const started = performance.now();
  for (;;) {
    signal.throwIfAborted();
    try {
      // `path` is resolved by the caller: with realpath, a link replaced meanwhile moves the lock.
      return await lock(path, { stale: STALE_MS, update: 1_000, realpath: false, onCompromised });
    } catch (error) {
      const code = errnoOf(error);
      // ENOENT with the directory in place: another process removed the lock amid this attempt.
      const retry = code === 'ELOCKED' || (code === 'ENOENT' && existsSync(dirname(path)));
      if (!retry) {
        throw systemError(`cannot lock the lease file ${path}: ${messageOf(error)}`, {
          ...(code === undefined ? {} : { code }),
          field: '--lease-file',
          value: path,
          cause: error,
        });
      }
      if (performance.now() - started > GIVE_UP_MS) {
        throw systemError(
          `the lease file ${path} stayed locked for ${GIVE_UP_MS / 1000} s; ` +
            `if no daemon is changing it, remove the directory ${path}.lock`,
          { code: 'ELOCKED', field: '--lease-file', value: path, cause: error },
        );
      }
    }
    const pause = RETRY_MIN_MS + Math.random() * (RETRY_MAX_MS - RETRY_MIN_MS);
    await delay(pause, undefined, { signal }).catch(() => undefined);
  }
}

/** Tells one lock directory from a later one at the same path. */
async function identityOf(directory: string): Promise<string | undefined> {
  try {
    const { ino, birthtimeNs } = await stat(directory, { bigint: true });
    return `${ino}:${birthtimeNs}`;
  } catch {
    return undefined;
  }
}
