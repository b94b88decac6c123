/**
 * What others than this host show to be told everything over TCP (`--healthz-token-file`):
 * `Authorization: Bearer TOKEN` (RFC 6750). The file is read again, at most once a second, so that a
 * token can be replaced; while it cannot be read nobody is let in by one.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { inputError, messageOf } from '../errors.js';
import { readBounded } from '../host/bounded-read.js';

/** A token that can be guessed keeps nobody out. */
const LEAST_CHARACTERS = 16;
const MAX_BYTES = 4_096;
const READ_AGAIN_MS = 1_000;

export class BearerToken {
  readonly #path: string;
  #digest: Promise<Buffer> | undefined;
  /** performance.now() of the last read. */
  #readAt = Number.NEGATIVE_INFINITY;

  constructor(path: string) {
    this.#path = path;
  }

  /** Rejects with an input error when there is no token in the file. */
  async check(): Promise<void> {
    await this.#read();
  }

  /** Whether the header shows the token; takes as long whatever it shows. */
  async accepts(authorization: string | undefined): Promise<boolean> {
    const [, shown] = /^Bearer +(\S+)$/i.exec(authorization ?? '') ?? [];
    if (shown === undefined) return false;
    try {
      return timingSafeEqual(digestOf(shown), await this.#read());
    } catch {
      return false;
    }
  }

  #read(): Promise<Buffer> {
    const now = performance.now();
    if (this.#digest === undefined || now - this.#readAt >= READ_AGAIN_MS) {
      this.#readAt = now;
      this.#digest = this.#readFile();
    }
    return this.#digest;
  }

  async #readFile(): Promise<Buffer> {
    const field = '--healthz-token-file';
    let text: string;
    try {
      ({ text } = await readBounded(this.#path, { maxBytes: MAX_BYTES }));
    } catch (error) {
      throw inputError(field, this.#path, `a file that can be read: ${messageOf(error)}`);
    }
    const token = text.trim();
    if (token.length >= LEAST_CHARACTERS && /^[!-~]+$/.test(token)) return digestOf(token);
    throw inputError(
      field,
      this.#path,
      `a file with one token of ${LEAST_CHARACTERS} or more printable ASCII characters`,
    );
  }
}

function digestOf(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}
