/** Asks a daemon over its unix socket; used by `flannelette status` and `mode`, and by a second daemon. */
import { request } from 'node:http';
import { systemError } from '../errors.js';

/**
 * Rejects with the connection's error (`code` ENOENT, ECONNREFUSED) or a system error, which says what
 * the daemon says when it refuses (409).
 */
export function requestJson(
  socketPath: string,
  path: string,
  timeoutMs: number,
  method: 'GET' | 'PUT' = 'GET',
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(timeoutMs);
    const query = request({ socketPath, path, method, signal, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const body = Buffer.concat(chunks).toString('utf8');
        try {
          if (response.statusCode === 409) {
            reject(systemError(body.trim()));
            return;
          }
          if (response.statusCode !== 200) throw new Error(`HTTP ${response.statusCode}`);
          resolve(JSON.parse(body));
        } catch (error) {
          reject(
            systemError(`${socketPath} does not speak flannelette's protocol`, { cause: error }),
          );
        }
      });
    });
    query.on('error', (error) => {
      reject(
        signal.aborted
          ? systemError(`${socketPath} did not answer within ${timeoutMs / 1000} s`, {
              code: 'ETIMEDOUT',
            })
          : error,
      );
    });
    query.end();
  });
}
