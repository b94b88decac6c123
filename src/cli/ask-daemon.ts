/** Commands that ask a running daemon of this host over the unix socket beside its subnet file. */
import { checkSubnetFile, DAEMON_DEFAULTS, statusSocketPath } from '../daemon/options.js';
import { requestJson } from '../daemon/status-client.js';
import { errnoOf, FlannelletteError, messageOf, systemError } from '../errors.js';
import { textFlag } from './flags.js';

const TIMEOUT_MS = 5_000;

export const subnetFileFlag = textFlag('subnet-file', 'subnet file of the daemon to ask', {
  placeholder: 'path',
  fallback: DAEMON_DEFAULTS.subnetFile,
});

/** Its answer. Throws a system error that says why there is none, or what the daemon refuses. */
export async function askDaemon(
  subnetFile: string,
  path: string,
  method: 'GET' | 'PUT' = 'GET',
): Promise<unknown> {
  checkSubnetFile(subnetFile);
  const socket = statusSocketPath(subnetFile);
  try {
    return await requestJson(socket, path, TIMEOUT_MS, method);
  } catch (error) {
    const code = errnoOf(error);
    const detail = { cause: error, field: '--subnet-file', value: socket };
    if (code === 'ENOENT' || code === 'ECONNREFUSED') {
      throw systemError(
        `no daemon answers on ${socket} (${code}): start one with flannelette run, or name its --subnet-file`,
        { ...detail, code },
      );
    }
    if (code === 'EACCES' || code === 'EPERM') {
      throw systemError(`${socket} is open to the daemon's user and to root only (${code})`, {
        ...detail,
        code,
      });
    }
    if (method === 'PUT' && error instanceof FlannelletteError && code === undefined) throw error;
    throw systemError(`no answer from ${socket}: ${messageOf(error)}`, detail);
  }
}
