/**
 * Keeps the lease of a running network.
 *
 * A lease is renewed at its expiry minus the margin, and again each minute while that fails. When
 * the store says that the lease is not ours any more (ELEASELOST from the renewal, or an event),
 * one is acquired again: if it is the same subnet the network goes on untouched, else the network
 * has to be registered anew, which is the caller's work. A reservation has no expiry and is only
 * watched.
 *
 * Deadlines are looked at by the wall clock at least each minute, because that is what the store's
 * expiry means: a clock that jumps, or a machine that slept, is noticed then.
 */
import type { Network } from '../backend/backend.js';
import { formatCidr, sameCidr } from '../config/ipv4.js';
import { errnoOf, messageOf } from '../errors.js';
import type { Lease, LeaseStore } from '../lease/store.js';
import type { Logger } from '../log.js';

const RETRY_MS = 60_000;
const MAX_SLEEP_MS = 60_000;

export interface LeaseKeeperOptions {
  readonly store: Pick<LeaseStore, 'renewLease'>;
  readonly network: Pick<Network, 'lease' | 'leaseLost' | 'onLeaseChange' | 'adoptLease'>;
  readonly marginMinutes: number;
  /** Acquires a lease for this host, preferring the subnet in force. */
  readonly acquire: (signal: AbortSignal) => Promise<Lease>;
  readonly log: Logger;
  /** Wall clock, milliseconds since the epoch. */
  readonly now?: () => number;
}

/**
 * Resolves with the new lease when the subnet changed, and with `undefined` when the signal
 * aborts. Rejects when a lost lease cannot be acquired again.
 */
export async function keepLease(
  options: LeaseKeeperOptions,
  signal: AbortSignal,
): Promise<Lease | undefined> {
  const { network, log } = options;
  const now = options.now ?? Date.now;
  let retryAt = 0;
  while (!signal.aborted) {
    let lease: Lease | undefined;
    if (network.leaseLost !== undefined) {
      lease = await acquireAgain(options, network.leaseLost, signal);
    } else {
      const due = dueAt(network.lease, options.marginMinutes);
      const wait = due === undefined ? MAX_SLEEP_MS : Math.max(due, retryAt) - now();
      if (wait > 0) {
        await sleepOrChange(Math.min(wait, MAX_SLEEP_MS), network, signal);
        continue;
      }
      // Not sooner than a minute from now in any case: a margin longer than the lease must not spin.
      retryAt = now() + RETRY_MS;
      lease = await renew(options, signal);
      if (lease === undefined) continue;
    }
    if (!sameCidr(lease.subnet, network.lease.subnet)) return lease;
    network.adoptLease(lease);
    log.info({ subnet: formatCidr(lease.subnet), expiresAt: isoTime(lease) }, 'lease renewed');
  }
  return undefined;
}

/** The renewed lease, or the one acquired when it was lost; `undefined`: to be tried again. */
async function renew(options: LeaseKeeperOptions, signal: AbortSignal): Promise<Lease | undefined> {
  try {
    return await options.store.renewLease(options.network.lease, signal);
  } catch (error) {
    if (signal.aborted) return undefined;
    if (errnoOf(error) === 'ELEASELOST') return acquireAgain(options, messageOf(error), signal);
    options.log.warn(
      { error: messageOf(error) },
      'the lease was not renewed; trying again in a minute',
    );
    return undefined;
  }
}

function acquireAgain(
  { acquire, log }: LeaseKeeperOptions,
  reason: string,
  signal: AbortSignal,
): Promise<Lease> {
  log.warn({ reason }, 'lease lost; acquiring again');
  return acquire(signal);
}

/** When a lease is to be renewed; `undefined` for one that never ends. */
export function dueAt(lease: Lease, marginMinutes: number): number | undefined {
  return lease.expiresAt === undefined ? undefined : lease.expiresAt - marginMinutes * 60_000;
}

function isoTime(lease: Lease): string | null {
  return lease.expiresAt === undefined ? null : new Date(lease.expiresAt).toISOString();
}

/** Waits `ms`, or until the lease changed, or the signal aborts. */
function sleepOrChange(
  ms: number,
  network: LeaseKeeperOptions['network'],
  signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      stop();
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    const stop = network.onLeaseChange(done);
    signal.addEventListener('abort', done, { once: true });
  });
}
