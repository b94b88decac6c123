/**
 * The four requests that the store makes of the Kubernetes API: a pod and a node read, all nodes listed and
 * watched, a node's status patched. What goes wrong is a store error (src/lease/store-errors.ts); what
 * somebody has to put right is reported until the same request succeeds.
 */
import type { IncomingMessage } from 'node:http';
import { isObject, type JsonObject } from '../../config/json.js';
import type { Problem } from '../../problems.js';
import { storeFault } from '../store-errors.js';
import { afterSilence, SilenceError } from '../timing.js';
import { KubeCredentials, type Credentials } from './credentials.js';
import { ask, readAll, type Limits, type Question } from './exchange.js';
import { jsonLines } from './json-lines.js';
import { ApiStatus, apiStatus, describe, explain, isExpired, type Ask } from './kube-faults.js';
import type { KubeOptions } from './kube-options.js';
import { parseNode, type KubeNode } from './node-lease.js';

export type NodeChange =
  | { readonly type: 'put'; readonly node: KubeNode }
  | { readonly type: 'delete'; readonly node: KubeNode }
  /** Only how far the watch has come. */
  | { readonly type: 'bookmark'; readonly resourceVersion: string }
  /** The server has begun to answer. */
  | { readonly type: 'standing' };

export interface KubeTiming {
  /** A request without a byte for so long has failed. */
  readonly silenceMs: number;
  /** A watch that is quiet so long is checked by another request. */
  readonly quietMs: number;
  /** One that is quiet so long is begun again: bookmarks come about each minute. */
  readonly staleMs: number;
  /** The server ends a watch after this, plus up to as much again. */
  readonly watchMs: number;
}

export const KUBE_TIMING: KubeTiming = {
  silenceMs: 10_000,
  quietMs: 25_000,
  staleMs: 150_000,
  watchMs: 300_000,
};

/** Nodes asked for at a time: some 10 kB each, with the names of their images. */
const PAGE = 500;
const MAX_PAGE_BYTES = 128 * 1024 * 1024;
const MAX_OBJECT_BYTES = 8 * 1024 * 1024;
/** How often a listing is begun again whose past ends before it does. */
const MAX_LISTINGS = 3;

export interface KubeClientOptions {
  /** Hears every problem there is now. */
  readonly report?: ((problems: readonly Problem[]) => void) | undefined;
  readonly timing?: Partial<KubeTiming> | undefined;
}

export class KubeClient {
  readonly location: string;
  readonly #credentials: KubeCredentials;
  readonly #report: (problems: readonly Problem[]) => void;
  readonly #timing: KubeTiming;
  readonly #problems = new Map<string, Problem>();
  #disconnected = new AbortController();

  private constructor(location: string, credentials: KubeCredentials, options: KubeClientOptions) {
    this.location = location;
    this.#credentials = credentials;
    this.#report = options.report ?? (() => undefined);
    this.#timing = { ...KUBE_TIMING, ...options.timing };
  }

  /** Connects to nothing. Rejects when kubeconfig, token or certificates cannot be read. */
  static async open(options: KubeOptions, more: KubeClientOptions = {}): Promise<KubeClient> {
    const credentials = new KubeCredentials(options);
    const { url } = await credentials.load();
    const location = `${url.origin}${url.pathname.replace(/\/$/, '')}`;
    return new KubeClient(location, credentials, more);
  }

