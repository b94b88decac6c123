/**
 * Tailscale's guard of 100.64.0.0/10, the shared address space (RFC 6598) that it numbers a tailnet
 * from. A Network inside it is refused by
 *
 *     INPUT     -j ts-input
 *     ts-input  -s 100.64.0.0/10 ! -i tailscale0 -j DROP
 *
 * which takes what containers of other nodes send to this host, answers included. Tailscale itself
 * excepts a range that another program uses (ChromeOS) by a RETURN before the DROP; so do we for
 * what comes out of the overlay. Pure.
 */
import { formatCidr, overlaps, parseCidr, type Cidr } from '../config/ipv4.js';
import { ownNetworks, type FirewallPlan } from './rules.js';
import { wordsOf, type SavedTables } from './saved.js';

export const TAILSCALE_RANGE: Cidr = parseCidr('range', '100.64.0.0/10');
export const TAILSCALE_CHAIN = 'ts-input';
const COMMENT = 'flannelette input';

/** Tailscale's rule that refuses addresses of this Network, if there is one. */
export function tailscaleGuard(tables: SavedTables, network: Cidr): string | undefined {
  if (!overlaps(TAILSCALE_RANGE, network)) return undefined;
  return guardIn(tables)?.rule;
}

function guardIn(tables: SavedTables): { rule: string; index: number } | undefined {
  const rules = tables.get('filter')?.get(TAILSCALE_CHAIN)?.rules ?? [];
  const index = rules.findIndex((rule) => {
    const text = wordsOf(rule).join(' ');
    return (
      text.startsWith(`${TAILSCALE_CHAIN} -s ${formatCidr(TAILSCALE_RANGE)} ! -i `) &&
      text.endsWith(' -j DROP')
    );
  });
  const rule = rules[index];
  return rule === undefined ? undefined : { rule, index };
}

/** The exception for packets of the overlay, whatever number its device has. */
export function exceptionRule(network: Cidr): string {
  const source = formatCidr(network);
  return `${TAILSCALE_CHAIN} -s ${source} -i flannel+ -m comment --comment "${COMMENT}" -j RETURN`;
}

/** For an operator to run. */
export function exceptionCommand(network: Cidr, program: string): string {
  const [chain = '', ...rest] = exceptionRule(network).split(' ');
  return `${program} -I ${chain} ${rest.join(' ')}`;
}

/** Lines for iptables-restore, table filter, that make the exception what it should be. */
export function exceptionLines(tables: SavedTables, plan: FirewallPlan): string[] {
  const rules = tables.get('filter')?.get(TAILSCALE_CHAIN)?.rules ?? [];
  const wanted = exceptionRule(plan.network);
  const own = ownNetworks(plan).map(exceptionRule);
  const found = rules.filter((rule) => own.includes(rule));
  const guard =
    plan.forward && overlaps(TAILSCALE_RANGE, plan.network) ? guardIn(tables) : undefined;
  const at = rules.indexOf(wanted);
  const deletions = found.map((rule) => `-D ${rule}`);
  if (guard === undefined) return deletions;
  if (found.length === 1 && at >= 0 && at < guard.index) return [];
  return [...deletions, `-I ${wanted}`];
}
