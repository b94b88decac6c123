/**
 * The firewall of a node, as the daemon uses it: pick one of the kernel's two, and keep a plan's
 * rules in it.
 *
 *     rules.ts  plan -> text          iptables.ts, nftables.ts  compare and change, by program.ts
 *     keeper.ts                       again and again, until told to stop
 *     diagnosis/                      what the rules of others do to the overlay
 */
import type { Logger } from '../log.js';
import type { Cleanable, Firewall, FirewallKind } from './firewall-interface.js';
import { IptablesFirewall } from './iptables.js';
import { NftablesFirewall } from './nftables.js';
import { OtherIptables } from './other-iptables.js';

export { watchRules } from './change-watch.js';
export { FirewallInspector } from './diagnosis/inspector.js';
export type { Overlay } from './diagnosis/sample-traffic.js';
export type { Cleanable, Firewall, FirewallKind } from './firewall-interface.js';
export { FirewallKeeper, type FirewallKeeperOptions } from './keeper.js';
export { Pace } from './pace.js';
export type { FirewallPlan } from './rules.js';

/**
 * `prefix` goes before each command line the firewall runs, e.g. nsenter(8) and its arguments to
 * work in another network namespace.
 */
export function createFirewall(
  kind: FirewallKind,
  log: Logger,
  prefix: readonly string[] = [],
): Firewall {
  switch (kind) {
    case 'iptables':
      return new IptablesFirewall(log, prefix);
    case 'nftables':
      return new NftablesFirewall(log, prefix);
  }
}

/** The kernel's other iptables, only to be cleaned: legacy beside nf_tables, or the reverse. */
export function otherIptables(log: Logger, prefix: readonly string[] = []): Cleanable {
  return new OtherIptables(log, prefix);
}
