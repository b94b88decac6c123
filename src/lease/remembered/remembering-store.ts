/**
 * A store that starts without its store: what a remote store last said is kept beside subnet.env, and
 * a daemon that restarts while the store is unreachable forwards at once from that.
 *
 *   store answers within PATIENCE_MS of the first question:  its word counts, and is remembered
 *   it does not, and something is remembered:  that counts, marked with its age, until it answers
 *   nothing is remembered:  wait, as without this class
 *
 * Only a start is helped like this. Once the store has answered, its absence is told as it is: the
 * routes in force stay, and a lease known to be lost is not taken back from memory. A watch that is
 * begun again (the interface changed) starts with what is known, so that it need not wait either.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { sameCidr, subnetKey, type Cidr } from '../../config/ipv4.js';
import type { NetworkConfig } from '../../config/network.js';
import { messageOf, systemError } from '../../errors.js';
import type { Logger } from '../../log.js';
import { keyOf } from '../attributes.js';
import { isStoreAway, STORE_AWAY } from '../store-errors.js';
import { Moment } from '../expiry.js';
import { Grace } from '../grace.js';
import {
  formatRemembered,
  readRemembered,
  writeRemembered,
  type RememberedLeases,
} from './remembered-file.js';
import type { Lease, LeaseEvent, LeaseRequest, LeaseStore } from '../store.js';

/** How long a start, all of it, waits for the store before it goes by what is remembered. */
const PATIENCE_MS = 2_000;
/** A change is written this long after it, together with those that followed. */
const SAVE_AFTER_MS = 5_000;
/** And not before this many times what the last one took: tens of thousands of leases are expensive. */
const SAVE_REST = 100;
/** Written this often even unchanged: so far may the age of the knowledge be off after a crash. */
const REFRESH_MS = 300_000;

export interface RememberingOptions {
  readonly log: Logger;
  /** Whether a network configuration makes sense, so that it is worth remembering. */
  readonly isConfig: (text: string) => boolean;
  readonly patienceMs?: number;
  readonly saveAfterMs?: number;
  readonly graceMs?: number;
}

export class RememberingStore implements LeaseStore {
  readonly kind: string;
  readonly location: string;
  readonly configLocation: string;
  readonly anySubnetLength: boolean;
  readonly #inner: LeaseStore;
  readonly #path: string;
  readonly #log: Logger;
  readonly #isConfig: (text: string) => boolean;
  readonly #patienceMs: number;
  readonly #saveAfterMs: number;
  readonly #graceMs: number | undefined;
  readonly #remembered: RememberedLeases | undefined;

  /** The store has answered something since the start. */
  #answered = false;
  /** By performance.now(): when the store has had its time. */
  #patienceEnds: number | undefined;
  #config: string | undefined;
  #publicIp: string | undefined;
  #own: Lease | undefined;
  readonly #leases = new Map<string, Lease>();
  /** A snapshot of the store itself is in `#leases`. */
  #complete = false;
  /** While the store is followed what is known is true now; else since this moment. */
  #trueUntil: Moment | undefined;
  /** Why the store is not followed. */
  #away: Error | undefined;
  #saveTimer: NodeJS.Timeout | undefined;
  #refreshTimer: NodeJS.Timeout | undefined;
  #saving: Promise<void> = Promise.resolve();
  #saveFailed = false;
  /** What putting the last file together took, in milliseconds. */
  #saveCostMs = 0;

  private constructor(
    inner: LeaseStore,
    path: string,
    remembered: RememberedLeases | undefined,
    options: RememberingOptions,
  ) {
    this.kind = inner.kind;
    this.location = inner.location;
    this.configLocation = inner.configLocation ?? inner.location;
    this.anySubnetLength = inner.anySubnetLength === true;
    this.#inner = inner;
    this.#path = path;
    this.#remembered = remembered;
    this.#log = options.log;
    this.#isConfig = options.isConfig;
    this.#patienceMs = options.patienceMs ?? PATIENCE_MS;
    this.#saveAfterMs = options.saveAfterMs ?? SAVE_AFTER_MS;
    this.#graceMs = options.graceMs;
  }

  /** Reads what is remembered at `path`; what makes no sense, or is of another store, is ignored. */
  static async open(
    inner: LeaseStore,
    path: string,
    options: RememberingOptions,
  ): Promise<RememberingStore> {
    let remembered: RememberedLeases | undefined;
    try {
      remembered = await readRemembered(path);
    } catch (error) {
      options.log.warn({ path, error: messageOf(error) }, 'no leases remembered');
    }
    if (remembered !== undefined && remembered.store !== inner.location) {
      options.log.info({ path, store: remembered.store }, 'remembered leases of another store');
      remembered = undefined;
    }
    return new RememberingStore(inner, path, remembered, options);
  }

