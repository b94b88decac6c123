/**
 * A network in service: this host's lease, the routes to the other hosts, and the forwarder that
 * carries what they say.
 *
 *   store --watch--> route table --changes, once a turn--> forwarder
 *                        |
 *                        +-- lookup, status, metrics
 *
 * Store events change the route table at once; the forwarder follows at the end of the event loop's
 * turn, so a burst of changes is applied once. The first application begins to forward.
 *
 * The daemon keeps the lease, the registration what it is used for: the daemon hands a renewed lease to
 * `adoptLease`, the registration says through `leaseLost` and `onLeaseChange` what the store's events
 * mean for the lease in force.
 */
import { setTimeout as delay } from 'node:timers/promises';
import {
  cidrOf,
  formatCidr,
  formatIpv4,
  parseSubnetKey,
  sameCidr,
  type Cidr,
  type Ipv4,
} from '../config/ipv4.js';
import type { NetworkConfig } from '../config/network.js';
import { errnoOf, messageOf, systemError } from '../errors.js';
import type { ExternalInterface } from '../host/interface.js';
import { keyOf } from '../lease/attributes.js';
import { storeFault, type StoreFault } from '../lease/store-errors.js';
import { settledWithin } from '../abort.js';
import { lookAtHost, type HostChanges, type Looks } from '../dataplane/host-changes.js';
import { Moment } from '../lease/expiry.js';
import type { Lease, LeaseEvent, LeaseRequest, LeaseStore, RejectedEntry } from '../lease/store.js';
import type { Logger } from '../log.js';
import type { ProblemBoard } from '../problems.js';
import { RateLimitedLog } from '../rate-limited-log.js';
import type { EventSink } from './events.js';
import type { Backend, Forwarder } from './forwarder.js';
import type { HostView, Way } from './host-view.js';
import { LeasesAhead } from './leases-ahead.js';
import { peerProblems, type PeerCheck } from './peer-check.js';
import { RejectedEntries } from './rejected-entries.js';
import {
  leaseOf,
  RouteTable,
  type Route,
  type RouteChange,
  type RouteTableOptions,
} from './route-table.js';

/** Between two attempts at a port that another program has: packets are lost for as long as it is free. */
const PORT_TRY_MS = 5;
/** The same where packets go on meanwhile. */
const PORT_TAKE_MS = 50;
/** For leases that the store does not tell: a port is then said to be waited for, a backend begun without them. */
const LEASES_WAIT_MS = 500;
/** Least time between two looks at the kernel's routes: for leases that wait for them, and for problems. */
const CHECK_MS = 2_000;
/** But the time between such looks is so many times what the last one took. */
const CHECK_REST = 20;

export interface RegistrationParts {
  readonly store: LeaseStore;
  readonly backend: Backend;
  readonly config: NetworkConfig;
  readonly external: ExternalInterface;
  readonly previousSubnet: Cidr | undefined;
  /** PublicIP before the external address changed; see LeaseRequest. */
  readonly formerPublicIp?: Ipv4 | undefined;
  /** This host's lease, known already: the store is not asked for one. */
  readonly lease?: Lease | undefined;
  /**
   * The store is asked for that lease once the network forwards, so that no host hears of a backend before it
   * can receive; fails when the store grants another subnet.
   */
  readonly announceLast?: boolean;
  /** Why that lease has to be acquired again once the network runs; see Registration.leaseLost. */
  readonly leaseLost?: string | undefined;
  /**
   * Called when another program has the port, whose end is then waited for; else that fails. Where the
   * backend can, the network forwards beside it (Registration.portFree).
   */
  readonly onPortTaken?: (() => void) | undefined;
  /** Once it has aborted, the end leaves what the kernel forwards with, where the backend can. */
  readonly keepAfter?: AbortSignal | undefined;
  /** As a run before knew them: what it left in the kernel for those that have ended is taken away. */
  readonly formerLeases?: readonly Lease[] | undefined;
  /** Undefined when the data plane is not the kernel's: the kernel is asked nothing about it then. */
  readonly view: HostView | undefined;
  readonly events?: EventSink | undefined;
  readonly log: Logger;
  /** Where is shown what hinders traffic. */
  readonly problems?: ProblemBoard | undefined;
}

