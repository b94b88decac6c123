/**
 * The calls flannelette makes to etcd, over the `etcd3` client's own connection pool and stubs.
 *
 * One member is used until it cannot be reached; then the next is, and stays in use. A call is tried
 * at each member once, for CALL_MS each. A server that stops answering on a connection (SIGSTOP, a cut cable) is found out by HTTP/2 pings, so
 * a watch ends within KEEPALIVE_MS + KEEPALIVE_TIMEOUT_MS of it.
 */
import { readFileSync } from 'node:fs';
import { noop } from 'cockatiel';
import {
  castGrpcError,
  Etcd3,
  EtcdAuthenticationFailedError,
  EtcdInvalidAuthTokenError,
  EtcdPermissionDeniedError,
  EtcdUserNotFoundError,
  GRPCDeadlineExceededError,
  GRPCFailedPreconditionError,
  GRPCInvalidArgumentError,
  GRPCUnauthenticatedError,
  isRecoverableError,
  type IKeyValue,
  type IResponseHeader,
  type ITxnRequest,
  type IWatchResponse,
} from 'etcd3';
import { unlessAborted } from '../../abort.js';
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

export class EtcdClient {
  readonly #location: string;
  readonly #options: EtcdOptions;
  readonly #credentials: ReturnType<typeof readCredentials>;
  /** A client for each endpoint, in their order. */
  #members: readonly Etcd3[] = [];
  #member: Etcd3;
  #connections = 0;

  /** `options` are normalised. Throws a system error for a PEM file that cannot be read. */
  constructor(options: EtcdOptions, location: string) {
    this.#location = location;
    this.#options = options;
    this.#credentials = readCredentials(options);
    this.#member = this.#connect();
  }

  /** Goes on by connections made anew: those there were came from an address that is gone. */
  reconnect(): void {
    const old = this.#members;
    this.#member = this.#connect();
    for (const member of old) member.close();
  }

  /** One key; undefined when it is not there. */
  async get(
    key: string,
    signal: AbortSignal,
  ): Promise<{ header: IResponseHeader; entry: IKeyValue | undefined }> {
    const { header, kvs } = await this.#call(signal, (member) =>
      member.kv.range({ key: Buffer.from(key) }),
    );
    return { header, entry: kvs[0] };
  }

  /**
   * Hands every key with the prefix to `take`, as of one revision, whose header is the answer. Page
   * by page: all answers at once would be the greatest part of a daemon's memory.
   */
  async list(
    prefix: string,
    take: (entry: IKeyValue) => void,
    signal: AbortSignal,
  ): Promise<IResponseHeader> {
    const end = prefixEnd(prefix);
    let header: IResponseHeader | undefined;
    let start = Buffer.from(prefix);
    for (;;) {
      const request = {
        key: start,
        range_end: end,
        limit: PAGE,
        ...(header === undefined ? {} : { revision: header.revision }),
      };
      const page = await this.#call(signal, (member) => member.kv.range(request));
      header ??= page.header;
      for (const entry of page.kvs) take(entry);
      const last = page.kvs.at(-1);
      if (!page.more || last === undefined) return header;
      start = Buffer.concat([last.key, Buffer.of(0)]);
    }
  }

  /** True when the comparisons held and the operations were done. */
  async transact(request: ITxnRequest, signal: AbortSignal): Promise<boolean> {
    const { succeeded } = await this.#call(signal, (member) => member.kv.txn(request));
    return succeeded;
  }

  /** A grant of `seconds`; its id. */
  async grant(seconds: number, signal: AbortSignal): Promise<string> {
    const { ID } = await this.#call(signal, (member) =>
      member.leaseClient.leaseGrant({ TTL: seconds }),
    );
    return ID;
  }

  /** Gives an unused grant back. Errors are nobody's business: it ends by itself. */
  async revoke(id: string, signal: AbortSignal): Promise<void> {
    await this.#call(signal, (member) => member.leaseClient.leaseRevoke({ ID: id })).catch(
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
    const member = this.#member;
    const stream = await unlessAborted(signal, member.watchClient.watch()).catch(
      (error: unknown) => {
        throw signal.aborted ? error : this.#explain(error);
      },
    );
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
      this.#leave(member);
      throw this.#explain(error);
    } finally {
      stream.cancel();
    }
  }

  close(): void {
    for (const member of this.#members) member.close();
  }

  /** Makes a client for each endpoint; the one to use first. */
  #connect(): Etcd3 {
    const { username, password, endpoints } = this.#options;
    const credentials = this.#credentials;
    this.#connections += 1;
    const connect = (endpoint: string): Etcd3 =>
      new Etcd3({
        hosts: endpoint,
        ...(credentials === undefined ? {} : { credentials }),
        ...(username === undefined || password === undefined
          ? {}
          : { auth: { username, password } }),
        grpcOptions: {
          'grpc.keepalive_time_ms': KEEPALIVE_MS,
          'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
          'grpc.keepalive_permit_without_calls': 1,
          'grpc.initial_reconnect_backoff_ms': 100,
          'grpc.max_reconnect_backoff_ms': 2_000,
          // A watch that catches up on many changes answers in one message.
          'grpc.max_receive_message_length': -1,
          // gRPC shares connections between clients of equal options: these are to be new ones.
          'flannelette.connections': this.#connections,
        },
        defaultCallOptions: ({ isStream }) => (isStream ? {} : { deadline: Date.now() + CALL_MS }),
        faultHandling: { host: () => noop, global: noop },
      });
    const [first = '', ...others] = endpoints;
    const member = connect(first);
    this.#members = [member, ...others.map(connect)];
    return member;
  }

  /** Uses the next member, unless that was done already. */
  #leave(member: Etcd3): void {
    if (member !== this.#member) return;
    const next = (this.#members.indexOf(member) + 1) % this.#members.length;
    this.#member = this.#members[next] ?? member;
  }

  async #call<T>(signal: AbortSignal, call: (member: Etcd3) => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    for (let asked = 1; ; asked += 1) {
      const member = this.#member;
      try {
        // etcd3 cannot cancel a call; one that is given up ends by its deadline.
        return await unlessAborted(signal, call(member));
      } catch (error) {
        if (signal.aborted) throw error;
        if (!isUnreachable(error)) throw this.#explain(error);
        this.#leave(member);
        if (asked >= this.#members.length) throw this.#explain(error);
      }
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

/** What another member may not say. A call that had no answer in time is not recoverable to etcd3. */
function isUnreachable(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const cause = castGrpcError(error);
  return isRecoverableError(cause) || cause instanceof GRPCDeadlineExceededError;
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
