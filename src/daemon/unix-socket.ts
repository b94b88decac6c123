/**
 * Unix sockets of mode 0600 that double as the lock of their path: a process that answers there keeps a
 * second one out, and what a killed one left is replaced.
 */
import { chmod, lstat, unlink } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { makeDirectory } from '../directory.js';
import { errnoOf, messageOf, systemError } from '../errors.js';
import { requestJson } from './status-client.js';

/** The flag that every such path comes from. */
const FIELD = '--subnet-file';

export interface SocketPlace {
  readonly path: string;
  /** What it is to people: `status socket`. */
  readonly name: string;
}

/**
 * Calls `listen` once the path is free, and then keeps everybody out but the owner. Rejects with a system
 * error that names a process that is there already (EADDRINUSE), or what the kernel refused.
 */
export async function listenPrivately(
  place: SocketPlace,
  listen: () => Promise<unknown>,
): Promise<void> {
  const { path } = place;
  await makeDirectory(dirname(path)).catch((error: unknown) => {
    throw socketError(place, error);
  });
  await removeStaleSocket(place);
  try {
    await listen();
    await chmod(path, 0o600);
  } catch (error) {
    throw socketError(place, error);
  }
}

/** Removes the socket of a dead process; throws when a live one, or something else, is there. */
async function removeStaleSocket(place: SocketPlace): Promise<void> {
  const { path, name } = place;
  const found = await lstat(path).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw socketError(place, error);
  });
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw systemError(`${path} is in the way of the ${name}: it exists and is not a socket`, {
      field: FIELD,
      value: path,
    });
  }
  const refused = await connectError(path);
  if (refused === 'ENOENT') return;
  if (refused === 'ECONNREFUSED') {
    await unlink(path).catch((error: unknown) => {
      if (errnoOf(error) !== 'ENOENT') throw socketError(place, error);
    });
    return;
  }
  if (refused === 'EACCES' || refused === 'EPERM') {
    throw systemError(`cannot tell whether a daemon listens on ${path} (${refused}): run as root`, {
      field: FIELD,
      value: path,
      code: refused,
    });
  }
  throw systemError(
    `another daemon${await pidAt(path)} answers on ${path}: stop it, or give this one its own --subnet-file`,
    { field: FIELD, value: path, code: 'EADDRINUSE' },
  );
}

/** `undefined` when somebody accepts. */
function connectError(path: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once('connect', () => {
      socket.destroy();
      resolve(undefined);
    });
    socket.once('error', (error) => {
      resolve(errnoOf(error) ?? 'EIO');
    });
  });
}

async function pidAt(path: string): Promise<string> {
  try {
    const status = await requestJson(path, '/status', 1_000);
    if (typeof status === 'object' && status !== null && 'pid' in status) {
      return ` (pid ${String(status.pid)})`;
    }
  } catch {
    // It accepts but does not answer: blocked, or not one of ours. Its path says enough.
  }
  return '';
}

function socketError({ path, name }: SocketPlace, error: unknown): Error {
  const code = errnoOf(error);
  return systemError(`cannot create the ${name} ${path}: ${messageOf(error)}`, {
    field: FIELD,
    value: path,
    cause: error,
    ...(code === undefined ? {} : { code }),
  });
}
