/**
 * The calls flannelette makes to etcd, each at whichever member answers.
 *
 * A call is tried at each member once. A member without a leader says so at once (`hasleader`), one
 * that is silent is given up after a while: 5 s, more where answers take long. What goes wrong becomes
 * an error whose code says of which kind it is (`lease/store-errors.ts`), and is reported as a problem when
 * somebody has to put it right.
 */
import { FlannelletteError, messageOf, systemError } from '../../errors.js';
import type { Problem } from '../../problems.js';
import { STORE_AWAY, STORE_MISCONFIGURED, STORE_REFUSES } from '../store-errors.js';
import { Authentication, isTokenRefusal } from './auth.js';
import { prefixEnd } from './codec.js';
import { Code, GrpcError, type CallOptions, type GrpcConnection } from './grpc.js';
import { Members, NoMemberError } from './members.js';
import {
  DELETE_RANGE,
  LEASE_GRANT,
  LEASE_KEEP_ALIVE,
  LEASE_REVOKE,
  LEASE_TIME_TO_LIVE,
  PUT,
  RANGE,
  TXN,
  WATCH,
  type Compare,
  type Header,
  type KeyValue,
  type Method,
  type RequestOp,
  type TxnResponse,
  type WatchResponse,
} from './etcd-messages.js';
import type { EtcdOptions } from './etcd-options.js';
import type { Encodable } from './protobuf.js';
import { isRefusal, problemOf, wordsOf, type Operation } from './refusals.js';

/** How long a peer may be silent: at least, at most, and as a multiple of what its answers take. */
const SILENCE_MS = 5_000;
const SILENCE_LIMIT_MS = 40_000;
const SILENCE_FACTOR = 3;

/** Keys a page: 65,536 leases are 14 answers of under 1 MB each. */
const PAGE = 5_000;

export interface EtcdClientOptions {
  /** How messages name the store: endpoints and prefix. */
  readonly location: string;
  /** Hears what somebody has to put right; an empty list once that was done. */
  readonly report?: (problems: readonly Problem[]) => void;
  /** Hears that etcd has authentication switched off although a user is given, and on again. */
  readonly authenticationOff?: (off: boolean) => void;
}

export interface TxnRequest {
  readonly compare: readonly Encodable<Compare>[];
  readonly success: readonly Encodable<RequestOp>[];
}

export class EtcdClient {
  readonly #options: EtcdClientOptions;
  readonly #username: string | undefined;
  readonly #members: Members;
  readonly #authentication: Authentication;
  /** By what was asked for, or one of the two below. */
  readonly #problems = new Map<string, Problem>();
  #silenceMs = SILENCE_MS;

