/**
 * Leases that are missing from a store that started over (its data was lost, a backup restored): their
 * hosts are about to write them again, so they stay in force for a while. This host's own is not kept:
 * that it is gone is what makes this host write it again.
 */
import { subnetKey } from '../config/ipv4.js';
import type { Lease, LeaseEvent } from './store.js';

/** A watch that was lost is resumed within 5 s, and a lease acquired again at once. */
export const GRACE_MS = 15_000;

type Snapshot = Extract<LeaseEvent, { type: 'snapshot' }>;

export class Grace {
  readonly #ms: number;
  readonly #missing = new Map<string, Lease>();
  #timer: NodeJS.Timeout | undefined;
  /** Resolves when the time is up; undefined while nothing is missing. */
  over: Promise<'over'> | undefined;

  constructor(ms = GRACE_MS) {
    this.#ms = ms;
  }

  /** How many leases are kept. */
  get size(): number {
    return this.#missing.size;
  }

  /** An event as it is to be told, before it is learnt; `known` are the leases in force. */
  apply(event: LeaseEvent, known: Iterable<Lease>, isOwn: (lease: Lease) => boolean): LeaseEvent {
    if (event.type === 'put') this.#missing.delete(subnetKey(event.lease.subnet));
    if (event.type === 'delete') this.#missing.delete(subnetKey(event.subnet));
    return event.type === 'snapshot' ? this.#applySnapshot(event, known, isOwn) : event;
  }

  /** The end of what is still missing. */
  *end(): Generator<LeaseEvent> {
    const missing = [...this.#missing.values()];
    this.clear();
    for (const { subnet } of missing) yield { type: 'delete', subnet };
  }

  clear(): void {
    clearTimeout(this.#timer);
    this.#missing.clear();
    this.over = undefined;
  }

  #applySnapshot(
    event: Snapshot,
    known: Iterable<Lease>,
    isOwn: (lease: Lease) => boolean,
  ): LeaseEvent {
    this.clear();
    if (event.restarted !== true) return event;
    const there = new Set(event.leases.map(({ subnet }) => subnetKey(subnet)));
    for (const lease of known) {
      const key = subnetKey(lease.subnet);
      if (!there.has(key) && !isOwn(lease)) this.#missing.set(key, lease);
    }
    if (this.#missing.size === 0) return event;
    this.over = new Promise((resolve) => {
      this.#timer = setTimeout(resolve, this.#ms, 'over').unref();
    });
    return { ...event, leases: [...event.leases, ...this.#missing.values()] };
  }
}
