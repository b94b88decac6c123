/**
 * gRPC over one HTTP/2 connection of Node's own: calls with one answer, and streams of answers.
 *
 *   request   HEADERS (path, metadata)  DATA [0][length, 4 bytes][message]          END_STREAM
 *   answer    HEADERS                   DATA [0][length][message] ...   HEADERS grpc-status, grpc-message
 *
 * Ends of a connection and answers that are not gRPC reject with code `unavailable`. A peer that has
 * stopped without closing the connection (SIGSTOP, a cut cable) is found out by pings, which go out
 * while anything is asked: etcd ends connections that ping without a call.
 */
import http2, {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type IncomingHttpHeaders,
} from 'node:http2';
import type { Duplex } from 'node:stream';
import { errnoOf, messageOf } from '../../errors.js';
import type { Encodable } from './protobuf.js';
import type { Method } from './etcd-messages.js';
import { afterSilence } from '../timing.js';

/** google.golang.org/grpc/codes. */
export const Code = {
  ok: 0,
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  permissionDenied: 7,
  resourceExhausted: 8,
  failedPrecondition: 9,
  outOfRange: 11,
  unimplemented: 12,
  unavailable: 14,
  dataLoss: 15,
  unauthenticated: 16,
} as const;

export class GrpcError extends Error {
  override readonly name = 'GrpcError';
  readonly code: number;

  constructor(code: number, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
  }
}

export interface CallOptions {
  readonly metadata: Readonly<Record<string, string>>;
  /** So long may nothing arrive before the call is given up. */
  readonly silenceMs: number;
  readonly signal: AbortSignal;
}

/** What a peer may have on its way before the first answer is taken: a listing in one round trip. */
const WINDOW_BYTES = 8 * 1024 * 1024;
/** An answer beyond this is refused: 5,000 leases are under 1 MB. */
const MAX_MESSAGE_BYTES = 256 * 1024 * 1024;
const PING_MS = 10_000;

export class GrpcConnection {
  /** Who answers, as the user wrote it. */
  readonly endpoint: string;
  readonly #session: ClientHttp2Session;
  readonly #silenceMs: () => number;
  #pings: NodeJS.Timeout | undefined;
  #calls = 0;
  #failure: Error | undefined;

