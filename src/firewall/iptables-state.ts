/**
 * Our part of iptables-save's output, and the iptables-restore input that puts it right. Pure.
 *
 * The chains are shared (shape.ts): rules of others stay where they are, and ours keep their place
 * among them. So the input names rules, never a whole chain: `-D` and `-I`, and `-N` for a chain
 * that is missing, since declaring one would empty it for everybody. A table takes effect as a whole
 * at its COMMIT, or not at all when one line of it cannot be done.
 */
import {
  firstCatchAll,
  isAlwaysEntered,
  reachableFrom,
  refusesBefore,
  type CatchAll,
  type Place,
} from './catch-all.js';
import {
  areInPlace,
  intendedRule,
  isUsedByOthers,
  ownedRule,
  removable,
  type Networks,
  type OwnedRule,
} from './own-rules.js';
import type { OwnChain } from './rules.js';
import type { SavedTable, SavedTables } from './saved.js';
import { iptablesShape } from './shape.js';
import { Wording } from './wording.js';

/** `text` is what follows `-A`. */
type ChainRule = OwnedRule & { readonly text: string };

export interface ChainState {
  readonly exists: boolean;
  readonly rules: readonly ChainRule[];
  /** Places of our jump in the built-in chain, from 0. */
  readonly jumps: readonly number[];
  /** Rules in the built-in chain. */
  readonly hookLength: number;
  /** Where the built-in chain refuses everything; only looked for where `chain.beforeCatchAll`. */
  readonly catchAll: CatchAll | undefined;
  /** Jumps of ours in other chains than the built-in one, see JumpPlace. */
  readonly inner: readonly Place[];
  /** Where the jump has to stand. */
  readonly place: JumpPlace;
  /** A rule that is not ours leads to our chain: the chain cannot be deleted. */
  readonly referenced: boolean;
}

/**
 * Anywhere in the built-in chain; or before one of its rules; or, besides, in a chain behind it, so
 * that the rules which stand there before a catch-all keep their say.
 */
type JumpPlace =
  | { readonly kind: 'anywhere' }
  | { readonly kind: 'before'; readonly index: number }
  | ({ readonly kind: 'inside' } & Place);

/** What iptables-save says of a chain of ours. */
export function chainState(
  tables: SavedTables,
  chain: OwnChain,
  networks: Networks,
  wording = new Wording(),
): ChainState {
  const table: SavedTable = tables.get(chain.table) ?? new Map();
  const hook = table.get(chain.hook)?.rules ?? [];
  const jumps = hook.flatMap((rule, index) => (rule === chain.jump ? [index] : []));
  const catchAll = chain.beforeCatchAll ? firstCatchAll(table, chain.hook, chain.name) : undefined;
  const inner: Place[] = [];
  let leading = 0;
  for (const [name, { rules }] of table) {
    for (const [index, rule] of rules.entries()) {
      if (!rule.endsWith(` -j ${chain.name}`) && !rule.endsWith(` -g ${chain.name}`)) continue;
      leading += 1;
      if (name !== chain.hook && rule === innerJump(chain, name))
        inner.push({ chain: name, index });
    }
  }
  return {
    exists: table.has(chain.name),
    rules: (table.get(chain.name)?.rules ?? []).map((text) => ({
      text,
      ...ownedRule(iptablesShape(wording.meaning(text), chain.comment), networks),
    })),
    jumps,
    hookLength: hook.length,
    catchAll,
    inner,
    place: jumpPlace(table, chain, jumps, catchAll),
    referenced: leading > jumps.length + inner.length,
  };
}

function innerJump(chain: OwnChain, within: string): string {
  return `${within} -m comment --comment "${chain.innerComment}" -j ${chain.name}`;
}

function jumpPlace(
  table: SavedTable,
  chain: OwnChain,
  jumps: readonly number[],
  catchAll: CatchAll | undefined,
): JumpPlace {
  if (catchAll === undefined) return { kind: 'anywhere' };
  const [top] = catchAll.path;
  if ((jumps[0] ?? Infinity) < top.index) return { kind: 'anywhere' };
  const last = catchAll.path.at(-1) ?? top;
  if (last === top) return { kind: 'before', index: top.index };
  // In a chain that INPUT goes through as well, our jump would open this host; in one for some packets
  // only, it would spare them what somebody means for them.
  const shared = BUILT_IN.some(
    (name) => name !== chain.hook && reachableFrom(table, name).has(last.chain),
  );
  if (!shared && isAlwaysEntered(table, last.chain)) return { kind: 'inside', ...last };
  return refusesBefore(table, catchAll)
    ? { kind: 'anywhere' }
    : { kind: 'before', index: top.index };
}

