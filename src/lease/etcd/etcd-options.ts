/**
 * How to reach etcd: flanneld's `--etcd-*` flags, checked before anything is connected. What flanneld
 * takes is taken; where it has no effect a warning says so. User and password in an endpoint are never
 * shown.
 */
import { posix } from 'node:path';
import { inputError } from '../../errors.js';

export interface EtcdOptions {
  /** `http://HOST:PORT` or `https://HOST:PORT`, each by its own scheme; a bare HOST:PORT is https with a client certificate. */
  readonly endpoints: readonly string[];
  /** Keys are PREFIX/config and PREFIX/subnets/...; cleaned as a path. */
  readonly prefix: string;
  /** PEM files; without a CA the system's roots count, key and certificate belong together. */
  readonly caFile?: string;
  readonly keyFile?: string;
  readonly certFile?: string;
  /** Both or no authentication. */
  readonly username?: string;
  readonly password?: string;
}

/** flanneld's defaults: the second port is that of etcd before 2.1. */
export const ETCD_DEFAULTS = {
  endpoints: ['http://127.0.0.1:4001', 'http://127.0.0.1:2379'],
  prefix: '/coreos.com/network',
} as const;

export interface NormalEtcdOptions {
  /** In their one form: what has no effect is gone. */
  readonly options: EtcdOptions;
  /** What was given and has no effect, one line each. */
  readonly warnings: readonly string[];
}

/** Throws an input error that names the flag; returns the options in their one form. */
export function normalizeEtcdOptions(options: EtcdOptions): EtcdOptions {
  return checkEtcdOptions(options).options;
}

/** The same with what is to be warned about. */
export function checkEtcdOptions(given: EtcdOptions): NormalEtcdOptions {
  const { caFile, certFile, keyFile, username, password } = given;
  const warnings: string[] = [];
  const hasCertificate = certFile !== undefined && keyFile !== undefined;
  const endpoints = normalizeEndpoints(given.endpoints, hasCertificate, warnings);
  const secure = endpoints.some((endpoint) => endpoint.startsWith('https:'));
  const files = [
    ['--etcd-cafile', caFile],
    ['--etcd-certfile', certFile],
    ['--etcd-keyfile', keyFile],
  ] as const;
  for (const [flag, file] of files) {
    if (file !== undefined && !secure) warnings.push(`${flag} has no effect with http endpoints`);
  }
  if (secure && !hasCertificate && (certFile ?? keyFile) !== undefined) {
    const [alone, missing] =
      keyFile === undefined ? ['certfile', 'keyfile'] : ['keyfile', 'certfile'];
    warnings.push(`--etcd-${alone} has no effect without --etcd-${missing}`);
  }
  const hasUser = isSet(username) && isSet(password);
  if (!hasUser && (isSet(username) || isSet(password))) {
    const [alone, missing] = isSet(username) ? ['username', 'password'] : ['password', 'username'];
    warnings.push(`--etcd-${alone} has no effect without --etcd-${missing}`);
  }
  return {
    options: {
      endpoints,
      prefix: normalizePrefix(given.prefix),
      ...(secure && caFile !== undefined ? { caFile } : {}),
      ...(secure && hasCertificate ? { certFile, keyFile } : {}),
      ...(hasUser ? { username, password } : {}),
    },
    warnings,
  };
}

/** A text that may hold `user:password@`, fit to be shown: everything before the last @ is hidden. */
export function maskUser(text: string): string {
  return text.replace(/^([a-z][a-z0-9+.-]*:\/\/)?.*@/is, '$1***@');
}

function normalizeEndpoints(
  texts: readonly string[],
  hasCertificate: boolean,
  warnings: string[],
): string[] {
  const endpoints = new Set<string>();
  for (const text of texts.map((one) => one.trim())) {
    if (text === '') continue;
    const url = parseEndpoint(text, hasCertificate ? 'https' : 'http');
    const endpoint = `${url.protocol}//${url.hostname}:${url.port === '' ? defaultPort(url) : url.port}`;
    endpoints.add(endpoint);
    const ignored = [
      ...(url.username === '' && url.password === '' ? [] : ['user and password']),
      ...(/^\/?$/.test(url.pathname) ? [] : ['path']),
      ...(url.search === '' && url.hash === '' ? [] : ['query']),
    ];
    if (ignored.length === 0) continue;
    const use =
      ignored[0] === 'user and password' ? '; use --etcd-username and --etcd-password' : '';
    warnings.push(
      `--etcd-endpoints: ${endpoint} is used without the ${ignored.join(' and ')} given with it${use}`,
    );
  }
  if (endpoints.size > 0) return [...endpoints];
  throw inputError(
    '--etcd-endpoints',
    texts.join(','),
    `one or more, e.g. ${ETCD_DEFAULTS.endpoints[1]}`,
  );
}

function parseEndpoint(text: string, scheme: string): URL {
  const full = text.includes('://') ? text : `${scheme}://${text}`;
  const url = URL.canParse(full) ? new URL(full) : undefined;
  if (
    url !== undefined &&
    /^https?:$/.test(url.protocol) &&
    url.hostname !== '' &&
    url.port !== '0'
  ) {
    return url;
  }
  throw inputError(
    '--etcd-endpoints',
    maskUser(text),
    'http://HOST:PORT or https://HOST:PORT, several separated by commas',
  );
}

function defaultPort({ protocol }: URL): string {
  return protocol === 'https:' ? '443' : '80';
}

/** As Go's path.Join cleans it: `//a//b/` is `/a/b`. */
function normalizePrefix(prefix: string): string {
  // eslint-disable-next-line no-control-regex -- that is what is looked for
  if (/[\u0000-\u001f\u007f]/.test(prefix)) {
    throw inputError('--etcd-prefix', prefix, `a key such as ${ETCD_DEFAULTS.prefix}`);
  }
  const cleaned = posix.join(prefix, '.');
  if (cleaned === '.') return '';
  return cleaned === '/' ? cleaned : cleaned.replace(/\/$/, '');
}

function isSet(value: string | undefined): value is string {
  return value !== undefined && value !== '';
}
