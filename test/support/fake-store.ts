/** A lease store in memory whose events the test sends. */
import { on, EventEmitter } from 'node:events';
import { parseCidr, parseIpv4, type Cidr } from '../../src/config/ipv4.js';
import { isSubnetInRange, type NetworkConfig } from '../../src/config/network.js';
import { systemError } from '../../src/errors.js';
import type { Lease, LeaseEvent, LeaseRequest, LeaseStore } from '../../src/lease/store.js';

export const OWN_IP = '10.168.0.2';
export const OWN_SUBNET = '100.96.1.0/24';
export const CONFIG_TEXT = '{"Network":"100.96.0.0/16","Backend":{"Type":"udp"}}';

export function lease(subnet: string, publicIp: string, expiresAt?: number): Lease {
  return {
    subnet: parseCidr('subnet', subnet),
    attributes: { publicIp: parseIpv4('PublicIP', publicIp) },
    expiresAt,
  };
}

export class FakeStore implements LeaseStore {
  kind = 'fake';
  readonly location = 'memory';
  config: string | undefined = CONFIG_TEXT;
  /** What the next acquisitions give. */
  next: Lease = lease(OWN_SUBNET, OWN_IP, Date.now() + 86_400_000);
  acquireError: Error | undefined;
  /** The next calls fail with these, one each. */
  readonly acquireErrors: Error[] = [];
  readonly configErrors: Error[] = [];
  readonly requests: LeaseRequest[] = [];
  /** Runs when a renewal is asked for. */
  renew: (lease: Lease) => Lease = (old) => ({ ...old, expiresAt: Date.now() + 86_400_000 });
  renewals = 0;
  configReads = 0;
  reconnects = 0;
  closed = false;
  readonly #events = new EventEmitter<{ event: [LeaseEvent] }>();
  #queue: LeaseEvent[] = [];
  #watching = false;

  get watching(): boolean {
    return this.#watching;
  }

  accepts(config: NetworkConfig, subnet: Cidr): boolean {
    return isSubnetInRange(config, subnet);
  }

  readNetworkConfig(): Promise<string | undefined> {
    this.configReads += 1;
    const failure = this.configErrors.shift();
    if (failure !== undefined) return Promise.reject(failure);
    return Promise.resolve(this.config);
  }

  acquireLease(request: LeaseRequest, signal: AbortSignal): Promise<Lease> {
    signal.throwIfAborted();
    this.requests.push(request);
    const failure = this.acquireErrors.shift() ?? this.acquireError;
    if (failure !== undefined) return Promise.reject(failure);
    return Promise.resolve(this.next);
  }

  async renewLease(old: Lease): Promise<Lease> {
    this.renewals += 1;
    return Promise.resolve(this.renew(old));
  }

  /** Gives an event to the watcher, or keeps it until there is one. */
  send(...events: LeaseEvent[]): void {
    for (const event of events) {
      if (this.#watching) this.#events.emit('event', event);
      else this.#queue.push(event);
    }
  }

  snapshot(...leases: Lease[]): void {
    this.send({ type: 'snapshot', leases, rejected: [] });
  }

  async *watchLeases(signal: AbortSignal): AsyncIterable<LeaseEvent> {
    const incoming = on(this.#events, 'event', { signal });
    this.#watching = true;
    try {
      yield* this.#queue.splice(0);
      for await (const [event] of incoming) yield event as LeaseEvent;
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      this.#watching = false;
    }
  }

  reconnect(): void {
    this.reconnects += 1;
  }

  close(): Promise<void> {
    this.closed = true;
    return Promise.resolve();
  }
}

export function leaseLost(): Error {
  return systemError('the lease is held by another host', { code: 'ELEASELOST' });
}
