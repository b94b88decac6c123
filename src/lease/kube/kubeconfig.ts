/**
 * Who answers and who asks: from a kubeconfig file, or from what a pod finds. Of a kubeconfig the current
 * context counts; what needs a program of its own (`exec`, `auth-provider`) is refused, a daemon has
 * nobody to log in.
 */
import { dirname, resolve } from 'node:path';
import { isObject, type JsonObject } from '../../config/json.js';
import { inputError, messageOf, type FlannelletteError } from '../../errors.js';
import { checkUrl } from './kube-options.js';

/** A secret or certificate: its text, or the file that has it now. */
export type Source = { readonly text: string } | { readonly file: string };

export interface Access {
  readonly url: URL;
  /** Undefined for this system's trusted certificates. */
  readonly ca: Source | undefined;
  readonly cert: Source | undefined;
  readonly key: Source | undefined;
  readonly token: Source | undefined;
  /** The name its certificate must have, when not the URL's. */
  readonly serverName: string | undefined;
  /** The certificate is not checked: the kubeconfig asks for that. */
  readonly insecure: boolean;
}

const FLAG = '--kubeconfig-file';

/** Reads no other file than `text`, which is the content of `path`. Throws an input error. */
export async function parseKubeconfig(
  text: string,
  path: string,
  apiUrl?: string,
): Promise<Access> {
  // Not before: a pod has no kubeconfig, and need not load what reads one. Pretty errors quote the text.
  const { parse } = await import('yaml');
  let document: unknown;
  try {
    document = parse(text, { maxAliasCount: 0, logLevel: 'error', prettyErrors: false });
  } catch (error) {
    throw inputError(FLAG, path, `YAML or JSON (${messageOf(error)})`);
  }
  const at = (field: string): string => `${FLAG}: ${path}: ${field}`;
  if (!isObject(document)) throw inputError(FLAG, path, 'a kubeconfig, an object of kind Config');
  const name = document['current-context'];
  if (typeof name !== 'string' || name === '') {
    throw inputError(at('current-context'), name, 'the name of a context');
  }
  const context = named(document, 'contexts', 'context', name, at);
  const cluster = named(document, 'clusters', 'cluster', context.cluster, at);
  const user = context.user === undefined ? {} : named(document, 'users', 'user', context.user, at);
  refuseUnknownWays(cluster, user, at);
  const source = (object: JsonObject, key: string, dataKey: string): Source | undefined => {
    const data = optionalText(object, dataKey, at);
    if (data !== undefined) return { text: Buffer.from(data, 'base64').toString('latin1') };
    const file = optionalText(object, key, at);
    return file === undefined ? undefined : { file: resolve(dirname(path), file) };
  };
  const server = apiUrl ?? optionalText(cluster, 'server', at);
  return {
    url: checkUrl(apiUrl === undefined ? at('server') : '--kube-api-url', server ?? ''),
    ca: source(cluster, 'certificate-authority', 'certificate-authority-data'),
    cert: source(user, 'client-certificate', 'client-certificate-data'),
    key: source(user, 'client-key', 'client-key-data'),
    token: tokenSource(user, path, at),
    serverName: optionalText(cluster, 'tls-server-name', at),
    insecure: cluster['insecure-skip-tls-verify'] === true,
  };
}

type At = (field: string) => string;

/** As client-go has it the file wins: what is in it is newer. */
function tokenSource(user: JsonObject, path: string, at: At): Source | undefined {
  const file = optionalText(user, 'tokenFile', at);
  if (file !== undefined) return { file: resolve(dirname(path), file) };
  const text = optionalText(user, 'token', at);
  return text === undefined ? undefined : { text };
}

/** The object of that name in a list such as `contexts: [{name, context: {...}}]`. */
function named(document: JsonObject, list: string, key: string, name: unknown, at: At): JsonObject {
  const entries: unknown = document[list];
  const all: readonly unknown[] = Array.isArray(entries) ? entries : [];
  const found = all.find((entry) => isObject(entry) && entry.name === name);
  const object: unknown = isObject(found) ? (found[key] ?? {}) : undefined;
  if (isObject(object)) return object;
  throw inputError(at(key), name, `the name of one of ${list}`);
}

function optionalText(object: JsonObject, key: string, at: At): string | undefined {
  const value = object[key] ?? undefined;
  if (value === undefined || value === '') return undefined;
  if (typeof value === 'string') return value;
  throw inputError(at(key), typeof value, 'a text');
}

function refuseUnknownWays(cluster: JsonObject, user: JsonObject, at: At): void {
  const instead = 'a token, tokenFile or client certificate: flannelette runs no program to log in';
  for (const key of ['exec', 'auth-provider', 'username']) {
    if (user[key] !== undefined) throw refused(at(`user.${key}`), instead);
  }
  if (cluster['proxy-url'] !== undefined) {
    throw refused(at('cluster.proxy-url'), 'no proxy: flannelette connects to the server itself');
  }
}

/** The value may be a secret. */
function refused(field: string, expected: string): FlannelletteError {
  return inputError(field, '***', expected);
}