  getNode(name: string, signal: AbortSignal): Promise<KubeNode> {
    const what: Ask = { verb: 'get', resource: 'nodes', name };
    return this.#told(what, signal, async (own) => {
      const question: Question = { method: 'GET', path: nodePath(name) };
      return nodeOf(await this.#object(question, MAX_OBJECT_BYTES, own));
    });
  }

  /** Name of the node that the pod runs on. */
  nodeOfPod(namespace: string, name: string, signal: AbortSignal): Promise<string> {
    const what: Ask = { verb: 'get', resource: 'pods', name: `${namespace}/${name}` };
    return this.#told(what, signal, async (own) => {
      const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(name)}`;
      const { spec } = await this.#object({ method: 'GET', path }, MAX_OBJECT_BYTES, own);
      const nodeName = isObject(spec) ? spec.nodeName : undefined;
      if (typeof nodeName === 'string' && nodeName !== '') return nodeName;
      throw new Error(`pod ${namespace}/${name} has no spec.nodeName: expected one that runs`);
    });
  }

  /** Gives each node to `take`, page by page; resolves with the resource version of the whole. */
  listNodes(
    begin: () => (node: KubeNode) => void,
    signal: AbortSignal,
  ): Promise<{ readonly resourceVersion: string }> {
    return this.#told({ verb: 'list', resource: 'nodes' }, signal, async (own) => {
      for (let attempt = 1; ; attempt += 1) {
        try {
          return await this.#listOnce(begin(), own);
        } catch (error) {
          if (attempt >= MAX_LISTINGS || !isExpired(error)) throw error;
        }
      }
    });
  }

  /**
   * Changes after the resource version. Ends when the server ends the watch, which it does every few
   * minutes; rejects with `isExpired` when that past is gone. While nothing changes the server is asked
   * for `ownNode`, to see that it is there.
   */
  async *watchNodes(
    resourceVersion: string,
    ownNode: string,
    outer: AbortSignal,
  ): AsyncGenerator<NodeChange> {
    const what: Ask = { verb: 'watch', resource: 'nodes' };
    const end = new AbortController();
    const signal = AbortSignal.any([outer, this.#disconnected.signal, end.signal]);
    const seconds = Math.round((this.#timing.watchMs * (1 + Math.random())) / 1_000);
    const query = new URLSearchParams({
      watch: 'true',
      resourceVersion,
      allowWatchBookmarks: 'true',
      timeoutSeconds: String(Math.max(1, seconds)),
    });
    const question: Question = { method: 'GET', path: `/api/v1/nodes?${query.toString()}` };
    const limits = { silenceMs: this.#timing.silenceMs, maxBytes: 0 };
    let credentials: Credentials | undefined;
    try {
      credentials = await this.#credentials.load();
      const answer = await ask(credentials, question, limits, signal);
      this.#note(what, undefined);
      yield { type: 'standing' };
      for await (const value of jsonLines(this.#chunks(answer, ownNode, signal))) {
        yield changeOf(value);
      }
    } catch (error) {
      outer.throwIfAborted();
      if (isExpired(error)) throw error;
      throw this.#explained(error, what, credentials);
    } finally {
      end.abort();
    }
  }

  /** Merges into metadata and status of the node. */
  patchNodeStatus(name: string, patch: JsonObject, signal: AbortSignal): Promise<KubeNode> {
    const what: Ask = { verb: 'patch', resource: 'nodes/status', name };
    return this.#told(what, signal, async (own) => {
      const path = `${nodePath(name)}/status`;
      const question: Question = { method: 'PATCH', path, body: JSON.stringify(patch) };
      return nodeOf(await this.#object(question, MAX_OBJECT_BYTES, own));
    });
  }

  /** What is under way fails; the next request makes a connection of its own. */
  reconnect(): void {
    this.#disconnected.abort(new Error('the host has another address'));
    this.#disconnected = new AbortController();
    this.#credentials.disconnect();
  }

  close(): void {
    this.#disconnected.abort(new Error('the store is closed'));
    this.#credentials.disconnect();
  }

  async #listOnce(
    take: (node: KubeNode) => void,
    signal: AbortSignal,
  ): Promise<{ readonly resourceVersion: string }> {
    let next: string | undefined;
    for (;;) {
      const query = new URLSearchParams({ limit: String(PAGE) });
      if (next !== undefined) query.set('continue', next);
      const question: Question = { method: 'GET', path: `/api/v1/nodes?${query.toString()}` };
      const { metadata, items } = await this.#object(question, MAX_PAGE_BYTES, signal);
      if (!isObject(metadata) || !Array.isArray(items)) throw notAnApi();
      for (const item of items) take(nodeOf(item));
      if (typeof metadata.continue === 'string' && metadata.continue !== '') {
        next = metadata.continue;
        continue;
      }
      if (typeof metadata.resourceVersion !== 'string') throw notAnApi();
      return { resourceVersion: metadata.resourceVersion };
    }
  }

  async #object(question: Question, maxBytes: number, signal: AbortSignal): Promise<JsonObject> {
    const limits: Limits = { silenceMs: this.#timing.silenceMs, maxBytes };
    const answer = await ask(await this.#credentials.load(), question, limits, signal);
    const text = await readAll(answer, limits);
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      throw notAnApi();
    }
    if (!isObject(value)) throw notAnApi();
    return value;
  }

  /** The watch's bytes; a quiet server is asked something else, and one that is quiet too long left. */
  async *#chunks(
    answer: IncomingMessage,
    ownNode: string,
    signal: AbortSignal,
  ): AsyncGenerator<Buffer> {
    const { quietMs, staleMs } = this.#timing;
    let cancel = (): void => undefined;
    let heard = performance.now();
    const arm = (): void => {
      cancel();
      cancel = afterSilence(quietMs, () => {
        if (performance.now() - heard >= staleMs) {
          answer.destroy(new SilenceError(staleMs));
          return;
        }
        this.#probe(ownNode, signal).then(arm, (error: unknown) => {
          if (signal.aborted) return;
          answer.destroy(error instanceof Error ? error : new Error(String(error)));
        });
      });
    };
    arm();
    try {
      for await (const chunk of answer) {
        heard = performance.now();
        arm();
        yield chunk as Buffer;
      }
    } finally {
      cancel();
      answer.destroy();
    }
  }

  /** Resolves when the server answers, whatever it says. */
  async #probe(name: string, signal: AbortSignal): Promise<void> {
    const question: Question = { method: 'GET', path: nodePath(name) };
    await this.#object(question, MAX_OBJECT_BYTES, signal).catch((error: unknown) => {
      if (!(error instanceof ApiStatus)) throw error;
    });
  }

  async #told<T>(
    what: Ask,
    outer: AbortSignal,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const signal = AbortSignal.any([outer, this.#disconnected.signal]);
    let value: T;
    try {
      value = await work(signal);
    } catch (error) {
      outer.throwIfAborted();
      throw this.#explained(error, what, await this.#credentials.load().catch(() => undefined));
    }
    this.#note(what, undefined);
    return value;
  }

  #explained(error: unknown, what: Ask, credentials: Credentials | undefined): Error {
    if (storeFault(error) !== undefined) return error as Error;
    const { trusted = '', identity = '' } = credentials ?? {};
    const found = explain(error, what, { location: this.location, trusted, identity });
    this.#note(what, found.problem);
    return found.error;
  }

  /** Keeps what is wrong with one kind of request, or that nothing is any more. */
  #note(what: Ask, problem: Problem | undefined): void {
    const key = describe(what);
    if (problem === undefined && !this.#problems.has(key)) return;
    if (problem === undefined) this.#problems.delete(key);
    else this.#problems.set(key, problem);
    const all = new Map([...this.#problems.values()].map((one) => [one.id, one]));
    this.#report([...all.values()]);
  }
}

function nodePath(name: string): string {
  return `/api/v1/nodes/${encodeURIComponent(name)}`;
}

function nodeOf(value: unknown): KubeNode {
  const node = parseNode(value);
  if (node === undefined) throw notAnApi();
  return node;
}

function notAnApi(): Error {
  return new Error('its answer is not one of the Kubernetes API');
}

/** Of a line of the watch. Throws an ApiStatus for an event of type ERROR. */
function changeOf(value: unknown): NodeChange {
  if (!isObject(value)) throw notAnApi();
  const { type, object } = value;
  if (type === 'ERROR') throw apiStatus(500, object);
  if (type === 'BOOKMARK') {
    const metadata = isObject(object) && isObject(object.metadata) ? object.metadata : {};
    if (typeof metadata.resourceVersion !== 'string') throw notAnApi();
    return { type: 'bookmark', resourceVersion: metadata.resourceVersion };
  }
  return { type: type === 'DELETED' ? 'delete' : 'put', node: nodeOf(object) };
}
