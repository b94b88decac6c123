/**
 * The lease store in etcd v3, with flannel's keys and values: daemons of both kinds share a cluster.
 *
 *   acquire: list -> choose -> grant -> put if nobody was faster (txn) -> else list again
 *   watch:   list at revision R -> watch from R + 1 -> stream gone? back off, watch from where it was
 *
 * A lease is a key attached to a grant of 24 h; etcd deletes the key when the grant ends. A key
 * without a grant is a reservation: whoever its PublicIP names may use it, and it stays permanent
 * (flanneld would give it a grant: flannel issue 1329). A watch that cannot go on where it was
 * (compacted, another cluster, a restored backup) starts over with a listing.
 */
import { formatCidr, formatIpv4, parseSubnetKey, subnetKey, type Cidr } from '../../config/ipv4.js';
import { messageOf, systemError } from '../../errors.js';
import type { Logger } from '../../log.js';
import type { IKeyValue, IResponseHeader, IWatchResponse } from 'etcd3';
import { allocateSubnet, ownPlace, type Allocation } from '../allocate.js';
import { otherKey, sameAttributes, serializeAttributes } from '../attributes.js';
import { leaseLost } from '../errors.js';
import type {
  Lease,
  LeaseAttributes,
  LeaseEvent,
  LeaseRequest,
  LeaseStore,
  RejectedEntry,
} from '../store.js';
import { Backoff } from './backoff.js';
import { EtcdClient } from './client.js';
import { decodeEntry, KeySpace } from './codec.js';
import { normalizeEtcdOptions, type EtcdOptions } from './options.js';

/** Seconds a lease lasts unless renewed; flanneld's `subnetTTL`. */
export const LEASE_SECONDS = 86_400;

/** How often a lost race is run again. */
const MAX_RACES = 100;

export interface EtcdStoreOptions {
  readonly log: Logger;
  /** Milliseconds since the epoch; for tests. */
  readonly now?: () => number;
  /** Of a grant, in seconds; 24 h unless a test says otherwise. */
  readonly leaseSeconds?: number;
}

/** What one listing said. */
interface Contents {
  readonly header: IResponseHeader;
  readonly leases: Lease[];
  readonly rejected: RejectedEntry[];
  readonly blocked: Cidr[];
  /** Of the entries that are asked for, by name. */
  readonly own: Map<string, { readonly lease: Lease; readonly revision: string }>;
}

const NO_GRANT = '0';

export class EtcdStore implements LeaseStore {
  readonly kind = 'etcd';
  readonly location: string;
  readonly #log: Logger;
  readonly #now: () => number;
  readonly #leaseSeconds: number;
  readonly #keys: KeySpace;
  readonly #client: EtcdClient;
  readonly #closed = new AbortController();
  /** The grant this store took out last, and when it ends. */
  #grant: { readonly id: string; readonly expiresAt: number } | undefined;

  /** Throws an input error that names the flag, or a system error for an unreadable PEM file. */
  constructor(options: EtcdOptions, { log, now, leaseSeconds }: EtcdStoreOptions) {
    const normal = normalizeEtcdOptions(options);
    this.location = `${normal.endpoints.join(',')}${normal.prefix}`;
    this.#log = log;
    this.#now = now ?? Date.now;
    this.#leaseSeconds = leaseSeconds ?? LEASE_SECONDS;
    this.#keys = new KeySpace(normal.prefix);
    this.#client = new EtcdClient(normal, this.location);
  }

  async readNetworkConfig(signal: AbortSignal): Promise<string | undefined> {
    const { entry } = await this.#client.get(this.#keys.config, signal);
    return entry?.value.toString('utf8');
  }

