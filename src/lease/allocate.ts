/**
 * Which subnet a host takes, given everything the store holds. Pure: no clock, no store.
 *
 * The order is flanneld's (`pkg/subnet/etcd/local_manager.go`): the subnet this host already holds
 * (by PublicIP), else the one of its last run (subnet.env), else a random one of the first 100 free
 * ones; random, so that hosts starting together rarely want the same. Differences: a lease of any
 * length blocks every subnet it overlaps, unless no host can route to it, which blocks
 * itself only; a reservation of ours outside the range is left to the person who wrote it; and no
 * subnet is taken that covers the address of a host, which Network may do (10.0.0.0/8 over hosts at
 * 10.168.0.x), because the tunnel to that host would lead into itself.
 */
import {
  broadcast,
  cidrOf,
  compareCidr,
  contains,
  containsCidr,
  formatCidr,
  formatIpv4,
  overlaps,
  sameCidr,
  subnetSize,
  type Cidr,
  type Ipv4,
} from '../config/ipv4.js';
import { isSubnetInRange, type NetworkConfig } from '../config/network.js';
import { systemError } from '../errors.js';
import { leaseFault, subnetFault } from './admission.js';
import type { HostAddress, Lease, LeaseRequest } from './store.js';

/** How many free subnets the random pick is among. */
export const FREE_CANDIDATES = 100;

export interface AllocationInput {
  readonly config: NetworkConfig;
  readonly publicIp: Ipv4;
  /** What PublicIP was until the external address changed: leases under it are ours too. */
  readonly formerPublicIp?: Ipv4 | undefined;
  readonly leases: readonly Lease[];
  /** Subnets that are not ours to take though no lease can be read for them. */
  readonly blocked: readonly Cidr[];
  readonly previousSubnet: Cidr | undefined;
  /** See LeaseRequest. */
  readonly hostAddresses?: readonly HostAddress[];
  readonly tunnelAddress?: Ipv4;
  /** Milliseconds since the epoch: leases that ended before are free for others. */
  readonly now: number;
  /** 0 <= x < 1, as Math.random. */
  readonly random: () => number;
}

export interface Allocation {
  readonly subnet: Cidr;
  readonly origin: 'own' | 'reservation' | 'previous' | 'free';
  /** Subnets to delete: ours out of range, and ended ones the chosen subnet overlaps. */
  readonly obsolete: readonly Cidr[];
}

export function isExpired(lease: Lease, now: number): boolean {
  return lease.expiresAt !== undefined && lease.expiresAt <= now;
}

/** What of a request says where this host itself is. */
export function ownPlace({
  hostAddresses,
  tunnelAddress,
}: LeaseRequest): Pick<AllocationInput, 'hostAddresses' | 'tunnelAddress'> {
  return {
    ...(hostAddresses === undefined ? {} : { hostAddresses }),
    ...(tunnelAddress === undefined ? {} : { tunnelAddress }),
  };
}

