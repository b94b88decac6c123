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
import type { NetworkConfig } from '../config/network.js';
import {
  formatCidr,
  formatIpv4,
  parseSubnetKey,
  sameCidr,
  subnetKey,
  type Cidr,
} from '../config/ipv4.js';
import {
  DataPlane,
  DEFAULT_RESOURCES,
  type DataPlaneOptions,
  type DataPlaneResources,
  type FeatureName,
} from '../dataplane/dataplane.js';
import { inputError, messageOf, systemError } from '../errors.js';
import { storeFault } from '../lease/errors.js';
import { Moment } from '../lease/expiry.js';
import type { Lease, LeaseEvent, LeaseStore, RejectedEntry } from '../lease/store.js';
import type { Logger } from '../log.js';
import { RouteTable } from '../route/table.js';
import type { Backend, BackendContext, Network, NetworkStatus } from './backend.js';
import { RateLimitedLog } from './rate-limited-log.js';
import { DataPlaneSupervisor, type OpenDataPlane } from './supervisor.js';

/** Outer IPv4 header (20 bytes, no options) and UDP header (8 bytes). */
export const UDP_OVERHEAD_BYTES = 28;

/** Smallest MTU of an IPv4 link (RFC 791). */
const MIN_MTU = 68;

/** What fits in one datagram; a loopback's MTU of 65,536 would leave more. */
const MAX_MTU = 65_535 - UDP_OVERHEAD_BYTES;

/** Unreadable entries of the store that are kept to show; any number is skipped. */
const MAX_REJECTED = 1_000;
/** Of one snapshot: a Network that was changed rejects every lease there is. */
const MAX_REJECTED_LOGGED = 20;

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

  /** `open` is for tests and for embedders that bring their own data plane. */
  constructor(
    context: BackendContext,
    options: UdpOptions,
    open: OpenDataPlane = (dataPlane) => new DataPlane(dataPlane),
  ) {
    this.#context = context;
    this.#options = options;
    this.#open = open;
  }

  async registerNetwork(config: NetworkConfig, signal: AbortSignal): Promise<Network> {
    const { store, external, previousSubnet, formerPublicIp, log } = this.#context;
    const mtu = Math.min(external.mtu - UDP_OVERHEAD_BYTES, MAX_MTU);
    if (mtu < MIN_MTU) {
      throw inputError(
        `MTU of ${external.name}`,
        external.mtu,
        `at least ${MIN_MTU + UDP_OVERHEAD_BYTES} bytes: ${UDP_OVERHEAD_BYTES} go to the encapsulation`,
      );
    }
    const attributes = { publicIp: external.publicIp };
    const request = { config, attributes, previousSubnet, formerPublicIp };
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
    const routes = new RouteTable({
      network: config.network,
      subnetLen: config.subnetLen,
      own: lease.subnet,
      ownPublicIp: external.publicIp,
    });
    // The last step that can fail: until here there is nothing to undo but the lease, which stays
    // in the store for this host's next start, as flanneld's does.
    const plane = new DataPlaneSupervisor(options, this.#open, () => routes.compile(), log);
    log.info(
      { subnet: formatCidr(lease.subnet), device: plane.device, mtu, port: options.port },
      'network registered',
    );
    return new UdpNetwork(store, plane, routes, lease, mtu, log);
  }
}

class UdpNetwork implements Network {
  readonly mtu: number;
  readonly routes: RouteTable;
  readonly synced: Promise<void>;
  readonly #store: LeaseStore;
  readonly #plane: DataPlaneSupervisor;
  readonly #log: Logger;
  readonly #listeners = new Set<() => void>();
  #lease: Lease;
  #lost: string | undefined;
  #storeError: Error | undefined;
  readonly #storeRejected = new Map<string, RejectedEntry>();
  /** Until when the leases in force were known to be true; undefined: now. */
  #trueUntil: Pick<Moment, 'time'> | undefined;
  readonly #degradedLog: RateLimitedLog;
  #publication: NodeJS.Immediate | undefined;
  #resolveSynced!: () => void;
  #rejectSynced!: (reason: Error) => void;
  #published = false;
  #closed = false;

  constructor(
    store: LeaseStore,
    plane: DataPlaneSupervisor,
    routes: RouteTable,
    lease: Lease,
    mtu: number,
    log: Logger,
  ) {
    this.#store = store;
    this.#plane = plane;
    this.routes = routes;
    this.#lease = lease;
    this.mtu = mtu;
    this.#log = log;
    this.#degradedLog = new RateLimitedLog((fields) => {
      log.warn(fields, 'the lease store cannot be followed; the last known routes stay in force');
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
      rejected: [...this.#storeRejected.values(), ...this.routes.rejected],
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
        this.#storeRejected.delete(subnetKey(event.lease.subnet));
        if (this.routes.put(event.lease) !== undefined) this.#publishSoon();
        this.#logRejection(event.lease.subnet);
        if (this.#isOwnSubnet(event.lease.subnet)) this.#checkOwn(event.lease);
        break;
      case 'delete':
        if (this.routes.delete(event.subnet) !== undefined) this.#publishSoon();
        if (this.#isOwnSubnet(event.subnet)) this.#checkOwn(undefined);
        break;
      case 'rejected':
        this.#keepRejected(event.entry);
        this.#logRejected([event.entry]);
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
    this.#checkOwn(leases.find((lease) => this.#isOwnSubnet(lease.subnet)));
    for (const entry of rejected) this.#keepRejected(entry);
    this.#logRejected([...rejected, ...this.routes.rejected]);
  }

  #keepRejected(entry: RejectedEntry): void {
    const { key } = entry;
    if (this.#storeRejected.size < MAX_REJECTED || this.#storeRejected.has(key)) {
      this.#storeRejected.set(key, entry);
    }
  }

  #logRejected(entries: readonly RejectedEntry[]): void {
    for (const { key, reason } of entries.slice(0, MAX_REJECTED_LOGGED)) {
      this.#log.warn({ lease: key, reason }, 'lease rejected');
    }
    const more = entries.length - MAX_REJECTED_LOGGED;
    if (more > 0) this.#log.warn({ more }, 'more leases rejected; flannelette status tells');
  }

  #logRejection(subnet: Cidr): void {
    const entry = this.routes.rejection(subnet);
    if (entry !== undefined) this.#logRejected([entry]);
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
      const holder = formatIpv4(stored.attributes.publicIp);
      this.#setOwn(this.#lease, `the lease of ${subnet} was taken over by ${holder}`);
    }
  }

  #setOwn(lease: Lease, lost: string | undefined): void {
    const { expiresAt, deadline } = this.#lease;
    if (lost === this.#lost && lease.expiresAt === expiresAt && lease.deadline === deadline) return;
    this.#lease = lease;
    this.#lost = lost;
    for (const listener of [...this.#listeners]) listener();
  }

  #isOwnSubnet(subnet: Cidr): boolean {
    return sameCidr(subnet, this.#lease.subnet);
  }

  #publishSoon(): void {
    if (this.#closed || this.#publication !== undefined) return;
    this.#publication = setImmediate(() => {
      this.#publication = undefined;
      this.#publish();
    });
  }

  #publish(): void {
    this.#plane.changeRoutes(this.routes.takeChanges());
    this.#plane.start();
    this.#published = true;
    this.#log.debug({ routes: this.routes.size }, 'routes published');
    this.#resolveSynced();
  }
}