/** What following the store has come to; cheap, taken at once. */
export interface FollowState {
  /** Why the store cannot be followed now; the last good routes stay in force. */
  readonly storeError: string | undefined;
  /** What kind of fault that is; undefined while there is none, or one of no known kind. */
  readonly storeFault: StoreFault | undefined;
  /** When the leases in force were last known to be true (Unix time in ms); undefined: now. */
  readonly leasesAsOf: number | undefined;
  /** Entries of the store that are not leases, and leases that must not become routes. */
  readonly rejected: readonly RejectedEntry[];
}

/** flannel's view of a network: all that is needed to use one. */
export interface Network {
  /** The lease in force, with the newest expiry known. */
  readonly lease: Lease;
  /** MTU of the overlay in bytes (the external one less the encapsulation). */
  readonly mtu: number;
  /** Follows the store and forwards until the signal aborts; then everything is released. */
  run(signal: AbortSignal): Promise<void>;
}

/**
 * Acquires this host's lease and sets the way of the packets up. Rejects with nothing left behind but
 * the lease, which stays in the store for this host's next start, as flanneld's does.
 */
export async function register(
  parts: RegistrationParts,
  signal: AbortSignal,
): Promise<Registration> {
  const { store, backend, config, external, previousSubnet, formerPublicIp, view, log } = parts;
  const ask = <T>(question: (view: HostView) => T): T | undefined => {
    try {
      return view === undefined ? undefined : question(view);
    } catch (error) {
      // It refuses when no descriptors are left: asked again later.
      log.debug({ error: messageOf(error) }, 'cannot ask the kernel for its routes');
      return undefined;
    }
  };
  const hostAddresses = ask((kernel) => kernel.addresses()) ?? [];
  const attributes = backend.leaseAttributes;
  const leaseRequest: LeaseRequest = {
    config,
    attributes,
    previousSubnet,
    hostAddresses,
    tunnelAddress: external.address,
  };
  const acquire = async (): Promise<Lease> => {
    const acquired = await store.acquireLease({ ...leaseRequest, formerPublicIp }, signal);
    signal.throwIfAborted();
    return acquired;
  };
  const lease = parts.lease === undefined ? await acquire() : { ...parts.lease, attributes };
  // Asked only once the device is there, whose route decides.
  const ways = (destinations: readonly Ipv4[]): readonly Way[] | undefined =>
    ask((kernel) => kernel.ways(forwarder.device, destinations, external.address));
  const admission = {
    network: config.network,
    own: lease.subnet,
    ownPublicIp: external.publicIp,
    ownAddress: external.address,
    anySubnetLength: store.anySubnetLength,
    ownLinks: hostAddresses.map(({ address, prefix }) => cidrOf(address, prefix)),
    leadsIntoOverlay: (addresses) =>
      ways(addresses)?.map((way) => way === 'overlay') ?? addresses.map(() => true),
    leaseFault: (found) => backend.leaseFault?.(found),
  } satisfies RouteTableOptions;
  const routes = new RouteTable(admission);
  const early = parts.announceLast === true ? await leasesNow(store, signal) : undefined;
  const all = (): readonly Route[] => routes.routes();
  const opening = {
    open: () => backend.open(lease, all),
    openAside: backend.openAside === undefined ? undefined : () => backend.openAside?.(lease, all),
  };
  const { forwarder, known = early, beside } = await openOncePortIsFree(opening, parts, signal);
  const { device = external.name, mtu, udpPort: port } = forwarder;
  log.info({ subnet: formatCidr(lease.subnet), device, mtu, port }, 'network registered');
  const network = new Registration({
    ...{ ...parts, lease, leaseRequest, routes, forwarder, ways, admission },
    beside: beside === true,
  });
  if (known !== undefined) network.beginWith(known);
  if (parts.announceLast === true) await announce(network, acquire);
  return network;
}

