/** gRPC over a connection, against servers that do it right, wrong, slowly, or not at all. */
import http2, { type ServerHttp2Stream } from 'node:http2';
import {
  createServer as createTcpServer,
  connect,
  type AddressInfo,
  type Server,
  type Socket,
} from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { Code, GrpcConnection, type CallOptions } from '../../../../src/lease/etcd/grpc.js';
import { afterSilence } from '../../../../src/lease/timing.js';
import { message, text } from '../../../../src/lease/etcd/protobuf.js';

const Words = message({ words: text(1) });
const ECHO = { path: '/test/Echo', request: Words, response: Words };
const never = new AbortController().signal;
const OPTIONS: CallOptions = { metadata: { hasleader: 'true' }, silenceMs: 2_000, signal: never };

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

function framed(words: string): Buffer {
  const body = Words.encode({ words });
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(body.length, 1);
  return Buffer.concat([prefix, body]);
}

/** A server that does so with each request. */
async function serve(
  answer: (stream: ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => void,
): Promise<{ connection: GrpcConnection; server: http2.Http2Server }> {
  const server = http2.createServer();
  server.on('stream', answer);
  server.on('sessionError', () => undefined);
  return { connection: await open(server), server };
}

async function open(
  server: Pick<Server, 'listen' | 'address' | 'close'>,
  silenceMs = () => 2_000,
): Promise<GrpcConnection> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const socket = connect(port, '127.0.0.1');
  await new Promise((resolve) => socket.once('connect', resolve));
  const options = { endpoint: `http://127.0.0.1:${port}`, silenceMs };
  closing.push(() => {
    socket.destroy();
    server.close();
  });
  const connection = await GrpcConnection.open(socket, options, AbortSignal.timeout(1_000));
  closing.push(() => {
    connection.close();
  });
  return connection;
}

/** Answers well, with what `body` gives and the status at the end. */
function respond(
  stream: ServerHttp2Stream,
  body: readonly Buffer[],
  status = '0',
  words = '',
): void {
  stream.on('error', () => undefined);
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  stream.on('wantTrailers', () => {
    stream.sendTrailers({ 'grpc-status': status, 'grpc-message': words });
  });
  for (const piece of body) stream.write(piece);
  stream.end();
}

it('a call carries path, metadata and message, and gives the answer', async () => {
  let seen: http2.IncomingHttpHeaders = {};
  const { connection } = await serve((stream, headers) => {
    seen = headers;
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('end', () => {
      const { words } = Words.decode(Buffer.concat(chunks).subarray(5));
      respond(stream, [framed(`${words}!`)]);
    });
  });
  expect(await connection.call(ECHO, { words: 'hello' }, OPTIONS)).toEqual({ words: 'hello!' });
  expect(seen).toMatchObject({
    ':path': '/test/Echo',
    'content-type': 'application/grpc',
    te: 'trailers',
    hasleader: 'true',
  });
  expect(connection.usable).toBe(true);
});

it('answers are put together from any pieces', async () => {
  const all = Buffer.concat([
    framed('one'),
    framed('x'.repeat(100_000)),
    framed(''),
    framed('four'),
  ]);
  const { connection } = await serve((stream) => {
    const pieces = [all.subarray(0, 3), all.subarray(3, 7), all.subarray(7, 9), all.subarray(9)];
    respond(stream, pieces);
  });
  const seen: number[] = [];
  const answers = connection.stream(ECHO, {}, OPTIONS);
  const reading = (async () => {
    for await (const { words } of answers) seen.push(words.length);
  })();
  await expect(reading).rejects.toMatchObject({
    code: Code.unavailable,
    message: 'the server ended the stream',
  });
  expect(seen).toEqual([3, 100_000, 0, 4]);
});

it('a status other than ok rejects with the server’s words, also without a body', async () => {
  const { connection } = await serve((stream, headers) => {
    if (headers['hasleader'] === 'true') {
      stream.respond(
        { ':status': 200, 'grpc-status': '14', 'grpc-message': 'no%20leader' },
        { endStream: true },
      );
    } else respond(stream, [], '7', 'permission denied');
  });
  await expect(connection.call(ECHO, {}, OPTIONS)).rejects.toMatchObject({
    code: Code.unavailable,
    message: 'no leader',
  });
  await expect(connection.call(ECHO, {}, { ...OPTIONS, metadata: {} })).rejects.toMatchObject({
    code: Code.permissionDenied,
    message: 'permission denied',
  });
});

