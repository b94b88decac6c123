/**
 * What TLS to etcd needs, from PEM files that are read for every new connection: a certificate renewed
 * on disk counts from then on. Files that cannot be read or fit together are refused at the start, by
 * flag; later on what was read last stays in use, since a renewal may be half done.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createSecureContext, type SecureContext } from 'node:tls';
import { cannotRead, messageOf, systemError, type FlannelletteError } from '../../errors.js';
import type { EtcdOptions } from './etcd-options.js';
import { systemRoots } from './system-roots.js';

export interface TlsMaterial {
  readonly context: SecureContext;
  /** Where the trusted certificates come from, for messages. */
  readonly trusted: string;
  /** This host's own, when there is one. */
  readonly own: X509Certificate | undefined;
}

type Files = Pick<EtcdOptions, 'caFile' | 'certFile' | 'keyFile'>;

interface Texts {
  readonly ca: string | undefined;
  readonly cert: string | undefined;
  readonly key: string | undefined;
}

const FLAGS = {
  caFile: '--etcd-cafile',
  certFile: '--etcd-certfile',
  keyFile: '--etcd-keyfile',
} as const;

export class TlsCredentials {
  readonly #files: Files;
  #texts: Texts;
  /** Why the files could not be read last time; what was read before is in use. */
  #stale: string | undefined;
  #material: { readonly of: Texts; readonly roots: string; readonly made: TlsMaterial } | undefined;

  /** Throws a system error that names the flag and the file. */
  constructor(files: Files) {
    this.#files = files;
    const { caFile, certFile, keyFile } = files;
    const read = (flag: keyof typeof FLAGS, path: string | undefined): string | undefined => {
      if (path === undefined) return undefined;
      try {
        return readFileSync(path, 'latin1');
      } catch (error) {
        throw cannotRead(FLAGS[flag], path, error);
      }
    };
    this.#texts = {
      ca: read('caFile', caFile),
      cert: read('certFile', certFile),
      key: read('keyFile', keyFile),
    };
    check(files, this.#texts);
  }

  get stale(): string | undefined {
    return this.#stale;
  }

  /** For a connection that is about to be made. */
  async load(): Promise<TlsMaterial> {
    try {
      const texts = await this.#read();
      check(this.#files, texts);
      this.#texts = texts;
      this.#stale = undefined;
    } catch (error) {
      this.#stale = messageOf(error);
    }
    const { ca, cert, key } = this.#texts;
    const roots = ca === undefined ? await systemRoots() : [ca];
    const joined = roots.join('\n');
    const before = this.#material;
    if (before !== undefined && sameTexts(before.of, this.#texts) && before.roots === joined) {
      return before.made;
    }
    const context = createSecureContext({
      ca: roots,
      ...(cert === undefined || key === undefined ? {} : { cert, key }),
      // As in Go an intermediate, or the server's own certificate, may be what is trusted.
      allowPartialTrustChain: true,
      minVersion: 'TLSv1.2',
    });
    const trusted =
      ca === undefined
        ? `this system's ${roots.length} trusted certificates (no --etcd-cafile given)`
        : `--etcd-cafile ${this.#files.caFile ?? ''}`;
    const own = cert === undefined ? undefined : new X509Certificate(cert);
    const made = { context, trusted, own };
    this.#material = { of: this.#texts, roots: joined, made };
    return made;
  }

  async #read(): Promise<Texts> {
    const { caFile, certFile, keyFile } = this.#files;
    const read = async (
      flag: keyof typeof FLAGS,
      path: string | undefined,
    ): Promise<string | undefined> => {
      if (path === undefined) return undefined;
      return readFile(path, 'latin1').catch((error: unknown) => {
        throw cannotRead(FLAGS[flag], path, error);
      });
    };
    return {
      ca: await read('caFile', caFile),
      cert: await read('certFile', certFile),
      key: await read('keyFile', keyFile),
    };
  }
}

function sameTexts(a: Texts, b: Texts): boolean {
  return a.ca === b.ca && a.cert === b.cert && a.key === b.key;
}

function check(files: Files, { ca, cert, key }: Texts): void {
  const { caFile = '', certFile = '', keyFile = '' } = files;
  if (ca !== undefined)
    parse(FLAGS.caFile, caFile, ca, 'CERTIFICATE', (pem) => new X509Certificate(pem));
  if (cert === undefined || key === undefined) return;
  const own = parse(
    FLAGS.certFile,
    certFile,
    cert,
    'CERTIFICATE',
    (pem) => new X509Certificate(pem),
  );
  if (/^-----BEGIN ENCRYPTED|^Proc-Type: .*ENCRYPTED/m.test(key)) {
    throw bad(FLAGS.keyFile, keyFile, 'is encrypted: expected a key without a passphrase');
  }
  const secret = parse(FLAGS.keyFile, keyFile, key, 'KEY', (pem) => createPrivateKey(pem));
  if (!own.checkPrivateKey(secret)) {
    throw bad(FLAGS.keyFile, keyFile, `is not the key of --etcd-certfile ${certFile}`);
  }
}

function parse<T>(
  flag: string,
  path: string,
  text: string,
  kind: 'CERTIFICATE' | 'KEY',
  read: (pem: string) => T,
): T {
  if (!text.includes('-----BEGIN ')) {
    throw bad(flag, path, 'is not a PEM file: expected a line -----BEGIN ...');
  }
  if (!new RegExp(`^-----BEGIN [A-Z0-9 ]*${kind}-----`, 'm').test(text)) {
    const wanted = kind === 'KEY' ? 'no private key' : 'no certificate';
    throw bad(flag, path, `holds ${wanted}: expected a line -----BEGIN ...${kind}-----`);
  }
  try {
    return read(text);
  } catch (error) {
    throw bad(flag, path, `cannot be used: ${messageOf(error)}`);
  }
}

function bad(flag: string, path: string, what: string): FlannelletteError {
  return systemError(`${flag}: ${path} ${what}`, { field: flag, value: path });
}