  private constructor(
    endpoint: string,
    socket: Duplex,
    session: ClientHttp2Session,
    silenceMs: () => number,
  ) {
    this.endpoint = endpoint;
    this.#session = session;
    this.#silenceMs = silenceMs;
    session.on('error', (error: Error) => {
      this.#failure ??= error;
    });
    // TLS 1.3 refuses a client's certificate after the handshake: an alert that Node tells the socket
    // alone, while the session would wait for ever.
    socket.on('error', (error: Error) => {
      this.#failure ??= error;
      endSession(session);
    });
    session.on('goaway', () => {
      this.#failure ??= new Error('the server ends the connection');
    });
    session.once('close', () => {
      clearInterval(this.#pings);
    });
  }

  /**
   * Speaks HTTP/2 over a socket that is connected. Resolves when the peer has said that it does, too;
   * rejects with the socket's or the session's error, and at once when the signal aborts. `silenceMs`
   * is how long an answer to a ping may take.
   */
  static async open(
    socket: Duplex,
    { endpoint, silenceMs }: { readonly endpoint: string; readonly silenceMs: () => number },
    signal: AbortSignal,
  ): Promise<GrpcConnection> {
    signal.throwIfAborted();
    const session = http2.connect(endpoint, {
      createConnection: () => socket,
      settings: { enablePush: false, initialWindowSize: WINDOW_BYTES },
      // Megabytes: what one may have on its way counts.
      maxSessionMemory: 64,
    });
    const connection = new GrpcConnection(endpoint, socket, session, silenceMs);
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        signal.removeEventListener('abort', abort);
        socket.off('error', fail);
        session.off('error', fail);
        session.off('close', closed);
      };
      const fail = (error: Error): void => {
        settle();
        endSession(session);
        reject(error);
      };
      const abort = (): void => {
        fail(signal.reason as Error);
      };
      const closed = (): void => {
        fail(connection.#failure ?? new Error('the server closed the connection'));
      };
      signal.addEventListener('abort', abort, { once: true });
      socket.once('error', fail);
      session.once('error', fail);
      session.once('close', closed);
      session.once('remoteSettings', () => {
        settle();
        session.setLocalWindowSize(2 * WINDOW_BYTES);
        resolve(connection);
      });
    });
  }

  /** False when calls have to go over another connection. */
  get usable(): boolean {
    return this.#failure === undefined && !this.#session.closed && !this.#session.destroyed;
  }

  close(): void {
    clearInterval(this.#pings);
    this.#failure ??= new Error('the connection was closed');
    endSession(this.#session);
  }

  /** The first answer, when the peer has said that all is well. */
  async call<Q, A>(
    { path, request, response }: Method<Q, A>,
    value: Encodable<Q>,
    options: CallOptions,
  ): Promise<A> {
    const call = this.#start(path, request.encode(value), options);
    call.stream.end();
    let first: Buffer | undefined;
    for await (const answer of call.answers(true)) first ??= answer;
    if (first === undefined) throw new GrpcError(Code.unavailable, 'an answer without content');
    return decode(response, first);
  }

  /** The answers to one request, until the signal aborts; rejects when the peer ends them. */
  async *stream<Q, A>(
    { path, request, response }: Method<Q, A>,
    value: Encodable<Q>,
    options: CallOptions,
  ): AsyncGenerator<A> {
    const call = this.#start(path, request.encode(value), options);
    for await (const answer of call.answers(false)) yield decode(response, answer);
    if (options.signal.aborted) return;
    throw new GrpcError(Code.unavailable, 'the server ended the stream');
  }

  #start(path: string, message: Buffer, options: CallOptions): Call {
    if (!this.usable) throw this.#lost();
    let stream: ClientHttp2Stream;
    try {
      stream = this.#session.request(
        {
          ...options.metadata,
          ':method': 'POST',
          ':path': path,
          'content-type': 'application/grpc',
          te: 'trailers',
        },
        { endStream: false },
      );
    } catch (error) {
      throw this.#lost(error);
    }
    stream.write(frame(message));
    this.#watchOver(stream);
    return new Call(stream, options, (error) => this.#lost(error));
  }

  #lost(error?: unknown): GrpcError {
    // A stream that ends for want of a connection says no more than that.
    const own = errnoOf(error) === 'ERR_STREAM_PREMATURE_CLOSE' ? undefined : error;
    const cause = this.#failure ?? own ?? new Error('the server closed the connection');
    return new GrpcError(Code.unavailable, messageOf(cause), cause);
  }

  /** Pings as long as there is a call. */
  #watchOver(stream: ClientHttp2Stream): void {
    this.#calls += 1;
    this.#pings ??= setInterval(() => {
      this.#ping();
    }, PING_MS);
    stream.once('close', () => {
      this.#calls -= 1;
      if (this.#calls > 0) return;
      clearInterval(this.#pings);
      this.#pings = undefined;
    });
  }

  #ping(): void {
    const ms = this.#silenceMs();
    const cancel = afterSilence(ms, () => {
      this.#failure ??= new Error(`no answer to a ping for ${ms / 1000} s`);
      endSession(this.#session);
    });
    this.#session.once('close', cancel);
    const sent = this.#session.ping(() => {
      this.#session.off('close', cancel);
      cancel();
    });
    if (!sent) {
      this.#session.off('close', cancel);
      cancel();
    }
  }
}

/** One request under way. */
class Call {
  readonly stream: ClientHttp2Stream;
  readonly #options: CallOptions;
  readonly #lost: (error?: unknown) => GrpcError;
  #headers: IncomingHttpHeaders = {};
  #trailers: IncomingHttpHeaders | undefined;
  #error: Error | undefined;
  readonly #closed: Promise<void>;

  constructor(
    stream: ClientHttp2Stream,
    options: CallOptions,
    lost: (error?: unknown) => GrpcError,
  ) {
    this.stream = stream;
    this.#options = options;
    this.#lost = lost;
    stream.on('response', (headers) => {
      this.#headers = headers;
    });
    stream.on('trailers', (headers: IncomingHttpHeaders) => {
      this.#trailers = headers;
    });
    stream.on('error', (error: Error) => {
      this.#error ??= error;
    });
    this.#closed = new Promise((resolve) => stream.once('close', resolve));
  }

