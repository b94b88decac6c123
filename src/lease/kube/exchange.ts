/** One HTTP request to the API server and its answer, bounded in size and in silence. */
import { request as requestHttp, type IncomingMessage } from 'node:http';
import { request as requestHttps } from 'node:https';
import { afterSilence, SilenceError } from '../timing.js';
import type { Credentials } from './credentials.js';
import { apiStatus } from './kube-faults.js';

export interface Question {
  readonly method: 'GET' | 'PATCH';
  /** Below the server's URL, with its query. */
  readonly path: string;
  /** A strategic merge patch. */
  readonly body?: string;
}

export interface Limits {
  /** Without a byte for so long the exchange fails. */
  readonly silenceMs: number;
  readonly maxBytes: number;
}

const USER_AGENT = 'flannelette';

/** Resolves with the answer's head once it is 2xx; rejects with an ApiStatus for any other. */
export async function ask(
  { url, agent, authorization }: Credentials,
  { method, path, body }: Question,
  limits: Limits,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  signal.throwIfAborted();
  const target = new URL(url);
  const [pathname = '', search] = path.split('?', 2);
  target.pathname = `${url.pathname.replace(/\/$/, '')}${pathname}`;
  target.search = search ?? '';
  const send = url.protocol === 'https:' ? requestHttps : requestHttp;
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    const request = send(target, {
      method,
      agent,
      signal,
      headers: {
        accept: 'application/json',
        'user-agent': USER_AGENT,
        ...(authorization === undefined ? {} : { authorization }),
        ...(body === undefined
          ? {}
          : {
              'content-type': 'application/strategic-merge-patch+json',
              'content-length': Buffer.byteLength(body),
            }),
      },
    });
    const cancel = afterSilence(limits.silenceMs, () => {
      request.destroy(new SilenceError(limits.silenceMs));
    });
    request.once('response', (response) => {
      cancel();
      resolve(response);
    });
    request.once('error', (error) => {
      cancel();
      reject(signal.aborted ? (signal.reason as Error) : error);
    });
    request.end(body);
  });
  // Errors of the body are those of who reads it; without a reader they are no crash.
  answer.on('error', () => undefined);
  const { statusCode = 0 } = answer;
  if (statusCode >= 200 && statusCode < 300) return answer;
  const text = await readAll(answer, { ...limits, maxBytes: MAX_STATUS_BYTES }).catch(() => '');
  throw apiStatus(statusCode, parseOrUndefined(text));
}

const MAX_STATUS_BYTES = 256 * 1024;

/** The whole answer as text. */
export async function readAll(answer: IncomingMessage, limits: Limits): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of withinSilence(answer, limits.silenceMs)) {
    length += chunk.length;
    if (length > limits.maxBytes) {
      answer.destroy();
      throw new Error(`the answer has more than ${limits.maxBytes} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** The answer's bytes as they come; fails when none come for too long. */
async function* withinSilence(answer: IncomingMessage, silenceMs: number): AsyncGenerator<Buffer> {
  let cancel = (): void => undefined;
  const arm = (): void => {
    cancel();
    cancel = afterSilence(silenceMs, () => {
      answer.destroy(new SilenceError(silenceMs));
    });
  };
  arm();
  try {
    for await (const chunk of answer) {
      arm();
      yield chunk as Buffer;
    }
  } finally {
    cancel();
  }
}

function parseOrUndefined(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
