/**
 * The certificates this machine trusts, found as Go finds them (crypto/x509 root_linux.go, root_unix.go)
 * and so as flanneld does: the first bundle that can be read, and every file of the directories.
 * SSL_CERT_FILE and SSL_CERT_DIR take the place of either list.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

const BUNDLES = [
  '/etc/ssl/certs/ca-certificates.crt', // Debian, Ubuntu, Gentoo, Arch
  '/etc/pki/tls/certs/ca-bundle.crt', // Fedora, RHEL 6
  '/etc/ssl/ca-bundle.pem', // openSUSE
  '/etc/pki/tls/cacert.pem', // OpenELEC
  '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem', // CentOS, RHEL 7
  '/etc/ssl/cert.pem', // Alpine
];
const DIRECTORIES = ['/etc/ssl/certs', '/etc/pki/tls/certs'];

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** PEM certificates, each once; none where the machine has none. */
export async function systemRoots(
  env: Readonly<Record<string, string | undefined>> = process.env,
): Promise<string[]> {
  const { SSL_CERT_FILE: file, SSL_CERT_DIR: directories } = env;
  const found = new Set<string>();
  const take = async (path: string): Promise<boolean> => {
    const text = await readFile(path, 'latin1').catch(() => undefined);
    for (const [pem] of text?.matchAll(CERTIFICATE) ?? []) found.add(pem.replaceAll('\r', ''));
    return text !== undefined;
  };
  for (const path of isSet(file) ? [file] : BUNDLES) if (await take(path)) break;
  for (const directory of isSet(directories) ? directories.split(':') : DIRECTORIES) {
    for (const name of await readdir(directory).catch(() => [])) await take(join(directory, name));
  }
  return [...found];
}

/** An empty variable is none, to Go as well. */
function isSet(value: string | undefined): value is string {
  return value !== undefined && value !== '';
}
