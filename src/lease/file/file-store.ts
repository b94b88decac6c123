/**
 * The embedded lease store: one JSON file that all daemons of a machine share.
 *
 *   change:  lock -> read -> decide -> still the same file? -> replace by rename
 *   watch:   hint (inotify, poll) -> stat -> read -> last good document -> view at this time -> diff
 *            (after an expensive read, of tens of thousands of leases, hints wait nine times as
 *            long as it took: a file replaced all the time costs a tenth of a core)
 *
 * Readers take no lock: a replacement is atomic, and a person's edit in place that is caught half
 * written parses as nothing, is looked at again a moment later and, if it stays bad, is reported
 * while the last good document stays in force. A file that cannot be parsed is never written to.
 * A person's editor takes no lock either; a change seen between our read and our write starts the
 * change over.
 */
import { realpath } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { unlessAborted } from '../../abort.js';
import { formatCidr, formatIpv4, subnetKey, type Cidr } from '../../config/ipv4.js';
import { isSubnetInRange, type NetworkConfig } from '../../config/network.js';
import { errnoOf, messageOf, systemError } from '../../errors.js';
import { followTrusted, replaceFile } from '../../host/atomic-file.js';
import type { Logger } from '../../log.js';
import { allocateSubnet, ownPlace } from '../allocate.js';
import { sameLease } from '../attributes.js';
import { leaseLost } from '../store-errors.js';
import { serializeDocument, withLease, withoutLeases, type LeaseDocument } from './file-format.js';
import { withFileLock } from './file-lock.js';
import { FileObserver } from './file-observer.js';
import {
  fileError,
  readLeaseFile,
  readPatiently,
  signatureOf,
  unreadable,
  type GoodFile,
} from './file-read.js';
import {
  changesBetween,
  isOutdated,
  keepLastGood,
  snapshotOf,
  viewAt,
  type LeaseView,
} from '../lease-view.js';
import type { Lease, LeaseEvent, LeaseRequest, LeaseStore } from '../store.js';

/** How long a lease lasts unless renewed; flanneld's `subnetTTL`. */
export const LEASE_TIME_MS = 86_400_000;

/** A bad or missing file may be an edit under way: only what stays bad this long is reported. */
const GRACE_MS = 200;
/** A look that takes longer is said to hang: a file server that is gone answers nothing. */
const LOOK_HANGS_MS = 5_000;
/** How often a change is started over because the file changed under it. */
const MAX_RESTARTS = 20;
/** Time between reads, as a multiple of what the last one took if that was expensive. */
const LOOK_REST = 9;
const DEAR_LOOK_MS = 10;
/** A machine that is slow now must not make a daemon blind for long. */
const MAX_LOOK_REST_MS = 2_000;
/** setTimeout's limit. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export interface LeaseFileOptions {
  readonly log: Logger;
  /** Milliseconds since the epoch; for tests. */
  readonly now?: () => number;
}

/** What to write: undefined leaves the file as it is. */
interface Change<T> {
  readonly result: T;
  readonly raw: Record<string, unknown> | undefined;
}

export class LeaseFileStore implements LeaseStore {
  readonly kind = 'file';
  readonly location: string;

  /** `location` with links resolved: what is locked, replaced and watched. */
  readonly #path: string;
  readonly #log: Logger;
  readonly #now: () => number;
  readonly #observer: FileObserver;

  #document: LeaseDocument;
  #view: LeaseView;
  /** Signature of the file read last, good or bad. */
  #signature: string | undefined;
  /** When the file was first found bad (performance.now) and why. */
  #badSince: number | undefined;
  #badReason: unknown;
  /** Set once it stayed bad for GRACE_MS; what watchers are told. */
  #failure: Error | undefined;

