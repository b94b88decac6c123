/**
 * What a network that is registered again takes over from the one before it: with its lease known the
 * store need not answer, so a changed address or MTU costs traffic a moment, also while the store is
 * away.
 */
import type { Registration, RegistrationParts } from '../network/registration.js';
import { formatCidr, formatIpv4, type Cidr, type Ipv4 } from '../config/ipv4.js';
import type { ExternalInterface } from '../host/interface.js';
import type { Lease } from '../lease/store.js';
import { overlayOf, type RunningOverlay } from './external.js';

export interface FormerNetwork {
  readonly overlay: RunningOverlay;
  readonly previousSubnet: Cidr;
  /** Undefined when the subnet is another one from now on. */
  readonly lease: Lease | undefined;
  readonly leaseLost: string | undefined;
}

export function formerNetwork(network: Registration, newSubnet: Cidr | undefined): FormerNetwork {
  const { lease, leaseLost } = network;
  return {
    overlay: overlayOf(network),
    previousSubnet: newSubnet ?? lease.subnet,
    lease: newSubnet === undefined ? lease : undefined,
    leaseLost,
  };
}

/** `storedIp`: the PublicIP that the store may still have for this host. */
export function takenOver(
  former: FormerNetwork,
  { publicIp }: ExternalInterface,
  storedIp: Ipv4 | undefined,
): Pick<RegistrationParts, 'previousSubnet' | 'lease' | 'leaseLost'> {
  const { previousSubnet, lease } = former;
  if (lease === undefined) return { previousSubnet };
  const outdated = storedIp !== undefined && storedIp !== publicIp;
  const leaseLost =
    former.leaseLost ??
    (outdated
      ? `the lease of ${formatCidr(lease.subnet)} still names ${formatIpv4(storedIp)}`
      : undefined);
  return { previousSubnet, lease, leaseLost };
}