/** Chains of the filter table. */
const BUILT_IN = ['INPUT', 'FORWARD', 'OUTPUT'];

export function isInPlace(chain: OwnChain, state: ChainState): boolean {
  return chain.wanted
    ? state.exists && areInPlace(intendedRules(chain), state.rules) && areJumpsInPlace(state)
    : isGone(state);
}

function intendedRules(chain: OwnChain): ChainRule[] {
  return chain.rules.map((text) => ({ text, ...intendedRule(iptablesShape(text, chain.comment)) }));
}

function areJumpsInPlace({ jumps, place, inner }: ChainState): boolean {
  if (jumps.length !== 1 || place.kind === 'before') return false;
  if (place.kind === 'anywhere') return inner.length === 0;
  return inner.length === 1 && isInside(inner[0], place);
}

function isInside(jump: Place | undefined, place: JumpPlace): boolean {
  return place.kind === 'inside' && jump?.chain === place.chain && jump.index < place.index;
}

function isGone(state: ChainState): boolean {
  if (state.rules.some(removable(state.rules))) return false;
  if (isUsedByOthers(state.rules)) return true;
  if (state.jumps.length > 0 || state.inner.length > 0) return false;
  return !state.exists || state.referenced;
}

/**
 * Lines of iptables-restore input, without the table's frame, that make a chain what it should be.
 * `flush`: a chain with nothing of others in it is emptied, instead of deleting its rules by name.
 */
export function repairLines(chain: OwnChain, state: ChainState, how?: 'flush'): string[] {
  if (!chain.wanted) return removalLines(chain, state);
  const flush = how === 'flush' && !isUsedByOthers(state.rules) && state.exists;
  return [
    ...(state.exists ? [] : [`-N ${chain.name}`]),
    ...(flush ? [`-F ${chain.name}`, ...chain.rules.map((rule) => `-A ${rule}`)] : []),
    ...(flush || areInPlace(intendedRules(chain), state.rules) ? [] : ruleLines(chain, state)),
    ...(areJumpsInPlace(state) ? [] : jumpLines(chain, state)),
  ];
}

/** Takes our rules out and puts the wanted ones where the first of them was. */
function ruleLines(chain: OwnChain, { rules }: ChainState): string[] {
  const goes = removable(rules);
  const kept = rules.filter((rule) => !goes(rule));
  const first = rules.findIndex(goes);
  const at = first < 0 ? kept.length : rules.slice(0, first).filter((rule) => !goes(rule)).length;
  const marked = kept.slice(0, at).some(({ owner }) => owner === 'mark');
  const block = intendedRules(chain).filter(({ owner }) => owner === 'own' || !marked);
  return [
    ...rules.filter(goes).map(({ text }) => `-D ${text}`),
    ...block.map(({ text }, index) => inserted(text, at + index, kept.length + index)),
  ];
}

function jumpLines(chain: OwnChain, { jumps, place, inner, hookLength }: ChainState): string[] {
  const [first] = jumps;
  const target = place.kind === 'before' ? place.index : (first ?? hookLength);
  const stays = place.kind !== 'before' && jumps.length === 1;
  const at = target - jumps.filter((index) => index < target).length;
  return [
    ...(stays ? [] : jumps.map(() => `-D ${chain.jump}`)),
    ...(stays ? [] : [inserted(chain.jump, at, hookLength - jumps.length)]),
    ...innerLines(chain, place, inner),
  ];
}

function innerLines(chain: OwnChain, place: JumpPlace, inner: readonly Place[]): string[] {
  if (inner.length === 1 && isInside(inner[0], place)) return [];
  const gone = inner.map((jump) => `-D ${innerJump(chain, jump.chain)}`);
  if (place.kind !== 'inside') return gone;
  const before = inner.filter((jump) => jump.chain === place.chain && jump.index < place.index);
  const at = place.index - before.length;
  return [...gone, inserted(innerJump(chain, place.chain), at, Infinity)];
}

/** `-A` at the end, else `-I` with a place counted from 1; `at` counts from 0. */
function inserted(rule: string, at: number, length: number): string {
  if (at >= length) return `-A ${rule}`;
  const space = rule.indexOf(' ');
  return `-I ${rule.slice(0, space)} ${at + 1}${rule.slice(space)}`;
}

function removalLines(chain: OwnChain, state: ChainState): string[] {
  const rules = state.rules.filter(removable(state.rules)).map(({ text }) => `-D ${text}`);
  if (isUsedByOthers(state.rules)) return rules;
  return [
    ...rules,
    ...state.jumps.map(() => `-D ${chain.jump}`),
    ...state.inner.map((jump) => `-D ${innerJump(chain, jump.chain)}`),
    ...(state.exists && !state.referenced ? [`-X ${chain.name}`] : []),
  ];
}
