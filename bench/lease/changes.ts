/**
 * Which leases change, in what order, and when: a pure function of a seed.
 *
 * Eight in ten changes give a random lease another holder, one deletes a lease, one brings a deleted
 * one back. The probe is deleted first and comes back last, and every lease is there at the end: a
 * daemon whose table is complete has followed every change.
 */
import { xorshift32 } from '../frame/stats.js';
import { FIXED, holderAt, keyAt, PROBE, SUBNETS } from './network.js';

export interface Change {
  readonly key: string;
  /** Undefined deletes the lease. */
  readonly holder: string | undefined;
}

/** `count` changes, at least 2. */
export function planChanges(count: number, seed: number): Change[] {
  if (count < 2) throw new RangeError('a plan needs two changes: the probe goes and comes back');
  const random = xorshift32(seed);
  const below = (limit: number): number => Math.floor(random() * limit);
  const deleted: number[] = [];
  const gone = new Set<number>();
  const present = (): number => {
    for (;;) {
      const index = below(SUBNETS);
      if (!FIXED.has(index) && !gone.has(index)) return index;
    }
  };
  const put = (index: number): Change => ({
    key: keyAt(index),
    holder: holderAt(index, 1 + below(15)),
  });
  const bringBack = (): Change => {
    const index = deleted.shift() ?? PROBE;
    gone.delete(index);
    return put(index);
  };
  const remove = (): Change => {
    const index = present();
    deleted.push(index);
    gone.add(index);
    return { key: keyAt(index), holder: undefined };
  };
  const changes: Change[] = [{ key: keyAt(PROBE), holder: undefined }];
  while (changes.length < count - 1) {
    const left = count - 1 - changes.length;
    const roll = random();
    if (left <= deleted.length) changes.push(bringBack());
    else if (roll < 0.1 && left >= deleted.length + 2) changes.push(remove());
    else if (roll < 0.2 && deleted.length > 0) changes.push(bringBack());
    else changes.push(put(present()));
  }
  changes.push(put(PROBE));
  return changes;
}

export interface Pace {
  readonly perSecond: number;
  /** Changes made together: 1 for etcd, a rewrite's for the lease file. */
  readonly perStep: number;
  readonly count: number;
}

/** How many changes are to have been made after `elapsedMs`: whole steps, evenly spread. */
export function changesDue({ perSecond, perStep, count }: Pace, elapsedMs: number): number {
  const steps = Math.floor((elapsedMs * perSecond) / 1_000 / perStep);
  return Math.min(count, Math.max(0, steps * perStep));
}