  /** `etcd` is normalised. Throws a system error for PEM files that are of no use. */
  constructor(etcd: EtcdOptions, options: EtcdClientOptions) {
    const { username, password } = etcd;
    this.#options = options;
    this.#username = username;
    this.#members = new Members(etcd, {
      silenceMs: () => this.#silenceMs,
      connected: (stale) => {
        const message = `${stale ?? ''}; what was read before is in use`;
        this.#note(CONNECTION, stale === undefined ? undefined : tlsProblem(message));
      },
    });
    this.#authentication = new Authentication(
      username === undefined || password === undefined ? undefined : { username, password },
      options.authenticationOff ?? (() => undefined),
    );
  }

  /** Replaces all connections: the present ones come from an address that is gone. */
  reconnect(): void {
    this.#members.reconnect();
  }

  close(): void {
    this.#members.close();
  }

  /** One key; undefined when it is not there. */
  async get(
    key: string,
    signal: AbortSignal,
  ): Promise<{ header: Header; entry: KeyValue | undefined }> {
    const request = { key: Buffer.from(key) };
    const { header, kvs } = await this.#call(RANGE, request, { verb: 'read', key }, signal);
    return { header, entry: kvs[0] };
  }

  /**
   * Hands every key with the prefix to `take`, as of one revision, whose header is the answer. Page
   * by page: all answers at once would be the greatest part of a daemon's memory.
   */
  async list(
    prefix: string,
    take: (entry: KeyValue) => void,
    signal: AbortSignal,
  ): Promise<Header> {
    const rangeEnd = prefixEnd(prefix);
    let header: Header | undefined;
    let key = Buffer.from(prefix);
    for (;;) {
      const request = { key, rangeEnd, limit: PAGE, revision: header?.revision ?? 0 };
      const what = { verb: 'read', key: prefix } as const;
      const page = await this.#call(RANGE, request, what, signal);
      header ??= page.header;
      for (const entry of page.kvs) take(entry);
      const last = page.kvs.at(-1);
      if (!page.more || last === undefined) return header;
      key = Buffer.concat([last.key, Buffer.of(0)]);
    }
  }

  async put(key: string, value: string, lease: bigint, signal: AbortSignal): Promise<void> {
    const request = { key: Buffer.from(key), value: Buffer.from(value), lease };
    await this.#call(PUT, request, { verb: 'write', key }, signal);
  }

  /** How many keys there were. */
  async delete(key: string, signal: AbortSignal): Promise<number> {
    const request = { key: Buffer.from(key) };
    return (await this.#call(DELETE_RANGE, request, { verb: 'write', key }, signal)).deleted;
  }

  /** `succeeded` when the comparisons held and the operations on `key` were done. */
  transact(key: string, request: TxnRequest, signal: AbortSignal): Promise<TxnResponse> {
    return this.#call(TXN, request, { verb: 'write', key }, signal);
  }

  /** A grant of `seconds`: its id, and what etcd made of the seconds. */
  grant(seconds: number, signal: AbortSignal): Promise<{ id: bigint; ttl: number }> {
    const what = { verb: 'make', key: 'grants' } as const;
    return this.#call(LEASE_GRANT, { ttl: seconds }, what, signal);
  }

  /** Gives an unused grant back; that may fail: it ends by itself. */
  async revoke(id: bigint, signal: AbortSignal): Promise<void> {
    await this.#ask(LEASE_REVOKE, { id }, signal).catch(() => undefined);
  }

  /** Starts a grant's time again: the seconds it has then, 0 when it has ended. */
  async keepAlive(id: bigint, signal: AbortSignal): Promise<number> {
    const what = { verb: 'renew', key: 'grants' } as const;
    return (await this.#call(LEASE_KEEP_ALIVE, { id }, what, signal)).ttl;
  }

  /** Seconds a grant has left and had at first; -1 left when it has ended. */
  timeToLive(id: bigint, signal: AbortSignal): Promise<{ ttl: number; grantedTtl: number }> {
    const what = { verb: 'read', key: 'grants' } as const;
    return this.#call(LEASE_TIME_TO_LIVE, { id }, what, signal);
  }

  /**
   * Answers about every key with the prefix from `revision` on, until the signal aborts; rejects
   * when the stream ends. The first answer says that the watch stands (`created`). The last is one
   * that says what was missed is compacted (`canceled`).
   */
  async *watch(
    prefix: string,
    revision: number,
    signal: AbortSignal,
  ): AsyncGenerator<WatchResponse> {
    const what = { verb: 'watch', key: prefix } as const;
    const request = {
      create: {
        key: Buffer.from(prefix),
        rangeEnd: prefixEnd(prefix),
        startRevision: revision,
        progressNotify: true,
      },
    };
    let connection: GrpcConnection | undefined;
    try {
      connection = await this.#connection(signal);
      const options = this.#callOptions(signal);
      const metadata = await this.#authentication.metadata(connection, options);
      const answers = connection.stream(WATCH, request, {
        ...options,
        metadata: { ...options.metadata, ...metadata },
      });
      for await (const answer of answers) {
        if (answer.canceled && answer.compactRevision === 0) {
          const refusal = watchRefusal(answer.cancelReason);
          this.#authentication.retry(refusal, metadata);
          throw refusal;
        }
        this.#succeeded(what);
        yield answer;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (connection !== undefined && !isAnswer(error)) this.#members.leave(connection);
      throw this.#explain(error, what);
    }
  }

  async #call<Q, A>(
    method: Method<Q, A>,
    request: Encodable<Q>,
    what: Operation,
    signal: AbortSignal,
  ): Promise<A> {
    try {
      const answer = await this.#ask(method, request, signal);
      this.#succeeded(what);
      return answer;
    } catch (error) {
      if (signal.aborted) throw error;
      throw this.#explain(error, what);
    }
  }

  /** At each member once; rejects with a NoMemberError or a GrpcError. */
  async #ask<Q, A>(method: Method<Q, A>, request: Encodable<Q>, signal: AbortSignal): Promise<A> {
    for (let asked = 1; ; asked += 1) {
      const connection = await this.#connection(signal);
      try {
        return await this.#askMember(connection, method, request, signal);
      } catch (error) {
        if (signal.aborted || isAnswer(error)) throw error;
        this.#members.leave(connection);
        if (asked >= this.#members.count) throw error;
      }
    }
  }

  async #askMember<Q, A>(
    connection: GrpcConnection,
    method: Method<Q, A>,
    request: Encodable<Q>,
    signal: AbortSignal,
  ): Promise<A> {
    for (let isRetry = false; ; isRetry = true) {
      const options = this.#callOptions(signal);
      const token = await this.#authentication.metadata(connection, options);
      const metadata = { ...options.metadata, ...token };
      const started = performance.now();
      try {
        const answer = await connection.call(method, request, { ...options, metadata });
        this.#learnPace(performance.now() - started);
        return answer;
      } catch (error) {
        if (isSilence(error)) this.#waitLonger();
        const again = this.#authentication.retry(error, token);
        if (isRetry || !again || signal.aborted) throw error;
      }
    }
  }

  async #connection(signal: AbortSignal): Promise<GrpcConnection> {
    try {
      return await this.#members.connection(signal);
    } catch (error) {
      if (error instanceof NoMemberError && error.faults.some(({ silent }) => silent)) {
        this.#waitLonger();
      }
      throw error;
    }
  }

  #waitLonger(): void {
    this.#silenceMs = Math.min(2 * this.#silenceMs, SILENCE_LIMIT_MS);
  }

  #callOptions(signal: AbortSignal): CallOptions {
    return { metadata: { hasleader: 'true' }, silenceMs: this.#silenceMs, signal };
  }

  /** A store that is far away gets more time, one that was slow for a moment not for ever. */
  #learnPace(tookMs: number): void {
    const wanted = Math.max(SILENCE_MS, SILENCE_FACTOR * tookMs);
    this.#silenceMs = Math.min(wanted, SILENCE_LIMIT_MS);
  }

  #succeeded(what: Operation): void {
    this.#note(keyOf(what), undefined);
    this.#note(CREDENTIALS, undefined);
  }

  /** An error that says where, and by its code whether and why to try again; reports the problem. */
  #explain(error: unknown, what: Operation): FlannelletteError {
    const { location } = this.#options;
    if (error instanceof FlannelletteError) return error;
    if (error instanceof NoMemberError) {
      const wrong = error.faults.some(({ misconfigured }) => misconfigured);
      const message = `etcd at ${location} ${wrong ? 'cannot be used' : 'does not answer'}: ${error.message}`;
      this.#note(CONNECTION, wrong ? tlsProblem(message) : undefined);
      const code = wrong ? STORE_MISCONFIGURED : STORE_AWAY;
      return systemError(message, { code, field: '--etcd-endpoints', cause: error });
    }
    if (error instanceof GrpcError && isRefusal(error)) {
      const problem = problemOf(error, what, this.#username);
      const byUser = problem.id === 'etcd_credentials';
      const message = `etcd at ${location} refuses: ${problem.message}`;
      this.#note(byUser ? CREDENTIALS : keyOf(what), { ...problem, message });
      return systemError(message, {
        code: STORE_REFUSES,
        field: byUser ? '--etcd-username' : what.key,
        cause: error,
      });
    }
    const why = error instanceof GrpcError ? wordsOf(error) : messageOf(error);
    return systemError(`etcd at ${location} does not answer: ${why}`, {
      code: STORE_AWAY,
      field: '--etcd-endpoints',
      cause: error,
    });
  }

  /** Keeps the problem met with one thing, or that there is none any more. */
  #note(key: string, problem: Problem | undefined): void {
    if (problem === undefined && !this.#problems.has(key)) return;
    if (problem === undefined) this.#problems.delete(key);
    else this.#problems.set(key, problem);
    // One of each kind: two keys one may not read are one missing permission.
    const all = new Map([...this.#problems.values()].map((one) => [one.id, one]));
    this.#options.report?.([...all.values()]);
  }
}

const CONNECTION = 'connection';
const CREDENTIALS = 'credentials';

/** What a problem is kept under until the same succeeds; which key is written does not matter. */
function keyOf({ verb, key }: Operation): string {
  return verb === 'write' ? verb : `${verb} ${key}`;
}

function tlsProblem(message: string): Problem {
  return { id: 'etcd_tls', message };
}

/** What every other member would say, too. */
function isAnswer(error: unknown): boolean {
  if (error instanceof NoMemberError) return true;
  return error instanceof GrpcError && (isRefusal(error) || ABOUT_ARGUMENTS.includes(error.code));
}

/** A grant that has ended meanwhile, a revision that was compacted. */
const ABOUT_ARGUMENTS: readonly number[] = [Code.notFound, Code.outOfRange];

function isSilence(error: unknown): boolean {
  return error instanceof GrpcError && error.code === Code.deadlineExceeded;
}

/** etcd ends a watch that it refuses by an answer with its words (3.4: no other than the first). */
function watchRefusal(reason: string): GrpcError {
  const words = reason.replace(/^rpc error: code = \w+ desc = /, '');
  if (/permission denied/.test(words)) return new GrpcError(Code.permissionDenied, words);
  const refusal = new GrpcError(Code.unauthenticated, words);
  if (/auth|user/.test(words) && isTokenRefusal(refusal)) return refusal;
  return new GrpcError(Code.unavailable, `etcd ended the watch: ${words}`);
}
