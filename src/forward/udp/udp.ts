/**
 * The udp backend: IPv4 packets of the overlay inside UDP datagrams, one each, to the host that
 * holds the lease of their destination.
 *
 *   store --watch--> route table --changes, once a turn--> forwarding table of the data plane
 *                        |                                       | events: miss, refused, fault
 *                        +-- lookup, status, metrics             v
 *                                                  supervisor: replaces a data plane that failed
 *
 * Store events change the route table at once; the forwarding table follows at the end of the event
 * loop's turn, so a burst of changes is published once. Forwarding starts with the first publication:
 * until then packets wait in the kernel's queue instead of being answered with net-unreachable.
 */
import type { NetworkConfig } from '../../config/network.js';
import {
  cidrOf,
  formatCidr,
  formatIpv4,
  parseSubnetKey,
  sameCidr,
  type Ipv4,
} from '../../config/ipv4.js';
import {
  DataPlane,
  DEFAULT_RESOURCES,
  type DataPlaneOptions,
  type DataPlaneResources,
  type FeatureName,
} from '../../dataplane/dataplane.js';
import { inputError, messageOf, systemError } from '../../errors.js';
import { keyOf } from '../../lease/attributes.js';
import { storeFault } from '../../lease/errors.js';
import { Moment } from '../../lease/expiry.js';
import type {
  Lease,
  LeaseEvent,
  LeaseRequest,
  LeaseStore,
  RejectedEntry,
} from '../../lease/store.js';
import type { Logger } from '../../log.js';
import type { ProblemBoard } from '../../problems.js';
import { RouteTable } from '../../network/route-table.js';
import type { Backend, BackendContext, Network, NetworkStatus } from '../../network/forwarder.js';
import { KernelView, type HostView, type Way } from '../../network/host-view.js';
import { RejectedEntries } from '../../network/rejected-entries.js';
import { peerProblems, type PeerCheck } from '../../network/peer-check.js';
import { RateLimitedLog } from '../../rate-limited-log.js';
import { DataPlaneSupervisor, type OpenDataPlane } from './supervisor.js';

/** Outer IPv4 header (20 bytes, no options) and UDP header (8 bytes). */
export const UDP_OVERHEAD_BYTES = 28;

/** Smallest MTU of an IPv4 link (RFC 791). */
const MIN_MTU = 68;

/** Smallest MTU of the external interface. */
export const MIN_EXTERNAL_MTU = MIN_MTU + UDP_OVERHEAD_BYTES;

/** What fits in one datagram; a loopback's MTU of 65,536 would leave more. */
const MAX_MTU = 65_535 - UDP_OVERHEAD_BYTES;

/** How often the kernel's routes are looked at again: for leases that wait for them, and for problems. */
const CHECK_MS = 2_000;
/** But the time between such looks is so many times what the last one took. */
const CHECK_REST = 20;

export interface UdpOptions {
  /** How packets cross into and out of the kernel: one by one, or many a system call. */
  readonly mode: DataPlaneOptions['mode'];
  /** Optional kernel features to do without. */
  readonly disabled?: readonly FeatureName[];
  /** Threads, queues and buffers; DEFAULT_RESOURCES when not given. */
  readonly resources?: DataPlaneResources;
  /** Refuse datagrams whose outer source holds no lease for the inner source. */
  readonly sourceCheck: boolean;
  /** TUN name pattern, `%d` is the first free number; `flannel%d` when not given. */
  readonly tunName?: string;
}

export class UdpBackend implements Backend {
  readonly type = 'udp';
  readonly #context: BackendContext;
  readonly #options: UdpOptions;
  readonly #open: OpenDataPlane;
  readonly #view: HostView | undefined;

  /**
   * `open` is for tests and for embedders that bring their own data plane. Such a one is not the
   * kernel's, so the kernel is asked nothing about it; `view` answers in its place.
   */
  constructor(
    context: BackendContext,
    options: UdpOptions,
    open?: OpenDataPlane,
    view: HostView | undefined = open === undefined ? new KernelView() : undefined,
  ) {
    this.#context = context;
    this.#options = options;
    this.#open = open ?? ((dataPlane) => new DataPlane(dataPlane));
    this.#view = view;
  }

