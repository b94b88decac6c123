/** All leases in etcd as of one revision. */
import { parseSubnetKey, type Cidr } from '../../config/ipv4.js';
import type { Lease, LeaseAttributes, RejectedEntry } from '../store.js';
import type { EtcdClient } from './etcd-client.js';
import { decodeEntry, type KeySpace } from './codec.js';
import type { Header, KeyValue } from './etcd-messages.js';
import { NO_GRANT, type OwnLease } from './own-lease.js';

export interface Listing {
  readonly header: Header;
  readonly leases: Lease[];
  readonly rejected: RejectedEntry[];
  /** Subnets of entries that could not be read. */
  readonly blocked: Cidr[];
  /** Entries asked for, by name. */
  readonly own: Map<string, { readonly lease: Lease; readonly entry: KeyValue }>;
}

/** `isOwn` says of which leases the entry is needed to change them. */
export async function list(
  client: EtcdClient,
  keys: KeySpace,
  ownLease: OwnLease,
  isOwn: (attributes: LeaseAttributes) => boolean,
  signal: AbortSignal,
): Promise<Listing> {
  const found: Omit<Listing, 'header'> = { leases: [], rejected: [], blocked: [], own: new Map() };
  const take = (entry: KeyValue): void => {
    const name = keys.entryName(entry.key.toString('utf8'));
    const lease = decode(name, entry, ownLease);
    if (!('reason' in lease)) {
      found.leases.push(lease);
      if (isOwn(lease.attributes)) found.own.set(name, { lease, entry });
      return;
    }
    found.rejected.push(lease);
    const subnet = parseSubnetKey(name);
    if (subnet !== undefined) found.blocked.push(subnet);
  };
  const header = await client.list(keys.subnets, take, signal);
  return { header, ...found };
}

/** The lease of an entry, with its end where that is known, or why it is none. */
export function decode(name: string, entry: KeyValue, ownLease: OwnLease): Lease | RejectedEntry {
  const decoded = decodeEntry(name, entry.value);
  if (typeof decoded === 'string') return { key: name, reason: decoded };
  if (entry.lease === NO_GRANT) return { ...decoded, expiresAt: undefined };
  return { ...decoded, ...(ownLease.expiry(entry.lease) ?? { expiresAt: Infinity }) };
}
