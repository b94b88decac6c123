/** Whose the rules of a shared chain are, and whether ours are as they should be. Pure. */
import type { Cidr } from '../config/ipv4.js';
import { isMarkRule, isRuleOf, shapeKey, type RuleShape } from './shape.js';

/** Whose Networks' rules are ours: this one's, and at the first time a former one's. */
export type Networks = readonly Cidr[];

export interface OwnedRule {
  /** `mark` is the rule that every flannel daemon needs, and none owns. */
  readonly owner: 'own' | 'mark' | 'another flannel' | 'foreign';
  /** See shapeKey; undefined of a foreign rule. */
  readonly key: string | undefined;
}

export function ownedRule(shape: RuleShape | undefined, networks: Networks): OwnedRule {
  if (shape === undefined) return { owner: 'foreign', key: undefined };
  const key = shapeKey(shape);
  if (isMarkRule(shape)) return { owner: 'mark', key };
  const own = networks.some((network) => isRuleOf(network, shape));
  return { owner: own ? 'own' : 'another flannel', key };
}

/** A rule of the plan: ours whatever Network it names. */
export function intendedRule(shape: RuleShape | undefined): OwnedRule {
  const rule = ownedRule(shape, []);
  return rule.owner === 'mark' ? rule : { ...rule, owner: 'own' };
}

/** Our rules are there, once, in order and behind a rule of the mark; others may stand between. */
export function areInPlace(intended: readonly OwnedRule[], found: readonly OwnedRule[]): boolean {
  const isOwn = ({ owner }: OwnedRule): boolean => owner === 'own';
  const isMark = ({ owner }: OwnedRule): boolean => owner === 'mark';
  const wanted = intended.filter(isOwn);
  const own = found.filter(isOwn);
  const mark = found.findIndex(isMark);
  const marked = !intended.some(isMark) || (mark >= 0 && mark < found.findIndex(isOwn));
  return (
    marked && own.length === wanted.length && own.every(({ key }, at) => key === wanted[at]?.key)
  );
}

/** Rules of others are in the chain: it stays, and so does what leads to it. */
export function isUsedByOthers(rules: readonly OwnedRule[]): boolean {
  return rules.some(({ owner }) => owner === 'another flannel' || owner === 'foreign');
}

/** Which rules are ours to take out: the one of the mark when no other daemon needs it. */
export function removable(rules: readonly OwnedRule[]): (rule: OwnedRule) => boolean {
  const alone = !rules.some(({ owner }) => owner === 'another flannel');
  return ({ owner }) => owner === 'own' || (owner === 'mark' && alone);
}
