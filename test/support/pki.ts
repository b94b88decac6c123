/** Certificates for tests, made by openssl in a directory of their own. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from '../../src/testbed/programs.js';

export interface CertificateOptions {
  /** Subject alternative names; that of the loopback's address unless told. */
  readonly names?: string;
  /** It may sign others. */
  readonly ca?: boolean;
  /** Offset of its beginning and its end from now, in days. */
  readonly from?: number;
  readonly to?: number;
  /** Of the private key: another certificate's, by name. */
  readonly keyOf?: string;
}

export class Pki {
  readonly directory: string;

  private constructor(directory: string) {
    this.directory = directory;
  }

  static async create(): Promise<Pki> {
    return new Pki(await mkdtemp(join(tmpdir(), 'flannelette-pki-')));
  }

  /** Path of `NAME.pem`, `NAME.key` and whatever else a test puts there. */
  file(name: string): string {
    return join(this.directory, name);
  }

  /** An authority that signs itself. */
  async authority(name: string): Promise<void> {
    const out = ['-keyout', this.file(`${name}.key`), '-out', this.file(`${name}.pem`)];
    await openssl('req', '-x509', ...NEW_KEY, '-subj', `/CN=${name}`, '-days', '2', ...out);
  }

  /** A certificate signed by `authority`: `NAME.pem` with the key in `NAME.key`. */
  async certificate(name: string, authority: string, options: CertificateOptions = {}) {
    const { names = 'IP:127.0.0.1', ca = false, from = -1, to = 2, keyOf } = options;
    const key = this.file(`${keyOf ?? name}.key`);
    const made = keyOf === undefined ? [...NEW_KEY, '-keyout', key] : ['-new', '-key', key];
    const request = this.file(`${name}.csr`);
    await openssl('req', ...made, '-subj', `/CN=${name}`, '-out', request);
    const config = this.file(`${name}.cnf`);
    // `openssl ca` is the one that takes any beginning and end.
    await writeFile(this.file(`${name}.index`), '');
    await writeFile(
      config,
      [
        '[ca]\ndefault_ca=own\n[own]',
        `database=${this.file(`${name}.index`)}\nnew_certs_dir=${this.directory}`,
        `certificate=${this.file(`${authority}.pem`)}\nprivate_key=${this.file(`${authority}.key`)}`,
        'default_md=sha256\npolicy=any\nrand_serial=yes\nunique_subject=no\nx509_extensions=ext',
        `[any]\ncommonName=supplied\n[ext]\nsubjectAltName=${names}`,
        `basicConstraints=critical,CA:${ca ? 'TRUE' : 'FALSE'}\n`,
      ].join('\n'),
    );
    const dates = ['-startdate', asn1Time(from), '-enddate', asn1Time(to)];
    const out = ['-notext', '-out', this.file(`${name}.pem`)];
    await openssl('ca', '-batch', '-config', config, '-in', request, ...dates, ...out);
  }

  end(): Promise<void> {
    return rm(this.directory, { recursive: true });
  }
}

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

export async function openssl(...argv: string[]): Promise<void> {
  await run(['openssl', ...argv]);
}

function asn1Time(days: number): string {
  const time = new Date(Date.now() + days * 86_400_000).toISOString();
  return `${time.slice(0, 19).replaceAll(/[-:T]/g, '')}Z`;
}
