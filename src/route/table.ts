/**
 * The authoritative map from subnets to hosts, built from leases.
 *
 *   leases --validate--> routes --changes--> forwarding table (native, read per packet)
 *                    \-> rejected, with the reason
 *
 * A lease is another host's word and may be wrong: one that could take over this host's subnet, send
 * traffic outside the overlay, or loop it back into the tunnel never becomes a route. A bad lease
 * for a subnet also ends the route an earlier good one made. This host's own subnet is no route: the
 * kernel delivers it by the bridge.
 */
import {
  compareCidr,
  contains,
  containsCidr,
  formatCidr,
  formatIpv4,
  sameCidr,
  subnetKey,
  unreachableReason,
  type Cidr,
  type Ipv4,
} from '../config/ipv4.js';
import type { Lease, RejectedEntry } from '../lease/store.js';
import { PrefixMap } from './prefix-map.js';

export interface Route {
  readonly subnet: Cidr;
  /** The peer's PublicIP: outer destination, and the one outer source accepted for the subnet. */
  readonly nextHop: Ipv4;
}

export type RouteChange =
  | { readonly type: 'add'; readonly route: Route }
  | { readonly type: 'update'; readonly route: Route; readonly previous: Route }
  | { readonly type: 'remove'; readonly route: Route };

/** In place of a next hop: the route is taken away. */
const NO_ROUTE = 0;

export interface RouteTableOptions {
  readonly network: Cidr;
  /** Prefix length every lease must have. */
  readonly subnetLen: number;
  readonly own: Cidr;
  readonly ownPublicIp: Ipv4;
}

export class RouteTable {
  readonly #options: RouteTableOptions;
  #routes = new PrefixMap<Route>();
  /** Triples of takeChanges. */
  #changes: number[] = [];
  #rejected = new Map<string, RejectedEntry>();
  #sorted: readonly Route[] | undefined;

  constructor(options: RouteTableOptions) {
    this.#options = options;
  }

  /** Number of routes. */
  get size(): number {
    return this.#routes.size;
  }

  /** Leases that are no routes because something about them is wrong. */
  get rejected(): readonly RejectedEntry[] {
    return [...this.#rejected.values()];
  }

  /** Why the lease of this subnet is no route; undefined when nothing is wrong with it. */
  rejection(subnet: Cidr): RejectedEntry | undefined {
    return this.#rejected.get(subnetKey(subnet));
  }

  /** Makes the table exactly what these leases say; returns how it differs from before. */
  replaceAll(leases: Iterable<Lease>): RouteChange[] {
    const before = this.#routes;
    this.#routes = new PrefixMap();
    this.#rejected = new Map();
    this.#sorted = undefined;
    for (const lease of leases) {
      const route = this.#admit(lease);
      if (route !== undefined) this.#routes.set(route.subnet, route);
    }
    const changes: RouteChange[] = [];
    for (const route of this.#routes.values()) {
      const change = changeBetween(before.get(route.subnet), route);
      if (change !== undefined) changes.push(change);
    }
    for (const route of before.values()) {
      if (this.#routes.get(route.subnet) === undefined) changes.push({ type: 'remove', route });
    }
    for (const change of changes) this.#note(change);
    return changes;
  }

  /** The change this lease makes; undefined when it makes none (a renewal, our own, a bad one). */
  put(lease: Lease): RouteChange | undefined {
    this.#rejected.delete(subnetKey(lease.subnet));
    const route = this.#admit(lease);
    if (route === undefined) return this.#remove(lease.subnet);
    const change = changeBetween(this.#routes.get(route.subnet), route);
    if (change !== undefined) {
      this.#routes.set(route.subnet, route);
      this.#note(change);
    }
    return change;
  }

  delete(subnet: Cidr): RouteChange | undefined {
    this.#rejected.delete(subnetKey(subnet));
    return this.#remove(subnet);
  }

  /** The route for exactly this subnet. */
  get(subnet: Cidr): Route | undefined {
    return this.#routes.get(subnet);
  }

  /** The route of the longest prefix that contains `ip`. */
  lookup(ip: Ipv4): Route | undefined {
    return this.#routes.lookup(ip);
  }

  /** Ascending by subnet. */
  routes(): readonly Route[] {
    this.#sorted ??= [...this.#routes.values()].sort((a, b) => compareCidr(a.subnet, b.subnet));
    return this.#sorted;
  }

  /** All routes for an empty native table: triples of network, prefix length, next hop. */
  compile(): Uint32Array {
    const triples = new Uint32Array(this.size * 3);
    let at = 0;
    for (const { subnet, nextHop } of this.#routes.values()) {
      triples[at++] = subnet.network;
      triples[at++] = subnet.prefix;
      triples[at++] = nextHop;
    }
    return triples;
  }

  /** What changed since the last call, in order: such triples, of a route taken away with next hop 0. */
  takeChanges(): Uint32Array {
    const changes = Uint32Array.from(this.#changes);
    this.#changes = [];
    return changes;
  }

  #remove(subnet: Cidr): RouteChange | undefined {
    const route = this.#routes.get(subnet);
    if (route === undefined) return undefined;
    this.#routes.delete(subnet);
    const change: RouteChange = { type: 'remove', route };
    this.#note(change);
    return change;
  }

  #note({ type, route }: RouteChange): void {
    this.#sorted = undefined;
    const { network, prefix } = route.subnet;
    this.#changes.push(network, prefix, type === 'remove' ? NO_ROUTE : route.nextHop);
  }

  /** The lease's route; undefined for our own lease and for one that is set aside as rejected. */
  #admit(lease: Lease): Route | undefined {
    const { own, ownPublicIp } = this.#options;
    const { publicIp } = lease.attributes;
    if (sameCidr(lease.subnet, own) && publicIp === ownPublicIp) return undefined;
    const reason = this.#reasonAgainst(lease.subnet, publicIp);
    if (reason === undefined) return { subnet: lease.subnet, nextHop: publicIp };
    const key = subnetKey(lease.subnet);
    this.#rejected.set(key, { key, reason });
    return undefined;
  }

  #reasonAgainst(subnet: Cidr, publicIp: Ipv4): string | undefined {
    const { network, subnetLen, own, ownPublicIp } = this.#options;
    const ip = formatIpv4(publicIp);
    if (!containsCidr(network, subnet)) {
      return `${formatCidr(subnet)} is outside Network ${formatCidr(network)}`;
    }
    if (subnet.prefix !== subnetLen) {
      return `${formatCidr(subnet)} has the wrong length: expected /${subnetLen}`;
    }
    if (sameCidr(subnet, own)) return `this host's own subnet is claimed by ${ip}`;
    if (publicIp === ownPublicIp) return `PublicIP ${ip} is this host's own`;
    const unreachable = unreachableReason(publicIp);
    if (unreachable !== undefined) return `PublicIP ${ip} is ${unreachable}`;
    if (contains(network, publicIp)) {
      return `PublicIP ${ip} lies inside Network ${formatCidr(network)}: a routing loop`;
    }
    return undefined;
  }
}

function changeBetween(before: Route | undefined, after: Route): RouteChange | undefined {
  if (before === undefined) return { type: 'add', route: after };
  if (before.nextHop === after.nextHop) return undefined;
  return { type: 'update', route: after, previous: before };
}