/** Throws a system error when every subnet between SubnetMin and SubnetMax is taken. */
export function allocateSubnet(input: AllocationInput): Allocation {
  const { config, leases, previousSubnet: previous } = input;
  const isOwn = ({ attributes }: Lease): boolean =>
    attributes.publicIp === input.publicIp || attributes.publicIp === input.formerPublicIp;

  const usable = (subnet: Cidr): boolean =>
    isSubnetInRange(config, subnet) &&
    !ownAddresses(input).some((address) => contains(subnet, address));

  // Leases of ours that have ended are still ours as long as no other host took them.
  const own = leases.filter((lease) => isOwn(lease) && usable(lease.subnet));
  const obsolete = leases
    .filter((lease) => isOwn(lease) && lease.key === undefined && lease.expiresAt !== undefined)
    .filter((lease) => !usable(lease.subnet))
    .map((lease) => lease.subnet);

  const kept = preferred(own, previous);
  if (kept !== undefined) {
    const origin = kept.expiresAt === undefined ? 'reservation' : 'own';
    return { subnet: kept.subnet, origin, obsolete };
  }

  // A lease that cannot be a route blocks nothing but its own key.
  const blocks = (subnet: Cidr, fault: string | undefined): boolean =>
    fault === undefined || subnet.prefix === config.subnetLen;
  const taken = input.blocked.filter((subnet) =>
    blocks(subnet, subnetFault(config.network, subnet)),
  );
  const ended: Cidr[] = [];
  for (const lease of leases) {
    if (isExpired(lease, input.now)) ended.push(lease.subnet);
    else if (blocks(lease.subnet, leaseFault(config.network, lease))) taken.push(lease.subnet);
  }
  const finish = (subnet: Cidr, origin: Allocation['origin']): Allocation => ({
    subnet,
    origin,
    obsolete: [
      ...obsolete,
      ...ended.filter((other) => overlaps(other, subnet) && !contained(obsolete, other)),
    ],
  });

  if (
    previous !== undefined &&
    usable(previous) &&
    !taken.some((other) => overlaps(other, previous))
  ) {
    return finish(previous, 'previous');
  }

  const hosts = [...ownAddresses(input), ...leases.map(({ attributes }) => attributes.publicIp)]
    .filter((address) => contains(config.network, address))
    .map((address) => cidrOf(address, 32));
  const avoided = [...taken, ...hosts];
  const free = freeSubnets(config, [...avoided, ...ownLinks(input)], FREE_CANDIDATES);
  // A link as wide as the range leaves nothing: better a subnet that only this host cannot use well.
  if (free.length === 0) free.push(...freeSubnets(config, avoided, FREE_CANDIDATES));
  const subnet = free[Math.floor(input.random() * free.length)];
  if (subnet === undefined) throw exhausted(config);
  return finish(subnet, 'free');
}

/** What this host's tunnel is at. Not of every interface: the bridge's lies in the own subnet. */
function ownAddresses({ publicIp, tunnelAddress }: AllocationInput): Ipv4[] {
  return tunnelAddress === undefined ? [publicIp] : [publicIp, tunnelAddress];
}

/** Subnets of this host's links that its own routes prefer to the overlay's. */
function ownLinks({ config, hostAddresses = [] }: AllocationInput): Cidr[] {
  return hostAddresses
    .filter(({ prefix }) => prefix > config.network.prefix)
    .map(({ address, prefix }) => cidrOf(address, prefix))
    .filter((link) => containsCidr(config.network, link));
}

/** The first `limit` subnets in range that overlap none of `taken`; O(n log n) in `taken`. */
export function freeSubnets(config: NetworkConfig, taken: readonly Cidr[], limit: number): Cidr[] {
  const size = subnetSize(config.subnetLen);
  const free: Cidr[] = [];
  let next = config.subnetMin;
  const fillUpTo = (end: number): void => {
    for (; next + size <= end && next <= config.subnetMax && free.length < limit; next += size) {
      free.push({ network: next, prefix: config.subnetLen });
    }
  };
  for (const other of taken.toSorted(compareCidr)) {
    if (free.length >= limit) return free;
    const end = broadcast(other) + 1;
    if (end <= next) continue;
    fillUpTo(other.network);
    next = Math.max(next, Math.ceil(end / size) * size);
  }
  fillUpTo(Number.POSITIVE_INFINITY);
  return free;
}

/** The own lease to use: the one of the last run, else a reservation, else the first. */
function preferred(own: readonly Lease[], previous: Cidr | undefined): Lease | undefined {
  return (
    own.find((lease) => previous !== undefined && sameCidr(lease.subnet, previous)) ??
    own.find((lease) => lease.expiresAt === undefined) ??
    own[0]
  );
}

function contained(list: readonly Cidr[], subnet: Cidr): boolean {
  return list.some((other) => sameCidr(other, subnet));
}

function exhausted(config: NetworkConfig): Error {
  const first = formatCidr(cidrOf(config.subnetMin, config.subnetLen));
  const count = (config.subnetMax - config.subnetMin) / subnetSize(config.subnetLen) + 1;
  return systemError(
    `no free subnet in Network ${formatCidr(config.network)}: all ${count} subnets from ${first} to ` +
      `${formatIpv4(config.subnetMax)}/${config.subnetLen} are leased or hold hosts; ` +
      'delete unused leases or give the network a wider range',
    { field: 'Network', value: formatCidr(config.network) },
  );
}
