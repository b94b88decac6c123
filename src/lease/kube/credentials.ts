/**
 * What a request to the API server carries. Files are read for every request, and connections are made
 * anew when certificates changed: the kubelet replaces a service account's token before it expires. What
 * cannot be read later on stays as it was read last.
 */
import { access } from 'node:fs/promises';
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { join } from 'node:path';
import { createSecureContext } from 'node:tls';
import { cannotRead, messageOf, systemError } from '../../errors.js';
import { readBounded } from '../../host/bounded-read.js';
import { serviceUrl, type KubeOptions } from './kube-options.js';
import { parseKubeconfig, type Access, type Source } from './kubeconfig.js';

export interface Credentials {
  readonly url: URL;
  readonly agent: HttpAgent;
  /** Value of the header, when there is a token; never over plain http. */
  readonly authorization: string | undefined;
  /** Where the trusted certificates come from, for messages. */
  readonly trusted: string;
  /** Who asks, for messages: without the secret. */
  readonly identity: string;
}

/** A kubeconfig with its certificates has some 20 kB, a token one. */
const MAX_BYTES = 1024 * 1024;
const KEEP_ALIVE_MS = 30_000;
/** Connections at once: the watch, and a request beside it. */
const MAX_SOCKETS = 4;

interface Texts {
  readonly access: Access;
  readonly ca: string | undefined;
  readonly cert: string | undefined;
  readonly key: string | undefined;
  readonly token: string | undefined;
}

export class KubeCredentials {
  readonly #options: KubeOptions;
  #texts: Texts | undefined;
  #config: { readonly text: string; readonly access: Access } | undefined;
  #agent: { readonly of: string; readonly agent: HttpAgent } | undefined;
  #stale: string | undefined;

  /** `options` are checked. */
  constructor(options: KubeOptions) {
    this.#options = options;
  }

  /** Why the files could not be read last time; what was read before is in use. */
  get stale(): string | undefined {
    return this.#stale;
  }

  /** For a request. Rejects with an error that names flag and file while nothing was ever read. */
  async load(): Promise<Credentials> {
    try {
      this.#texts = await this.#read();
      const made = this.#make(this.#texts);
      this.#stale = undefined;
      return made;
    } catch (error) {
      if (this.#agent === undefined || this.#texts === undefined) throw error;
      this.#stale = messageOf(error);
      return describe(this.#texts, this.#agent.agent);
    }
  }

  /** Ends idle connections and those in use; the next request makes new ones. */
  disconnect(): void {
    this.#agent?.agent.destroy();
    this.#agent = undefined;
  }

  #make(texts: Texts): Credentials {
    const { access, ca, cert, key } = texts;
    const of = JSON.stringify([access.url.href, access.serverName, access.insecure, ca, cert, key]);
    if (this.#agent?.of !== of) {
      const agent = createAgent(texts);
      // Requests under way on the old one end by themselves.
      this.#agent = { of, agent };
    }
    return describe(texts, this.#agent.agent);
  }

  async #read(): Promise<Texts> {
    const access = await this.#access();
    return {
      access,
      ca: await readSource('certificate authority', access.ca),
      cert: await readSource('client certificate', access.cert),
      key: await readSource('client key', access.key),
      token: (await readSource('token', access.token))?.trim(),
    };
  }

  async #access(): Promise<Access> {
    const { kubeconfigFile, apiUrl } = this.#options;
    if (kubeconfigFile === undefined) return podAccess(this.#options);
    const text = await readText('--kubeconfig-file', kubeconfigFile);
    if (this.#config?.text !== text) {
      const access = await parseKubeconfig(text, kubeconfigFile, apiUrl);
      this.#config = { text, access };
    }
    return this.#config.access;
  }
}

/** The service account of a pod; without one, as with flanneld, nobody in particular. */
async function podAccess(options: KubeOptions): Promise<Access> {
  const { apiUrl, serviceHost = '', servicePort = '', serviceAccountPath } = options;
  const url = apiUrl === undefined ? serviceUrl(serviceHost, servicePort) : new URL(apiUrl);
  const token = join(serviceAccountPath, 'token');
  const none = { cert: undefined, key: undefined, serverName: undefined, insecure: false };
  const hasAccount = apiUrl === undefined || (await exists(token));
  if (!hasAccount) return { url, ca: undefined, token: undefined, ...none };
  return { url, ca: { file: join(serviceAccountPath, 'ca.crt') }, token: { file: token }, ...none };
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

function createAgent({ access, ca, cert, key }: Texts): HttpAgent {
  const keep = { keepAlive: true, keepAliveMsecs: KEEP_ALIVE_MS, maxSockets: MAX_SOCKETS };
  if (access.url.protocol === 'http:') return new HttpAgent(keep);
  let secureContext;
  try {
    secureContext = createSecureContext({
      ...(ca === undefined ? {} : { ca, allowPartialTrustChain: true }),
      ...(cert === undefined || key === undefined ? {} : { cert, key }),
      minVersion: 'TLSv1.2',
    });
  } catch (error) {
    const found = `certificates for the API server cannot be used: ${messageOf(error)}`;
    throw systemError(`${found}; expected PEM files`, { cause: error });
  }
  return new HttpsAgent({
    ...keep,
    secureContext,
    rejectUnauthorized: !access.insecure,
    ...(access.serverName === undefined ? {} : { servername: access.serverName }),
  });
}

function describe({ access, ca, cert, token }: Texts, agent: HttpAgent): Credentials {
  const secure = access.url.protocol === 'https:';
  const from = (source: Source | undefined): string =>
    source === undefined ? '' : 'file' in source ? source.file : 'the kubeconfig';
  const trusted = ca === undefined ? "this system's trusted certificates" : from(access.ca);
  const withToken = secure && token !== undefined && token !== '';
  const identity = withToken
    ? `token of ${from(access.token)}`
    : secure && cert !== undefined
      ? `client certificate of ${from(access.cert)}`
      : 'no credentials';
  return {
    url: access.url,
    agent,
    authorization: withToken ? `Bearer ${token}` : undefined,
    trusted,
    identity,
  };
}

async function readSource(what: string, source: Source | undefined): Promise<string | undefined> {
  if (source === undefined) return undefined;
  return 'text' in source ? source.text : readText(what, source.file);
}

async function readText(what: string, path: string): Promise<string> {
  try {
    return (await readBounded(path, { maxBytes: MAX_BYTES })).text;
  } catch (error) {
    throw cannotRead(what, path, error);
  }
}
