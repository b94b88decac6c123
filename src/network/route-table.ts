/**
 * The authoritative map from subnets to hosts, built from leases.
 *
 *   leases --admission--> routes --changes--> forwarding table (native, read per packet)
 *                     \-> rejected, with the reason
 *
 * A lease is another host's word and may be wrong: one that could take over this host's subnet, send
 * traffic outside the overlay, or loop it back into the tunnel never becomes a route. A bad lease
 * for a subnet also ends the route an earlier good one made. But a host that only changes its backend is
 * reached the way before while it keeps that up for hosts that have not changed: its route stays. This
 * host's own subnet is no route: the kernel delivers it by the bridge.
 *
 * What is rejected for its relation to another lease, or to the host's routes, is *contested*: it is
 * kept, and `reconsider` judges it again. A lease that stands under another key than its subnet is
 * written (`Lease.key`) is a route only while no lease stands under the usual one.
 */
import {
  compareCidr,
  contains,
  sameCidr,
  subnetKey,
  type Cidr,
  type Ipv4,
} from '../config/ipv4.js';
import { keyOf, sameAttributes } from '../lease/attributes.js';
import type { Lease, LeaseAttributes, RejectedEntry } from '../lease/store.js';
import {
  coversReason,
  faultHere,
  isOwnLease,
  loopReason,
  type OwnPlace,
} from './route-admission.js';
import { HostIndex } from './host-index.js';
import { PrefixMap } from './prefix-map.js';

export interface Route {
  readonly subnet: Cidr;
  /** The peer's PublicIP: outer destination, and the one outer source accepted for the subnet. */
  readonly nextHop: Ipv4;
  /** What the lease says besides, for the backend (a VTEP MAC); leases of udp say nothing. */
  readonly backendType?: string;
  readonly backendData?: unknown;
}

export type RouteChange =
  | { readonly type: 'add'; readonly route: Route }
  | { readonly type: 'update'; readonly route: Route; readonly previous: Route }
  | { readonly type: 'remove'; readonly route: Route };

/** Those of the addresses that the kernel would send to through the overlay itself. */
export type LeadsIntoOverlay = (addresses: readonly Ipv4[]) => readonly boolean[];

export interface RouteTableOptions extends OwnPlace {
  /** Asked about addresses inside Network only. Without it, all of them are taken to be. */
  readonly leadsIntoOverlay?: LeadsIntoOverlay;
  /** Why the backend can make no route of a lease, whatever else is right with it. */
  readonly leaseFault?: ((attributes: LeaseAttributes) => string | undefined) | undefined;
}

interface Rejection extends RejectedEntry {
  /** Set when it may become a route without being put again. */
  readonly contested?: Lease;
}

/** The changeable part of a table, so that a listing is built beside what is in force. */
class Contents {
  readonly routes = new PrefixMap<Route>();
  readonly rejected = new Map<string, Rejection>();
  /** Next hops inside Network. */
  readonly hosts = new HostIndex();
  contested = 0;
  /** By subnet: leases under other keys than the usual one, in the order they came. */
  readonly aliases = new Map<string, Map<string, Lease>>();
  /** By subnet: the other key that the lease in force stands under. */
  readonly aliasInForce = new Map<string, string>();
  /** What was in force before, while these are built. */
  former: PrefixMap<Route> | undefined;

  constructor(former?: PrefixMap<Route>) {
    this.former = former;
  }
}

export class RouteTable {
  readonly #options: RouteTableOptions;
  #contents = new Contents();
  #changes: RouteChange[] = [];
  #sorted: readonly Route[] | undefined;
  /** Something was taken away that a contested lease may have waited for. */
  #freed = false;

  constructor(options: RouteTableOptions) {
    this.#options = options;
  }

  /** Number of routes. */
  get size(): number {
    return this.#contents.routes.size;
  }