  get formerLeases(): readonly Lease[] {
    return this.#remembered?.leases ?? [];
  }

  async readNetworkConfig(signal: AbortSignal): Promise<string | undefined> {
    // A file beside the store says nothing about the store.
    const apart = this.#inner.configLocation !== undefined;
    const config = apart
      ? await this.#inner.readNetworkConfig(signal)
      : await this.#orRemembered(
          (own) => this.#inner.readNetworkConfig(own),
          this.#remembered?.config,
          signal,
        );
    // One that makes no sense would be of no use to the next start, which has to go by it.
    if ((apart || this.#answered) && config !== undefined && this.#isConfig(config))
      this.#config = config;
    return config;
  }

  accepts(config: NetworkConfig, subnet: Cidr): boolean {
    return this.#inner.accepts(config, subnet);
  }

  async readPublicIp(signal: AbortSignal): Promise<string | undefined> {
    const remembered = this.#remembered && { publicIp: this.#remembered.publicIp };
    const ask = async (own: AbortSignal) => ({ publicIp: await this.#inner.readPublicIp?.(own) });
    const { publicIp } = await this.#orRemembered(ask, remembered, signal);
    this.#publicIp = publicIp;
    return publicIp;
  }

  async announce(signal: AbortSignal): Promise<void> {
    await this.#inner.announce?.(signal);
  }

  async acquireLease(request: LeaseRequest, signal: AbortSignal): Promise<Lease> {
    const { config, attributes, formerPublicIp } = request;
    const own = this.#remembered?.own;
    const holder = own?.attributes.publicIp;
    const usable =
      own !== undefined &&
      (holder === attributes.publicIp || holder === formerPublicIp) &&
      this.#inner.accepts(config, own.subnet);
    const lease = await this.#orRemembered(
      (inner) => this.#inner.acquireLease(request, inner),
      usable ? { ...own, attributes } : undefined,
      signal,
    );
    this.#learnOwn(lease);
    return lease;
  }

  async renewLease(lease: Lease, signal: AbortSignal): Promise<Lease> {
    const renewed = await this.#inner.renewLease(lease, signal);
    this.#learnOwn(renewed);
    this.#saveSoon();
    return renewed;
  }

  async refreshLease(lease: Lease, signal: AbortSignal): Promise<Lease> {
    const refreshed = (await this.#inner.refreshLease?.(lease, signal)) ?? lease;
    if (refreshed !== lease) {
      this.#learnOwn(refreshed);
      this.#saveSoon();
    }
    return refreshed;
  }

  async *watchLeases(outer: AbortSignal): AsyncIterable<LeaseEvent> {
    const end = new AbortController();
    const signal = AbortSignal.any([outer, end.signal]);
    const events = this.#inner.watchLeases(signal)[Symbol.asyncIterator]();
    // The daemon was told of a fault that the store itself has not told.
    let toldAway = false;
    const grace = new Grace(this.#graceMs);
    let next = events.next();
    try {
      if (this.#complete) {
        const asOf = this.#trueUntil?.time;
        const leases = [...this.#leases.values()];
        yield { type: 'snapshot', leases, rejected: [], ...(asOf === undefined ? {} : { asOf }) };
        if (this.#away !== undefined) {
          toldAway = true;
          yield { type: 'degraded', error: this.#away };
        }
      } else if (this.#remembered !== undefined && !this.#answered) {
        const first = await Promise.race([
          next,
          delay(this.#patience(), 'late' as const, { ref: false }),
        ]);
        const answered =
          first !== 'late' && (first.done === true || first.value.type === 'snapshot');
        if (!answered) {
          const { leases, asOf } = this.#remembered;
          yield { type: 'snapshot', leases, rejected: [], asOf };
          if (first === 'late') {
            toldAway = true;
            yield { type: 'degraded', error: this.#late() };
          }
        }
      }
      for (;;) {
        const result = await (grace.over === undefined ? next : Promise.race([next, grace.over]));
        if (result === 'over') {
          yield* grace.end();
          continue;
        }
        if (result.done === true) return;
        const event = result.value;
        // From here on the store's own word counts, also about its faults.
        if (toldAway && event.type !== 'degraded' && event.type !== 'recovered') {
          yield { type: 'recovered' };
        }
        toldAway = false;
        const told = grace.apply(event, this.#leases.values(), (lease) => this.#isOwn(lease));
        if (event.type === 'snapshot' && grace.size > 0) {
          this.#log.warn(
            { store: this.location, leases: grace.size },
            'the lease store lost its data; missing leases stay in force for a grace period',
          );
        }
        this.#learn(event);
        yield told;
        next = events.next();
      }
    } finally {
      grace.clear();
      end.abort();
      await events.return?.();
    }
  }

  reconnect(): void {
    this.#inner.reconnect?.();
  }

  async close(): Promise<void> {
    clearTimeout(this.#saveTimer);
    clearInterval(this.#refreshTimer);
    this.#save();
    await this.#saving;
    await this.#inner.close();
  }

  /** The store's answer, or what is remembered when that takes too long at the start. */
  async #orRemembered<T>(
    ask: (signal: AbortSignal) => Promise<T>,
    remembered: T | undefined,
    signal: AbortSignal,
  ): Promise<T> {
    if (remembered === undefined || this.#answered) {
      const value = await ask(signal);
      this.#answered = true;
      return value;
    }
    const giveUp = new AbortController();
    const answer = ask(AbortSignal.any([signal, giveUp.signal]));
    answer.catch(() => undefined);
    const timer = new AbortController();
    try {
      const late = delay(this.#patience(), undefined, { signal: timer.signal }).then(() => {
        throw this.#late();
      });
      late.catch(() => undefined);
      const value = await Promise.race([answer, late]);
      this.#answered = true;
      return value;
    } catch (error) {
      if (signal.aborted || !isStoreAway(error)) throw error;
      this.#log.warn(
        { store: this.location, error: messageOf(error), asOf: this.#rememberedTime() },
        'lease store unreachable; using remembered leases',
      );
      return remembered;
    } finally {
      timer.abort();
      giveUp.abort();
    }
  }

  /** Milliseconds left: a store that was late with one answer is not waited for at the next. */
  #patience(): number {
    this.#patienceEnds ??= performance.now() + this.#patienceMs;
    return Math.max(0, this.#patienceEnds - performance.now());
  }

  #late(): Error {
    return systemError(
      `${this.location} has not answered within ${this.#patienceMs / 1000} s; routes are those of ${this.#rememberedTime()}`,
      { code: STORE_AWAY },
    );
  }

  #rememberedTime(): string {
    return new Date(this.#remembered?.asOf ?? 0).toISOString();
  }

  #isOwn({ attributes }: Lease): boolean {
    return attributes.publicIp === this.#own?.attributes.publicIp;
  }

  #learnOwn(lease: Lease): void {
    this.#own = lease;
    if (this.#complete) this.#leases.set(subnetKey(lease.subnet), lease);
  }

  #learn(event: LeaseEvent): void {
    switch (event.type) {
      case 'snapshot':
        this.#answered = true;
        this.#complete = true;
        this.#trueUntil = undefined;
        this.#away = undefined;
        this.#leases.clear();
        for (const lease of event.leases) this.#leases.set(keyOf(lease), lease);
        this.#refreshTimer ??= setInterval(() => {
          this.#save();
        }, REFRESH_MS).unref();
        break;
      case 'put':
        this.#leases.set(keyOf(event.lease), event.lease);
        break;
      case 'delete':
        this.#leases.delete(keyOf(event));
        break;
      case 'degraded':
        this.#trueUntil ??= new Moment();
        this.#away = event.error;
        break;
      case 'recovered':
        this.#trueUntil = undefined;
        this.#away = undefined;
        break;
      default:
        return;
    }
    this.#saveSoon();
  }

  #saveSoon(): void {
    this.#saveTimer ??= setTimeout(
      () => {
        this.#saveTimer = undefined;
        this.#save();
      },
      Math.max(this.#saveAfterMs, SAVE_REST * this.#saveCostMs),
    ).unref();
  }

  /** One after another; never rejects. */
  #save(): void {
    // The lease was acquired before the configuration is asked for again: both or nothing.
    const config = this.#config ?? this.#remembered?.config;
    if (!this.#complete || config === undefined) return;
    this.#saving = this.#saving.then(async () => {
      try {
        const started = performance.now();
        const text = formatRemembered({
          store: this.location,
          asOf: this.#trueUntil?.time ?? Date.now(),
          config,
          own: this.#ownEntry(),
          publicIp: this.#publicIp,
          leases: [...this.#leases.values()],
        });
        this.#saveCostMs = performance.now() - started;
        await writeRemembered(this.#path, text);
        if (this.#saveFailed) this.#log.info({ path: this.#path }, 'lease cache is written again');
        this.#saveFailed = false;
      } catch (error) {
        if (!this.#saveFailed) {
          this.#log.warn(
            { error: messageOf(error) },
            'cannot write the lease cache: a restart without the lease store would not forward',
          );
        }
        this.#saveFailed = true;
      }
    });
  }

  #ownEntry(): Lease | undefined {
    const own = this.#own;
    if (own === undefined) return undefined;
    const stored = this.#leases.get(subnetKey(own.subnet));
    const ours = stored !== undefined && stored.attributes.publicIp === own.attributes.publicIp;
    return ours && sameCidr(stored.subnet, own.subnet) ? own : undefined;
  }
}
