/**
 * Who this daemon is to etcd: a token got for user and password, which goes with each call.
 *
 *   no token yet                    authenticate, unless etcd has authentication switched off
 *   etcd does not take the token    authenticate again (an etcd that restarted, a user added, a token
 *                                   that ended, authentication switched on)
 *   user or password refused        not asked again for RETRY_MS: checking a password is expensive
 */
import type { CallOptions, GrpcConnection } from './grpc.js';
import { Code, GrpcError } from './grpc.js';
import { AUTHENTICATE } from './etcd-messages.js';
import { unlessAborted } from '../timing.js';

const RETRY_MS = 5_000;

export interface Credentials {
  readonly username: string;
  readonly password: string;
}

export class Authentication {
  readonly #credentials: Credentials | undefined;
  readonly #onOff: (switchedOff: boolean) => void;
  #token: string | undefined;
  /** As etcd said last. */
  #switchedOff = false;
  #refusal: { readonly error: GrpcError; readonly at: number } | undefined;
  #pending: Promise<void> | undefined;

  /** `onOff` hears whether etcd has authentication switched off whenever that changes. */
  constructor(credentials: Credentials | undefined, onOff: (switchedOff: boolean) => void) {
    this.#credentials = credentials;
    this.#onOff = onOff;
  }

  /** To go with a call; rejects with a GrpcError of etcd's when user or password are refused. */
  async metadata(
    connection: GrpcConnection,
    options: CallOptions,
  ): Promise<Readonly<Record<string, string>>> {
    const credentials = this.#credentials;
    while (credentials !== undefined && this.#token === undefined && !this.#switchedOff) {
      this.#pending ??= this.#authenticate(credentials, connection, options).finally(() => {
        this.#pending = undefined;
      });
      try {
        await unlessAborted(options.signal, this.#pending);
      } catch (error) {
        if (error instanceof GrpcError || options.signal.aborted) throw error;
        // Who began it has given up.
      }
    }
    return this.#token === undefined ? {} : { token: this.#token };
  }

  /**
   * Told how a call with this metadata failed. True when it is worth another attempt: etcd did not
   * take the token, and a new one will be got.
   */
  retry(error: unknown, metadata: Readonly<Record<string, string>>): boolean {
    if (this.#credentials === undefined || !isTokenRefusal(error)) return false;
    // Another call may have got a new one already.
    if (metadata['token'] === this.#token) this.#token = undefined;
    this.#switchedOff = false;
    return true;
  }

  async #authenticate(
    { username, password }: Credentials,
    connection: GrpcConnection,
    options: CallOptions,
  ): Promise<void> {
    const before = this.#refusal;
    if (before !== undefined && performance.now() - before.at < RETRY_MS) throw before.error;
    try {
      const request = { name: username, password };
      const { token } = await connection.call(AUTHENTICATE, request, options);
      this.#token = token;
      this.#refusal = undefined;
      this.#onOff(false);
    } catch (error) {
      if (!(error instanceof GrpcError)) throw error;
      if (/authentication is not enabled/.test(error.message)) {
        this.#switchedOff = true;
        this.#onOff(true);
        return;
      }
      const refused: readonly number[] = [Code.invalidArgument, Code.failedPrecondition];
      if (refused.includes(error.code)) this.#refusal = { error, at: performance.now() };
      throw error;
    }
  }
}

/**
 * etcd does not know the caller: by code, or by etcd's words for a token of an older state of its users
 * (InvalidArgument) and for none at all.
 */
export function isTokenRefusal(error: unknown): boolean {
  return (
    error instanceof GrpcError &&
    (error.code === Code.unauthenticated ||
      /invalid auth token|revision of auth store is old|user name is empty/.test(error.message))
  );
}
