/**
 * The store of leases, as every backend and the daemon see it.
 *
 * A store maps subnets to hosts and hands out this host's own subnet. It knows nothing of devices
 * or routes. Implementations: `EtcdStore` (flannel's keys in etcd v3), `LeaseFileStore` (a JSON file
 * shared by the daemons of one machine), `KubeStore` (annotations of Kubernetes' nodes, as flannel's),
 * and `RememberingStore`, which starts the remote ones without their store from what was last known.
 */
import type { Cidr, Ipv4 } from '../config/ipv4.js';
import type { NetworkConfig } from '../config/network.js';

/** What a lease says of its holder; serialised to the store exactly as flanneld does. */
export interface LeaseAttributes {
  readonly publicIp: Ipv4;
  /** `undefined` for udp, whose leases carry no BackendType (flannel `pkg/subnet/etcd`). */
  readonly backendType?: string;
  readonly backendData?: unknown;
}

export interface Lease {
  readonly subnet: Cidr;
  /** The store's key, where that is not how this program writes the subnet (`subnetKey`). */
  readonly key?: string;
  readonly attributes: LeaseAttributes;
  /**
   * Milliseconds since the epoch; `undefined` for a reservation, which never ends; infinite when
   * only the store knows (another host's lease in etcd, which etcd itself deletes when it ends).
   */
  readonly expiresAt: number | undefined;
  /**
   * The same end by `bootClock()` (expiry.ts), where it is known: it counts, whatever is done to the wall clock.
   */
  readonly deadline?: number | undefined;
}

export interface HostAddress {
  readonly address: Ipv4;
  /** Prefix length of its link. */
  readonly prefix: number;
}

export interface LeaseRequest {
  readonly config: NetworkConfig;
  readonly attributes: LeaseAttributes;
  /** The subnet of an earlier run (subnet.env): taken again if compatible and free. */
  readonly previousSubnet: Cidr | undefined;
  /** Addresses of this host's interfaces: no subnet is handed out that overlaps theirs. */
  readonly hostAddresses?: readonly HostAddress[];
  /** The one of them that the tunnel is bound to. */
  readonly tunnelAddress?: Ipv4;
  /** This host's PublicIP until its external address changed: a lease under it is ours as well. */
  readonly formerPublicIp?: Ipv4 | undefined;
}

/** A key or value in the store that is not a lease; skipped and counted, never fatal. */
export interface RejectedEntry {
  readonly key: string;
  readonly reason: string;
}

export type LeaseEvent =
  /** The whole truth; always the first event, and again after any resynchronisation. */
  | {
      readonly type: 'snapshot';
      readonly leases: readonly Lease[];
      readonly rejected: readonly RejectedEntry[];
      /** Set when it is remembered, not read: when it was true, in milliseconds since the epoch. */
      readonly asOf?: number;
      /**
       * Set when the store has another past than the one that was followed (data lost, a backup
       * restored): leases that are missing may only not be written again yet.
       */
      readonly restarted?: true;
    }
  | { readonly type: 'put'; readonly lease: Lease }
  | { readonly type: 'delete'; readonly subnet: Cidr; readonly key?: string }
  /** An entry changed into something that is no lease; what it was before stays in force. */
  | { readonly type: 'rejected'; readonly entry: RejectedEntry }
  /** An entry that could not be read is gone. */
  | { readonly type: 'cleared'; readonly key: string }
  /** The store cannot be read or makes no sense; the last good state stays in force. */
  | { readonly type: 'degraded'; readonly error: Error }
  /** The store is readable again; a snapshot, or the changes that were missed, follow. */
  | { readonly type: 'recovered' };

/**
 * Cancellation: every method that waits takes an AbortSignal and rejects with the signal's reason.
 * Errors: `FlannelletteError` with kind `system`; codes of src/lease/store-errors.ts where a caller decides.
 * What somebody has to put right is reported to the daemon's board of problems by those that can see it.
 */
export interface LeaseStore {
  /** `file`, `etcd`, `kube`: a label for logs and metrics. */
  readonly kind: string;
  /** Where it is, for people: a path or a URL, without secrets. */
  readonly location: string;
  /** Where the network's configuration is, when not at `location`. */
  readonly configLocation?: string;
  /**
   * Set when it is told of subnets and hands none out: one of any length inside Network may be a host's,
   * the whole Network for a single host included.
   */
  readonly anySubnetLength?: boolean;
  /** Leases as this host's run before knew them last, where that is remembered. */
  readonly formerLeases?: readonly Lease[];
  /** The network's configuration as JSON text; `undefined` until it is written. */
  readNetworkConfig(signal: AbortSignal): Promise<string | undefined>;
  /** The address that others reach this host by, where an operator has set it in the store. */
  readPublicIp?(signal: AbortSignal): Promise<string | undefined>;
  /** This host's lease: its own taken again, else the previous subnet, else a free one. */
  acquireLease(request: LeaseRequest, signal: AbortSignal): Promise<Lease>;
  /** The same subnet with a new expiry. Rejects with code `ELEASELOST` when it is not ours now. */
  renewLease(lease: Lease, signal: AbortSignal): Promise<Lease>;
  /** The same lease with the end that the store gives it now, which it may know better. */
  refreshLease?(lease: Lease, signal: AbortSignal): Promise<Lease>;
  /**
   * Whether a host may hold this subnet here. Stores that hand subnets out go by SubnetLen, SubnetMin
   * and SubnetMax; in one that is told of them (a podCIDR) another rule may hold.
   */
  accepts(config: NetworkConfig, subnet: Cidr): boolean;
  /** All leases (this host's own included), then every change, until the signal aborts. */
  watchLeases(signal: AbortSignal): AsyncIterable<LeaseEvent>;
  /** Told once a network forwards and its subnet.env is written, for what a store makes known then. */
  announce?(signal: AbortSignal): Promise<void>;
  /** The host's address is another one: connections from the old one would hang until they time out. */
  reconnect?(): void;
  close(): Promise<void>;
}
