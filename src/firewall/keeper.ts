/**
 * Keeps the rules in place while the daemon runs.
 *
 *     start ─> clean the other kinds ─> apply ─> wait ─> apply ─> ... until aborted
 *                                         │        └ resyncSeconds, or until checkSoon
 *                                         └ fails: said, kept in `error`, tried at the next check
 *
 * Other programs flush tables (a firewall's reload, an operator); what they took is put back at
 * the next check. On abort the rules stay, as flanneld's do: containers outlive the daemon.
 */
import { formatCidr } from '../config/ipv4.js';
import { messageOf } from '../errors.js';
import type { Logger } from '../log.js';
import type { Cleanable, Firewall } from './firewall-interface.js';
import { Pace } from './pace.js';
import { isEmptyPlan, type FirewallPlan } from './rules.js';

/** Milliseconds between two log lines while applying keeps failing. */
const REMINDER_MS = 60_000;
/** A longer timeout would fire at once (Node, setTimeout). */
const LONGEST_MS = 2 ** 31 - 1;
/** After a repair, doubled with each that follows at once: two programs may be at war. */
const REPAIR_GAP_MS = 1_000;

export interface FirewallKeeperOptions {
  readonly firewall: Firewall;
  /** Those of the other kinds: rules of an earlier run are removed from them, once. */
  readonly others: readonly Cleanable[];
  readonly plan: FirewallPlan;
  /** Seconds from the end of one check to the next, at least 1. */
  readonly resyncSeconds: number;
  readonly log: Logger;
  /** Called after each check, whether it worked or not. It must not throw. */
  readonly onChecked?: (() => void) | undefined;
}

export class FirewallKeeper {
  readonly #options: FirewallKeeperOptions;
  readonly #listeners = new Set<() => void>();
  readonly #pace = new Pace();
  #plan: FirewallPlan;
  #inPlace = false;
  #error: string | undefined;
  #repairs = 0;
  /** Repairs since a check that found everything in place. */
  #repairsInARow = 0;
  /** performance.now() of the next log line of a failure that lasts. */
  #remindAt = Number.NEGATIVE_INFINITY;

  constructor(options: FirewallKeeperOptions) {
    this.#options = options;
    this.#plan = options.plan;
    // Nothing to put in place, so nothing to wait for; what is left of earlier runs goes all the same.
    this.#inPlace = isEmptyPlan(options.plan);
  }

  /** True from the first successful apply on, and for an empty plan. */
  get inPlace(): boolean {
    return this.#inPlace;
  }

  /** Why the last apply failed; undefined when it did not. */
  get error(): string | undefined {
    return this.#error;
  }

  /** How often rules were found changed after they had been put in place. */
  get repairs(): number {
    return this.#repairs;
  }

  /**
   * Calls the listener whenever `inPlace`, `error` or `repairs` changed; returns how to stop it.
   * It must not throw.
   */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Has the next check made soon, instead of at the next resync. */
  checkSoon(): void {
    this.#pace.ring();
  }

  /** Resolves when aborted, a program that runs then is ended; never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    await this.#cleanOthers(signal);
    let applied = false;
    while (!signal.aborted) {
      const started = performance.now();
      applied = (await this.#apply(applied, signal)) || applied;
      this.#options.onChecked?.();
      await this.#rest(applied, performance.now() - started, signal);
    }
  }

  async #rest(applied: boolean, tookMs: number, signal: AbortSignal): Promise<void> {
    // Nothing of ours is there and nothing should be: no reason to look again.
    const done = applied && isEmptyPlan(this.#plan);
    const seconds = Math.max(this.#options.resyncSeconds, 1);
    const pauseMs = done ? LONGEST_MS : Math.min(seconds * 1_000, LONGEST_MS);
    const repairs = this.#repairsInARow;
    const afterRepair = repairs === 0 ? 0 : REPAIR_GAP_MS * 2 ** (repairs - 1);
    await this.#pace.rest(pauseMs, tookMs, afterRepair, signal);
  }

  async #cleanOthers(signal: AbortSignal): Promise<void> {
    const { others, log } = this.#options;
    for (const other of others) {
      try {
        await other.clean(this.#plan, signal);
      } catch (error) {
        log.debug({ firewall: other.kind, reason: messageOf(error) }, 'other firewall not cleaned');
      }
    }
  }

  /** True when it succeeded. `again`: it has before, so a change is a repair. */
  async #apply(again: boolean, signal: AbortSignal): Promise<boolean> {
    const { firewall, log } = this.#options;
    const fields = { firewall: firewall.kind };
    try {
      const changed = await firewall.apply(this.#plan, signal);
      if (this.#error !== undefined) log.info(fields, 'firewall works again');
      if (!again) this.#tellInPlace(changed);
      if (again && changed) {
        log.warn(
          { ...fields, repairs: this.#repairs + 1 },
          'firewall rules were changed: repaired',
        );
      }
      this.#repairsInARow = again && changed ? this.#repairsInARow + 1 : 0;
      this.#set(true, undefined, this.#repairs + (again && changed ? 1 : 0));
      // Rules of a former Network are gone; should they come back, they are somebody else's.
      this.#plan = { ...this.#plan, formerNetwork: undefined };
      return true;
    } catch (error) {
      if (!signal.aborted) this.#failed(messageOf(error));
      return false;
    }
  }

  #tellInPlace(changed: boolean): void {
    const { firewall, log } = this.#options;
    const fields = { firewall: firewall.kind, changed, plan: words(this.#plan) };
    log.info(fields, isEmptyPlan(this.#plan) ? 'firewall rules off' : 'firewall rules in place');
  }

  #failed(reason: string): void {
    const { firewall, resyncSeconds, log } = this.#options;
    const now = performance.now();
    if (this.#error === undefined || now >= this.#remindAt) {
      this.#remindAt = now + REMINDER_MS;
      const fields = { firewall: firewall.kind, error: reason, retrySeconds: resyncSeconds };
      log.error(fields, 'firewall rules cannot be put in place');
    }
    this.#set(this.#inPlace, reason, this.#repairs);
  }

  #set(inPlace: boolean, error: string | undefined, repairs: number): void {
    const same = inPlace === this.#inPlace && error === this.#error && repairs === this.#repairs;
    this.#inPlace = inPlace;
    this.#error = error;
    this.#repairs = repairs;
    if (!same) for (const listener of [...this.#listeners]) listener();
  }
}

function words({ network, subnet, masquerade, forward }: FirewallPlan): object {
  return { network: formatCidr(network), subnet: formatCidr(subnet), masquerade, forward };
}
