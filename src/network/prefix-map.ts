/**
 * A map from subnets to values, asked by longest prefix.
 *
 * One hash table per prefix length in use, tried from the longest: leases of one network have one
 * length, so a lookup is one hash probe however many routes there are.
 */
import { prefixMask, type Cidr, type Ipv4 } from '../config/ipv4.js';

export class PrefixMap<T> {
  readonly #byLength: (Map<Ipv4, T> | undefined)[] = [];
  /** Lengths in use, longest first. */
  #lengths: number[] = [];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(cidr: Cidr): T | undefined {
    return this.#byLength[cidr.prefix]?.get(cidr.network);
  }

  set(cidr: Cidr, value: T): void {
    let table = this.#byLength[cidr.prefix];
    if (table === undefined) {
      table = new Map();
      this.#byLength[cidr.prefix] = table;
      this.#lengths = [...this.#lengths, cidr.prefix].sort((a, b) => b - a);
    }
    if (!table.has(cidr.network)) this.#size++;
    table.set(cidr.network, value);
  }

  delete(cidr: Cidr): boolean {
    const table = this.#byLength[cidr.prefix];
    if (table?.delete(cidr.network) !== true) return false;
    this.#size--;
    if (table.size === 0) {
      this.#byLength[cidr.prefix] = undefined;
      this.#lengths = this.#lengths.filter((length) => length !== cidr.prefix);
    }
    return true;
  }

  /** The value of the longest subnet that contains `ip`. */
  lookup(ip: Ipv4): T | undefined {
    for (const length of this.#lengths) {
      const value = this.#byLength[length]?.get((ip & prefixMask(length)) >>> 0);
      if (value !== undefined) return value;
    }
    return undefined;
  }

  *values(): IterableIterator<T> {
    for (const length of this.#lengths) {
      const table = this.#byLength[length];
      if (table !== undefined) yield* table.values();
    }
  }
}
