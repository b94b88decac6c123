/**
 * The nodes of the cluster as a stream of lease events that survives whatever happens to the API server:
 *
 *   list, page by page -> snapshot -> watch from there --ended, cut--> watch from where it was
 *                            ^                            |
 *                            +---- 410, the past is gone -+
 */
import { messageOf } from '../../errors.js';
import type { Logger } from '../../log.js';
import { Backoff } from '../backoff.js';
import type { LeaseEvent } from '../store.js';
import type { KubeClient } from './kube-client.js';
import { isExpired } from './kube-faults.js';
import type { KubeNode } from './node-lease.js';
import { NodeTable, type NodeTableOptions } from './node-table.js';

export interface NodeWatchOptions extends Omit<NodeTableOptions, 'ownNode'> {
  readonly client: KubeClient;
  /** The server may have to be asked for it. */
  readonly ownNode: (signal: AbortSignal) => Promise<string>;
  readonly log: Logger;
}

/** Thousands of daemons lose a server at one moment: they must not come back at one. */
const BACKOFF = { firstMs: 200, limitMs: 8_000, jitter: 1 };
/** A watch that ends sooner than this was no watch: the next one waits. */
const SHORT_MS = 1_000;

export class NodeWatch {
  readonly #options: NodeWatchOptions;
  #table: NodeTable | undefined;
  #resourceVersion: string | undefined;

  constructor(options: NodeWatchOptions) {
    this.#options = options;
  }

  /** Until the signal aborts; never rejects. */
  async *events(signal: AbortSignal): AsyncGenerator<LeaseEvent> {
    const backoff = new Backoff(BACKOFF);
    let fault: string | undefined;
    while (!signal.aborted) {
      const started = performance.now();
      try {
        for await (const event of this.#follow(signal)) {
          if (fault !== undefined) {
            fault = undefined;
            yield { type: 'recovered' };
          }
          if (event !== 'standing') yield event;
        }
        if (performance.now() - started >= SHORT_MS) backoff.reset();
        else await backoff.wait(signal);
      } catch (error) {
        if (signal.aborted) return;
        const failure = error instanceof Error ? error : new Error(messageOf(error));
        if (failure.message !== fault) yield { type: 'degraded', error: failure };
        fault = failure.message;
        if (performance.now() - started >= SHORT_MS) backoff.reset();
        await backoff.wait(signal);
      }
    }
  }

  /** One listing if one is needed, and one watch. */
  async *#follow(signal: AbortSignal): AsyncGenerator<LeaseEvent | 'standing'> {
    const { client, log } = this.#options;
    const ownNode = await this.#options.ownNode(signal);
    const table = (this.#table ??= new NodeTable({ ...this.#options, ownNode }));
    if (this.#resourceVersion === undefined) {
      let nodes: KubeNode[] = [];
      const begin = (): ((node: KubeNode) => void) => {
        nodes = [];
        return (node) => nodes.push(node);
      };
      const { resourceVersion } = await client.listNodes(begin, signal);
      const snapshot = table.replaceAll(nodes);
      this.#resourceVersion = resourceVersion;
      log.debug({ nodes: nodes.length, leases: snapshot.leases.length }, 'nodes listed');
      nodes = [];
      yield snapshot;
    }
    try {
      for await (const change of client.watchNodes(this.#resourceVersion, ownNode, signal)) {
        if (change.type === 'standing') {
          yield 'standing';
          continue;
        }
        if (change.type === 'bookmark') {
          this.#resourceVersion = change.resourceVersion;
          continue;
        }
        const { node } = change;
        this.#resourceVersion = node.resourceVersion;
        yield* change.type === 'put' ? table.put(node) : table.delete(node.name);
      }
    } catch (error) {
      if (!isExpired(error)) throw error;
      log.info(
        { store: client.location },
        'the watch is too old for the API server; listing again',
      );
      this.#resourceVersion = undefined;
    }
  }
}
