/** What the lab has to know of a backend: configuration, routes, wire, counters. */
import type { HostPlan } from '../../testbed/topology.js';
import type { ProbeOutcome } from '../../testbed/traffic.js';
import type { WireFormat } from '../../testbed/wire/format.js';
import type { Route } from './route.js';
import type { Count, Drop, HostCounts } from './counts.js';

export type BackendType = 'udp' | 'vxlan' | 'host-gw';

/** The configuration's Backend object. */
export interface BackendObject {
  readonly Type: BackendType;
  readonly [key: string]: unknown;
}

export interface LabBackend {
  readonly type: BackendType;
  /** Hosts of one segment, which the lab's are, send to each other without the tunnel. */
  readonly directRouting: boolean;
  /** A daemon carries the packets, in the mode that it is told; else the kernel does. */
  readonly hasModes: boolean;
  /** The overlay's own device; undefined where packets leave by eth0. */
  readonly device: string | undefined;
  /** Bytes that it takes from the MTU of eth0. */
  readonly overhead: number;
  /** What carries packets between hosts, in words: `the tunnel`. */
  readonly carrier: string;
  readonly object: BackendObject;
  /** A lease's type, which a reservation has to say as well; undefined for udp's, which says none. */
  readonly leaseType: string | undefined;
  /** The whole value that a host's daemon has to have put in etcd. */
  leaseValue(plan: HostPlan): Promise<string>;
  readonly format: WireFormat;
  /** What a host and its end of the tunnel take from the TTL between container and wire. */
  readonly ttlTaken: number;
  /** A host's routes to the others' subnets, as the documents have them. */
  routes(plan: HostPlan, peers: readonly HostPlan[]): readonly Route[];
  /** What the routes need besides; undefined when nothing. */
  entries?: (plan: HostPlan, peers: readonly HostPlan[]) => Promise<Entries>;
  /** From the container to the wire. */
  counts(host: HostCounts): readonly Count[];
  /** What the host lost. */
  drops(host: HostCounts): readonly Drop[];
  /** What a ping to a host sees that has left, when no route to it is left either. */
  readonly afterLeave: ProbeOutcome;
}

/** Neighbours and forwarding entries of a device, a line each as ip(8) and bridge(8) print them. */
export interface Entries {
  readonly title: string;
  readonly found: readonly string[];
  readonly expected: readonly string[];
}

/** A lease's value as flannel writes it (pkg/lease, LeaseAttrs): fields in this order, none that is empty. */
export function leaseValueOf(plan: HostPlan, type?: string, data?: object): string {
  return JSON.stringify({
    PublicIP: plan.address,
    PublicIPv6: null,
    ...(type === undefined ? {} : { BackendType: type }),
    ...(data === undefined ? {} : { BackendData: data }),
  });
}
