/**
 * The calls flannelette makes to etcd, over the `etcd3` client's own connection pool and stubs.
 *
 * Each call ends within CALL_MS; one that cannot reach a member is tried at the next, once each. A
 * server that stops answering on a connection (SIGSTOP, a cut cable) is found out by HTTP/2 pings, so
 * a watch ends within KEEPALIVE_MS + KEEPALIVE_TIMEOUT_MS of it.
 */
import { readFileSync } from 'node:fs';
import { handleWhen, noop, retry } from 'cockatiel';
import {
  Etcd3,
  EtcdAuthenticationFailedError,
  EtcdInvalidAuthTokenError,
  EtcdPermissionDeniedError,
  EtcdUserNotFoundError,
  GRPCFailedPreconditionError,
  GRPCInvalidArgumentError,
  GRPCUnauthenticatedError,
  isRecoverableError,
  type IKeyValue,
  type IResponseHeader,
  type ITxnRequest,
  type IWatchResponse,
} from 'etcd3';
import { errnoOf, FlannelletteError, messageOf, systemError } from '../../errors.js';
import { STORE_AWAY } from '../errors.js';
import { prefixEnd } from './codec.js';
import { streamItems } from './stream.js';
import type { EtcdOptions } from './options.js';

export const CALL_MS = 5_000;
const KEEPALIVE_MS = 10_000;
const KEEPALIVE_TIMEOUT_MS = 5_000;

/** Keys a page: 65,536 leases are 14 answers of under 1 MB each. */
const PAGE = 5_000;

export interface Listing {
  readonly header: IResponseHeader;
  readonly entries: readonly IKeyValue[];
}

export class EtcdClient {
  readonly #client: Etcd3;
  readonly #location: string;

