/**
 * What a backend is: udp today; vxlan and host-gw may follow behind the same interface.
 *
 * The daemon owns the lease's renewal, the backend owns what the lease is used for. They meet in
 * `Network`: the daemon hands a renewed lease to `adoptLease`, the backend says through `leaseLost`
 * and `onLeaseChange` what the store's events mean for the lease in force.
 */
import type { ExternalInterface } from '../host/interface.js';
import type { NetworkConfig } from '../config/network.js';
import type { StoreFault } from '../lease/errors.js';
import type { Lease, LeaseRequest, LeaseStore, RejectedEntry } from '../lease/store.js';
import type { ProblemBoard } from '../problems.js';
import type { RouteTable } from './route-table.js';
import type { DataPlaneSnapshot } from '../dataplane/dataplane.js';
import type { Logger } from '../log.js';
import type { Cidr, Ipv4 } from '../config/ipv4.js';

/** What the daemon gives a backend to work with. */
export interface BackendContext {
  readonly store: LeaseStore;
  readonly external: ExternalInterface;
  readonly previousSubnet: Cidr | undefined;
  /** PublicIP before the external address changed; see LeaseRequest. */
  readonly formerPublicIp?: Ipv4 | undefined;
  /** This host's lease, known already: the store is not asked for one. */
  readonly lease?: Lease | undefined;
  /** Why that lease has to be acquired again once the network runs; see Network.leaseLost. */
  readonly leaseLost?: string | undefined;
  readonly log: Logger;
  /** Where is shown what hinders traffic; a backend reports there under its own sources. */
  readonly problems?: ProblemBoard | undefined;
}

export interface Backend {
  readonly type: string;
  /**
   * Acquires this host's lease and sets the device, its address and its route up.
   * Rejects with nothing left behind: no device, no route, no open socket.
   */
  registerNetwork(config: NetworkConfig, signal: AbortSignal): Promise<Network>;
}

/** State a person or a scrape asks for; cheap, taken at once. */
export interface NetworkStatus {
  readonly device: string;
  /** Why the store cannot be followed now; the last good routes stay in force. */
  readonly storeError: string | undefined;
  /** What kind of fault that is; undefined while there is none, or one of no known kind. */
  readonly storeFault: StoreFault | undefined;
  /** When the leases in force were last known to be true (Unix time in ms); undefined: now. */
  readonly leasesAsOf: number | undefined;
  /** Entries of the store that are not leases, and leases that must not become routes. */
  readonly rejected: readonly RejectedEntry[];
  /** Why the data plane is down and being replaced; `undefined` while it forwards. */
  readonly dataPlaneError: string | undefined;
  /** Data planes opened to replace one that failed. */
  readonly dataPlaneRestarts: number;
  /** Totals since the network was registered: they never fall when the data plane is replaced. */
  readonly dataPlane: DataPlaneSnapshot;
}

export interface Network {
  /** The lease in force, with the newest expiry known. */
  readonly lease: Lease;
  /** MTU of the overlay device in bytes (external MTU less the encapsulation). */
  readonly mtu: number;
  readonly routes: RouteTable;
  /** What a lease was asked for with; asked for again when it is lost. */
  readonly leaseRequest: LeaseRequest;
  status(): NetworkStatus;
  /**
   * Resolves when the first snapshot of leases has been published to the data plane; rejects when
   * the network is closed before that.
   */
  readonly synced: Promise<void>;
  /** Why the store says that the lease is not ours any more; `undefined` while it is. */
  readonly leaseLost: string | undefined;
  /** Calls back whenever `lease` or `leaseLost` changed; returns how to stop that. */
  onLeaseChange(listener: () => void): () => void;
  /** Takes the lease over after a renewal or a new acquisition of the same subnet. */
  adoptLease(lease: Lease): void;
  /** Follows the store and forwards until the signal aborts; then everything is released. */
  run(signal: AbortSignal): Promise<void>;
  /** Releases everything at once; for a network that is never run. Idempotent. */
  close(): void;
}
