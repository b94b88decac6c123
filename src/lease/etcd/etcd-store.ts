/**
 * The lease store in etcd v3, with flannel's keys and values: daemons of both kinds share a cluster.
 *
 *   acquire: list, and take out a grant -> choose -> put if no other host was faster (txn) -> else list again
 *   renew:   read -> still ours? -> grant -> put if unchanged
 *   watch:   from the listing of the acquisition, or one of its own (watch.ts)
 *
 * A lease is a key attached to a grant of 24 h; etcd deletes the key when the grant ends. A key
 * without a grant is a reservation: the host its PublicIP names may use it, and it stays permanent
 * (flanneld would give it a grant: flannel issue 1329).
 */
import { formatCidr, formatIpv4, subnetKey, type Cidr } from '../../config/ipv4.js';
import { isSubnetInRange, type NetworkConfig } from '../../config/network.js';
import { messageOf, systemError } from '../../errors.js';
import type { Logger } from '../../log.js';
import type { Problem } from '../../problems.js';
import { allocateSubnet, ownPlace, type Allocation } from '../allocate.js';
import { keyOf, sameAttributes, serializeAttributes } from '../attributes.js';
import { leaseLost } from '../store-errors.js';
import { CLOCKS, type Clocks } from '../expiry.js';
import type { Lease, LeaseAttributes, LeaseEvent, LeaseRequest, LeaseStore } from '../store.js';
import { EtcdClient } from './etcd-client.js';
import { decodeEntry, KeySpace } from './codec.js';
import { list, type Listing } from './listing.js';
import { Target, type KeyValue } from './etcd-messages.js';
import { checkEtcdOptions, type EtcdOptions } from './etcd-options.js';
import { NO_GRANT, OwnLease } from './own-lease.js';
import { isNoSpace } from './refusals.js';
import { LeaseWatch, type Beginning } from './lease-watch.js';

/** Seconds a lease lasts unless renewed; flanneld's `subnetTTL`. */
export const LEASE_SECONDS = 86_400;

/** How often a lost race is run again. */
const MAX_RACES = 100;

/** A listing older than this is taken again before a watch begins. */
const FRESH_MS = 10_000;

export interface EtcdStoreOptions {
  readonly log: Logger;
  /** Hears what somebody has to put right; an empty list once that was done. */
  readonly report?: (problems: readonly Problem[]) => void;
  readonly clocks?: Clocks;
  /** TTL of a grant in seconds; default 24 h, tests set others. */
  readonly leaseSeconds?: number;
}

/** A grant for a key that is about to be put. */
interface Grant {
  readonly id: bigint;
  readonly ttl: number;
}

export class EtcdStore implements LeaseStore {
  readonly kind = 'etcd';
  readonly location: string;
  readonly #log: Logger;
  readonly #report: (problems: readonly Problem[]) => void;
  readonly #clocks: Clocks;
  readonly #leaseSeconds: number;
  readonly #keys: KeySpace;
  readonly #client: EtcdClient;
  readonly #ownLease: OwnLease;
  readonly #closed = new AbortController();
  #clientProblems: readonly Problem[] = [];
  /** This host's lease was written by another host; once per process ours is written again. */
  #shared: Problem | undefined;
  #contested = false;
  #watches = 0;
  #beginning: (Beginning & { readonly at: number }) | undefined;