  /** `options` are normalised. Throws a system error for a PEM file that cannot be read. */
  constructor(options: EtcdOptions, location: string) {
    this.#location = location;
    const { username, password, endpoints } = options;
    const credentials = readCredentials(options);
    this.#client = new Etcd3({
      hosts: [...endpoints],
      ...(credentials === undefined ? {} : { credentials }),
      ...(username === undefined || password === undefined ? {} : { auth: { username, password } }),
      grpcOptions: {
        'grpc.keepalive_time_ms': KEEPALIVE_MS,
        'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
        'grpc.keepalive_permit_without_calls': 1,
        'grpc.initial_reconnect_backoff_ms': 100,
        'grpc.max_reconnect_backoff_ms': 2_000,
        // A watch that catches up on many changes answers in one message.
        'grpc.max_receive_message_length': -1,
      },
      defaultCallOptions: ({ isStream }) => (isStream ? {} : { deadline: Date.now() + CALL_MS }),
      faultHandling: {
        host: () => noop,
        global: retry(handleWhen(isRecoverableError), { maxAttempts: endpoints.length - 1 }),
      },
    });
  }

  /** One key; undefined when it is not there. */
  async get(
    key: string,
    signal: AbortSignal,
  ): Promise<{ header: IResponseHeader; entry: IKeyValue | undefined }> {
    const { header, kvs } = await this.#call(signal, () =>
      this.#client.kv.range({ key: Buffer.from(key) }),
    );
    return { header, entry: kvs[0] };
  }

  /** Every key with the prefix, as of one revision, whose header is the answer's. */
  async list(prefix: string, signal: AbortSignal): Promise<Listing> {
    const end = prefixEnd(prefix);
    const entries: IKeyValue[] = [];
    let header: IResponseHeader | undefined;
    let start = Buffer.from(prefix);
    for (;;) {
      const request = {
        key: start,
        range_end: end,
        limit: PAGE,
        ...(header === undefined ? {} : { revision: header.revision }),
      };
      const page = await this.#call(signal, () => this.#client.kv.range(request));
      header ??= page.header;
      for (const entry of page.kvs) entries.push(entry);
      const last = page.kvs.at(-1);
      if (!page.more || last === undefined) return { header, entries };
      start = Buffer.concat([last.key, Buffer.of(0)]);
    }
  }

  /** True when the comparisons held and the operations were done. */
  async transact(request: ITxnRequest, signal: AbortSignal): Promise<boolean> {
    const { succeeded } = await this.#call(signal, () => this.#client.kv.txn(request));
    return succeeded;
  }

  /** A grant of `seconds`; its id. */
  async grant(seconds: number, signal: AbortSignal): Promise<string> {
    const { ID } = await this.#call(signal, () =>
      this.#client.leaseClient.leaseGrant({ TTL: seconds }),
    );
    return ID;
  }

  /** Gives an unused grant back. Errors are nobody's business: it ends by itself. */
  async revoke(id: string, signal: AbortSignal): Promise<void> {
    await this.#call(signal, () => this.#client.leaseClient.leaseRevoke({ ID: id })).catch(
      () => undefined,
    );
  }

  /**
   * Answers about every key with the prefix from `revision` on, until the signal aborts; rejects
   * when the stream ends. The first answer says that the watch stands (`created`).
   */
  async *watch(
    prefix: string,
    revision: bigint,
    signal: AbortSignal,
  ): AsyncGenerator<IWatchResponse> {
    const stream = await this.#call(signal, () => this.#client.watchClient.watch());
    const items = streamItems<IWatchResponse>(stream, signal);
    stream.write({
      create_request: {
        key: Buffer.from(prefix),
        range_end: prefixEnd(prefix),
        start_revision: revision.toString(),
        progress_notify: true,
      },
    });
    try {
      yield* items;
    } catch (error) {
      throw this.#explain(error);
    } finally {
      stream.cancel();
    }
  }

  close(): void {
    this.#client.close();
  }

  async #call<T>(signal: AbortSignal, call: () => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    let stop = (): void => undefined;
    const aborted = new Promise<never>((_, reject) => {
      stop = () => {
        reject(signal.reason as Error);
      };
      signal.addEventListener('abort', stop, { once: true });
    });
    // etcd3 cannot cancel a call: one that is given up ends by its deadline.
    const work = call();
    work.catch(() => undefined);
    try {
      return await Promise.race([work, aborted]);
    } catch (error) {
      if (signal.aborted) throw error;
      throw this.#explain(error);
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  /** An error that says where, and by its code whether to try again. */
  #explain(error: unknown): FlannelletteError {
    if (error instanceof FlannelletteError) return error;
    const why = messageOf(error);
    if (REFUSALS.some((refusal) => error instanceof refusal)) {
      return systemError(`etcd at ${this.#location} refuses: ${why}`, {
        field: '--etcd-username',
        cause: error,
      });
    }
    return systemError(`etcd at ${this.#location} does not answer: ${why}`, {
      code: STORE_AWAY,
      field: '--etcd-endpoints',
      cause: error,
    });
  }
}

/** What no second attempt mends. */
const REFUSALS = [
  EtcdAuthenticationFailedError,
  EtcdInvalidAuthTokenError,
  EtcdPermissionDeniedError,
  EtcdUserNotFoundError,
  GRPCFailedPreconditionError,
  GRPCInvalidArgumentError,
  GRPCUnauthenticatedError,
];

function readCredentials(options: EtcdOptions) {
  const { caFile, keyFile, certFile } = options;
  if (caFile === undefined && keyFile === undefined) return undefined;
  const own =
    keyFile === undefined || certFile === undefined
      ? {}
      : {
          privateKey: readPem('--etcd-keyfile', keyFile),
          certChain: readPem('--etcd-certfile', certFile),
        };
  // Without a CA of its own gRPC takes the system's, which its type does not say.
  const rootCertificate = caFile === undefined ? null : readPem('--etcd-cafile', caFile);
  return { rootCertificate: rootCertificate as Buffer, ...own };
}

function readPem(flag: string, path: string): Buffer {
  let content: Buffer;
  try {
    content = readFileSync(path);
  } catch (error) {
    const code = errnoOf(error);
    throw systemError(`${flag}: cannot read ${path}: ${messageOf(error)}`, {
      field: flag,
      value: path,
      cause: error,
      ...(code === undefined ? {} : { code }),
    });
  }
  if (!content.includes('-----BEGIN ')) {
    throw systemError(`${flag}: ${path} is not a PEM file: expected a line -----BEGIN ...`, {
      field: flag,
      value: path,
    });
  }
  return content;
}
