/** Opens files that must be regular ones, without ever waiting for whoever is at the other end. */
import type { Stats } from 'node:fs';
import { constants, open, readFile, stat, type FileHandle } from 'node:fs/promises';
import { systemError } from './errors.js';

/**
 * Opens `path` for reading. Rejects with Node's error, or with a system error (EISDIR, EINVAL) that
 * says what else than a regular file it is. Opening a FIFO waits for a writer, in a thread of libuv's
 * pool for ever, and opening a device may do things: neither is opened, also when it takes the place
 * of a file meanwhile.
 */
export async function openRegular(path: string): Promise<FileHandle> {
  checkRegular(await stat(path));
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  try {
    checkRegular(await handle.stat());
    return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** The text of a regular file; rejects as `openRegular` does. */
export async function readRegular(path: string): Promise<string> {
  const handle = await openRegular(path);
  try {
    return await readFile(handle, 'utf8');
  } finally {
    await handle.close();
  }
}

function checkRegular(status: Stats): void {
  if (status.isFile()) return;
  const code = status.isDirectory() ? 'EISDIR' : 'EINVAL';
  throw systemError(`it is ${kindOf(status)}, not a regular file`, { code });
}

function kindOf(status: Stats): string {
  if (status.isDirectory()) return 'a directory';
  if (status.isFIFO()) return 'a FIFO';
  if (status.isSocket()) return 'a socket';
  if (status.isCharacterDevice() || status.isBlockDevice()) return 'a device';
  return 'something else';
}
