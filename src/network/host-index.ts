/**
 * Next hops that lie inside Network, found by subnet. Few networks have any; one laid over its hosts'
 * own addresses has as many as hosts.
 */
import { contains, type Cidr, type Ipv4 } from '../config/ipv4.js';

/** Addresses of one /24 stand together: a lease's subnet is one such or a few. */
const BUCKET_BITS = 8;

export class HostIndex {
  /** How many routes lead to an address, by bucket. */
  readonly #buckets = new Map<number, Map<Ipv4, number>>();

  has(ip: Ipv4): boolean {
    return this.#buckets.get(ip >>> BUCKET_BITS)?.has(ip) === true;
  }

  add(ip: Ipv4): void {
    const at = ip >>> BUCKET_BITS;
    let bucket = this.#buckets.get(at);
    if (bucket === undefined) {
      bucket = new Map();
      this.#buckets.set(at, bucket);
    }
    bucket.set(ip, (bucket.get(ip) ?? 0) + 1);
  }

  delete(ip: Ipv4): void {
    const at = ip >>> BUCKET_BITS;
    const bucket = this.#buckets.get(at);
    const count = bucket?.get(ip);
    if (bucket === undefined || count === undefined) return;
    if (count > 1) bucket.set(ip, count - 1);
    else bucket.delete(ip);
    if (bucket.size === 0) this.#buckets.delete(at);
  }

  /** One of those in the subnet. */
  within(subnet: Cidr): Ipv4 | undefined {
    if (this.#buckets.size === 0) return undefined;
    const buckets =
      subnet.prefix >= 32 - BUCKET_BITS
        ? [this.#buckets.get(subnet.network >>> BUCKET_BITS)]
        : this.#buckets.values();
    for (const bucket of buckets) {
      for (const ip of bucket?.keys() ?? []) if (contains(subnet, ip)) return ip;
    }
    return undefined;
  }
}
