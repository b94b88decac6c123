/** Asks a daemon over its unix socket: `flannelette status`, `mode`, `extension`, a second daemon. */
import { request } from 'node:http';
import { systemError } from '../errors.js';

/**
 * GET, or POST with a body that is sent as JSON, or PUT. Rejects with the connection's error (`code`
 * ENOENT, ECONNREFUSED) or a system error, which says what the daemon says when it refuses (409).
 */
export function requestJson(
  socketPath: string,
  path: string,
  timeoutMs: number,
  send: { readonly body?: object; readonly method?: 'GET' | 'PUT' } = {},
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(timeoutMs);
    const { body, method = body === undefined ? 'GET' : 'POST' } = send;
    const query = request({ socketPath, path, method, signal, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8');
        try {
          if (response.statusCode === 409) {
            reject(systemError(text.trim()));
            return;
          }
          if (response.statusCode !== 200) throw new Error(`HTTP ${response.statusCode}`);
          resolve(JSON.parse(text));
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
    query.end(body === undefined ? undefined : JSON.stringify(body));
  });
}
