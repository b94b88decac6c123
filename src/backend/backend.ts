/**
 * What a backend is: udp today; vxlan and host-gw may follow behind the same interface.
 */
import type { ExternalInterface } from '../host/interface.js';
import type { NetworkConfig } from '../config/network.js';
import type { Lease, LeaseStore, RejectedEntry } from '../lease/store.js';
import type { RouteTable } from '../route/table.js';
import type { DataPlaneSnapshot } from '../dataplane/dataplane.js';
import type { Logger } from '../log.js';
import type { Cidr } from '../config/ipv4.js';

/** What the daemon gives a backend to work with. */
export interface BackendContext {
  readonly store: LeaseStore;
  readonly external: ExternalInterface;
  readonly previousSubnet: Cidr | undefined;
  readonly log: Logger;
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
  readonly storeError: string | undefined;
  readonly rejected: readonly RejectedEntry[];
  readonly dataPlane: DataPlaneSnapshot;
}

export interface Network {
  readonly lease: Lease;
  /** MTU of the overlay device in bytes (external MTU less the encapsulation). */
  readonly mtu: number;
  readonly routes: RouteTable;
  status(): NetworkStatus;
  /** Resolves when the first snapshot of leases has been published to the data plane. */
  readonly synced: Promise<void>;
  /** Follows the store and forwards until the signal aborts; then everything is released. */
  run(signal: AbortSignal): Promise<void>;
}
