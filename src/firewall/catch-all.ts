/**
 * Where a chain of iptables refuses everything: a rule without conditions whose target is DROP or
 * REJECT, in the chain itself or in one it always goes through. What stands behind is never reached,
 * so our jump has to stand before it. Pure.
 *
 *     FORWARD  -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
 *              -s 192.0.2.1 -j DROP              an operator's: with a condition, so it stays in front
 *              -j FLANNEL-FWD                    <- here
 *              -j REJECT --reject-with icmp-host-prohibited
 *
 * A condition on the state of a connection that lets new ones through is none here.
 */
import { wordsOf, type SavedTable } from './saved.js';

export interface CatchAll {
  /** The chain that holds the rule, and the rule's place in it, counted from 0. */
  readonly chain: string;
  readonly index: number;
  readonly rule: string;
  /** The place, in the chain that was asked about, of the rule itself or of the one leading to it. */
  readonly topIndex: number;
}

/** Deeper than any rule set nests; loops are refused by the kernel. */
const DEEPEST = 32;
const END = 'end';

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
  const rules = table.get(chain)?.rules ?? [];
  for (const [index, rule] of rules.entries()) {
    const always = unconditional(rule);
    if (always === undefined || always.target === own) continue;
    if (always.target === 'DROP' || always.target === 'REJECT') {
      return { chain, index, rule, topIndex: index };
    }
    if (always.target === 'RETURN') return undefined;
    if (always.target === 'ACCEPT') return END;
    if (!table.has(always.target)) continue;
    const inside = depth === 0 ? END : search(table, always.target, own, depth - 1);
    if (inside === END) return END;
    if (inside !== undefined) return { ...inside, topIndex: index };
    if (always.isGoto) return undefined;
  }
  return undefined;
}

/** Chains that a built-in chain leads to, itself included. */
export function reachableFrom(table: SavedTable, chain: string): ReadonlySet<string> {
  const reached = new Set([chain]);
  for (const name of reached) {
    for (const rule of table.get(name)?.rules ?? []) {
      const target = targetOf(rule);
      if (target !== undefined && table.has(target)) reached.add(target);
    }
  }
  return reached;
}

/** True when a rule before `index` refuses some packets: going round it would be going round that. */
export function refusesBefore(table: SavedTable, { chain, index }: CatchAll): boolean {
  const refuses = (rules: readonly string[], depth: number): boolean =>
    rules.some((rule) => {
      const target = targetOf(rule);
      if (target === undefined || TOLERANT.has(target)) return false;
      const inner = table.get(target)?.rules;
      return inner === undefined || depth === 0 || refuses(inner, depth - 1);
    });
  return refuses(table.get(chain)?.rules.slice(0, index) ?? [], DEEPEST);
}

/** Targets that take no packet away. */
const TOLERANT = new Set(['ACCEPT', 'RETURN', 'LOG', 'NFLOG', 'MARK', 'CONNMARK']);

function targetOf(rule: string): string | undefined {
  return /(?:^| )-[jg] (\S+)/.exec(rule.replaceAll(/"(?:[^"\\]|\\.)*"/g, '""'))?.[1];
}

/** The target of a rule that every new connection matches. */
function unconditional(
  rule: string,
): { readonly target: string; readonly isGoto: boolean } | undefined {
  const [, ...words] = wordsOf(rule);
  while (words.length > 0) {
    const negated = words[0] === '!';
    if (negated) words.shift();
    const [option, value = ''] = words.splice(0, 2);
    if (option === '-j' || option === '-g') return { target: value, isGoto: option === '-g' };
    const states = option === '--ctstate' || option === '--state';
    const known =
      (option === '-m' && ['comment', 'conntrack', 'state'].includes(value)) ||
      option === '--comment' ||
      (states && value.split(',').includes('NEW') !== negated);
    if (!known) return undefined;
  }
  return undefined;
}
