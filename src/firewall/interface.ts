/** What the daemon knows of a firewall, whichever of the kernel's two it is. */
import type { FirewallPlan } from './rules.js';

export type FirewallKind = 'iptables' | 'nftables';

export interface Firewall {
  readonly kind: FirewallKind;
  /**
   * Makes our chains what the plan says, and removes those it does not want; rules of others are
   * never touched. True when something had to be changed. Rejects with a system error; an empty
   * plan is fulfilled on a machine without the programs. `signal` ends a program that runs.
   */
  apply(plan: FirewallPlan, signal?: AbortSignal): Promise<boolean>;
  /** Removes our chains and what leads to them. Rejects when a program fails or is missing. */
  clean(signal?: AbortSignal): Promise<void>;
}
