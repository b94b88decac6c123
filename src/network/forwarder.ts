/**
 * How packets travel between hosts, and nothing else: udp today, others behind the same interface.
 *
 *   BackendKind --create--> Backend --open, with a lease--> Forwarder --apply--> kernel or data plane
 *   (per type)              (fits configuration and         (device is there)
 *                            interface)
 *
 * What is common to all, following the store and keeping the lease, is Registration's.
 */
import type { Ipv4 } from '../config/ipv4.js';
import type { BackendConfig, NetworkConfig } from '../config/network.js';
import type { DataPlaneSnapshot } from '../dataplane/dataplane.js';
import type { ExternalInterface } from '../host/interface.js';
import type { Lease, LeaseAttributes } from '../lease/store.js';
import type { Logger } from '../log.js';
import type { ProblemBoard } from '../problems.js';
import type { EventSink } from './events.js';
import type { Route, RouteChange } from './route-table.js';

/** One `Backend.Type`: what can be said before a host is looked at. `Options` are the daemon's. */
export interface BackendKind<Options> {
  /** Lower case. */
  readonly type: string;
  /** Keys of its part of the network configuration, `Type` apart. */
  readonly keys: readonly string[];
  /**
   * Its settings with their defaults, each as name and value, to tell one configuration from another.
   * Throws an input error that names the field (`Backend.Port`).
   */
  settings(config: BackendConfig): readonly (readonly [name: string, value: string])[];
  /**
   * Whether one of each configuration can stand on a host at once, with the hosts whose leases are its own;
   * absent: never.
   */
  canStandBeside?(config: BackendConfig, other: BackendConfig): boolean;
  /** Throws an input error when configuration or interface do not fit. Opens nothing. */
  create(context: BackendContext, options: Options): Backend;
}

export interface BackendContext {
  readonly config: NetworkConfig;
  readonly external: ExternalInterface;
  readonly log: Logger;
  /** What hinders traffic is shown there; a backend reports under its own sources. */
  readonly problems?: ProblemBoard | undefined;
  /** Told when packets cease to travel, or go another way. */
  readonly events?: EventSink | undefined;
}

/** A backend that fits this host; there is no lease yet. */
export interface Backend {
  /** MTU of the overlay in bytes: the external interface's less what the backend adds. */
  readonly mtu: number;
  /** Smallest MTU of the external interface that it can do with, in bytes. */
  readonly minExternalMtu: number;
  /** What this host's lease says of it, whenever one is acquired. */
  readonly leaseAttributes: LeaseAttributes;
  /** Why no route can be made of such a lease; undefined when one can. */
  leaseFault?(attributes: LeaseAttributes): string | undefined;
  /** UDP port that other hosts send to; undefined when nothing travels in UDP. */
  readonly udpPort: number | undefined;
  /** The kernel alone forwards, and can go on when this process has ended. */
  readonly outlivesDaemon?: boolean;
  /**
   * Sets the way of the packets up; they wait until the first `apply`. `routes` gives every route
   * that was applied, for a device that has to be opened again. Throws a system error that names
   * what the kernel refused, with nothing left behind.
   */
  open(lease: Lease, routes: () => readonly Route[]): Forwarder;
  /**
   * The same beside another program that has port and route, both of which it leaves to that program until
   * `aside.back`. Absent where it cannot; it may throw for the same reason.
   */
  openAside?(lease: Lease, routes: () => readonly Route[]): Forwarder;
}

export interface Forwarder extends Omit<Backend, 'open' | 'openAside'> {
  /**
   * Name of its own device, by which packets to other hosts' subnets leave; it may become another.
   * Undefined when they leave by the external interface.
   */
  readonly device: string | undefined;
  /** Brings changes of routes into force; the first call begins to forward. Never throws. */
  apply(changes: readonly RouteChange[]): void;
  /**
   * Of the routes that an earlier run had, takes away what it left in the kernel and nothing asks for now;
   * absent where the kernel keeps none without the device. Never throws.
   */
  removeLeft?(routes: () => readonly Route[]): void;
  /** Packets cross the kernel in another mode from now on; undefined where there is but one. */
  changeMode?(mode: DataPlaneSnapshot['mode']): void;
  /** Lets another program have port and routes without a gap; undefined where there is no way to. */
  readonly aside?: Aside | undefined;
  /** Undefined where another process cannot go on with what is open here. */
  readonly handover?: Handover | undefined;
  health(): ForwarderHealth;
  /** How packets for a route that was applied travel now. */
  reach(route: Route): Reach;
  /** By PublicIP: hosts whose path takes no packets as long as `mtu`, as far as that is found out here. */
  narrowPaths?(): ReadonlyMap<Ipv4, PathMtu>;
  /**
   * Totals since it was opened, also after the close; they never fall. Undefined when the kernel
   * alone forwards, which counts nothing of this.
   */
  counters(): DataPlaneSnapshot | undefined;
  /**
   * Takes everything away again; with `keep`, and where it outlives the daemon, nothing: the next start
   * goes on with it. Idempotent.
   */
  close(keep?: boolean): void;
}

/** Another process goes on where this one ends, with the same device and port. */
export interface Handover {
  /** Sends the descriptors to the socket at `path`, and goes on; says what tunnel they are of. */
  give(path: string): string;
  /** Ceases to forward and leaves device and routes as they are: the other process begins. */
  end(): void;
}

/** It goes on, and port and routes are free for another program. Each throws a system error when it cannot. */
export interface Aside {
  /** Closed from then on, it leaves both to that program. */
  step(): void;
  /** Takes both back; throws while another program has the port. */
  back(): void;
}

/** A path that is shorter than the device's MTU. */
export interface PathMtu {
  /** Of the longest packet of a container that reaches the host whole. */
  readonly bytes: number;
  /** ISO 8601. */
  readonly since: string;
}

export interface Reach {
  /** `tunnel`: encapsulated; `direct`: as they are, by a kernel route. */
  readonly way: 'tunnel' | 'direct';
  /** Why this way, where the backend has both. */
  readonly why?: string;
  /** Absent where packets as long as the device's MTU reach it, and where that is not known. */
  readonly pathMtu?: PathMtu;
}

export interface ForwarderHealth {
  /** Why packets do not travel now; undefined while they do. */
  readonly error: string | undefined;
  /** How often what forwards had to be opened again. */
  readonly restarts: number;
}
