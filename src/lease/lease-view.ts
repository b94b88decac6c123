/**
 * What a reader of the lease file sees at one moment: the entries that have not ended, and how one
 * such view differs from an earlier one.
 *
 * Ended leases stay in the file until somebody takes the subnet; they are no routes, so time alone
 * changes the view and `nextExpiry` says when.
 */
import { parseSubnetKey } from '../config/ipv4.js';
import { isExpired } from './allocate.js';
import { otherKey, sameLease } from './attributes.js';
import type { LeaseDocument } from './file/file-format.js';
import type { Lease, LeaseEvent, RejectedEntry } from './store.js';

export interface LeaseView {
  /** By subnet key. */
  readonly leases: ReadonlyMap<string, Lease>;
  readonly rejected: readonly RejectedEntry[];
  /** Milliseconds since the epoch; infinite when no lease in the view ends. */
  readonly nextExpiry: number;
  readonly computedAt: number;
}

/** More changes than this at once, and than this share of all leases, are told as one snapshot. */
const MAX_CHANGES_TOLD_SINGLY = 64;
const MAX_SHARE_TOLD_SINGLY = 1 / 8;

export function viewAt(document: LeaseDocument, now: number): LeaseView {
  let nextExpiry = Number.POSITIVE_INFINITY;
  let ended = false;
  for (const lease of document.leases.values()) {
    if (isExpired(lease, now)) ended = true;
    else nextExpiry = Math.min(nextExpiry, lease.expiresAt ?? nextExpiry);
  }
  const leases = ended
    ? new Map([...document.leases].filter(([, lease]) => !isExpired(lease, now)))
    : document.leases;
  return { leases, rejected: document.rejected, nextExpiry, computedAt: now };
}

/** True when time alone has changed the view, a clock set back included. */
export function isOutdated(view: LeaseView, now: number): boolean {
  return now >= view.nextExpiry || now < view.computedAt;
}

/**
 * An entry that a bad edit broke keeps its last good lease, so that one typing error does not take
 * a host off the network; it is in `rejected` all the same.
 */
export function keepLastGood(document: LeaseDocument, before: LeaseDocument): LeaseDocument {
  let leases: Map<string, Lease> | undefined;
  for (const { key } of document.rejected) {
    const lease = before.leases.get(key);
    if (lease === undefined) continue;
    leases ??= new Map(document.leases);
    leases.set(key, lease);
  }
  return leases === undefined ? document : { ...document, leases };
}

export function snapshotOf(view: LeaseView): LeaseEvent {
  return { type: 'snapshot', leases: [...view.leases.values()], rejected: view.rejected };
}

/** Deletes first, so that a PublicIP that moved is never told twice at a time. */
export function changesBetween(before: LeaseView, after: LeaseView): readonly LeaseEvent[] {
  if (!sameRejected(before.rejected, after.rejected)) return [snapshotOf(after)];
  const deletes: LeaseEvent[] = [];
  const puts: LeaseEvent[] = [];
  for (const key of before.leases.keys()) {
    if (after.leases.has(key)) continue;
    const subnet = parseSubnetKey(key);
    if (subnet !== undefined) deletes.push({ type: 'delete', subnet, ...otherKey(key, subnet) });
  }
  for (const [key, lease] of after.leases) {
    const old = before.leases.get(key);
    if (old === lease) continue;
    if (old === undefined || !sameLease(old, lease)) puts.push({ type: 'put', lease });
  }
  const changes = [...deletes, ...puts];
  const most = Math.max(MAX_CHANGES_TOLD_SINGLY, after.leases.size * MAX_SHARE_TOLD_SINGLY);
  return changes.length > most ? [snapshotOf(after)] : changes;
}

function sameRejected(a: readonly RejectedEntry[], b: readonly RejectedEntry[]): boolean {
  return (
    a.length === b.length &&
    a.every((entry, i) => entry.key === b[i]?.key && entry.reason === b[i]?.reason)
  );
}
