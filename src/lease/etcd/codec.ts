/** Between etcd's keys and values and leases: flannel's layout under PREFIX, to the byte. */
import { posix } from 'node:path';
import { parseSubnetKey, subnetKey, type Cidr } from '../../config/ipv4.js';
import { badKey, otherKey, parseLeaseText } from '../attributes.js';
import type { Lease } from '../store.js';

export class KeySpace {
  readonly config: string;
  /** What every lease's key starts with, the slash included. */
  readonly subnets: string;

  constructor(prefix: string) {
    this.config = posix.join(prefix, 'config');
    this.subnets = `${posix.join(prefix, 'subnets')}/`;
  }

  /** `PREFIX/subnets/100.96.1.0-24`. */
  leaseKey(subnet: Cidr): string {
    return `${this.subnets}${subnetKey(subnet)}`;
  }

  /** The part of a key below `subnets`. */
  entryName(key: string): string {
    return key.slice(this.subnets.length);
  }
}

export type DecodedEntry = Pick<Lease, 'subnet' | 'attributes' | 'key'>;

/** An entry's lease, or why it is none. */
export function decodeEntry(name: string, value: Buffer): DecodedEntry | string {
  const subnet = parseSubnetKey(name);
  if (subnet === undefined) return badKey(name);
  const attributes = parseLeaseText(value);
  if (typeof attributes === 'string') return attributes;
  return { subnet, attributes, ...otherKey(name, subnet) };
}

/** etcd's range end for "all keys with this prefix": the prefix with its last byte raised. */
export function prefixEnd(prefix: string): Buffer {
  const end = Buffer.from(prefix);
  end.writeUInt8(end.readUInt8(end.length - 1) + 1, end.length - 1);
  return end;
}
