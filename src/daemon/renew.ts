/**
 * Keeps the lease of a running network.
 *
 * A lease is renewed at its expiry minus the margin, and again each minute while that fails. When
 * the store says that the lease is not ours any more (ELEASELOST from the renewal, or an event),
 * one is acquired again: if it is the same subnet the network goes on untouched, else the network
 * has to be registered again, which is the caller's work. A reservation has no expiry and is only
 * watched.
 *
 * Deadlines are looked at at least each minute, by a clock that cannot be set where the store's lease
 * has such an end, else by the wall clock. A store that knows the end better is asked for it soon
 * after the start, each hour, and when the wall clock was set.
 */
import type { Registration } from '../network/registration.js';
import { formatCidr, sameCidr } from '../config/ipv4.js';
import { errnoOf, messageOf } from '../errors.js';
import { CLOCKS, expiryTime, remainingMs, type Clocks } from '../lease/expiry.js';
import type { Lease, LeaseStore } from '../lease/store.js';
import type { Logger } from '../log.js';

const RETRY_MS = 60_000;
const MAX_SLEEP_MS = 60_000;
const REFRESH_MS = 3_600_000;
/** An end that the store gives differs by less than this from what is known: a round trip. */
const SAME_END_MS = 5_000;
/** The wall clock moved by more than this against the other one: somebody set it. */
const CLOCK_SET_MS = 5_000;

export interface LeaseKeeperOptions {
  readonly store: Pick<LeaseStore, 'renewLease' | 'refreshLease'>;
  readonly network: Pick<Registration, 'lease' | 'leaseLost' | 'onLeaseChange' | 'adoptLease'>;
  readonly marginMinutes: number;
  /** Acquires a lease for this host, preferring the subnet in force. */
  readonly acquire: (signal: AbortSignal) => Promise<Lease>;
  readonly log: Logger;
  readonly clocks?: Clocks;
}

/**
 * Resolves with the new lease when the subnet changed, and with `undefined` when the signal
 * aborts. Rejects when a lost lease cannot be acquired again.
 */
export async function keepLease(
  options: LeaseKeeperOptions,
  signal: AbortSignal,
): Promise<Lease | undefined> {
  const { network, log, clocks = CLOCKS } = options;
  const refresher = new Refresher(options, clocks);
  let retryAt = Number.NEGATIVE_INFINITY;
  while (!signal.aborted) {
    let lease: Lease | undefined;
    if (network.leaseLost !== undefined) {
      lease = await acquireAgain(options, network.leaseLost, signal);
    } else if (refresher.isDue) {
      await refresher.refresh(signal);
      continue;
    } else {
      const due = dueIn(network.lease, options.marginMinutes, clocks);
      const wait = due === undefined ? MAX_SLEEP_MS : Math.max(due, retryAt - performance.now());
      if (wait > 0) {
        await sleepOrChange(Math.min(wait, MAX_SLEEP_MS), network, signal);
        continue;
      }
      // Not sooner than a minute from now in any case: a margin longer than the lease must not spin.
      retryAt = performance.now() + RETRY_MS;
      lease = await renew(options, signal);
      if (lease === undefined) continue;
    }
    if (!sameCidr(lease.subnet, network.lease.subnet)) return lease;
    network.adoptLease(lease);
    log.info(
      { subnet: formatCidr(lease.subnet), expiresAt: isoTime(lease, clocks) },
      'lease renewed',
    );
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
    options.log.warn({ error: messageOf(error) }, 'cannot renew lease; retrying in a minute');
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

/** Brings the end of the lease in line with what the store says. */
class Refresher {
  readonly #options: LeaseKeeperOptions;
  readonly #clocks: Clocks;
  /** By the boot clock. */
  #at: number;
  /** Wall clock less boot clock, when it was looked at last. */
  #offset: number;

  constructor(options: LeaseKeeperOptions, clocks: Clocks) {
    this.#options = options;
    this.#clocks = clocks;
    // Not at once: a lease that was acquired just now needs it least.
    this.#at = clocks.boot() + RETRY_MS;
    this.#offset = clocks.now() - clocks.boot();
  }

  get isDue(): boolean {
    const { now, boot } = this.#clocks;
    const wasSet = Math.abs(now() - boot() - this.#offset) > CLOCK_SET_MS;
    return this.#options.store.refreshLease !== undefined && (wasSet || boot() >= this.#at);
  }

  /** Never rejects; what fails is tried again a minute later. */
  async refresh(signal: AbortSignal): Promise<void> {
    const { store, network, log } = this.#options;
    const { now, boot } = this.#clocks;
    this.#offset = now() - boot();
    this.#at = boot() + RETRY_MS;
    try {
      const { lease } = network;
      const refreshed = (await store.refreshLease?.(lease, signal)) ?? lease;
      this.#at = boot() + REFRESH_MS;
      if (network.lease !== lease || network.leaseLost !== undefined) return;
      if (!sameEnd(lease, refreshed, this.#clocks)) network.adoptLease(refreshed);
    } catch (error) {
      if (signal.aborted) return;
      log.debug(
        { error: messageOf(error) },
        "the end of the lease is not known from the store's word",
      );
    }
  }
}

function sameEnd(a: Lease, b: Lease, clocks: Clocks): boolean {
  const [one, other] = [remainingMs(a, clocks), remainingMs(b, clocks)];
  if (one === undefined || other === undefined) return one === other;
  // An end by the wall clock alone is given up for one by the other clock, whatever it says.
  return a.deadline !== undefined && Math.abs(one - other) < SAME_END_MS;
}

/** Milliseconds until a lease is to be renewed; `undefined` for one that never ends. */
function dueIn(lease: Lease, marginMinutes: number, clocks: Clocks): number | undefined {
  const left = remainingMs(lease, clocks);
  return left === undefined ? undefined : left - marginMinutes * 60_000;
}

function isoTime(lease: Lease, clocks: Clocks): string | null {
  const time = expiryTime(lease, clocks);
  return time === undefined ? null : new Date(time).toISOString();
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
