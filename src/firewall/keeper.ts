/**
 * Keeps the rules in place while the daemon runs.
 *
 *     start ─> clean the other kind ─> apply ─> wait resyncSeconds ─> apply ─> ... until aborted
 *                                        └ fails: said, kept in `error`, tried at the next resync
 *
 * Other programs flush tables (a firewall's reload, an operator); what they took is put back at
 * the next resync. On abort the rules stay, as flanneld's do: containers outlive the daemon.
 */
import { formatCidr } from '../config/ipv4.js';
import { messageOf } from '../errors.js';
import type { Logger } from '../log.js';
import type { Firewall } from './interface.js';
import { isEmptyPlan, type FirewallPlan } from './rules.js';

/** Milliseconds between two log lines while applying keeps failing. */
const REMINDER_MS = 60_000;
/** A longer timeout would fire at once (Node, setTimeout). */
const LONGEST_MS = 2 ** 31 - 1;

export interface FirewallKeeperOptions {
  readonly firewall: Firewall;
  /** The firewall of the other kind: rules of an earlier run are removed from it, once. */
  readonly other: Firewall;
  readonly plan: FirewallPlan;
  /** Seconds from the end of one check to the next, at least 1. */
  readonly resyncSeconds: number;
  readonly log: Logger;
}

export class FirewallKeeper {
  readonly #options: FirewallKeeperOptions;
  readonly #listeners = new Set<() => void>();
  #inPlace = false;
  #error: string | undefined;
  #repairs = 0;
  /** performance.now() of the next log line of a failure that lasts. */
  #remindAt = Number.NEGATIVE_INFINITY;

  constructor(options: FirewallKeeperOptions) {
    this.#options = options;
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

  /** Resolves when aborted, a program that runs then is ended; never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    await this.#cleanOther(signal);
    const pauseMs = Math.min(Math.max(this.#options.resyncSeconds, 1) * 1_000, LONGEST_MS);
    let applied = false;
    while (!signal.aborted) {
      applied = (await this.#apply(applied, signal)) || applied;
      // Nothing of ours is there and nothing should be: no reason to look again.
      const done = applied && isEmptyPlan(this.#options.plan);
      if (!signal.aborted) await pause(done ? LONGEST_MS : pauseMs, signal);
    }
  }

  async #cleanOther(signal: AbortSignal): Promise<void> {
    const { other, log } = this.#options;
    try {
      await other.clean(signal);
    } catch (error) {
      log.debug({ firewall: other.kind, reason: messageOf(error) }, 'other firewall not cleaned');
    }
  }

  /** True when it succeeded. `again`: it has before, so a change is a repair. */
  async #apply(again: boolean, signal: AbortSignal): Promise<boolean> {
    const { firewall, plan, log } = this.#options;
    const fields = { firewall: firewall.kind };
    try {
      const changed = await firewall.apply(plan, signal);
      if (this.#error !== undefined) log.info(fields, 'firewall works again');
      if (!again) log.info({ ...fields, changed, plan: words(plan) }, 'firewall rules in place');
      if (again && changed) {
        log.warn(
          { ...fields, repairs: this.#repairs + 1 },
          'firewall rules were changed: repaired',
        );
      }
      this.#set(true, undefined, this.#repairs + (again && changed ? 1 : 0));
      return true;
    } catch (error) {
      if (!signal.aborted) this.#failed(messageOf(error));
      return false;
    }
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

/** Resolves after `ms` or at once when the signal aborts. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener('abort', end);
  });
}
