/** What a store can say that its caller acts upon, by code. */
import { formatCidr } from '../config/ipv4.js';
import { errnoOf, systemError, type FlannelletteError } from '../errors.js';
import type { Lease } from './store.js';

/** The lease is not ours now: its entry is gone or names another host. Acquire again. */
export const LEASE_LOST = 'ELEASELOST';
/** The store cannot be reached or does not answer. It may come back: try again. */
export const STORE_AWAY = 'ESTOREAWAY';

export function leaseLost(lease: Lease, why: string): FlannelletteError {
  return systemError(`the lease of ${formatCidr(lease.subnet)} is lost: ${why}`, {
    code: LEASE_LOST,
    field: formatCidr(lease.subnet),
  });
}

export function isStoreAway(error: unknown): boolean {
  return errnoOf(error) === STORE_AWAY;
}