async function announce(network: Registration, acquire: () => Promise<Lease>): Promise<void> {
  try {
    const { subnet } = network.lease;
    const lease = await acquire();
    if (!sameCidr(lease.subnet, subnet)) {
      const [granted, held] = [formatCidr(lease.subnet), formatCidr(subnet)];
      throw systemError(`the store grants ${granted} in place of ${held}, which this host has`);
    }
    network.adoptLease(lease);
  } catch (error) {
    network.close();
    throw error;
  }
}

/** None where the store does not tell them soon. */
async function leasesNow(store: LeaseStore, signal: AbortSignal): Promise<readonly Lease[]> {
  const ahead = new LeasesAhead(store, signal);
  await settledWithin(LEASES_WAIT_MS, ahead.asked);
  return ahead.end();
}

interface Opening {
  readonly open: () => Forwarder;
  /** Undefined where the backend cannot. */
  readonly openAside: (() => Forwarder | undefined) | undefined;
}

interface Opened {
  readonly forwarder: Forwarder;
  /** The leases as they were read meanwhile; undefined when there was nothing to wait for. */
  readonly known?: readonly Lease[];
  /** Another program has the port. */
  readonly beside?: boolean;
}

/**
 * A backend asks for its port first, so that an attempt is a socket and a bind. Nothing tells when a port
 * becomes free on every kernel (SKNLGRP_INET_UDP_DESTROY is of Linux 4.5 and needs inet_diag). Where it is
 * taken the backend opens beside who has it, if it can; else it is tried until that one has ended.
 */
async function openOncePortIsFree(
  { open, openAside }: Opening,
  { store, onPortTaken, log }: RegistrationParts,
  signal: AbortSignal,
): Promise<Opened> {
  let ahead: LeasesAhead | undefined;
  let triedAside = openAside === undefined;
  let beside: Forwarder | undefined;
  let told = false;
  const since = performance.now();
  try {
    for (;;) {
      try {
        return { forwarder: open(), ...(ahead === undefined ? {} : { known: ahead.end() }) };
      } catch (error) {
        if (onPortTaken === undefined || errnoOf(error) !== 'EADDRINUSE') throw error;
      }
      ahead ??= new LeasesAhead(store, signal);
      // Without routes packets would be lost that the other program carries.
      if (ahead.isRead && !triedAside) {
        triedAside = true;
        beside = attemptAside(openAside, log);
      }
      // Whoever hears of it may end the other program at once.
      const late = performance.now() - since >= LEASES_WAIT_MS;
      if (!told && (triedAside || late)) {
        told = true;
        onPortTaken();
      }
      if (beside !== undefined) return { forwarder: beside, known: ahead.end(), beside: true };
      await delay(PORT_TRY_MS, undefined, { signal });
    }
  } finally {
    ahead?.end();
  }
}

function attemptAside(openAside: Opening['openAside'], log: Logger): Forwarder | undefined {
  try {
    return openAside?.();
  } catch (error) {
    log.info({ reason: messageOf(error) }, 'cannot forward beside another program; waiting');
    return undefined;
  }
}

interface RegisteredParts extends RegistrationParts {
  readonly lease: Lease;
  readonly leaseRequest: LeaseRequest;
  readonly routes: RouteTable;
  readonly admission: RouteTableOptions;
  readonly forwarder: Forwarder;
  readonly ways: PeerCheck['ways'];
  /** Another program has the port. */
  readonly beside: boolean;
}

