/**
 * Routes by subnet, with the native table's input kept up to date at each change: a copy of it costs
 * less than a millisecond for 65,536 routes, where building it anew would hold the event loop for
 * tens.
 */
import type { Cidr, Ipv4 } from '../config/ipv4.js';
import { PrefixMap } from './prefix-map.js';

export interface Route {
  readonly subnet: Cidr;
  /** The peer's PublicIP: outer destination, and the one outer source accepted for the subnet. */
  readonly nextHop: Ipv4;
}

/** Numbers of the compiled form per route. */
export const COMPILED_STRIDE = 3;

interface Slot {
  route: Route;
  index: number;
}

export class CompiledRoutes {
  readonly #bySubnet = new PrefixMap<Slot>();
  readonly #slots: Slot[] = [];
  #numbers = new Uint32Array(16 * COMPILED_STRIDE);

  get size(): number {
    return this.#slots.length;
  }

  get(subnet: Cidr): Route | undefined {
    return this.#bySubnet.get(subnet)?.route;
  }

  /** The route of the longest prefix that contains `ip`. */
  lookup(ip: Ipv4): Route | undefined {
    return this.#bySubnet.lookup(ip)?.route;
  }

  /** In no order. */
  values(): Route[] {
    return this.#slots.map(({ route }) => route);
  }

  set(route: Route): void {
    let slot = this.#bySubnet.get(route.subnet);
    if (slot === undefined) {
      slot = { route, index: this.#slots.length };
      this.#bySubnet.set(route.subnet, slot);
      this.#slots.push(slot);
    } else {
      slot.route = route;
    }
    this.#write(slot);
  }

  delete(subnet: Cidr): boolean {
    const slot = this.#bySubnet.get(subnet);
    const last = this.#slots.at(-1);
    if (slot === undefined || last === undefined) return false;
    this.#bySubnet.delete(subnet);
    this.#slots.pop();
    if (last !== slot) {
      last.index = slot.index;
      this.#slots[slot.index] = last;
      this.#write(last);
    }
    return true;
  }

  /** Triples of network, prefix length, next hop, in no order; the caller's own. */
  compile(): Uint32Array {
    return this.#numbers.slice(0, this.size * COMPILED_STRIDE);
  }

  #write({ route, index }: Slot): void {
    const at = index * COMPILED_STRIDE;
    if (at >= this.#numbers.length) {
      const larger = new Uint32Array(this.#numbers.length * 2);
      larger.set(this.#numbers);
      this.#numbers = larger;
    }
    this.#numbers[at] = route.subnet.network;
    this.#numbers[at + 1] = route.subnet.prefix;
    this.#numbers[at + 2] = route.nextHop;
  }
}
