/** What the daemon knows of a firewall, whichever of the kernel's two it is. */
import type { FirewallPlan } from './rules.js';
import type { SavedTables } from './saved.js';

export type FirewallKind = 'iptables' | 'nftables';

/** What rules of an earlier run are removed from. */
export interface Cleanable {
  readonly kind: FirewallKind;
  /**
   * Removes our rules, for the plan's Networks, and chains and jumps without other users. True when
   * there were any. Rejects when a program fails or is missing.
   */
  clean(plan: FirewallPlan, signal?: AbortSignal): Promise<boolean>;
}

export interface Firewall extends Cleanable {
  /** What iptables-save printed at the end of the last apply; undefined of nftables. */
  readonly saved?: SavedTables | undefined;
  /**
   * Makes our rules what the plan says, and removes those it does not want: rules of flannel's shape
   * for the plan's Network, and for a former one. Rules of others are left, those of daemons with
   * other Networks in the same chains too. True when something had to be changed. Rejects with a
   * system error; an empty plan is fulfilled on a machine without the programs. `signal` ends a
   * program that runs.
   */
  apply(plan: FirewallPlan, signal?: AbortSignal): Promise<boolean>;
}
