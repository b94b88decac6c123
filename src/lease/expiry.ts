/**
 * When a lease ends, by a clock that cannot be set: a node whose wall clock was days off and is put right
 * still renews in time.
 */
import { uptime } from 'node:os';
import type { Lease } from './store.js';

/**
 * Milliseconds since the machine started, suspension included (Linux: /proc/uptime). Monotonic, and
 * the same for every process, until the next boot.
 */
export function bootClock(): number {
  try {
    return uptime() * 1_000;
  } catch {
    // No /proc: a clock that stands still while the machine is suspended is the next best.
    return performance.now();
  }
}

export interface Clocks {
  /** Wall clock, milliseconds since the epoch. */
  readonly now: () => number;
  /** As bootClock(). */
  readonly boot: () => number;
}

export const CLOCKS: Clocks = { now: () => Date.now(), boot: bootClock };

type Expiry = Pick<Lease, 'expiresAt' | 'deadline'>;

/** An end that is so many milliseconds ahead. */
export function endsIn(ms: number, { now, boot }: Clocks = CLOCKS): Required<Expiry> {
  return { expiresAt: now() + ms, deadline: boot() + ms };
}

/** Milliseconds a lease has left, negative when it has ended; undefined for one that never ends. */
export function remainingMs(lease: Expiry, { now, boot }: Clocks = CLOCKS): number | undefined {
  const { expiresAt, deadline } = lease;
  if (expiresAt === undefined) return undefined;
  return deadline === undefined ? expiresAt - now() : deadline - boot();
}

/** The end by the wall clock as it is now, to show and to keep. */
export function expiryTime(lease: Expiry, clocks: Clocks = CLOCKS): number | undefined {
  const left = remainingMs(lease, clocks);
  return left === undefined || lease.deadline === undefined
    ? lease.expiresAt
    : Math.round(clocks.now() + left);
}

/** Apart by less than this the two clocks agree. */
const AGREE_MS = 1_000;

/** The moment it was made, told by the wall clock as that is now: it moves when somebody sets that. */
export class Moment {
  readonly #clocks: Clocks;
  readonly #wall: number;
  readonly #boot: number;

  constructor(clocks: Clocks = CLOCKS) {
    this.#clocks = clocks;
    this.#wall = clocks.now();
    this.#boot = clocks.boot();
  }

  /** Milliseconds since the epoch. */
  get time(): number {
    const { now, boot } = this.#clocks;
    const moved = Math.round(now() - this.#wall - (boot() - this.#boot));
    return Math.abs(moved) < AGREE_MS ? this.#wall : this.#wall + moved;
  }
}
