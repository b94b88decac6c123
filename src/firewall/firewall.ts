/**
 * The firewall of a node, as the daemon uses it: pick one of the kernel's two, and keep a plan's
 * rules in it.
 *
 *     rules.ts  plan -> text          iptables.ts, nftables.ts  compare and replace, by program.ts
 *     keeper.ts                       again and again, until told to stop
 */
import type { Logger } from '../log.js';
import type { Firewall, FirewallKind } from './interface.js';
import { IptablesFirewall } from './iptables.js';
import { NftablesFirewall } from './nftables.js';

export type { Firewall, FirewallKind } from './interface.js';
export { FirewallKeeper, type FirewallKeeperOptions } from './keeper.js';
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