export class Registration implements Network {
  readonly forwarder: Forwarder;
  readonly routes: RouteTable;
  /** What a lease was asked for with; asked for again when it is lost. */
  readonly leaseRequest: LeaseRequest;
  /**
   * Resolves when the first snapshot of leases has been applied; rejects when the network is closed
   * before that.
   */
  readonly synced: Promise<void>;
  /** Resolves when no other program has the port any more, or never will be asked again. */
  readonly portFree: Promise<void>;
  readonly #problems: ProblemBoard | undefined;
  readonly #ways: PeerCheck['ways'];
  readonly #changes: HostChanges | undefined;
  #keepAfter: AbortSignal | undefined;
  readonly #store: LeaseStore;
  readonly #formerPublicIp: Ipv4 | undefined;
  readonly #external: ExternalInterface;
  readonly #log: Logger;
  #events: EventSink | undefined;
  readonly #listeners = new Set<() => void>();
  readonly #routesLeft: () => readonly Route[];
  #former: Registration | undefined;
  #lease: Lease;
  #lost: string | undefined;
  #storeError: Error | undefined;
  readonly #storeRejected: RejectedEntries;
  /** Until when the leases in force were known to be true; undefined: now. */
  #trueUntil: Pick<Moment, 'time'> | undefined;
  readonly #degradedLog: RateLimitedLog;
  #publication: NodeJS.Immediate | undefined;
  #looks: Looks | undefined;
  #resolveSynced!: () => void;
  #rejectSynced!: (reason: Error) => void;
  #published = false;
  #closed = false;