  /**
   * Ends without a word when the signal aborts; rejects as the peer's status says. The first answer,
   * of a call all of it, must not be silent for longer than `silenceMs`.
   */
  async *answers(isCall: boolean): AsyncGenerator<Buffer> {
    const { signal, silenceMs } = this.#options;
    const stream = this.stream;
    const end = (): void => {
      endStream(stream);
    };
    let silent = false;
    const watch = (): (() => void) =>
      afterSilence(silenceMs, () => {
        silent = true;
        end();
      });
    let cancel = watch();
    signal.addEventListener('abort', end, { once: true });
    if (signal.aborted) end();
    const frames = new Frames();
    try {
      const chunks = stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
      for await (const chunk of chunks) {
        cancel();
        if (isCall) cancel = watch();
        yield* frames.take(chunk);
      }
    } catch (error) {
      if (error instanceof GrpcError) throw error;
      this.#error ??= error as Error;
    } finally {
      cancel();
      signal.removeEventListener('abort', end);
      end();
    }
    await this.#closed;
    if (signal.aborted) {
      if (isCall) throw signal.reason as Error;
      return;
    }
    if (silent) {
      throw new GrpcError(Code.deadlineExceeded, `no answer within ${silenceMs / 1000} s`);
    }
    this.#settle();
  }

  #settle(): void {
    const { 'grpc-status': status, 'grpc-message': text } = this.#trailers ?? this.#headers;
    if (status === undefined) {
      const http = this.#headers[':status'];
      if (http === undefined || this.#error !== undefined) throw this.#lost(this.#error);
      throw new GrpcError(
        Code.unimplemented,
        `an answer that is not gRPC's: HTTP status ${String(http)}`,
      );
    }
    const code = Number(status);
    if (code !== Code.ok) throw new GrpcError(code, describe(text) ?? `gRPC status ${code}`);
  }
}

/**
 * Ends a stream that the peer may have ended already. Not at once: who calls may run inside a callback
 * of nghttp2, and Node aborts when a stream is reset or a session destroyed there (nodejs/node#38964).
 */
function endStream(stream: ClientHttp2Stream): void {
  setImmediate(() => {
    if (stream.destroyed) return;
    if (stream.readableEnded) stream.end();
    else stream.close(http2.constants.NGHTTP2_CANCEL);
  });
}

/** As endStream. */
function endSession(session: ClientHttp2Session): void {
  setImmediate(() => {
    session.destroy();
  });
}

/** Puts messages together that arrive in pieces. */
class Frames {
  #pieces: Buffer[] = [];
  #length = 0;

  take(chunk: Buffer): Buffer[] {
    this.#pieces.push(chunk);
    this.#length += chunk.length;
    const messages: Buffer[] = [];
    for (;;) {
      const size = this.#size();
      if (size === undefined || this.#length < size) return messages;
      const [only, ...more] = this.#pieces;
      const all = only !== undefined && more.length === 0 ? only : Buffer.concat(this.#pieces);
      messages.push(all.subarray(PREFIX_BYTES, size));
      this.#pieces = [all.subarray(size)];
      this.#length = all.length - size;
    }
  }

  /** Length of the next message, prefix included; undefined until the prefix is there. */
  #size(): number | undefined {
    if (this.#length < PREFIX_BYTES) return undefined;
    const [first = Buffer.alloc(0)] = this.#pieces;
    const prefix = first.length >= PREFIX_BYTES ? first : Buffer.concat(this.#pieces);
    if (prefix.readUInt8(0) !== 0) {
      throw new GrpcError(Code.unavailable, 'a compressed answer, which was not asked for');
    }
    const size = prefix.readUInt32BE(1);
    if (size > MAX_MESSAGE_BYTES) {
      throw new GrpcError(Code.unavailable, `an answer of ${size} bytes, which is too large`);
    }
    return PREFIX_BYTES + size;
  }
}

/** A flag (0: not compressed) and the length. */
const PREFIX_BYTES = 5;

function frame(message: Buffer): Buffer {
  const out = Buffer.alloc(PREFIX_BYTES + message.length);
  out.writeUInt32BE(message.length, 1);
  message.copy(out, PREFIX_BYTES);
  return out;
}

function decode<T>(response: { decode(bytes: Buffer): T }, answer: Buffer): T {
  try {
    return response.decode(answer);
  } catch (error) {
    throw new GrpcError(Code.unavailable, messageOf(error), error);
  }
}

/** grpc-message is percent-encoded. */
function describe(text: string | string[] | undefined): string | undefined {
  if (typeof text !== 'string' || text === '') return undefined;
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
