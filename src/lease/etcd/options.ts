/** How to reach etcd: flanneld's `--etcd-*` flags, checked before anything is connected. */
import { inputError } from '../../errors.js';

export interface EtcdOptions {
  /** `http://HOST:PORT` or `https://HOST:PORT`, all of one scheme; a bare HOST:PORT is http. */
  readonly endpoints: readonly string[];
  /** Keys are PREFIX/config and PREFIX/subnets/...; starts with a slash, ends without. */
  readonly prefix: string;
  /** PEM files; the CA alone checks the server, key and certificate belong together. */
  readonly caFile?: string;
  readonly keyFile?: string;
  readonly certFile?: string;
  readonly username?: string;
  readonly password?: string;
}

/** flanneld's defaults: the second port is that of etcd before 2.1. */
export const ETCD_DEFAULTS = {
  endpoints: ['http://127.0.0.1:4001', 'http://127.0.0.1:2379'],
  prefix: '/coreos.com/network',
} as const;

/** Throws an input error that names the flag; returns the options in their one form. */
export function normalizeEtcdOptions(options: EtcdOptions): EtcdOptions {
  const endpoints = options.endpoints.map(normalizeEndpoint);
  if (endpoints.length === 0) {
    throw inputError('--etcd-endpoints', '', `at least one, e.g. ${ETCD_DEFAULTS.endpoints[1]}`);
  }
  const secure = endpoints.filter((endpoint) => endpoint.startsWith('https:')).length;
  if (secure > 0 && secure < endpoints.length) {
    throw inputError('--etcd-endpoints', endpoints.join(','), 'all http or all https');
  }
  checkTls(options, secure > 0);
  if ((options.username === undefined) !== (options.password === undefined)) {
    const [given, missing] =
      options.username === undefined ? ['password', 'username'] : ['username', 'password'];
    throw inputError(`--etcd-${missing}`, undefined, `to be given with --etcd-${given}`);
  }
  return { ...options, endpoints, prefix: normalizePrefix(options.prefix) };
}

function normalizeEndpoint(text: string): string {
  const withScheme = text.includes('://') ? text : `http://${text}`;
  const url = URL.canParse(withScheme) ? new URL(withScheme) : undefined;
  const plain =
    url !== undefined &&
    (url.protocol === 'http:' || url.protocol === 'https:') &&
    url.hostname !== '' &&
    /^\/?$/.test(url.pathname) &&
    `${url.search}${url.hash}${url.username}${url.password}` === '';
  if (!plain) {
    throw inputError(
      '--etcd-endpoints',
      text,
      'http://HOST:PORT or https://HOST:PORT without a path, several separated by commas',
    );
  }
  const fallback = url.protocol === 'https:' ? '443' : '80';
  return `${url.protocol}//${url.hostname}:${url.port === '' ? fallback : url.port}`;
}

function normalizePrefix(prefix: string): string {
  const trimmed = prefix.replace(/\/+$/, '');
  if (trimmed === '' || /[\0\n]/.test(trimmed)) {
    throw inputError('--etcd-prefix', prefix, `a key such as ${ETCD_DEFAULTS.prefix}`);
  }
  return trimmed;
}

function checkTls({ caFile, certFile, keyFile }: EtcdOptions, secure: boolean): void {
  if (certFile !== undefined && keyFile === undefined) {
    throw inputError('--etcd-keyfile', undefined, 'the key of --etcd-certfile');
  }
  if (keyFile !== undefined && certFile === undefined) {
    throw inputError('--etcd-certfile', undefined, 'the certificate of --etcd-keyfile');
  }
  const given = [
    ['--etcd-cafile', caFile],
    ['--etcd-certfile', certFile],
  ] as const;
  for (const [flag, value] of given) {
    if (value !== undefined && !secure) {
      throw inputError(flag, value, 'endpoints of https: without TLS it would have no effect');
    }
  }
}
