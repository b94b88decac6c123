/**
 * Which leases become routes on this host.
 *
 *   fault      whatever else is leased: outside Network, no next hop of anybody's (src/lease/admission)
 *   own        it would take over, or loop back to, what is this host's: subnet, address, link
 *   relation   its PublicIP and another lease's subnet: a datagram to a host whose address a route covers
 *              may come back into the tunnel, and again, without end
 *
 * A relation is judged by where the kernel would send, not by shape. An address inside Network is a
 * host's when the host's own routes lead there by another way than the overlay; then a lease that covers
 * it is the one that is wrong. When they lead into the overlay, the PublicIP is. Either way no route in
 * force covers a next hop in force, so there is no loop whatever the kernel's routes become later.
 */
import {
  broadcastReason,
  contains,
  formatCidr,
  formatIpv4,
  isLinkLocal,
  overlaps,
  sameCidr,
  type Cidr,
  type Ipv4,
} from '../config/ipv4.js';
import { leaseFault } from '../lease/admission.js';
import type { Lease } from '../lease/store.js';

/** Where this host stands in the network. */
export interface OwnPlace {
  readonly network: Cidr;
  readonly own: Cidr;
  readonly ownPublicIp: Ipv4;
  /** Where the tunnel is bound, when NAT makes that another address than the PublicIP. */
  readonly ownAddress?: Ipv4;
  /** See LeaseStore.anySubnetLength. */
  readonly anySubnetLength?: boolean | undefined;
  /** Subnets of this host's links: their broadcast addresses belong to no host. */
  readonly ownLinks?: readonly Cidr[];
}

/** This host's own lease: no route, and nothing wrong with it. */
export function isOwnLease(place: OwnPlace, { subnet, attributes }: Lease): boolean {
  return sameCidr(subnet, place.own) && attributes.publicIp === place.ownPublicIp;
}

/** Why the lease can be no route on this host, whatever else is leased; undefined when it can. */
export function faultHere(place: OwnPlace, lease: Lease): string | undefined {
  const fault = leaseFault(place.network, lease, place.anySubnetLength);
  if (fault !== undefined) return fault;
  const { subnet, attributes } = lease;
  const { own, ownPublicIp, ownAddress = ownPublicIp, ownLinks = [] } = place;
  const ip = formatIpv4(attributes.publicIp);
  if (sameCidr(subnet, own)) return `this host's own subnet is claimed by ${ip}`;
  if (overlaps(subnet, own)) {
    return `${formatCidr(subnet)} overlaps this host's own subnet ${formatCidr(own)}`;
  }
  if (attributes.publicIp === ownPublicIp || attributes.publicIp === ownAddress) {
    return `PublicIP ${ip} is this host's own`;
  }
  if (contains(subnet, ownAddress) || contains(subnet, ownPublicIp)) {
    return `${formatCidr(subnet)} covers this host's own address`;
  }
  if (isLinkLocal(attributes.publicIp) && !isLinkLocal(ownAddress)) {
    return `PublicIP ${ip} is a link-local address (169.254.0.0/16)`;
  }
  for (const link of ownLinks) {
    const broadcast = broadcastReason(link, attributes.publicIp);
    if (broadcast !== undefined) return `PublicIP ${ip} is ${broadcast}`;
  }
  if (contains(own, attributes.publicIp)) {
    return `PublicIP ${ip} lies in this host's own subnet: a routing loop`;
  }
  return undefined;
}

/** The reason against a PublicIP that the kernel would send into the overlay. */
export function loopReason(network: Cidr, publicIp: Ipv4): string {
  return (
    `PublicIP ${formatIpv4(publicIp)} lies inside Network ${formatCidr(network)}: a routing loop, ` +
    'as the route to it leads into the overlay'
  );
}

/** The reason against a subnet that has hosts in it. */
export function coversReason(subnet: Cidr, host: Ipv4): string {
  return `${formatCidr(subnet)} covers ${formatIpv4(host)}, the address of a host`;
}
