/**
 * The lease store of a data plane that flanneld drives: it holds what the commands said. flanneld keeps
 * this host's lease and follows the real store.
 *
 *   extension post         -> network configuration, own lease
 *   extension add, remove  -> put, delete --> every watch
 *
 * A flanneld that starts again tells all leases again, and neither which are gone nor when it is done.
 * So after `expectAgain` leases stay in force, and those that were not told again are removed once
 * nothing was told for QUIET_MS.
 */
import { containsCidr, formatCidr, subnetKey, type Cidr } from '../config/ipv4.js';
import type { NetworkConfig } from '../config/network.js';
import type { Lease, LeaseEvent, LeaseRequest, LeaseStore } from '../lease/store.js';
import { parseConfig } from '../network/registry.js';
import type { Holder, OwnNetwork } from './contract.js';

/** Far longer than flanneld takes from one command to the next. */
const QUIET_MS = 60_000;

/** What flanneld does not tell of the network configuration. */
export interface TunnelSettings {
  /** UDP port of every host, 1 to 65535. */
  readonly port: number;
  /** Hosts on the external interface's own segment are sent to without the tunnel. */
  readonly directRouting: boolean;
}

export interface ToldStoreOptions {
  readonly own: OwnNetwork;
  readonly tunnel: TunnelSettings;
  readonly quietMs?: number;
}

export class ToldStore implements LeaseStore {
  readonly kind = 'extension';
  readonly location = "flanneld's extension backend";
  /** Resolves once a network forwards and its subnet file is written. */
  readonly forwarding: Promise<void>;
  readonly #own: OwnNetwork;
  readonly #config: string;
  readonly #quietMs: number;
  /** Those of other hosts. */
  readonly #leases = new Map<string, Lease>();
  readonly #watches = new Set<Watch>();
  /** Keys of leases that flanneld did not tell again yet. */
  readonly #untold = new Set<string>();
  #quiet: NodeJS.Timeout | undefined;
  #announce!: () => void;

  /** Throws an input error for a network that can be none. */
  constructor({ own, tunnel, quietMs = QUIET_MS }: ToldStoreOptions) {
    this.#own = own;
    this.#quietMs = quietMs;
    this.#config = JSON.stringify({
      Network: formatCidr(own.network),
      SubnetLen: own.subnet.prefix,
      Backend: { Type: 'udp', Port: tunnel.port, DirectRouting: tunnel.directRouting },
    });
    // A daemon waits for a configuration to be put right; this one never is.
    parseConfig(this.#config);
    this.forwarding = new Promise((resolve) => {
      this.#announce = resolve;
    });
  }

  /** Resolves when every watch has followed it. */
  put(holder: Holder): Promise<void> {
    const lease = leaseOf(holder);
    this.#leases.set(subnetKey(lease.subnet), lease);
    this.#told(lease.subnet);
    return this.#tell({ type: 'put', lease });
  }

  /** Resolves when every watch has followed it; false when there was no such lease. */
  async delete({ subnet }: Holder): Promise<boolean> {
    const known = this.#leases.delete(subnetKey(subnet));
    this.#told(subnet);
    await this.#tell({ type: 'delete', subnet });
    return known;
  }

  /** From here on leases have to be told again to stay. */
  expectAgain(): void {
    for (const key of this.#leases.keys()) this.#untold.add(key);
    this.#waitForQuiet();
  }

  async readNetworkConfig(): Promise<string> {
    return Promise.resolve(this.#config);
  }

  /** flanneld's: the subnet is what it told, and lasts until it tells another. */
  async acquireLease({ attributes }: LeaseRequest): Promise<Lease> {
    return Promise.resolve({ subnet: this.#own.subnet, attributes, expiresAt: undefined });
  }

  async renewLease(lease: Lease): Promise<Lease> {
    return Promise.resolve(lease);
  }

  accepts({ network }: NetworkConfig, subnet: Cidr): boolean {
    return containsCidr(network, subnet);
  }

  async *watchLeases(signal: AbortSignal): AsyncIterable<LeaseEvent> {
    const watch = new Watch();
    const end = (): void => {
      watch.end();
    };
    if (signal.aborted) return;
    signal.addEventListener('abort', end, { once: true });
    this.#watches.add(watch);
    try {
      const leases = [leaseOf(this.#own), ...this.#leases.values()];
      yield { type: 'snapshot', leases, rejected: [] };
      for (let next = await watch.next(); next !== undefined; next = await watch.next()) {
        yield next.event;
        next.followed();
      }
    } finally {
      signal.removeEventListener('abort', end);
      this.#watches.delete(watch);
      watch.end();
    }
  }

  async announce(): Promise<void> {
    this.#announce();
    return Promise.resolve();
  }

  async close(): Promise<void> {
    clearTimeout(this.#quiet);
    for (const watch of this.#watches) watch.end();
    return Promise.resolve();
  }

  #told(subnet: Cidr): void {
    if (this.#untold.size === 0) return;
    this.#untold.delete(subnetKey(subnet));
    this.#waitForQuiet();
  }

  #waitForQuiet(): void {
    clearTimeout(this.#quiet);
    this.#quiet = setTimeout(() => {
      for (const key of this.#untold) {
        const lease = this.#leases.get(key);
        if (lease === undefined) continue;
        this.#leases.delete(key);
        void this.#tell({ type: 'delete', subnet: lease.subnet });
      }
      this.#untold.clear();
    }, this.#quietMs);
    this.#quiet.unref();
  }

  async #tell(event: LeaseEvent): Promise<void> {
    await Promise.all([...this.#watches].map((watch) => watch.push(event)));
  }
}

function leaseOf({ subnet, publicIp }: Holder): Lease {
  return { subnet, attributes: { publicIp }, expiresAt: undefined };
}

interface Told {
  readonly event: LeaseEvent;
  readonly followed: () => void;
}

/** Events on their way to one follower, in order. */
class Watch {
  readonly #waiting: Told[] = [];
  #wake: (() => void) | undefined;
  #ended = false;

  /** Resolves when the follower asks for what comes after it, or has ended. */
  push(event: LeaseEvent): Promise<void> {
    if (this.#ended) return Promise.resolve();
    return new Promise((resolve) => {
      this.#waiting.push({ event, followed: resolve });
      this.#wake?.();
    });
  }

  /** Undefined once it has ended. */
  async next(): Promise<Told | undefined> {
    while (this.#waiting.length === 0 && !this.#ended) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.#ended ? undefined : this.#waiting.shift();
  }

  end(): void {
    this.#ended = true;
    for (const { followed } of this.#waiting.splice(0)) followed();
    this.#wake?.();
  }
}
