/**
 * The tunnel's look-up alone: which host holds the subnet that an address lies in. Without stores, data
 * plane and native addon, for programs that only ask where a container is.
 *
 * ```ts
 * import { SubnetLookup } from 'flannelette/lookup';
 *
 * const hosts = new SubnetLookup([['100.96.2.0/24', '10.168.0.3']]);
 * hosts.hostOf('100.96.2.7'); // '10.168.0.3'
 * ```
 */
import { formatIpv4, parseCidr, parseIpv4, type Ipv4 } from './config/ipv4.js';
import { PrefixMap } from './network/prefix-map.js';

export { FlannelletteError } from './errors.js';

/**
 * Subnets and their hosts, asked by longest prefix. A look-up takes one hash probe for each prefix length
 * in use, however many subnets there are. Wrong text is a FlannelletteError that names it.
 *
 * @example
 * ```ts
 * const hosts = new SubnetLookup();
 * hosts.set('100.96.2.0/24', '10.168.0.3');
 * hosts.hostOf('100.96.9.9'); // undefined: no host holds it
 * ```
 */
export class SubnetLookup {
  readonly #hosts = new PrefixMap<Ipv4>();

  /** Subnets such as 100.96.2.0/24 with the PublicIP of their hosts. */
  constructor(entries: Iterable<readonly [subnet: string, host: string]> = []) {
    for (const [subnet, host] of entries) this.set(subnet, host);
  }

  /** Number of subnets. */
  get size(): number {
    return this.#hosts.size;
  }

  /** Replaces the subnet's host, if it has one. */
  set(subnet: string, host: string): void {
    this.#hosts.set(parseCidr('subnet', subnet), parseIpv4('host', host));
  }

  /** False when it was not there. */
  delete(subnet: string): boolean {
    return this.#hosts.delete(parseCidr('subnet', subnet));
  }

  /** The host of the longest subnet that has the address; undefined when none has it. */
  hostOf(address: string): string | undefined {
    const host = this.#hosts.lookup(parseIpv4('address', address));
    return host === undefined ? undefined : formatIpv4(host);
  }
}
