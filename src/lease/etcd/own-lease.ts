/**
 * What this process knows of its own lease in etcd: the grants it took out, when they end, and whether
 * the key was written by somebody else since.
 *
 * The last is how two hosts with one address show: each takes the other's lease for its own and
 * attaches it to a grant of its own, and both use the same subnet.
 */
import type { Ipv4 } from '../../config/ipv4.js';
import { CLOCKS, endsIn, type Clocks } from '../expiry.js';
import type { Lease } from '../store.js';
import type { KeyValue } from './etcd-messages.js';

/** `lease` of a key without a grant: a reservation. */
export const NO_GRANT = 0n;

/** One for each renewal, and those of lost races. */
const MAX_GRANTS = 64;

type Expiry = Required<Pick<Lease, 'expiresAt' | 'deadline'>>;

interface Held {
  /** Last part of the key. */
  readonly name: string;
  readonly publicIp: Ipv4;
  /** Revision of this process's last write of the key; no earlier event says anything new. */
  readonly revision: number;
}

export class OwnLease {
  readonly #clocks: Clocks;
  readonly #grants = new Map<bigint, Expiry>();
  #held: Held | undefined;

  constructor(clocks: Clocks = CLOCKS) {
    this.#clocks = clocks;
  }

  /** A grant of ours that etcd said had so many seconds left, `askedMs` milliseconds ago. */
  learn(id: bigint, ttlSeconds: number, askedMs = 0): Expiry {
    const expiry = endsIn(ttlSeconds * 1_000 - askedMs, this.#clocks);
    this.#grants.set(id, expiry);
    for (const [oldest] of this.#grants) {
      if (this.#grants.size <= MAX_GRANTS) break;
      this.#grants.delete(oldest);
    }
    return expiry;
  }

  /** When a grant ends; undefined for one that is not ours. */
  expiry(id: bigint): Expiry | undefined {
    return this.#grants.get(id);
  }

  get isKnown(): boolean {
    return this.#held !== undefined;
  }

  isHolder(publicIp: Ipv4): boolean {
    return this.#held?.publicIp === publicIp;
  }

  /** The key is ours as of a revision. */
  hold(name: string, publicIp: Ipv4, revision: number): void {
    this.#held = { name, publicIp, revision };
  }

  /** True when another host wrote the entry as if it were its own. */
  isForeign(name: string, publicIp: Ipv4, { lease, modRevision }: KeyValue): boolean {
    const held = this.#held;
    return (
      held?.name === name &&
      held.publicIp === publicIp &&
      modRevision > held.revision &&
      lease !== NO_GRANT &&
      !this.#grants.has(lease)
    );
  }
}