it.each<[string, (stream: ServerHttp2Stream) => void, RegExp]>([
  [
    'HTTP',
    (stream) => {
      stream.respond({ ':status': 404 }, { endStream: true });
    },
    /not gRPC's: HTTP status 404/,
  ],
  [
    'no content',
    (stream) => {
      respond(stream, []);
    },
    /an answer without content/,
  ],
  [
    'compressed content',
    (stream) => {
      respond(stream, [Buffer.from([1, 0, 0, 0, 0])]);
    },
    /a compressed answer/,
  ],
  [
    'endless content',
    (stream) => {
      respond(stream, [Buffer.from([0, 255, 255, 255, 255])]);
    },
    /too large/,
  ],
  [
    'content that is no message',
    (stream) => {
      respond(stream, [Buffer.from([0, 0, 0, 0, 1, 10])]);
    },
    /not a protobuf message/,
  ],
  [
    'a reset',
    (stream) => {
      stream.on('error', () => undefined);
      stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
    },
    /NGHTTP2_INTERNAL_ERROR|closed the connection/,
  ],
  [
    'the end of the connection',
    (stream) => {
      stream.session?.destroy();
    },
    /closed the connection|ends the connection/,
  ],
])('%s for an answer rejects, and the process goes on', async (_what, answer, says) => {
  const { connection } = await serve(answer);
  await expect(connection.call(ECHO, {}, OPTIONS)).rejects.toThrow(says);
});

it('silence is given up, for a call after each piece, for a stream until the first', async () => {
  const { connection } = await serve((stream, headers) => {
    if (headers['quick'] === undefined) return;
    stream.on('error', () => undefined);
    stream.respond({ ':status': 200 });
    stream.write(framed('first'));
  });
  const options = { ...OPTIONS, silenceMs: 100 };
  await expect(connection.call(ECHO, {}, options)).rejects.toMatchObject({
    code: Code.deadlineExceeded,
    message: 'no answer within 0.1 s',
  });
  const quick = { ...options, metadata: { quick: '1' } };
  await expect(connection.call(ECHO, {}, quick)).rejects.toMatchObject({
    code: Code.deadlineExceeded,
  });
  const stop = new AbortController();
  const seen: string[] = [];
  const timer = setTimeout(() => {
    stop.abort();
  }, 400);
  for await (const { words } of connection.stream(ECHO, {}, { ...quick, signal: stop.signal }))
    seen.push(words);
  clearTimeout(timer);
  expect(seen).toEqual(['first']);
  await expect(connection.stream(ECHO, {}, options).next()).rejects.toMatchObject({
    code: Code.deadlineExceeded,
  });
  expect(connection.usable).toBe(true);
});

it('what arrived while the process could not look is no silence', async () => {
  const server = createTcpServer();
  const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const near = connect((server.address() as AddressInfo).port, '127.0.0.1');
  const far = await accepted;
  closing.push(() => {
    near.destroy();
    server.close();
  });
  const first = new Promise((resolve) => {
    const cancel = afterSilence(20, () => {
      resolve('silence');
    });
    near.once('data', () => {
      cancel();
      resolve('data');
    });
  });
  // In the kernel at once, and taken out only after the time is over.
  far.write('answer');
  const until = performance.now() + 200;
  while (performance.now() < until);
  expect(await first).toBe('data');
});

it('a call that is given up ends at once, and the connection serves the next', async () => {
  const { connection } = await serve((stream, headers) => {
    if (headers['quick'] !== undefined) respond(stream, [framed('next')]);
  });
  const stop = new AbortController();
  const answer = connection.call(ECHO, {}, { ...OPTIONS, signal: stop.signal });
  stop.abort(new Error('enough'));
  await expect(answer).rejects.toThrow('enough');
  const quick = { ...OPTIONS, metadata: { quick: '1' } };
  expect(await connection.call(ECHO, {}, quick)).toEqual({ words: 'next' });
});

it('a server that says it goes away is used no more', async () => {
  const { connection } = await serve((stream) => {
    stream.session?.goaway();
    respond(stream, [framed('last')]);
  });
  expect(await connection.call(ECHO, {}, OPTIONS)).toEqual({ words: 'last' });
  expect(connection.usable).toBe(false);
  await expect(connection.call(ECHO, {}, OPTIONS)).rejects.toMatchObject({
    code: Code.unavailable,
  });
});

it.each([
  ['HTTP/1', 'HTTP/1.1 400 Bad Request\r\n\r\n'],
  ['bytes', Buffer.alloc(64, 0xff)],
  ['nothing, and ends', ''],
])('a server that speaks %s is no connection', async (_what, words) => {
  const server = createTcpServer((socket) => {
    socket.on('error', () => undefined);
    socket.end(words);
  });
  await expect(open(server)).rejects.toThrow();
});

it('a server that accepts and says nothing is no connection, and waiting for it can be given up', async () => {
  const server = createTcpServer(() => undefined);
  const started = performance.now();
  await expect(open(server)).rejects.toMatchObject({ name: 'TimeoutError' });
  expect(performance.now() - started).toBeLessThan(5_000);
});