  async acquireLease(request: LeaseRequest, signal: AbortSignal): Promise<Lease> {
    const { config, attributes, previousSubnet, formerPublicIp } = request;
    for (let race = 0; race < MAX_RACES; race += 1) {
      const contents = await this.#list(
        ({ publicIp }) => publicIp === attributes.publicIp || publicIp === formerPublicIp,
        signal,
      );
      const allocation = allocateSubnet({
        config,
        publicIp: attributes.publicIp,
        formerPublicIp,
        leases: contents.leases,
        blocked: contents.blocked,
        previousSubnet,
        ...ownPlace(request),
        now: this.#now(),
        random: Math.random,
      });
      const { subnet, origin, obsolete } = allocation;
      for (const old of obsolete) await this.#delete(old, contents, signal);
      const lease = await this.#take(allocation, attributes, contents, signal);
      if (lease !== undefined) {
        this.#log.debug(
          { subnet: formatCidr(subnet), origin, removed: obsolete.map(formatCidr) },
          'lease chosen',
        );
        return lease;
      }
      this.#log.debug({ subnet: formatCidr(subnet) }, 'another host was faster; choosing again');
    }
    throw systemError(`lost ${MAX_RACES} races for a subnet in ${this.location}; giving up`);
  }

  async renewLease(lease: Lease, signal: AbortSignal): Promise<Lease> {
    const key = this.#keys.leaseKey(lease.subnet);
    for (let race = 0; race < MAX_RACES; race += 1) {
      const { entry } = await this.#client.get(key, signal);
      if (entry === undefined) throw leaseLost(lease, 'its key is gone from etcd');
      const decoded = decodeEntry(subnetKey(lease.subnet), entry.value);
      if (typeof decoded === 'string') {
        throw systemError(`${key} cannot be renewed: ${decoded}`, { field: key });
      }
      const holder = decoded.attributes.publicIp;
      if (holder !== lease.attributes.publicIp) {
        throw leaseLost(lease, `it now belongs to ${formatIpv4(holder)}`);
      }
      const renewed =
        entry.lease === NO_GRANT
          ? await this.#keepReservation(decoded.attributes, lease, entry.mod_revision, signal)
          : await this.#put(lease.subnet, lease.attributes, entry.mod_revision, signal);
      if (renewed !== undefined) return renewed;
    }
    throw systemError(`${key} keeps changing; gave up renewing it`, { field: key });
  }

  async *watchLeases(outer: AbortSignal): AsyncIterable<LeaseEvent> {
    const signal = AbortSignal.any([outer, this.#closed.signal]);
    const backoff = new Backoff();
    let position: Position | undefined;
    let degraded = false;
    while (!signal.aborted) {
      try {
        position = await this.#reposition(position, signal);
        const news = this.#eventsAfter(position, signal, () => {
          backoff.reset();
        });
        for await (const event of news) {
          if (degraded) {
            degraded = false;
            yield { type: 'recovered' };
          }
          if (event !== 'standing') yield event;
        }
        // Only a compaction ends the watch without an error: what was missed must be listed.
        position = undefined;
      } catch (error) {
        if (signal.aborted) return;
        const failure = error instanceof Error ? error : new Error(messageOf(error));
        if (degraded) this.#log.debug({ error: failure.message }, 'etcd is still away');
        else yield { type: 'degraded', error: failure };
        degraded = true;
        await backoff.wait(signal);
      }
    }
  }

  reconnect(): void {
    this.#client.reconnect();
  }

  close(): Promise<void> {
    this.#closed.abort();
    this.#client.close();
    return Promise.resolve();
  }

  /** Where to watch from; a listing is needed first where `listed` is undefined. */
  async #reposition(position: Position | undefined, signal: AbortSignal): Promise<Position> {
    if (position === undefined) return new Position();
    if (position.cluster === undefined) return position;
    // Also renews an expired authentication token, which a stream could not.
    const { header } = await this.#client.get(this.#keys.config, signal);
    const same = header.cluster_id === position.cluster;
    return same && BigInt(header.revision) + 1n >= position.next ? position : new Position();
  }

  /** What happens from a position on, which it moves along; ends when the past is compacted. */
  async *#eventsAfter(
    position: Position,
    signal: AbortSignal,
    standing: () => void,
  ): AsyncGenerator<LeaseEvent | 'standing'> {
    if (position.cluster === undefined) {
      const { header, leases, rejected } = await this.#list(() => false, signal);
      position.cluster = header.cluster_id;
      position.next = BigInt(header.revision) + 1n;
      for (const { key } of rejected) position.unreadable.add(key);
      yield { type: 'snapshot', leases, rejected };
    }
    for await (const answer of this.#client.watch(this.#keys.subnets, position.next, signal)) {
      if (answer.canceled) {
        const compacted = BigInt(answer.compact_revision) > 0n;
        if (!compacted) throw systemError(`etcd ended the watch: ${answer.cancel_reason}`);
        this.#log.info({ revision: answer.compact_revision }, 'etcd was compacted; listing again');
        return;
      }
      standing();
      if (answer.created) yield 'standing';
      yield* this.#decodeEvents(answer, position);
      // A watch that catches up gets batches whose header is already the newest revision: only an
      // answer without events (progress) tells by its header how far it has come.
      const last = answer.events.at(-1)?.kv.mod_revision ?? answer.header.revision;
      if (!answer.created) position.next = BigInt(last) + 1n;
    }
  }

  *#decodeEvents(answer: IWatchResponse, position: Position): Generator<LeaseEvent> {
    for (const { type, kv } of answer.events) {
      const name = this.#keys.entryName(kv.key.toString('utf8'));
      const decoded = type === 'Delete' ? undefined : this.#decode(name, kv);
      if (decoded !== undefined && 'reason' in decoded) {
        position.unreadable.add(name);
        yield { type: 'rejected', entry: decoded };
        continue;
      }
      if (decoded !== undefined) {
        position.unreadable.delete(name);
        yield { type: 'put', lease: decoded };
        continue;
      }
      const subnet = parseSubnetKey(name);
      if (subnet !== undefined) yield { type: 'delete', subnet, ...otherKey(name, subnet) };
      if (position.unreadable.delete(name)) yield { type: 'cleared', key: name };
    }
  }

  /** What is in etcd; `isOwn` says of which leases the revision is needed to change them. */
  async #list(
    isOwn: (attributes: LeaseAttributes) => boolean,
    signal: AbortSignal,
  ): Promise<Contents> {
    const contents: Omit<Contents, 'header'> = {
      leases: [],
      rejected: [],
      blocked: [],
      own: new Map(),
    };
    const take = (kv: IKeyValue): void => {
      const name = this.#keys.entryName(kv.key.toString('utf8'));
      const lease = this.#decode(name, kv);
      if (!('reason' in lease)) {
        contents.leases.push(lease);
        if (isOwn(lease.attributes)) contents.own.set(name, { lease, revision: kv.mod_revision });
        return;
      }
      contents.rejected.push(lease);
      const subnet = parseSubnetKey(name);
      if (subnet !== undefined) contents.blocked.push(subnet);
    };
    const header = await this.#client.list(this.#keys.subnets, take, signal);
    return { header, ...contents };
  }

  #decode(name: string, kv: IKeyValue): Lease | RejectedEntry {
    const decoded = decodeEntry(name, kv.value);
    if (typeof decoded === 'string') return { key: name, reason: decoded };
    if (kv.lease === NO_GRANT) return { ...decoded, expiresAt: undefined };
    const own = this.#grant;
    return { ...decoded, expiresAt: own?.id === kv.lease ? own.expiresAt : Infinity };
  }

  /** Makes the chosen subnet ours; undefined when somebody was faster. */
  async #take(
    { subnet, origin }: Allocation,
    attributes: LeaseAttributes,
    contents: Contents,
    signal: AbortSignal,
  ): Promise<Lease | undefined> {
    const stored = contents.own.get(subnetKey(subnet));
    if (origin === 'reservation' && stored !== undefined) {
      const wanted = { subnet, attributes, expiresAt: undefined };
      return this.#keepReservation(stored.lease.attributes, wanted, stored.revision, signal);
    }
    return this.#put(subnet, attributes, stored?.revision, signal);
  }

  /** A reservation keeps having no grant; it is written only where its value says something else. */
  async #keepReservation(
    stored: LeaseAttributes,
    { subnet, attributes }: Lease,
    revision: string,
    signal: AbortSignal,
  ): Promise<Lease | undefined> {
    const lease = { subnet, attributes, expiresAt: undefined };
    if (sameAttributes(stored, attributes)) return lease;
    const done = await this.#putIf(subnet, attributes, revision, NO_GRANT, signal);
    return done ? lease : undefined;
  }

  /** Puts the key with a new grant if it is still as seen: at `revision`, or absent. */
  async #put(
    subnet: Cidr,
    attributes: LeaseAttributes,
    revision: string | undefined,
    signal: AbortSignal,
  ): Promise<Lease | undefined> {
    const expiresAt = this.#now() + this.#leaseSeconds * 1_000;
    const id = await this.#client.grant(this.#leaseSeconds, signal);
    const before = this.#grant;
    // Known before the put: its event may be here before the answer.
    this.#grant = { id, expiresAt };
    if (await this.#putIf(subnet, attributes, revision, id, signal)) {
      return { subnet, attributes, expiresAt };
    }
    this.#grant = before;
    await this.#client.revoke(id, signal);
    return undefined;
  }

  #putIf(
    subnet: Cidr,
    attributes: LeaseAttributes,
    revision: string | undefined,
    grant: string,
    signal: AbortSignal,
  ): Promise<boolean> {
    const key = Buffer.from(this.#keys.leaseKey(subnet));
    const value = Buffer.from(serializeAttributes(attributes));
    return this.#client.transact(
      {
        compare: [unchanged(key, revision)],
        success: [{ request_put: { key, value, lease: grant } }],
      },
      signal,
    );
  }

  async #delete(subnet: Cidr, contents: Contents, signal: AbortSignal): Promise<void> {
    const key = Buffer.from(this.#keys.leaseKey(subnet));
    const revision = contents.own.get(subnetKey(subnet))?.revision;
    await this.#client.transact(
      { compare: [unchanged(key, revision)], success: [{ request_delete_range: { key } }] },
      signal,
    );
  }
}

/** How far a watch has come. */
class Position {
  /** Of the listing; undefined before there is one. */
  cluster: string | undefined;
  /** The first revision not seen yet. */
  next = 0n;
  /** Names of entries that are no leases, to tell when they go. */
  readonly unreadable = new Set<string>();
}

function unchanged(key: Buffer, revision: string | undefined) {
  return revision === undefined
    ? { key, target: 'Version' as const, result: 'Equal' as const, version: '0' }
    : { key, target: 'Mod' as const, result: 'Equal' as const, mod_revision: revision };
}
