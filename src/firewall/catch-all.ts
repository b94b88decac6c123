/**
 * Where a chain of iptables refuses everything, so that what stands behind is never reached and our
 * jump has to stand before it. Pure.
 *
 *     FORWARD  -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
 *              -s 192.0.2.1 -j DROP              an operator's: with a condition, so it stays in front
 *              -j FLANNEL-FWD                    <- here
 *              -p tcp -j REJECT --reject-with tcp-reset
 *              -j REJECT --reject-with icmp-host-prohibited
 *
 * That is a rule without conditions whose target is DROP or REJECT, in the chain itself or in one it
 * always goes through. Refusals in front of it that only tell protocols apart belong to it, and so do
 * rules that log; TCP and UDP together are everything as well. A condition on the state of a
 * connection that lets new ones through is none here.
 */
import { wordsOf, type SavedTable } from './saved.js';

export interface CatchAll {
  /** From the chain asked about to the one that holds the rule: the place in each, from 0. */
  readonly path: readonly [Place, ...Place[]];
  /** The rule that refuses. */
  readonly rule: string;
}

export interface Place {
  readonly chain: string;
  readonly index: number;
}

/** Deeper than any rule set nests; loops are refused by the kernel. */
const DEEPEST = 32;
const END = 'end';
const REFUSING: readonly string[] = ['DROP', 'REJECT'];
const LOGGING: readonly string[] = ['LOG', 'NFLOG', 'ULOG'];
/** Targets that take no packet away. */
const TOLERANT: readonly string[] = ['ACCEPT', 'RETURN', 'MARK', 'CONNMARK', ...LOGGING];

/** The first one that `chain` comes to; jumps to `own` are passed over. */
export function firstCatchAll(table: SavedTable, chain: string, own: string): CatchAll | undefined {
  const found = search(table, chain, own, DEEPEST);
  return found === undefined || found === END ? undefined : found;
}

/** `end`: every packet leaves the rules accepted; undefined: it comes back to the caller. */
function search(
  table: SavedTable,
  chain: string,
  own: string,
  depth: number,
): CatchAll | typeof END | undefined {
  const rules = (table.get(chain)?.rules ?? []).map((text) => ({ text, ...read(text) }));
  /** Where a run of refusals begins that nothing but protocols tells apart. */
  let run: number | undefined;
  const protocols = new Set<string>();
  for (const [index, { text, target, isGoto, condition, protocol }] of rules.entries()) {
    if (target === undefined || target === own) continue;
    if (LOGGING.includes(target) && condition !== 'specific') {
      run ??= index;
      continue;
    }
    if (REFUSING.includes(target) && condition !== 'specific') {
      run ??= index;
      if (protocol !== undefined) protocols.add(protocol);
      const all = condition === 'none' || (protocols.has('tcp') && protocols.has('udp'));
      if (all) return { path: [{ chain, index: run }], rule: text };
      continue;
    }
    run = undefined;
    protocols.clear();
    if (condition !== 'none') continue;
    if (target === 'RETURN') return undefined;
    if (target === 'ACCEPT') return END;
    if (!table.has(target)) continue;
    const inside = depth === 0 ? END : search(table, target, own, depth - 1);
    if (inside === END) return END;
    if (inside !== undefined) return { ...inside, path: [{ chain, index }, ...inside.path] };
    if (isGoto) return undefined;
  }
  return undefined;
}

/** Chains that a built-in chain leads to, itself included. */
export function reachableFrom(table: SavedTable, chain: string): ReadonlySet<string> {
  const reached = new Set([chain]);
  for (const name of reached) {
    for (const rule of table.get(name)?.rules ?? []) {
      const { target } = read(rule);
      if (target !== undefined && table.has(target)) reached.add(target);
    }
  }
  return reached;
}

/** True when every rule that leads to the chain does so always: it has nothing of some packets only. */
export function isAlwaysEntered(table: SavedTable, chain: string): boolean {
  for (const { rules } of table.values()) {
    for (const rule of rules) {
      if (!rule.endsWith(` ${chain}`)) continue;
      const { target, condition } = read(rule);
      if (target === chain && condition !== 'none') return false;
    }
  }
  return true;
}

/**
 * True when a chain on the way refuses some packets before the catch-all: to go round the chain would
 * be to go round that.
 */
export function refusesBefore(table: SavedTable, { path }: CatchAll): boolean {
  const refuses = (rules: readonly string[], depth: number): boolean =>
    rules.some((rule) => {
      const { target } = read(rule);
      if (target === undefined || TOLERANT.includes(target)) return false;
      const inner = table.get(target)?.rules;
      return inner === undefined || depth === 0 || refuses(inner, depth - 1);
    });
  return path
    .slice(1)
    .some(({ chain, index }) => refuses(table.get(chain)?.rules.slice(0, index) ?? [], DEEPEST));
}

interface ReadRule {
  readonly target: string | undefined;
  readonly isGoto: boolean;
  /** `generic`: packets are told apart by protocol, rate of logging or kind of address only. */
  readonly condition: 'none' | 'generic' | 'specific';
  readonly protocol: string | undefined;
}

/** Matches of options that are looked at below. */
const GENERIC_MODULES: readonly string[] = ['addrtype', 'limit', 'pkttype', 'tcp', 'udp', 'icmp'];
/** Options with one argument that say nothing of who sends to whom. */
const GENERIC_OPTIONS: readonly string[] = ['--pkt-type', '--limit', '--limit-burst'];
const GROUPS: readonly string[] = ['BROADCAST', 'MULTICAST', 'ANYCAST'];

function read(rule: string): ReadRule {
  const [, ...words] = wordsOf(rule);
  let condition: ReadRule['condition'] = 'none';
  let protocol: string | undefined;
  let limited = false;
  while (words.length > 0) {
    const negated = words[0] === '!';
    if (negated) words.shift();
    const option = words.shift() ?? '';
    const value = /^[-!]/.test(words[0] ?? '-') ? '' : (words.shift() ?? '');
    if (option === '-j' || option === '-g') {
      // A rate is generic for what is logged; what is refused by rate is somebody's measure.
      const measured = limited && !LOGGING.includes(value);
      return {
        target: value,
        isGoto: option === '-g',
        condition: measured ? 'specific' : condition,
        protocol,
      };
    }
    const kind = kindOf(option, value, negated);
    if (kind === 'specific') condition = 'specific';
    else if (kind === 'generic' && condition === 'none') condition = 'generic';
    if (option === '-p' && !negated) protocol = value;
    limited ||= option === '--limit';
  }
  return { target: undefined, isGoto: false, condition, protocol };
}

function kindOf(option: string, value: string, negated: boolean): ReadRule['condition'] {
  if (option === '--comment') return 'none';
  if (option === '--ctstate' || option === '--state') {
    return value.split(',').includes('NEW') !== negated ? 'none' : 'specific';
  }
  if (option === '-m') {
    if (['comment', 'conntrack', 'state'].includes(value)) return 'none';
    return GENERIC_MODULES.includes(value) ? 'generic' : 'specific';
  }
  if (option === '-p' || GENERIC_OPTIONS.includes(option)) return negated ? 'specific' : 'generic';
  const groups = ['--src-type', '--dst-type'].includes(option) && GROUPS.includes(value);
  return groups && !negated ? 'generic' : 'specific';
}
