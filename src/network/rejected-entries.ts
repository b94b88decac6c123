/** Entries of the store that are no leases, kept to be shown, and how rejections are logged. */
import { shownKey } from '../lease/attributes.js';
import type { RejectedEntry } from '../lease/store.js';
import type { Logger } from '../log.js';

/** Any number is skipped; so many are kept. */
const MAX_KEPT = 1_000;
/** Limit for one snapshot: a Network that was changed rejects every lease there is. */
const MAX_LOGGED = 20;

export class RejectedEntries {
  readonly #log: Logger;
  readonly #byKey = new Map<string, RejectedEntry>();

  constructor(log: Logger) {
    this.#log = log;
  }

  add(entry: RejectedEntry): void {
    const { key } = entry;
    if (this.#byKey.size < MAX_KEPT || this.#byKey.has(key)) this.#byKey.set(key, entry);
  }

  delete(key: string): void {
    this.#byKey.delete(key);
  }

  clear(): void {
    this.#byKey.clear();
  }

  /** These and `more`, for people: keys are another's text and cut. */
  shownWith(more: readonly RejectedEntry[]): readonly RejectedEntry[] {
    return [...this.#byKey.values(), ...more].map(({ key, reason }) => ({
      key: shownKey(key),
      reason,
    }));
  }

  log(entries: readonly RejectedEntry[]): void {
    for (const { key, reason } of entries.slice(0, MAX_LOGGED)) {
      this.#log.warn({ lease: shownKey(key), reason }, 'lease rejected');
    }
    const more = entries.length - MAX_LOGGED;
    if (more > 0) this.#log.warn({ more }, 'more leases rejected; see flannelette status');
  }
}