  /** Use `register`. */
  constructor(parts: RegisteredParts) {
    this.#store = parts.store;
    this.#formerPublicIp = parts.formerPublicIp;
    this.#lost = parts.leaseLost;
    this.forwarder = parts.forwarder;
    this.routes = parts.routes;
    this.#lease = parts.lease;
    this.leaseRequest = parts.leaseRequest;
    this.#external = parts.external;
    this.#log = parts.log;
    this.#events = parts.events;
    this.#storeRejected = new RejectedEntries(parts.log);
    this.#problems = parts.problems;
    this.#ways = parts.ways;
    const { admission, formerLeases = [] } = parts;
    this.#routesLeft = () => {
      const left = new RouteTable(admission);
      left.replaceAll(formerLeases);
      return left.routes();
    };
    this.#changes = parts.view?.changes;
    this.#keepAfter = parts.keepAfter;
    this.#degradedLog = new RateLimitedLog((fields) => {
      parts.log.warn(fields, 'cannot follow the lease store; the last known routes stay in force');
    });
    this.synced = new Promise((resolve, reject) => {
      this.#resolveSynced = resolve;
      this.#rejectSynced = reject;
    });
    // Waiting for it is optional; a rejection without a listener is not an error.
    this.synced.catch(() => undefined);
    this.portFree = parts.beside ? this.#takePort() : Promise.resolve();
  }

  get mtu(): number {
    return this.forwarder.mtu;
  }

  /** From the program that has it, once that has ended. */
  async #takePort(): Promise<void> {
    let told = false;
    while (!this.#closed) {
      await delay(PORT_TAKE_MS, undefined, { ref: false });
      if (this.#closed) return;
      try {
        this.forwarder.aside?.back();
        this.#log.info('the UDP port is free, and taken');
        return;
      } catch (error) {
        if (errnoOf(error) === 'EADDRINUSE' || told) continue;
        told = true;
        this.#log.warn({ error: messageOf(error) }, 'cannot take the UDP port; retrying');
      }
    }
  }

  get lease(): Lease {
    return this.#lease;
  }

  /** Why the store says that the lease is not ours any more; `undefined` while it is. */
  get leaseLost(): string | undefined {
    return this.#lost;
  }

  /** Calls back whenever `lease` or `leaseLost` changed; returns how to stop that. */
  onLeaseChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Forwards at once, by leases that were read before; the store's own come when it runs. */
  beginWith(leases: readonly Lease[]): void {
    if (this.routes.replaceAll(leases).length > 0) this.#publish();
  }

  /** Takes the lease over after a renewal or a new acquisition of the same subnet. */
  adoptLease(lease: Lease): void {
    if (!sameCidr(lease.subnet, this.#lease.subnet)) {
      throw new RangeError('a network keeps its subnet; register it again for another one');
    }
    this.#setOwn(lease, undefined);
  }

  /**
   * It goes on, and what hinders it is told no more: another network is in its place. Nothing of it stays
   * at the end.
   */
  silence(): void {
    this.#looks?.end();
    this.#keepAfter = undefined;
    this.#events = undefined;
  }

  /**
   * From now on `former`, of the backend before, gives its routes up as soon as they are in force here, and not
   * before: packets always have a way.
   */
  succeed(former: Registration): void {
    this.#former = former;
    if (this.#published) this.#relieve();
  }

  followState(): FollowState {
    return {
      storeError: this.#storeError === undefined ? undefined : messageOf(this.#storeError),
      storeFault: storeFault(this.#storeError),
      leasesAsOf: this.#trueUntil?.time,
      rejected: this.#rejected(),
    };
  }

  async run(signal: AbortSignal): Promise<void> {
    const close = (): void => {
      this.close();
    };
    signal.addEventListener('abort', close, { once: true });
    try {
      signal.throwIfAborted();
      for await (const event of this.#store.watchLeases(signal)) {
        if (signal.aborted) break;
        this.#apply(event);
      }
      if (!signal.aborted) {
        throw systemError(`the lease store ${this.#store.location} ended its watch`);
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      signal.removeEventListener('abort', close);
      this.close();
    }
  }

  /** Releases everything at once; for a network that is never run. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearImmediate(this.#publication);
    this.#looks?.end();
    this.forwarder.close(this.#keepAfter?.aborted);
    this.#rejectSynced(systemError('the network was closed before its leases were known'));
  }

  #apply(event: LeaseEvent): void {
    this.#looks?.ring();
    switch (event.type) {
      case 'snapshot':
        this.#applySnapshot(event.leases, event.rejected);
        if (event.asOf !== undefined) this.#trueUntil = { time: event.asOf };
        break;
      case 'put':
        this.#storeRejected.delete(keyOf(event.lease));
        this.routes.put(event.lease);
        if (this.routes.changed) this.#publishSoon();
        this.#logRejection(event.lease);
        if (this.#isOwn(event.lease)) this.#checkOwn(event.lease);
        break;
      case 'delete':
        this.routes.delete(event.subnet, event.key);
        if (this.routes.changed) this.#publishSoon();
        if (this.#isOwn(event)) this.#checkOwn(undefined);
        break;
      case 'rejected':
        this.#storeRejected.add(event.entry);
        this.#storeRejected.log([event.entry]);
        break;
      case 'cleared':
        this.#storeRejected.delete(event.key);
        break;
      case 'degraded':
        this.#applyDegraded(event.error);
        break;
      case 'recovered':
        this.#storeError = undefined;
        this.#trueUntil = undefined;
        this.#events?.emit({ type: 'recovered', part: 'store' });
        this.#log.info({ store: this.#store.location }, 'lease store followed again');
        break;
    }
  }

  /** Also told while it is degraded already, when the reason has changed. */
  #applyDegraded(error: Error): void {
    const before = this.#storeError;
    this.#storeError = error;
    this.#trueUntil ??= new Moment();
    if (before === undefined) {
      this.#events?.emit({ type: 'degraded', part: 'store', reason: messageOf(error) });
    }
    const fields = {
      store: this.#store.location,
      error: messageOf(error),
      leasesAsOf: new Date(this.#trueUntil.time).toISOString(),
    };
    // The same kind of fault in other words is no news to a log.
    if (before === undefined || storeFault(before) !== storeFault(error)) {
      this.#degradedLog.report(fields);
    } else this.#log.debug(fields, 'still cannot follow the lease store');
  }

  #applySnapshot(leases: readonly Lease[], rejected: readonly RejectedEntry[]): void {
    this.#storeRejected.clear();
    // An entry that became unreadable between two snapshots keeps the route it had.
    const kept = rejected.flatMap(({ key }) => {
      const subnet = parseSubnetKey(key);
      const route = subnet === undefined ? undefined : this.routes.get(subnet);
      if (route === undefined) return [];
      return [leaseOf(route)];
    });
    const changes = this.routes.replaceAll(kept.length === 0 ? leases : [...leases, ...kept]);
    if (changes.length > 0 || !this.#published) this.#publishSoon();
    this.#checkOwn(leases.find((lease) => this.#isOwn(lease)));
    for (const entry of rejected) this.#storeRejected.add(entry);
    this.#storeRejected.log([...rejected, ...this.routes.rejected]);
  }

  #logRejection(lease: Lease): void {
    const entry = this.routes.rejection(lease);
    if (entry !== undefined) this.#storeRejected.log([entry]);
  }

  #rejected(): readonly RejectedEntry[] {
    return this.#storeRejected.shownWith(this.routes.rejected);
  }

  /** What the store now holds for our subnet: ours, another host's, or nothing. */
  #checkOwn(stored: Lease | undefined): void {
    const subnet = formatCidr(this.#lease.subnet);
    if (stored === undefined) {
      this.#setOwn(this.#lease, `the lease of ${subnet} is gone from the store`);
    } else if (stored.attributes.publicIp === this.#lease.attributes.publicIp) {
      // A grant that is not ours may end any time: what is known stays, or it is renewed at once.
      const unknown = stored.expiresAt === Number.POSITIVE_INFINITY;
      const { expiresAt = Date.now(), deadline } = this.#lease;
      this.#setOwn(unknown ? { ...stored, expiresAt, deadline } : stored, undefined);
    } else {
      const holder = stored.attributes.publicIp;
      const what = holder === this.#formerPublicIp ? 'still names' : 'was taken over by';
      this.#setOwn(this.#lease, `the lease of ${subnet} ${what} ${formatIpv4(holder)}`);
    }
  }

  #setOwn(lease: Lease, lost: string | undefined): void {
    const { expiresAt, deadline } = this.#lease;
    if (lost === this.#lost && lease.expiresAt === expiresAt && lease.deadline === deadline) return;
    this.#lease = lease;
    const news = lost !== undefined && this.#lost === undefined;
    this.#lost = lost;
    if (news) this.#events?.emit({ type: 'lost', subnet: formatCidr(lease.subnet), reason: lost });
    for (const listener of [...this.#listeners]) listener();
  }

  /** A lease of our subnet under another key is not the one we keep. */
  #isOwn({ subnet, key }: Pick<Lease, 'subnet' | 'key'>): boolean {
    return key === undefined && sameCidr(subnet, this.#lease.subnet);
  }

  #publishSoon(): void {
    if (this.#closed || this.#publication !== undefined) return;
    this.#publication = setImmediate(() => {
      this.#publication = undefined;
      this.#publish();
    });
  }

  #publish(): void {
    this.routes.reconsider();
    const changes = this.routes.takeChanges();
    this.forwarder.apply(changes);
    this.#relieve();
    this.#tellRoutes(changes);
    this.#log.debug({ routes: this.routes.size }, 'routes published');
    if (!this.#published) {
      this.#published = true;
      this.forwarder.removeLeft?.(this.#routesLeft);
      // Before it is said that traffic can flow.
      this.#checkPeers();
      this.#looks = lookAtHost(
        () => {
          this.#checkPeers();
        },
        { restMs: CHECK_MS, restTimes: CHECK_REST },
        this.#changes,
      );
    }
    // What looks at the way to each host has others to look at.
    this.#changes?.touch();
    this.#resolveSynced();
  }

  #relieve(): void {
    const former = this.#former;
    if (former === undefined || former.#closed) return;
    const ceded = former.routes.cedeTo(this.routes);
    if (ceded.length === 0) return;
    former.forwarder.apply(former.routes.takeChanges());
    // One route may have been both's, as host-gw's is vxlan's with DirectRouting.
    this.forwarder.apply(ceded.map((route) => ({ type: 'update', route, previous: route })));
  }

  #tellRoutes(changes: readonly RouteChange[]): void {
    const events = this.#events;
    if (events?.isRead !== true) return;
    for (const { type, route } of changes) {
      const [subnet, nextHop] = [formatCidr(route.subnet), formatIpv4(route.nextHop)];
      events.emit({ type: 'route', change: type, subnet, nextHop });
    }
  }

  /** Leases that wait for the kernel's routes, and whether any other host can be reached. */
  #checkPeers(): void {
    this.routes.reconsider(true);
    if (this.routes.changed) this.#publishSoon();
    const { routes } = this;
    const { device = this.#external.name } = this.forwarder;
    const found = peerProblems({ routes, rejected: this.#rejected(), device, ways: this.#ways });
    this.#problems?.report('leases', found);
  }
}
