/** Whatever is sent to the status socket, the daemon goes on answering, and says nothing it should not. */
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { StatusServer } from '../../../src/daemon/server.js';
import { requestJson } from '../../../src/daemon/status-client.js';

const CODES = [200, 400, 403, 404, 405, 408, 413, 414, 417, 421, 431, 501, 503, 505];
let directory: string;
let path: string;
let server: StatusServer;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'flannelette-server-'));
  path = join(directory, 'subnet.env.sock');
  server = new StatusServer({
    ready: () => ({ ready: true }),
    status: () => ({ pid: 4711 }),
    metrics: () => Promise.resolve({ contentType: 'text/plain', text: 'up 1\n' }),
    changeMode: () => undefined,
    stepAside: () => undefined,
  });
  await server.listenUnix(path);
});
afterAll(async () => {
  await server.close();
  await rm(directory, { recursive: true });
});

/** Sends the pieces one after another, ends, and resolves with all that came back. */
function converse(pieces: readonly Uint8Array[]): Promise<string> {
  return new Promise((resolve) => {
    let answer = '';
    const socket = connect(path);
    socket.setEncoding('latin1').on('data', (text) => (answer += String(text)));
    // The server may close while there is more to send.
    socket.on('error', () => undefined);
    socket.on('close', () => {
      resolve(answer);
    });
    for (const piece of pieces) socket.write(piece);
    socket.end();
  });
}

const word = fc.oneof(
  fc.constantFrom('GET', 'POST', 'HEAD', 'OPTIONS', 'CONNECT', '/', '/status', '/metrics', '*'),
  fc.constantFrom('//status', '/status?x=1', 'http://a/status', '/%', '/../status', '\0'),
  fc.string(),
);
const header = fc.oneof(
  fc.constantFrom('Host: a', 'Host: ', 'Content-Length: 5', 'Content-Length: -1', 'Expect: x'),
  fc.constantFrom('Transfer-Encoding: chunked', 'Upgrade: websocket', 'Connection: upgrade'),
  fc.tuple(fc.string(), fc.string()).map(([name, value]) => `${name}: ${value}`),
);
const requestText = fc
  .record({
    method: word,
    target: word,
    version: fc.constantFrom('HTTP/1.1', 'HTTP/1.0', 'HTTP/2.0', 'ICAP/1.0', ''),
    headers: fc.array(header, { maxLength: 6 }),
    body: fc.string({ maxLength: 40 }),
  })
  .map(({ method, target, version, headers, body }) =>
    Buffer.from(`${method} ${target} ${version}\r\n${headers.join('\r\n')}\r\n\r\n${body}`),
  );

it('any bytes on the socket leave the daemon answering', async () => {
  const pieces = fc.array(fc.oneof(requestText, fc.uint8Array({ maxLength: 300 })), {
    minLength: 1,
    maxLength: 3,
  });
  await fc.assert(
    fc.asyncProperty(pieces, async (given) => {
      const answer = await converse(given);
      for (const [, code] of answer.matchAll(/^HTTP\/1\.1 (\d+) /gm)) {
        expect(CODES).toContain(Number(code));
      }
      expect(await requestJson(path, '/status', 2_000)).toEqual({ pid: 4711 });
    }),
    { numRuns: 400 },
  );
}, 60_000);