  async registerNetwork(config: NetworkConfig, signal: AbortSignal): Promise<Network> {
    const { store, external, previousSubnet, formerPublicIp, log, problems } = this.#context;
    const mtu = Math.min(external.mtu - UDP_OVERHEAD_BYTES, MAX_MTU);
    if (mtu < MIN_MTU) {
      throw inputError(
        `MTU of ${external.name}`,
        external.mtu,
        `at least ${MIN_EXTERNAL_MTU} bytes: ${UDP_OVERHEAD_BYTES} go to the encapsulation`,
      );
    }
    const hostAddresses = this.#ask((view) => view.addresses()) ?? [];
    const leaseRequest: LeaseRequest = {
      config,
      attributes: { publicIp: external.publicIp },
      previousSubnet,
      hostAddresses,
      tunnelAddress: external.address,
    };
    const request = { ...leaseRequest, formerPublicIp };
    const lease = this.#context.lease ?? (await store.acquireLease(request, signal));
    signal.throwIfAborted();
    const options: DataPlaneOptions = {
      tunName: this.#options.tunName ?? 'flannel%d',
      tunAddress: lease.subnet.network,
      network: config.network.network,
      networkPrefix: config.network.prefix,
      subnet: lease.subnet.network,
      subnetPrefix: lease.subnet.prefix,
      mtu,
      bindAddress: external.address,
      port: config.backend.port,
      mode: this.#options.mode,
      disabled: this.#options.disabled ?? [],
      sourceCheck: this.#options.sourceCheck,
      ...(this.#options.resources ?? DEFAULT_RESOURCES),
    };
    // Asked only once the device is there, whose route decides.
    const ways = (destinations: readonly Ipv4[]): readonly Way[] | undefined =>
      this.#ask((view) => view.ways(plane.device, destinations, external.address));
    const routes = new RouteTable({
      network: config.network,
      own: lease.subnet,
      ownPublicIp: external.publicIp,
      ownAddress: external.address,
      ownLinks: hostAddresses.map(({ address, prefix }) => cidrOf(address, prefix)),
      leadsIntoOverlay: (addresses) =>
        ways(addresses)?.map((way) => way === 'overlay') ?? addresses.map(() => true),
    });
    // The last step that can fail: until here there is nothing to undo but the lease, which stays
    // in the store for this host's next start, as flanneld's does.
    const plane = new DataPlaneSupervisor(
      options,
      this.#open,
      () => routes.compile(),
      log,
      this.#context.problems,
    );
    log.info(
      { subnet: formatCidr(lease.subnet), device: plane.device, mtu, port: options.port },
      'network registered',
    );
    return new UdpNetwork({
      store,
      plane,
      routes,
      lease,
      leaseRequest,
      formerPublicIp,
      mtu,
      log,
      problems,
      leaseLost: this.#context.leaseLost,
      ways,
    });
  }

  /** Undefined without a kernel to ask, and when it refuses (no descriptors left): asked again later. */
  #ask<T>(question: (view: HostView) => T): T | undefined {
    try {
      return this.#view === undefined ? undefined : question(this.#view);
    } catch (error) {
      this.#context.log.debug({ error: messageOf(error) }, 'cannot ask the kernel for its routes');
      return undefined;
    }
  }
}

interface UdpNetworkParts {
  readonly store: LeaseStore;
  readonly plane: DataPlaneSupervisor;
  readonly routes: RouteTable;
  readonly lease: Lease;
  readonly leaseRequest: LeaseRequest;
  readonly leaseLost: string | undefined;
  readonly formerPublicIp: Ipv4 | undefined;
  readonly mtu: number;
  readonly log: Logger;
  readonly problems: ProblemBoard | undefined;
  readonly ways: PeerCheck['ways'];
}

class UdpNetwork implements Network {
  readonly mtu: number;
  readonly routes: RouteTable;
  readonly leaseRequest: LeaseRequest;
  readonly synced: Promise<void>;
  readonly #problems: ProblemBoard | undefined;
  readonly #ways: PeerCheck['ways'];
  readonly #store: LeaseStore;
  readonly #formerPublicIp: Ipv4 | undefined;
  readonly #plane: DataPlaneSupervisor;
  readonly #log: Logger;
  readonly #listeners = new Set<() => void>();
  #lease: Lease;
  #lost: string | undefined;
  #storeError: Error | undefined;
  readonly #storeRejected: RejectedEntries;
  /** Until when the leases in force were known to be true; undefined: now. */
  #trueUntil: Pick<Moment, 'time'> | undefined;
  readonly #degradedLog: RateLimitedLog;
  #publication: NodeJS.Immediate | undefined;
  #check: NodeJS.Timeout | undefined;
  #resolveSynced!: () => void;
  #rejectSynced!: (reason: Error) => void;
  #published = false;
  #closed = false;

