/**
 * Reading a file that others may have written: never more than expected, never a wait for a pipe that
 * nobody writes to, and where it matters, only from an owner to be trusted.
 */
import { constants, type BigIntStats, type StatsBase } from 'node:fs';
import { open, stat, type FileHandle } from 'node:fs/promises';
import { systemError } from '../errors.js';

export interface BoundedReadOptions {
  readonly maxBytes: number;
  /** What it says is acted upon without a second look: of this user or root alone, and no link. */
  readonly trusted?: boolean;
}

export interface BoundedFile {
  readonly text: string;
  /** State of the very file that was read. */
  readonly status: BigIntStats;
}

/** Throws Node's error, or a system error that says what about the file is not as it must be. */
export async function readBounded(
  path: string,
  { maxBytes, trusted = false }: BoundedReadOptions,
): Promise<BoundedFile> {
  // Opening a FIFO waits for a writer, in a thread that cannot be interrupted, and opening a device may
  // do things: neither is opened, also when it takes the place of a file meanwhile.
  checkRegular(path, await stat(path));
  const { O_RDONLY, O_NONBLOCK, O_NOCTTY, O_NOFOLLOW } = constants;
  const file = await open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | (trusted ? O_NOFOLLOW : 0));
  try {
    const status = await file.stat({ bigint: true });
    checkRegular(path, status);
    const owner = Number(status.uid);
    if (trusted && owner !== 0 && owner !== process.geteuid?.()) {
      throw systemError(`it belongs to user ${owner}`, { code: 'EACCES', value: path });
    }
    return { text: await readAtMost(file, Number(status.size), maxBytes), status };
  } finally {
    await file.close();
  }
}

function checkRegular(path: string, status: StatsBase<number | bigint>): void {
  if (status.isFile()) return;
  const code = status.isDirectory() ? 'EISDIR' : 'EINVAL';
  throw systemError(`it is ${kindOf(status)}, not a regular file`, { code, value: path });
}

function kindOf(status: StatsBase<number | bigint>): string {
  if (status.isDirectory()) return 'a directory';
  if (status.isFIFO()) return 'a FIFO';
  if (status.isSocket()) return 'a socket';
  if (status.isCharacterDevice() || status.isBlockDevice()) return 'a device';
  return 'something else';
}

/** `size` is only a hint: a file may grow meanwhile, and those of /proc have none. */
async function readAtMost(file: FileHandle, size: number, maxBytes: number): Promise<string> {
  const chunkBytes = Math.min(Math.max(size + 1, 4_096), 1 << 20);
  const chunks: Buffer[] = [];
  for (let total = 0; ;) {
    const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(chunkBytes), 0, chunkBytes);
    if (bytesRead === 0) return Buffer.concat(chunks).toString('utf8');
    total += bytesRead;
    if (total > maxBytes) {
      throw systemError(`larger than ${maxBytes} bytes`, { code: 'EFBIG' });
    }
    chunks.push(buffer.subarray(0, bytesRead));
  }
}
