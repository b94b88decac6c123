/**
 * The leases in etcd as a stream of events that survives whatever happens to etcd: a watch whose stream
 * is gone goes on where it was, one whose past is gone (compacted, another cluster, a restored backup)
 * starts over with a listing.
 */
import { parseSubnetKey } from '../../config/ipv4.js';
import { messageOf } from '../../errors.js';
import type { Logger } from '../../log.js';
import { otherKey } from '../attributes.js';
import type { Lease, LeaseAttributes, LeaseEvent } from '../store.js';
import { Backoff } from '../backoff.js';
import type { EtcdClient } from './etcd-client.js';
import type { KeySpace } from './codec.js';
import { decode, list, type Listing } from './listing.js';
import { EventType, type Header, type KeyValue, type WatchResponse } from './etcd-messages.js';
import type { OwnLease } from './own-lease.js';

/** Where a watch may begin: a listing, and revisions after it whose changes it includes already. */
export interface Beginning {
  readonly listing: Pick<Listing, 'header' | 'leases' | 'rejected'>;
  readonly included: ReadonlySet<number>;
}

export interface WatchOptions {
  readonly client: EtcdClient;
  readonly keys: KeySpace;
  readonly ownLease: OwnLease;
  /** Hears that another host has written this host's lease. */
  readonly onForeign: (lease: Lease) => void;
  readonly log: Logger;
}

/** How far a watch has come. */
class Position {
  readonly cluster: bigint;
  /** It never falls in a cluster that lives on, only in one restored from a backup. */
  term: bigint;
  /** The first revision not seen yet. */
  next: number;
  readonly included: ReadonlySet<number>;
  /** Names of entries that are no leases, to tell when they go. */
  readonly unreadable = new Set<string>();

  constructor({ listing, included }: Beginning) {
    this.cluster = listing.header.clusterId;
    this.term = listing.header.raftTerm;
    this.next = listing.header.revision + 1;
    this.included = included;
    for (const { key } of listing.rejected) this.unreadable.add(key);
  }

  /** Whether the past up to here is also that of the etcd that answers now. */
  isPastOf({ clusterId, raftTerm, revision }: Header): boolean {
    const goesOn = clusterId === this.cluster && raftTerm >= this.term && revision + 1 >= this.next;
    if (goesOn) this.term = raftTerm;
    return goesOn;
  }
}

export class LeaseWatch {
  readonly #options: WatchOptions;
  #position: Position | undefined;

  constructor(options: WatchOptions) {
    this.#options = options;
  }

  /** Until the signal aborts; never rejects. */
  async *events(beginning: Beginning | undefined, signal: AbortSignal): AsyncGenerator<LeaseEvent> {
    const backoff = new Backoff();
    let begin = beginning;
    let fault: string | undefined;
    while (!signal.aborted) {
      try {
        const news = this.#follow(begin, signal, () => {
          backoff.reset();
        });
        begin = undefined;
        for await (const event of news) {
          if (fault !== undefined) {
            fault = undefined;
            yield { type: 'recovered' };
          }
          if (event !== 'standing') yield event;
        }
        // Only a compaction ends the watch without an error: what was missed must be listed.
        this.#position = undefined;
      } catch (error) {
        if (signal.aborted) return;
        const failure = error instanceof Error ? error : new Error(messageOf(error));
        if (failure.message !== fault) yield { type: 'degraded', error: failure };
        fault = failure.message;
        await backoff.wait(signal);
      }
    }
  }

  /** From the position on, or from a listing; ends when the past is compacted. */
  async *#follow(
    begin: Beginning | undefined,
    signal: AbortSignal,
    standing: () => void,
  ): AsyncGenerator<LeaseEvent | 'standing'> {
    const { client, keys, log } = this.#options;
    const before = this.#position;
    let position = begin === undefined ? await this.#resume(signal) : undefined;
    if (position === undefined) {
      const { listing, included } = begin ?? (await this.#list(signal));
      position = new Position({ listing, included });
      this.#position = position;
      const { leases, rejected } = listing;
      const restarted = before === undefined ? {} : ({ restarted: true } as const);
      yield { type: 'snapshot', leases, rejected, ...restarted };
    }
    for await (const answer of client.watch(keys.subnets, position.next, signal)) {
      if (answer.canceled) {
        log.info({ revision: answer.compactRevision }, 'etcd was compacted; listing again');
        return;
      }
      standing();
      if (answer.created) yield 'standing';
      yield* this.#decodeEvents(answer, position);
      // A watch that catches up gets batches whose header is already the newest revision: only an
      // answer without events (progress) tells by its header how far it has come.
      const last = answer.events.at(-1)?.kv.modRevision ?? answer.header.revision;
      if (!answer.created) position.next = last + 1;
    }
  }

  /** Where to go on; undefined when a listing is needed first. */
  async #resume(signal: AbortSignal): Promise<Position | undefined> {
    const position = this.#position;
    if (position === undefined) return undefined;
    // Also renews an authentication token, which a stream could not.
    const { header } = await this.#options.client.get(this.#options.keys.config, signal);
    return position.isPastOf(header) ? position : undefined;
  }

  async #list(signal: AbortSignal): Promise<Beginning> {
    const { client, keys, ownLease } = this.#options;
    const isOwn = ({ publicIp }: LeaseAttributes): boolean => ownLease.isHolder(publicIp);
    const listing = await list(client, keys, ownLease, isOwn, signal);
    for (const [name, { lease, entry }] of listing.own) {
      this.#lookAt(name, lease, entry);
    }
    return { listing, included: new Set() };
  }

  *#decodeEvents(answer: WatchResponse, position: Position): Generator<LeaseEvent> {
    const { keys, ownLease } = this.#options;
    for (const { type, kv } of answer.events) {
      if (position.included.has(kv.modRevision)) continue;
      const name = keys.entryName(kv.key.toString('utf8'));
      const decoded = type === EventType.delete ? undefined : decode(name, kv, ownLease);
      if (decoded !== undefined && 'reason' in decoded) {
        position.unreadable.add(name);
        yield { type: 'rejected', entry: decoded };
        continue;
      }
      if (decoded !== undefined) {
        position.unreadable.delete(name);
        this.#lookAt(name, decoded, kv);
        yield { type: 'put', lease: decoded };
        continue;
      }
      const subnet = parseSubnetKey(name);
      if (subnet !== undefined) yield { type: 'delete', subnet, ...otherKey(name, subnet) };
      if (position.unreadable.delete(name)) yield { type: 'cleared', key: name };
    }
  }

  #lookAt(name: string, lease: Lease, entry: KeyValue): void {
    const { ownLease, onForeign } = this.#options;
    if (ownLease.isForeign(name, lease.attributes.publicIp, entry)) onForeign(lease);
  }
}
