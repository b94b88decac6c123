/** What a daemon says of itself at /status: plain JSON with addresses as text. */
import type { Reach } from '../network/forwarder.js';
import type { FollowState, Registration } from '../network/registration.js';
import { formatCidr, formatIpv4 } from '../config/ipv4.js';
import type { NetworkConfig } from '../config/network.js';
import type { DataPlaneSnapshot, KernelFeature } from '../dataplane/dataplane.js';
import type { ExternalInterface } from '../host/interface.js';
import { expiryTime } from '../lease/expiry.js';
import type { LeaseStore, RejectedEntry } from '../lease/store.js';
import type { Problem } from '../problems.js';
import { ownPrivileges, type Privileges } from './privileges.js';

/** One other host, and how it is reached. */
export interface RouteStatus extends Reach {
  readonly subnet: string;
  readonly nextHop: string;
}

export interface DaemonStatus {
  readonly version: string;
  readonly pid: number;
  readonly mode: string;
  readonly ready: boolean;
  /** Of the process that this daemon runs in; absent where /proc does not tell. */
  readonly privileges?: Privileges;
  /** What the daemon waits for or does, e.g. `waiting for the network configuration`. */
  readonly phase: string;
  readonly uptimeSeconds: number;
  readonly store: {
    readonly kind: string;
    readonly location: string;
    readonly error: string | null;
    /** Since when routes are not known to be true, ISO 8601; null while the store is followed. */
    readonly leasesAsOf: string | null;
  } | null;
  readonly network: string | null;
  readonly lease: {
    readonly subnet: string;
    /** ISO 8601, null for a reservation. */
    readonly expiresAt: string | null;
    /** Why the lease is not ours now, null while it is. */
    readonly lost: string | null;
  } | null;
  readonly external: {
    readonly name: string;
    readonly address: string;
    readonly publicIp: string;
    readonly mtu: number;
  } | null;
  /** Type of the backend that the configuration names. */
  readonly backend: string | null;
  /** The overlay's own device; null while there is none, and where the backend has none. */
  readonly device: string | null;
  /** MTU of the device in bytes. */
  readonly mtu: number | null;
  readonly routes: readonly RouteStatus[];
  readonly rejected: readonly RejectedEntry[];
  readonly firewall: FirewallState;
  /** What hinders traffic although every part of the daemon works, each with its remedy. */
  readonly problems: readonly Problem[];
  readonly dataPlane: (DataPlaneSnapshot & DataPlaneHealth) | null;
  readonly features: readonly KernelFeature[];
}

export interface FirewallState {
  /** False when the flags ask for no rules at all. */
  readonly enabled: boolean;
  readonly inPlace: boolean;
  /** Why the rules could not be checked or put in place last time. */
  readonly error: string | null;
  /** How often rules were found changed and put back. */
  readonly repairs: number;
}

interface DataPlaneHealth {
  /** Why it does not forward now, null while it does. */
  readonly error: string | null;
  readonly restarts: number;
}

export interface StatusParts {
  readonly version: string;
  readonly mode: string;
  readonly ready: boolean;
  readonly phase: string;
  readonly uptimeSeconds: number;
  readonly store: LeaseStore | undefined;
  /** Why it cannot be asked or followed now. */
  readonly storeError: string | null;
  readonly config: NetworkConfig | undefined;
  readonly network: Registration | undefined;
  /** Taken at the same moment. */
  readonly follow: FollowState | undefined;
  readonly external: ExternalInterface | undefined;
  readonly features: readonly KernelFeature[];
  /** Totals since the daemon's start, over every network it has registered. */
  readonly dataPlane: DataPlaneSnapshot | undefined;
  readonly dataPlaneError: string | null;
  readonly dataPlaneRestarts: number;
  readonly firewall: FirewallState;
  readonly problems: readonly Problem[];
}

export function describeStatus(parts: StatusParts): DaemonStatus {
  const { store, config, network, follow, external } = parts;
  const privileges = ownPrivileges();
  return {
    version: parts.version,
    pid: process.pid,
    mode: parts.mode,
    ready: parts.ready,
    ...(privileges === undefined ? {} : { privileges }),
    phase: parts.phase,
    uptimeSeconds: parts.uptimeSeconds,
    store:
      store === undefined
        ? null
        : {
            kind: store.kind,
            location: store.location,
            error: parts.storeError,
            leasesAsOf:
              follow?.leasesAsOf === undefined ? null : new Date(follow.leasesAsOf).toISOString(),
          },
    network: config === undefined ? null : formatCidr(config.network),
    lease: network === undefined ? null : describeLease(network),
    external:
      external === undefined
        ? null
        : {
            name: external.name,
            address: formatIpv4(external.address),
            publicIp: formatIpv4(external.publicIp),
            mtu: external.mtu,
          },
    backend: config?.backend.type ?? null,
    device: network?.forwarder.device ?? null,
    mtu: network?.mtu ?? null,
    routes: network === undefined ? [] : describeRoutes(network),
    rejected: follow?.rejected ?? [],
    firewall: parts.firewall,
    problems: parts.problems,
    dataPlane:
      parts.dataPlane === undefined
        ? null
        : {
            ...parts.dataPlane,
            error: parts.dataPlaneError,
            restarts: parts.dataPlaneRestarts,
          },
    features: parts.features,
  };
}

function describeRoutes({ routes, forwarder }: Registration): RouteStatus[] {
  return routes.routes().map((route) => ({
    subnet: formatCidr(route.subnet),
    nextHop: formatIpv4(route.nextHop),
    ...forwarder.reach(route),
  }));
}

function describeLease(network: Registration): DaemonStatus['lease'] {
  const { subnet } = network.lease;
  const expiresAt = expiryTime(network.lease);
  return {
    subnet: formatCidr(subnet),
    expiresAt: expiresAt === undefined ? null : new Date(expiresAt).toISOString(),
    lost: network.leaseLost ?? null,
  };
}