  /** Leases that are no routes because something about them is wrong. */
  get rejected(): readonly RejectedEntry[] {
    return Array.from(this.#contents.rejected.values(), ({ key, reason }) => ({ key, reason }));
  }

  /** How many of them may become routes by themselves. */
  get contested(): number {
    return this.#contents.contested;
  }

  /** Why this lease is no route; undefined when nothing is wrong with it. */
  rejection(lease: Pick<Lease, 'key' | 'subnet'>): RejectedEntry | undefined {
    const found = this.#contents.rejected.get(keyOf(lease));
    return found === undefined ? undefined : { key: found.key, reason: found.reason };
  }

  /** Makes the table exactly what these leases say; returns how it differs from before. */
  replaceAll(leases: Iterable<Lease>): RouteChange[] {
    const before = this.#contents.routes;
    const all = [...leases];
    const leadsInto = this.#askOnce(all);
    this.#contents = new Contents(before);
    this.#sorted = undefined;
    const unnoted: RouteChange[] = [];
    for (const lease of all) this.#put(lease, leadsInto, unnoted);
    this.#contents.former = undefined;
    const changes: RouteChange[] = [];
    for (const route of this.#contents.routes.values()) {
      const change = changeBetween(before.get(route.subnet), route);
      if (change !== undefined) changes.push(change);
    }
    for (const route of before.values()) {
      if (this.#contents.routes.get(route.subnet) === undefined) {
        changes.push({ type: 'remove', route });
      }
    }
    for (const change of changes) this.#note(change);
    return changes;
  }

  /**
   * The change this lease makes to its subnet; undefined when it makes none (a renewal, our own, a bad
   * one). A route that it takes precedence over goes, too: see `changed`.
   */
  put(lease: Lease): RouteChange | undefined {
    const changes = this.#noted((made) => {
      this.#put(lease, this.#leadsInto, made);
    });
    return changes.findLast(({ route }) => sameCidr(route.subnet, lease.subnet));
  }

  /** `key` as in the lease that is gone. */
  delete(subnet: Cidr, key?: string): RouteChange | undefined {
    return this.#noted((made) => {
      this.#delete(subnet, key, made);
    }).at(-1);
  }

  /**
   * Takes away the routes that `other`, of the backend that comes after, has by leases which this one can make
   * none of; returns them as they are there.
   */
  cedeTo(other: RouteTable): readonly Route[] {
    const { leaseFault } = this.#options;
    const ceded: Route[] = [];
    for (const { subnet } of this.routes()) {
      const there = other.get(subnet);
      if (there !== undefined && leaseFault?.(leaseOf(there).attributes) !== undefined) {
        ceded.push(there);
      }
    }
    this.#noted((changes) => {
      for (const { subnet } of ceded) this.#drop(subnet, changes);
    });
    return ceded;
  }

  /** True when takeChanges has something. */
  get changed(): boolean {
    return this.#changes.length > 0;
  }

  /**
   * Judges contested leases again: those that waited for another to go, and with `routesMayDiffer` also
   * those that waited for the kernel's routes.
   */
  reconsider(routesMayDiffer = false): readonly RouteChange[] {
    if (this.contested === 0 || !(this.#freed || routesMayDiffer)) return [];
    this.#freed = false;
    const leases = Array.from(
      this.#contents.rejected.values(),
      ({ contested }) => contested,
    ).filter((lease) => lease !== undefined);
    const leadsInto = this.#askOnce(leases);
    return this.#noted((changes) => {
      for (const lease of leases) this.#put(lease, leadsInto, changes);
    });
  }

  /** The route for exactly this subnet. */
  get(subnet: Cidr): Route | undefined {
    return this.#contents.routes.get(subnet);
  }

  /** The route of the longest prefix that contains `ip`. */
  lookup(ip: Ipv4): Route | undefined {
    return this.#contents.routes.lookup(ip);
  }

  /** Ascending by subnet. */
  routes(): readonly Route[] {
    this.#sorted ??= [...this.#contents.routes.values()].sort((a, b) =>
      compareCidr(a.subnet, b.subnet),
    );
    return this.#sorted;
  }

  /** Next hops, in no order, each as often as it has subnets. */
  *nextHops(): IterableIterator<Ipv4> {
    for (const { nextHop } of this.#contents.routes.values()) yield nextHop;
  }

  /** What changed since the last call, in order. */
  takeChanges(): readonly RouteChange[] {
    const changes = this.#changes;
    this.#changes = [];
    return changes;
  }

  #noted(work: (changes: RouteChange[]) => void): readonly RouteChange[] {
    const changes: RouteChange[] = [];
    work(changes);
    for (const change of changes) this.#note(change);
    return changes;
  }

  #note(change: RouteChange): void {
    this.#sorted = undefined;
    this.#changes.push(change);
  }

  #put(lease: Lease, leadsInto: LeadsIntoOverlay, changes: RouteChange[]): void {
    this.#clearRejection(keyOf(lease));
    if (lease.key === undefined) {
      this.#contents.aliasInForce.delete(subnetKey(lease.subnet));
      this.#admit(lease, leadsInto, changes);
    } else {
      this.#putAlias(lease, lease.key, leadsInto, changes);
    }
  }

  /** A lease under another key counts while there is none under the usual one, the first of several. */
  #putAlias(lease: Lease, key: string, leadsInto: LeadsIntoOverlay, changes: RouteChange[]): void {
    const { aliases, aliasInForce, routes, rejected } = this.#contents;
    const usual = subnetKey(lease.subnet);
    let known = aliases.get(usual);
    if (known === undefined) {
      known = new Map();
      aliases.set(usual, known);
    }
    known.set(key, lease);
    const inForce = aliasInForce.get(usual);
    const free = routes.get(lease.subnet) === undefined && !rejected.has(usual);
    if (inForce === key || (inForce === undefined && free)) {
      aliasInForce.set(usual, key);
      this.#admit(lease, leadsInto, changes);
    } else if (routes.get(lease.subnet)?.nextHop !== lease.attributes.publicIp) {
      this.#reject({ key, reason: `its subnet is leased under ${inForce ?? usual}` });
    }
  }

  #delete(subnet: Cidr, key: string | undefined, changes: RouteChange[]): void {
    const { aliases, aliasInForce } = this.#contents;
    const usual = subnetKey(subnet);
    this.#clearRejection(key ?? usual);
    const known = aliases.get(usual);
    if (key !== undefined) {
      known?.delete(key);
      if (known?.size === 0) aliases.delete(usual);
      if (aliasInForce.get(usual) !== key) return;
    } else if (aliasInForce.has(usual)) {
      return;
    }
    aliasInForce.delete(usual);
    this.#drop(subnet, changes);
    for (const lease of known?.values() ?? []) this.#put(lease, this.#leadsInto, changes);
  }

  /** Sets the lease's route, or takes the subnet's away; keeps what is wrong as a rejection. */
  #admit(lease: Lease, leadsInto: LeadsIntoOverlay, changes: RouteChange[]): void {
    if (isOwnLease(this.#options, lease)) return;
    const key = keyOf(lease);
    const misplaced = faultHere(this.#options, lease);
    const fault = misplaced ?? this.#options.leaseFault?.(lease.attributes);
    const before = misplaced !== fault ? this.#wayBefore(lease) : undefined;
    if (fault !== undefined && before !== undefined) {
      this.#set(before, changes);
      this.#reject({ key, reason: `${fault}; the way before stays in force` });
      return;
    }
    const relation = fault === undefined ? this.#relate(lease, leadsInto, changes) : undefined;
    const reason = fault ?? relation;
    if (reason === undefined) {
      this.#set(routeOf(lease), changes);
      return;
    }
    this.#drop(lease.subnet, changes);
    this.#reject(fault === undefined ? { key, reason, contested: lease } : { key, reason });
  }

  /** The route in force by an earlier lease of the same host. */
  #wayBefore({ subnet, attributes }: Lease): Route | undefined {
    const { routes, former } = this.#contents;
    const before = (former ?? routes).get(subnet);
    return before?.nextHop === attributes.publicIp ? before : undefined;
  }

  /** What is wrong between this lease and those in force; makes room for a host that is there. */
  #relate(
    { subnet, attributes }: Lease,
    leadsInto: LeadsIntoOverlay,
    changes: RouteChange[],
  ): string | undefined {
    const { publicIp } = attributes;
    const { routes, hosts } = this.#contents;
    const host = hosts.within(subnet);
    if (host !== undefined) return coversReason(subnet, host);
    if (!contains(this.#options.network, publicIp)) return undefined;
    if (!hosts.has(publicIp) && leadsInto([publicIp])[0] !== false) {
      return loopReason(this.#options.network, publicIp);
    }
    if (contains(subnet, publicIp)) return coversReason(subnet, publicIp);
    for (let over = routes.lookup(publicIp); over !== undefined; over = routes.lookup(publicIp)) {
      this.#evict(over, publicIp, changes);
    }
    return undefined;
  }

  /** Takes away a route that covers a host's address; its lease is contested from now on. */
  #evict(route: Route, host: Ipv4, changes: RouteChange[]): void {
    const { subnet } = route;
    const alias = this.#contents.aliasInForce.get(subnetKey(subnet));
    const lease = { ...leaseOf(route), ...(alias === undefined ? {} : { key: alias }) };
    this.#drop(subnet, changes);
    this.#reject({ key: keyOf(lease), reason: coversReason(subnet, host), contested: lease });
  }

  #set(route: Route, changes: RouteChange[]): void {
    const { routes, hosts } = this.#contents;
    const before = routes.get(route.subnet);
    const change = changeBetween(before, route);
    if (change === undefined) return;
    if (before !== undefined) this.#forgetHost(before.nextHop);
    routes.set(route.subnet, route);
    if (contains(this.#options.network, route.nextHop)) hosts.add(route.nextHop);
    changes.push(change);
  }

  #drop(subnet: Cidr, changes: RouteChange[]): void {
    const { routes } = this.#contents;
    const route = routes.get(subnet);
    if (route === undefined) return;
    routes.delete(subnet);
    this.#forgetHost(route.nextHop);
    this.#freed = true;
    changes.push({ type: 'remove', route });
  }

  #forgetHost(nextHop: Ipv4): void {
    if (!contains(this.#options.network, nextHop)) return;
    this.#contents.hosts.delete(nextHop);
    this.#freed = true;
  }

  #reject(rejection: Rejection): void {
    this.#contents.rejected.set(rejection.key, rejection);
    if (rejection.contested !== undefined) this.#contents.contested += 1;
  }

  #clearRejection(key: string): void {
    const { rejected } = this.#contents;
    if (rejected.get(key)?.contested !== undefined) this.#contents.contested -= 1;
    rejected.delete(key);
  }

  readonly #leadsInto: LeadsIntoOverlay = (addresses) =>
    this.#options.leadsIntoOverlay?.(addresses) ?? addresses.map(() => true);

  /**
   * The kernel is asked once about all of a listing's addresses. A host that is a next hop already stays
   * one: a link that is down for a moment, whose route is gone, must not cost all routes.
   */
  #askOnce(leases: readonly Lease[]): LeadsIntoOverlay {
    const { network } = this.#options;
    const { hosts } = this.#contents;
    const answers = new Map<Ipv4, boolean>();
    const unknown = new Set<Ipv4>();
    for (const { attributes } of leases) {
      const { publicIp } = attributes;
      if (!contains(network, publicIp)) continue;
      if (hosts.has(publicIp)) answers.set(publicIp, false);
      else unknown.add(publicIp);
    }
    if (unknown.size > 0) {
      const asked = [...unknown];
      for (const [at, leads] of this.#leadsInto(asked).entries()) {
        const address = asked[at];
        if (address !== undefined) answers.set(address, leads);
      }
    }
    return (addresses) => addresses.map((address) => answers.get(address) ?? true);
  }
}

/** The route that a lease asks for. */
function routeOf({ subnet, attributes }: Lease): Route {
  const { publicIp: nextHop, ...rest } = attributes;
  return { subnet, nextHop, ...rest };
}

/** The lease that a route came from, but for its end, which is not known. */
export function leaseOf({ subnet, nextHop, ...rest }: Route): Lease {
  return { subnet, attributes: { publicIp: nextHop, ...rest }, expiresAt: undefined };
}

function changeBetween(before: Route | undefined, after: Route): RouteChange | undefined {
  if (before === undefined) return { type: 'add', route: after };
  if (sameAttributes(leaseOf(before).attributes, leaseOf(after).attributes)) return undefined;
  return { type: 'update', route: after, previous: before };
}
