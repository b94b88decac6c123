/** What a store can say that its caller acts upon, by code. */
import { formatCidr } from '../config/ipv4.js';
import { errnoOf, systemError, type FlannelletteError } from '../errors.js';
import type { Lease } from './store.js';

/** The lease is not ours now: its entry is gone or names another host. Acquire again. */
export const LEASE_LOST = 'ELEASELOST';
/** The store cannot be reached or does not answer. It may come back: try again. */
export const STORE_AWAY = 'ESTOREAWAY';
/**
 * Certificates, scheme or port are wrong, here or at the store, or the store lacks what it must have (a
 * node's podCIDR). Somebody may put it right: try again.
 */
export const STORE_MISCONFIGURED = 'ESTORECONFIG';
/** The store answers and refuses: user, password, permission, space. Somebody may put it right: try again. */
export const STORE_REFUSES = 'ESTOREREFUSES';

export type StoreFault = 'unreachable' | 'configuration' | 'refused';

const FAULTS: Readonly<Record<string, StoreFault>> = {
  [STORE_AWAY]: 'unreachable',
  [STORE_MISCONFIGURED]: 'configuration',
  [STORE_REFUSES]: 'refused',
};

export function leaseLost(lease: Lease, why: string): FlannelletteError {
  return systemError(`the lease of ${formatCidr(lease.subnet)} is lost: ${why}`, {
    code: LEASE_LOST,
    field: formatCidr(lease.subnet),
  });
}

/** Why the store cannot be used now; undefined for an error that waiting does not mend. */
export function storeFault(error: unknown): StoreFault | undefined {
  return FAULTS[errnoOf(error) ?? ''];
}

/** The store cannot be used now, for whatever reason: wait and ask again. */
export function isStoreAway(error: unknown): boolean {
  return storeFault(error) !== undefined;
}
