/**
 * Reading the lease file: one look at it, recognisable later, and the errors that name it.
 *
 * A signature (inode, size, times) tells cheaply whether the file is still the one that was read:
 * every replacement is a new inode, every edit in place moves the change time.
 */
import { stat } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { errnoOf, messageOf, systemError, type FlannelletteError } from '../../errors.js';
import { readBounded } from '../../host/bounded-read.js';
import { parseLeaseDocument, type LeaseDocument } from './file-format.js';

/** Together a second: as long as an edit in place may plausibly take. */
const RETRY_BAD_FILE_MS = 100;
const RETRY_BAD_FILE_TIMES = 10;
/** A file beyond this is none of ours: 65,536 leases take some 8 MiB. */
const MAX_BYTES = 64 * 1024 * 1024;

export interface GoodFile {
  readonly document: LeaseDocument;
  readonly signature: string;
}

/**
 * `onSignature` hears of the file before it is parsed, so also of one that makes no sense. `before` is
 * the document last read, if any.
 */
export async function readLeaseFile(
  path: string,
  onSignature?: (signature: string) => void,
  before?: LeaseDocument,
): Promise<GoodFile> {
  const { text, status } = await readBounded(path, { maxBytes: MAX_BYTES });
  const signature = describe(status);
  onSignature?.(signature);
  return { signature, document: parseLeaseDocument(text, before) };
}

/** Gives an edit under way a second to become whole. */
export async function readPatiently(path: string, signal?: AbortSignal): Promise<GoodFile> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await readLeaseFile(path);
    } catch (error) {
      if (attempt >= RETRY_BAD_FILE_TIMES || !isPassing(error)) throw error;
    }
    await delay(RETRY_BAD_FILE_MS);
    signal?.throwIfAborted();
  }
}

/** Text that makes no sense, or no file for a moment; not a refusal of the kernel. */
function isPassing(error: unknown): boolean {
  const code = errnoOf(error);
  return code === undefined || code === 'ENOENT';
}

export async function signatureOf(path: string): Promise<string> {
  return describe(await stat(path, { bigint: true }));
}

function describe(status: { ino: bigint; size: bigint; mtimeNs: bigint; ctimeNs: bigint }): string {
  return `${status.ino}:${status.size}:${status.mtimeNs}:${status.ctimeNs}`;
}

export function unreadable(location: string, error: unknown): FlannelletteError {
  return fileError(
    `--lease-file: ${JSON.stringify(location)} cannot be used: expected a readable file such as ` +
      `{"version":1,"config":{"Network":"100.96.0.0/16"},"leases":{}}`,
    location,
    error,
  );
}

export function fileError(what: string, location: string, error: unknown): FlannelletteError {
  return leaseFileError(`${what} (${messageOf(error)})`, location, error);
}

/** About --lease-file, with the errno of what caused it. */
export function leaseFileError(
  message: string,
  location: string,
  error: unknown,
): FlannelletteError {
  const code = errnoOf(error);
  return systemError(message, {
    ...(code === undefined ? {} : { code }),
    field: '--lease-file',
    value: location,
    cause: error,
  });
}
