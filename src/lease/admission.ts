/**
 * What about a lease can be wrong whatever else is leased, and for every reader. A lease with such a
 * fault is no route anywhere, so it takes nothing away from others when subnets are handed out.
 *
 * The length is none: SubnetLen is changed node by node, and a lease of the old length is as good. But
 * no configuration of a Network hands out more than a quarter of it (SubnetLen is Network's prefix + 2
 * at least), so what is wider is a slip, and one that would cover everybody.
 */
import {
  containsCidr,
  formatCidr,
  formatIpv4,
  unreachableReason,
  type Cidr,
} from '../config/ipv4.js';
import type { Lease } from './store.js';

/**
 * Why the subnet can be no host's of this Network; undefined when it can. `anyLength` where the store is
 * told of subnets by somebody else, who may give a host as much as he likes.
 */
export function subnetFault(network: Cidr, subnet: Cidr, anyLength = false): string | undefined {
  const text = formatCidr(subnet);
  if (!containsCidr(network, subnet)) return `${text} is outside Network ${formatCidr(network)}`;
  const widest = network.prefix + 2;
  if (anyLength || subnet.prefix >= widest) return undefined;
  return `${text} has the wrong length: expected at least /${widest} in Network ${formatCidr(network)}`;
}

/** Why the lease can be no route; undefined when it depends on the host and on other leases. */
export function leaseFault(
  network: Cidr,
  { subnet, attributes }: Pick<Lease, 'subnet' | 'attributes'>,
  anyLength = false,
): string | undefined {
  const fault = subnetFault(network, subnet, anyLength);
  if (fault !== undefined) return fault;
  const unreachable = unreachableReason(attributes.publicIp);
  if (unreachable === undefined) return undefined;
  return `PublicIP ${formatIpv4(attributes.publicIp)} is ${unreachable}`;
}
