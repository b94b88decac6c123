/**
 * The process that goes on when `flannelette extension up` has ended.
 *
 *   up --spawn--> serve: log file as both streams, a session of its own, no terminal
 *    <--IPC----- { ready } or { error }
 *   up ends, and nothing of it is left in serve: flanneld waits until every copy of the pipe it gave
 *   the command is closed
 */
import { spawn } from 'node:child_process';
import { closeSync, constants, openSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { makeDirectory } from '../directory.js';
import { errnoOf, FlannelletteError, messageOf, systemError, type ErrorKind } from '../errors.js';
import { extensionPaths } from './control.js';

/** A log that is longer is begun again: it lies on a tmpfs. */
const MAX_LOG_BYTES = 1024 * 1024;

/** Sent by serve to up, once. */
type Report = { readonly ready: true } | { readonly error: { kind: ErrorKind; message: string } };

/** Resolves once it answers on its socket; rejects with its own words. `argv` is the whole command. */
export async function startInBackground(
  argv: readonly [string, ...string[]],
  subnetFile: string,
): Promise<void> {
  const { log: path } = extensionPaths(subnetFile);
  const log = await openLog(path);
  const [program, ...args] = argv;
  const child = spawn(program, args, { detached: true, stdio: ['ignore', log, log, 'ipc'] });
  closeSync(log);
  try {
    await new Promise<void>((resolve, reject) => {
      child.once('error', (error) => {
        reject(systemError(`cannot start the data plane: ${messageOf(error)}`, { cause: error }));
      });
      child.once('exit', (code, signal) => {
        const how = signal === null ? `with code ${code ?? '?'}` : `by ${signal}`;
        reject(systemError(`the data plane ended ${how}: its last words are in ${path}`));
      });
      child.once('message', (message) => {
        const report = message as Report;
        if ('ready' in report) resolve();
        else reject(new FlannelletteError(report.error.kind, report.error.message));
      });
    });
  } finally {
    if (child.connected) child.disconnect();
    child.unref();
  }
}

/** Tells the process that started this one, if it waits for that, how the start went. */
export function reportStart(error?: unknown): void {
  if (process.send === undefined || !process.connected) return;
  const kind = error instanceof FlannelletteError ? error.kind : 'system';
  const report: Report =
    error === undefined ? { ready: true } : { error: { kind, message: messageOf(error) } };
  // It may be gone by now.
  process.send(report, undefined, undefined, () => undefined);
}

/** Open for appending, the owner's alone, and no link of somebody else's. */
async function openLog(path: string): Promise<number> {
  try {
    await makeDirectory(dirname(path));
    const long = (statSync(path, { throwIfNoEntry: false })?.size ?? 0) > MAX_LOG_BYTES;
    const { O_WRONLY, O_CREAT, O_APPEND, O_NOFOLLOW, O_TRUNC } = constants;
    const flags = O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | (long ? O_TRUNC : 0);
    return openSync(path, flags, 0o600);
  } catch (error) {
    const code = errnoOf(error);
    throw systemError(`cannot open the data plane's log ${path}: ${messageOf(error)}`, {
      field: '--subnet-file',
      value: path,
      cause: error,
      ...(code === undefined ? {} : { code }),
    });
  }
}