  readonly #wakers = new Set<() => void>();
  #watches = 0;
  #closed = false;
  #refreshing: Promise<void> | undefined;
  #refreshAgain = false;
  #hintWaits = false;
  /** By performance.now: hints wait until then. */
  #restUntil = Number.NEGATIVE_INFINITY;
  #expiryTimer: NodeJS.Timeout | undefined;
  #graceTimer: NodeJS.Timeout | undefined;

  private constructor(location: string, path: string, file: GoodFile, options: LeaseFileOptions) {
    this.location = location;
    this.#path = path;
    this.#log = options.log;
    this.#now = options.now ?? Date.now;
    this.#signature = file.signature;
    this.#document = file.document;
    this.#view = viewAt(file.document, this.#now());
    this.#observer = new FileObserver(path, options.log, () => {
      void this.#followHint();
    });
  }

  /** Throws a system error naming --lease-file and the path when it is missing or makes no sense. */
  static async open(path: string, options: LeaseFileOptions): Promise<LeaseFileStore> {
    const resolved = await followTrusted(path)
      .then(({ target }) => realpath(target))
      .catch((error: unknown) => {
        throw unreadable(path, error);
      });
    const file = await readPatiently(resolved).catch((error: unknown) => {
      throw unreadable(path, error);
    });
    return new LeaseFileStore(path, resolved, file, options);
  }

  async readNetworkConfig(signal: AbortSignal): Promise<string | undefined> {
    signal.throwIfAborted();
    await unlessAborted(signal, this.#refresh());
    return this.#document.config;
  }

  async acquireLease(request: LeaseRequest, signal: AbortSignal): Promise<Lease> {
    const { config, attributes, previousSubnet, formerPublicIp } = request;
    return this.#change(signal, (document) => {
      const now = this.#now();
      const { subnet, origin, obsolete } = allocateSubnet({
        config,
        publicIp: attributes.publicIp,
        formerPublicIp,
        leases: [...document.leases.values()],
        blocked: document.blocked,
        previousSubnet,
        ...ownPlace(request),
        now,
        random: Math.random,
      });
      const permanent = origin === 'reservation';
      const result: Lease = {
        subnet,
        attributes,
        expiresAt: permanent ? undefined : now + LEASE_TIME_MS,
      };
      this.#log.debug(
        { subnet: formatCidr(subnet), origin, removed: obsolete.map(formatCidr) },
        'lease chosen',
      );
      return write(withoutLeases(document, obsolete), result, obsolete.length > 0);
    });
  }

  accepts(config: NetworkConfig, subnet: Cidr): boolean {
    return isSubnetInRange(config, subnet);
  }

  async renewLease(lease: Lease, signal: AbortSignal): Promise<Lease> {
    return this.#change(signal, (document) => {
      const current = document.leases.get(subnetKey(lease.subnet));
      if (current === undefined) {
        const bad = document.rejected.find(({ key }) => key === subnetKey(lease.subnet));
        if (bad === undefined) throw leaseLost(lease, 'its entry is gone from the store');
        throw systemError(
          `lease file ${this.location}: ${bad.key} cannot be renewed: ${bad.reason}`,
          { field: bad.key },
        );
      }
      const holder = current.attributes.publicIp;
      if (holder !== lease.attributes.publicIp) {
        throw leaseLost(lease, `it now belongs to ${formatIpv4(holder)}`);
      }
      const permanent = current.expiresAt === undefined;
      const expiresAt = permanent ? undefined : this.#now() + LEASE_TIME_MS;
      return write(document, { ...lease, expiresAt });
    });
  }

  async *watchLeases(signal: AbortSignal): AsyncIterable<LeaseEvent> {
    const wakeAll = (): void => {
      this.#wakeAll();
    };
    if (this.#ended(signal)) return;
    signal.addEventListener('abort', wakeAll);
    this.#beginWatch();
    try {
      await this.#refresh();
      let seen: LeaseView | undefined;
      let toldFailure = false;
      let pending: readonly LeaseEvent[] = [];
      // From here to the wait nothing awaits but a yield, so no wake-up is lost.
      for (;;) {
        for (const event of pending) {
          if (this.#ended(signal)) return;
          yield event;
        }
        if (this.#ended(signal)) return;
        const view = this.#view;
        const failure = this.#failure;
        if (toldFailure && failure === undefined) {
          toldFailure = false;
          seen = view;
          pending = [{ type: 'recovered' }, snapshotOf(view)];
        } else if (seen === undefined) {
          seen = view;
          pending = [snapshotOf(view)];
        } else if (seen !== view) {
          pending = changesBetween(seen, view);
          seen = view;
        } else if (failure !== undefined && !toldFailure) {
          toldFailure = true;
          pending = [{ type: 'degraded', error: failure }];
        } else {
          pending = [];
          await new Promise<void>((resolve) => {
            this.#wakers.add(resolve);
          });
        }
      }
    } finally {
      signal.removeEventListener('abort', wakeAll);
      this.#endWatch();
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#stopTimers();
    this.#wakeAll();
    await this.#refreshing;
  }

  #ended(signal: AbortSignal): boolean {
    return signal.aborted || this.#closed;
  }

  /** A stop does not wait for a file server that is gone. */
  #change<T>(signal: AbortSignal, decide: (document: LeaseDocument) => Change<T>): Promise<T> {
    return unlessAborted(signal, this.#changeLocked(signal, decide));
  }

  /** Reads, decides and replaces under the lock; `decide` runs again when the file changed. */
  async #changeLocked<T>(
    signal: AbortSignal,
    decide: (document: LeaseDocument) => Change<T>,
  ): Promise<T> {
    for (let restarts = 0; restarts < MAX_RESTARTS; restarts++) {
      const done = await withFileLock(this.#path, signal, async () => {
        // A torn edit is waited for under the lock: no daemon could write over it meanwhile.
        const file = await readPatiently(this.#path, signal).catch((error: unknown) => {
          if (signal.aborted) throw error;
          throw unreadable(this.location, error);
        });
        const change = decide(file.document);
        if (change.raw === undefined) return { result: change.result };
        const text = serializeDocument(change.raw);
        signal.throwIfAborted();
        const signature = await signatureOf(this.#path).catch(() => undefined);
        if (signature !== file.signature) return undefined;
        await this.#replace(text);
        return { result: change.result };
      });
      if (done !== undefined) {
        if (this.#watches > 0) await this.#refresh();
        return done.result;
      }
      this.#log.debug({ path: this.#path }, 'the lease file changed meanwhile; starting over');
    }
    throw systemError(`the lease file ${this.location} keeps changing; gave up writing to it`, {
      field: '--lease-file',
      value: this.location,
    });
  }

  async #replace(text: string): Promise<void> {
    try {
      await replaceFile(this.#path, text, { keepOwner: true });
    } catch (error) {
      throw fileError(`cannot write the lease file ${this.location}`, this.location, error);
    }
  }

  #beginWatch(): void {
    this.#watches++;
    if (this.#watches === 1) this.#observer.start();
  }

  #endWatch(): void {
    this.#watches--;
    if (this.#watches === 0) this.#stopTimers();
  }

  #stopTimers(): void {
    this.#observer.stop();
    clearTimeout(this.#expiryTimer);
    clearTimeout(this.#graceTimer);
    this.#graceTimer = undefined;
  }

  /** Reads as soon as the read under way and the rest after an expensive one are over. */
  async #followHint(): Promise<void> {
    if (this.#hintWaits) return;
    this.#hintWaits = true;
    await this.#refreshing;
    const wait = this.#restUntil - performance.now();
    if (wait > 0) await delay(wait, undefined, { ref: false });
    this.#hintWaits = false;
    if (this.#watches > 0 && !this.#closed) await this.#refresh();
  }

  /** Brings document and view up to date. A call during a run makes that run look once more. */
  #refresh(): Promise<void> {
    if (this.#refreshing !== undefined) {
      this.#refreshAgain = true;
      return this.#refreshing;
    }
    const run = async (): Promise<void> => {
      do {
        this.#refreshAgain = false;
        await this.#lookOrTell();
      } while (this.#refreshAgain && !this.#closed);
    };
    this.#refreshing = run().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  /** Watchers are told when the look hangs, and when it is over. */
  async #lookOrTell(): Promise<void> {
    let told = false;
    const timer = setTimeout(() => {
      if (this.#failure !== undefined || this.#closed) return;
      told = true;
      this.#failure = systemError(
        `lease file ${this.location} does not answer; the last good state stays in force`,
        { code: 'ETIMEDOUT', field: '--lease-file', value: this.location },
      );
      this.#wakeAll();
    }, LOOK_HANGS_MS).unref();
    await this.#look();
    clearTimeout(timer);
    if (!told) return;
    this.#failure = undefined;
    if (this.#badSince !== undefined) this.#failedWith(undefined);
    this.#wakeAll();
  }

  /** Never rejects: what cannot be read becomes the failure that watchers are told. */
  async #look(): Promise<void> {
    try {
      const signature = await signatureOf(this.#path);
      if (signature !== this.#signature) {
        // Remembered before parsing: a file that stays bad is not parsed again at every look.
        const started = performance.now();
        const remember = (seen: string): void => {
          this.#signature = seen;
        };
        const file = await readLeaseFile(this.#path, remember, this.#document);
        const ended = performance.now();
        if (ended - started >= DEAR_LOOK_MS) {
          this.#restUntil = ended + Math.min(LOOK_REST * (ended - started), MAX_LOOK_REST_MS);
        }
        this.#document = keepLastGood(file.document, this.#document);
        this.#view = viewAt(this.#document, this.#now());
        this.#badSince = undefined;
        this.#failure = undefined;
        this.#wakeAll();
      } else if (this.#badSince !== undefined) {
        this.#failedWith(undefined);
      }
    } catch (error) {
      // Refused by the kernel rather than by the parser: the next look tries again in full.
      if (errnoOf(error) !== undefined) this.#signature = undefined;
      this.#failedWith(error);
    }
    this.#passTime();
  }

  #failedWith(error: unknown): void {
    if (error !== undefined) this.#badReason = error;
    this.#badSince ??= performance.now();
    if (this.#failure !== undefined) return;
    if (performance.now() - this.#badSince >= GRACE_MS) {
      this.#failure = systemError(
        `lease file ${this.location}: ${messageOf(this.#badReason)}; the last good state stays in force`,
        { field: '--lease-file', value: this.location, cause: this.#badReason },
      );
      this.#wakeAll();
    } else if (this.#watches > 0 && !this.#closed) {
      this.#graceTimer ??= setTimeout(() => {
        this.#graceTimer = undefined;
        void this.#refresh();
      }, GRACE_MS + 10);
    }
  }

  /** Drops what has ended by now and sets the timer for the next to end. */
  #passTime(): void {
    const now = this.#now();
    if (isOutdated(this.#view, now)) {
      this.#view = viewAt(this.#document, now);
      this.#wakeAll();
    }
    clearTimeout(this.#expiryTimer);
    if (this.#watches === 0 || this.#closed || this.#view.nextExpiry === Infinity) return;
    const wait = Math.min(Math.max(this.#view.nextExpiry - now, 1), MAX_TIMER_MS);
    this.#expiryTimer = setTimeout(() => {
      this.#passTime();
    }, wait);
  }

  #wakeAll(): void {
    for (const wake of this.#wakers) wake();
    this.#wakers.clear();
  }
}

/** The lease as the file will hold it; nothing is written when it does already. */
function write(document: LeaseDocument, lease: Lease, otherChanges = false): Change<Lease> {
  const before = document.leases.get(subnetKey(lease.subnet));
  const same = !otherChanges && before !== undefined && sameLease(before, lease);
  return { result: lease, raw: same ? undefined : withLease(document, lease) };
}