  constructor(parts: UdpNetworkParts) {
    this.#store = parts.store;
    this.#formerPublicIp = parts.formerPublicIp;
    this.#lost = parts.leaseLost;
    this.#plane = parts.plane;
    this.routes = parts.routes;
    this.#lease = parts.lease;
    this.leaseRequest = parts.leaseRequest;
    this.mtu = parts.mtu;
    this.#log = parts.log;
    this.#storeRejected = new RejectedEntries(parts.log);
    this.#problems = parts.problems;
    this.#ways = parts.ways;
    this.#degradedLog = new RateLimitedLog((fields) => {
      parts.log.warn(
        fields,
        'the lease store cannot be followed; the last known routes stay in force',
      );
    });
    this.synced = new Promise((resolve, reject) => {
      this.#resolveSynced = resolve;
      this.#rejectSynced = reject;
    });
    // Nobody has to wait for it; a rejection without a listener is not an error.
    this.synced.catch(() => undefined);
  }

  get lease(): Lease {
    return this.#lease;
  }

  get leaseLost(): string | undefined {
    return this.#lost;
  }

  onLeaseChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  adoptLease(lease: Lease): void {
    if (!sameCidr(lease.subnet, this.#lease.subnet)) {
      throw new RangeError('a network keeps its subnet; register it again for another one');
    }
    this.#setOwn(lease, undefined);
  }

  status(): NetworkStatus {
    return {
      device: this.#plane.device,
      storeError: this.#storeError === undefined ? undefined : messageOf(this.#storeError),
      storeFault: storeFault(this.#storeError),
      leasesAsOf: this.#trueUntil?.time,
      rejected: this.#rejected(),
      dataPlaneError: this.#plane.error,
      dataPlaneRestarts: this.#plane.restarts,
      dataPlane: this.#plane.snapshot(),
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

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearImmediate(this.#publication);
    clearTimeout(this.#check);
    this.#plane.close();
    this.#rejectSynced(systemError('the network was closed before its leases were known'));
  }

  #apply(event: LeaseEvent): void {
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
        this.#log.info({ store: this.#store.location }, 'the lease store is followed again');
        break;
    }
  }

  /** Also told while it is degraded already, when the reason has changed. */
  #applyDegraded(error: Error): void {
    const before = this.#storeError;
    this.#storeError = error;
    this.#trueUntil ??= new Moment();
    const fields = {
      store: this.#store.location,
      error: messageOf(error),
      leasesAsOf: new Date(this.#trueUntil.time).toISOString(),
    };
    // The same kind of fault in other words is no news to a log.
    if (before === undefined || storeFault(before) !== storeFault(error)) {
      this.#degradedLog.report(fields);
    } else this.#log.debug(fields, 'the lease store still cannot be followed');
  }

  #applySnapshot(leases: readonly Lease[], rejected: readonly RejectedEntry[]): void {
    this.#storeRejected.clear();
    // An entry that became unreadable while nobody looked keeps the route it had.
    const kept = rejected.flatMap(({ key }) => {
      const subnet = parseSubnetKey(key);
      const route = subnet === undefined ? undefined : this.routes.get(subnet);
      if (route === undefined) return [];
      const attributes = { publicIp: route.nextHop };
      return [{ subnet: route.subnet, attributes, expiresAt: undefined }];
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
    this.#lost = lost;
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
    this.#plane.changeRoutes(this.routes.takeChanges());
    this.#plane.start();
    this.#log.debug({ routes: this.routes.size }, 'routes published');
    if (!this.#published) {
      this.#published = true;
      // Before anybody is told that traffic can flow.
      this.#checkPeers();
    }
    this.#resolveSynced();
  }

  /** Leases that wait for the kernel's routes, and whether any other host can be reached; again and again. */
  #checkPeers(): void {
    const started = performance.now();
    this.routes.reconsider(true);
    if (this.routes.changed) this.#publishSoon();
    const { routes } = this;
    const { device } = this.#plane;
    const found = peerProblems({ routes, rejected: this.#rejected(), device, ways: this.#ways });
    this.#problems?.report('leases', found);
    const wait = Math.max(CHECK_MS, CHECK_REST * (performance.now() - started));
    this.#check = setTimeout(() => {
      this.#checkPeers();
    }, wait).unref();
  }
}