  /** Throws an input error that names the flag, or a system error for PEM files of no use. */
  constructor(given: EtcdOptions, options: EtcdStoreOptions) {
    const { options: etcd, warnings } = checkEtcdOptions(given);
    const { log, report, clocks, leaseSeconds } = options;
    const slash = etcd.prefix.startsWith('/') ? '' : '/';
    this.location = `${etcd.endpoints.join(',')}${slash}${etcd.prefix}`;
    this.#log = log;
    this.#report = report ?? (() => undefined);
    this.#clocks = clocks ?? CLOCKS;
    this.#leaseSeconds = leaseSeconds ?? LEASE_SECONDS;
    this.#keys = new KeySpace(etcd.prefix);
    this.#ownLease = new OwnLease(this.#clocks);
    this.#client = new EtcdClient(etcd, {
      location: this.location,
      report: (problems) => {
        this.#clientProblems = problems;
        this.#tellProblems();
      },
      authenticationOff: () => {
        log.warn(
          { store: this.location },
          'etcd has authentication switched off: user and password have no effect',
        );
      },
    });
    for (const warning of warnings) log.warn({ store: this.location }, warning);
  }

  async readNetworkConfig(signal: AbortSignal): Promise<string | undefined> {
    const { entry } = await this.#client.get(this.#keys.config, signal);
    return entry?.value.toString('utf8');
  }

  async acquireLease(request: LeaseRequest, signal: AbortSignal): Promise<Lease> {
    const { config, attributes, previousSubnet, formerPublicIp } = request;
    // Needed but for a reservation: taken out while the listing is under way, it costs no time.
    const granting = this.#client.grant(this.#leaseSeconds, signal);
    granting.catch(() => undefined);
    const included = new Set<number>();
    try {
      for (let race = 0; race < MAX_RACES; race += 1) {
        const listing = await this.#list(
          ({ publicIp }) => publicIp === attributes.publicIp || publicIp === formerPublicIp,
          signal,
        );
        const allocation = allocateSubnet({
          config,
          publicIp: attributes.publicIp,
          formerPublicIp,
          leases: listing.leases,
          blocked: listing.blocked,
          previousSubnet,
          ...ownPlace(request),
          now: this.#clocks.now(),
          random: Math.random,
        });
        const { subnet, origin, obsolete } = allocation;
        for (const old of obsolete) await this.#delete(old, listing, included, signal);
        const lease = await this.#take(allocation, attributes, listing, granting, included, signal);
        if (lease !== undefined) {
          // A reservation has none, and is not held up for that.
          if (lease.expiresAt === undefined) void this.#giveBack(granting);
          this.#log.debug(
            { subnet: formatCidr(subnet), origin, removed: obsolete.map(formatCidr) },
            'lease chosen',
          );
          this.#beginFrom(listing, included, lease, obsolete);
          return lease;
        }
        included.clear();
        this.#log.debug({ subnet: formatCidr(subnet) }, 'another host was faster; choosing again');
      }
    } catch (error) {
      // Waited for: who fails may be about to end, and must leave nothing behind.
      if (!signal.aborted) await this.#giveBack(granting);
      throw error;
    }
    await this.#giveBack(granting);
    throw systemError(`lost ${MAX_RACES} races for a subnet in ${this.location}; giving up`);
  }

  accepts(config: NetworkConfig, subnet: Cidr): boolean {
    return isSubnetInRange(config, subnet);
  }

  async renewLease(lease: Lease, signal: AbortSignal): Promise<Lease> {
    const key = this.#keys.leaseKey(lease.subnet);
    for (let race = 0; race < MAX_RACES; race += 1) {
      const { entry } = await this.#client.get(key, signal);
      if (entry === undefined) throw leaseLost(lease, 'its key is gone from etcd');
      const name = subnetKey(lease.subnet);
      const decoded = decodeEntry(name, entry.value);
      if (typeof decoded === 'string') {
        throw systemError(`${key} cannot be renewed: ${decoded}`, { field: key });
      }
      const holder = decoded.attributes.publicIp;
      if (holder !== lease.attributes.publicIp) {
        throw leaseLost(lease, `it now belongs to ${formatIpv4(holder)}`);
      }
      if (this.#ownLease.isForeign(name, holder, entry)) this.#sayShared(lease);
      else if (this.#ownLease.expiry(entry.lease) !== undefined) this.#sayShared(undefined);
      const renewed =
        entry.lease === NO_GRANT
          ? await this.#keepReservation(decoded.attributes, lease, entry, new Set(), signal)
          : await this.#renewEntry(lease, entry, signal);
      if (renewed !== undefined) return renewed;
    }
    throw systemError(`${key} keeps changing; gave up renewing it`, { field: key });
  }

  async refreshLease(lease: Lease, signal: AbortSignal): Promise<Lease> {
    const { entry } = await this.#client.get(this.#keys.leaseKey(lease.subnet), signal);
    const name = subnetKey(lease.subnet);
    const decoded = entry === undefined ? undefined : decodeEntry(name, entry.value);
    const isOurs =
      typeof decoded === 'object' && decoded.attributes.publicIp === lease.attributes.publicIp;
    // What else the entry may be the watch tells.
    if (entry === undefined || !isOurs) return lease;
    const { publicIp } = lease.attributes;
    if (entry.lease === NO_GRANT)
      return { subnet: lease.subnet, attributes: lease.attributes, expiresAt: undefined };
    const foreign = this.#ownLease.isForeign(name, publicIp, entry);
    if (foreign) this.#sayShared(lease);
    const asked = this.#clocks.boot();
    const { ttl } = await this.#client.timeToLive(entry.lease, signal);
    if (ttl <= 0 || foreign) return lease;
    // After a start without etcd: the cached lease is still in etcd, and known to be ours from now on.
    if (!this.#ownLease.isKnown) this.#ownLease.hold(name, publicIp, entry.modRevision);
    const expiry = this.#ownLease.learn(entry.lease, ttl, this.#clocks.boot() - asked);
    return { ...lease, ...expiry };
  }

  async *watchLeases(outer: AbortSignal): AsyncIterable<LeaseEvent> {
    const signal = AbortSignal.any([outer, this.#closed.signal]);
    const beginning = this.#beginning;
    this.#beginning = undefined;
    const fresh = beginning !== undefined && performance.now() - beginning.at < FRESH_MS;
    const watch = new LeaseWatch({
      client: this.#client,
      keys: this.#keys,
      ownLease: this.#ownLease,
      onForeign: (lease) => {
        this.#sayShared(lease);
      },
      log: this.#log,
    });
    this.#watches += 1;
    try {
      yield* watch.events(fresh ? beginning : undefined, signal);
    } finally {
      this.#watches -= 1;
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

  #list(isOwn: (attributes: LeaseAttributes) => boolean, signal: AbortSignal): Promise<Listing> {
    return list(this.#client, this.#keys, this.#ownLease, isOwn, signal);
  }

  /** The watch that follows an acquisition needs no listing of its own. */
  #beginFrom(
    { header, leases, rejected }: Listing,
    included: ReadonlySet<number>,
    own: Lease,
    obsolete: readonly Cidr[],
  ): void {
    if (this.#watches > 0) return;
    const replaced = new Set([own.subnet, ...obsolete].map(subnetKey));
    const others = leases.filter((lease) => !replaced.has(keyOf(lease)));
    const listing = {
      header,
      leases: [...others, own],
      rejected: rejected.filter(({ key }) => !replaced.has(key)),
    };
    this.#beginning = { listing, included, at: performance.now() };
  }

  /** Makes the chosen subnet ours; undefined when somebody was faster. */
  async #take(
    { subnet, origin }: Allocation,
    attributes: LeaseAttributes,
    listing: Listing,
    granting: Promise<Grant>,
    included: Set<number>,
    signal: AbortSignal,
  ): Promise<Lease | undefined> {
    const stored = listing.own.get(subnetKey(subnet));
    if (origin === 'reservation' && stored !== undefined) {
      const wanted = { subnet, attributes, expiresAt: undefined };
      const { lease, entry } = stored;
      return this.#keepReservation(lease.attributes, wanted, entry, included, signal);
    }
    try {
      return await this.#put(subnet, attributes, stored?.entry, await granting, included, signal);
    } catch (error) {
      const same = stored !== undefined && sameAttributes(stored.lease.attributes, attributes);
      const kept = same
        ? await this.#keepAlive(error, subnet, attributes, stored.entry, signal)
        : undefined;
      if (kept === undefined) throw error;
      return kept;
    }
  }

  /** A reservation keeps having no grant; it is written only where its value says something else. */
  async #keepReservation(
    stored: LeaseAttributes,
    { subnet, attributes }: Lease,
    entry: KeyValue,
    included: Set<number>,
    signal: AbortSignal,
  ): Promise<Lease | undefined> {
    const lease = { subnet, attributes, expiresAt: undefined };
    if (sameAttributes(stored, attributes)) {
      this.#ownLease.hold(subnetKey(subnet), attributes.publicIp, entry.modRevision);
      return lease;
    }
    const done = await this.#putIf(subnet, attributes, entry, NO_GRANT, included, signal);
    return done ? lease : undefined;
  }

  async #renewEntry(
    lease: Lease,
    entry: KeyValue,
    signal: AbortSignal,
  ): Promise<Lease | undefined> {
    const { subnet, attributes } = lease;
    const granting = this.#client.grant(this.#leaseSeconds, signal);
    let renewed: Lease | undefined;
    try {
      renewed = await this.#put(subnet, attributes, entry, await granting, new Set(), signal);
    } catch (error) {
      const kept = await this.#keepAlive(error, subnet, attributes, entry, signal);
      if (kept === undefined) throw error;
      return kept;
    }
    if (renewed === undefined) void this.#giveBack(granting);
    return renewed;
  }

  /** Puts the key with the grant if it is still as seen: at `entry`'s revision, or absent. */
  async #put(
    subnet: Cidr,
    attributes: LeaseAttributes,
    entry: KeyValue | undefined,
    { id, ttl }: Grant,
    included: Set<number>,
    signal: AbortSignal,
  ): Promise<Lease | undefined> {
    // Known before the put: its event may be here before the answer.
    const expiry = this.#ownLease.expiry(id) ?? this.#ownLease.learn(id, ttl);
    const done = await this.#putIf(subnet, attributes, entry, id, included, signal);
    return done ? { subnet, attributes, ...expiry } : undefined;
  }

  /**
   * An etcd without space takes no new grant and no put, but goes on with a grant there is: the lease
   * must not end for that. Undefined when the error is another one or the grant has ended.
   */
  async #keepAlive(
    error: unknown,
    subnet: Cidr,
    attributes: LeaseAttributes,
    entry: KeyValue,
    signal: AbortSignal,
  ): Promise<Lease | undefined> {
    const full = error instanceof Error && isNoSpace(error.cause);
    if (!full || entry.lease === NO_GRANT) return undefined;
    const ttl = await this.#client.keepAlive(entry.lease, signal);
    if (ttl <= 0) return undefined;
    this.#ownLease.hold(subnetKey(subnet), attributes.publicIp, entry.modRevision);
    return { subnet, attributes, ...this.#ownLease.learn(entry.lease, ttl) };
  }

  async #putIf(
    subnet: Cidr,
    attributes: LeaseAttributes,
    entry: KeyValue | undefined,
    lease: bigint,
    included: Set<number>,
    signal: AbortSignal,
  ): Promise<boolean> {
    const name = this.#keys.leaseKey(subnet);
    const key = Buffer.from(name);
    const value = Buffer.from(serializeAttributes(attributes));
    const { succeeded, header } = await this.#client.transact(
      name,
      { compare: [unchanged(key, entry)], success: [{ put: { key, value, lease } }] },
      signal,
    );
    if (!succeeded) return false;
    included.add(header.revision);
    this.#ownLease.hold(subnetKey(subnet), attributes.publicIp, header.revision);
    return true;
  }

  async #delete(
    subnet: Cidr,
    listing: Listing,
    included: Set<number>,
    signal: AbortSignal,
  ): Promise<void> {
    const name = this.#keys.leaseKey(subnet);
    const key = Buffer.from(name);
    const { succeeded, header } = await this.#client.transact(
      name,
      {
        compare: [unchanged(key, listing.own.get(subnetKey(subnet))?.entry)],
        success: [{ deleteRange: { key } }],
      },
      signal,
    );
    if (succeeded) included.add(header.revision);
  }

  async #giveBack(granting: Promise<Grant>): Promise<void> {
    const grant = await granting.catch(() => undefined);
    if (grant !== undefined) await this.#client.revoke(grant.id, this.#closed.signal);
  }

  /**
   * Another host writes this host's lease as its own. Ours is written once more, so that the other
   * one hears of it as well; who wins does not matter, and both say it from then on.
   */
  #sayShared(lease: Lease | undefined): void {
    if (lease === undefined) {
      if (this.#shared === undefined) return;
      this.#shared = undefined;
      this.#tellProblems();
      return;
    }
    const ip = formatIpv4(lease.attributes.publicIp);
    this.#shared = {
      id: 'lease_shared_address',
      message:
        `another host has renewed the lease of ${formatCidr(lease.subnet)} under this host's PublicIP ${ip}: ` +
        'both use one subnet; every host needs an address of its own (--iface, --public-ip)',
    };
    this.#tellProblems();
    if (this.#contested) return;
    this.#contested = true;
    this.renewLease(lease, this.#closed.signal).catch((error: unknown) => {
      this.#log.debug({ error: messageOf(error) }, 'the lease could not be written again');
    });
  }

  #tellProblems(): void {
    const own = this.#shared === undefined ? [] : [this.#shared];
    this.#report([...this.#clientProblems, ...own]);
  }
}

function unchanged(key: Buffer, entry: KeyValue | undefined) {
  const result = 0;
  return entry === undefined
    ? { key, result, target: Target.version, version: 0 }
    : { key, result, target: Target.modRevision, modRevision: entry.modRevision };
}
