/**
 * Rules that other programs make for everybody, and that the overlay has to be excepted from: a
 * RETURN for its packets in front of them, in the program's own chain, so that all other rules of the
 * host keep their say. Pure.
 *
 * Tailscale guards 100.64.0.0/10, the shared address space (RFC 6598) that it numbers a tailnet from.
 * A Network inside it is refused, what containers answer to this host included. Tailscale itself
 * excepts a range that another program uses (ChromeOS) in the same way.
 *
 *     INPUT     -j ts-input
 *     ts-input  -s 100.64.0.0/10 ! -i tailscale0 -j DROP
 *
 * Docker, from release 28 on, refuses what enters a bridge from outside for a port that is not
 * published. For a bridge in the overlay's subnet, other nodes' containers are outside.
 *
 *     FORWARD  -j DOCKER-FORWARD -> DOCKER-BRIDGE -> DOCKER
 *     DOCKER   ! -i docker0 -o docker0 -j DROP
 */
import { formatCidr, overlaps, parseCidr, type Cidr } from '../config/ipv4.js';
import { ownNetworks, type FirewallPlan } from './rules.js';
import { wordsOf, type SavedTables } from './saved.js';

interface Exception {
  /** Chain of the filter table. */
  readonly chain: string;
  readonly comment: string;
  /** What the overlay's packets match, whatever number its device has. */
  readonly match: (network: string) => string;
  /** True for a rule to be excepted from, as words after the chain's name. */
  readonly isGuard: (words: string) => boolean;
  readonly concerns: (network: Cidr) => boolean;
}

export const TAILSCALE_RANGE: Cidr = parseCidr('range', '100.64.0.0/10');

const TAILSCALE: Exception = {
  chain: 'ts-input',
  comment: 'flannelette input',
  match: (network) => `-s ${network} -i flannel+`,
  isGuard: (words) =>
    words.startsWith(`-s ${formatCidr(TAILSCALE_RANGE)} ! -i `) && words.endsWith(' -j DROP'),
  concerns: (network) => overlaps(TAILSCALE_RANGE, network),
};

const DOCKER: Exception = {
  chain: 'DOCKER',
  comment: 'flannelette forward',
  match: (network) => `-d ${network} -i flannel+`,
  isGuard: (words) => /^! -i (\S+) -o \1 -j DROP$/.test(words),
  concerns: () => true,
};

const EXCEPTIONS: readonly Exception[] = [TAILSCALE, DOCKER];

export const TAILSCALE_CHAIN = TAILSCALE.chain;

/** Tailscale's rule that refuses addresses of this Network, if there is one, and our exception. */
export function tailscaleGuard(
  tables: SavedTables,
  network: Cidr,
): { readonly guard: string; readonly excepted: boolean } | undefined {
  if (!TAILSCALE.concerns(network)) return undefined;
  const rules = rulesOf(tables, TAILSCALE);
  const guard = rules[guardIn(rules, TAILSCALE)];
  if (guard === undefined) return undefined;
  return { guard, excepted: rules.includes(exceptionRule(TAILSCALE, network)) };
}

/** For an operator to run. */
export function tailscaleCommand(network: Cidr, program: string): string {
  return `${program} -I ${exceptionRule(TAILSCALE, network)}`;
}

/** Lines for iptables-restore, table filter, that make the exceptions what they should be. */
export function exceptionLines(tables: SavedTables, plan: FirewallPlan): string[] {
  return EXCEPTIONS.flatMap((exception) => {
    const rules = rulesOf(tables, exception);
    const own = ownNetworks(plan).map((network) => exceptionRule(exception, network));
    const found = rules.filter((rule) => own.includes(rule));
    const wanted = exceptionRule(exception, plan.network);
    const guard = guardIn(rules, exception);
    const needed = plan.forward && guard >= 0 && exception.concerns(plan.network);
    const deletions = found.map((rule) => `-D ${rule}`);
    if (!needed) return deletions;
    const at = rules.indexOf(wanted);
    return found.length === 1 && at >= 0 && at < guard ? [] : [...deletions, `-I ${wanted}`];
  });
}

/** The chain's name and the rule, as iptables-save prints it. */
function exceptionRule({ chain, comment, match }: Exception, network: Cidr): string {
  return `${chain} ${match(formatCidr(network))} -m comment --comment "${comment}" -j RETURN`;
}

function rulesOf(tables: SavedTables, { chain }: Exception): readonly string[] {
  return tables.get('filter')?.get(chain)?.rules ?? [];
}

function guardIn(rules: readonly string[], { isGuard }: Exception): number {
  return rules.findIndex((rule) => isGuard(wordsOf(rule).slice(1).join(' ')));
}
