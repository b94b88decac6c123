/**
 * What nft prints of the table `ip flannel-ipv4`, and the commands that put our rules in it right.
 * Pure.
 *
 * The table is shared by flannel's daemons with different Networks, as the chains of iptables are
 * (shape.ts). A rule is deleted by its handle, which the kernel never gives out twice, and put before
 * one by its handle: what another daemon does meanwhile cannot be hit. All commands of one input take
 * effect together or not at all.
 */
import { systemError } from '../errors.js';
import {
  areInPlace,
  intendedRule,
  ownedRule,
  removable,
  type Networks,
  type OwnedRule,
} from './own-rules.js';
import { NFT_TABLE, NFT_TABLE_COMMENT, type NftChain } from './rules.js';
import { nftShape } from './shape.js';
import { Wording } from './wording.js';

/** Something a machine may refuse and the rules work without. */
export interface Dialect {
  /** Comments on table and chains: nft 0.9.7. Kernels before 5.10 forget them; not compared. */
  readonly comments: boolean;
  readonly randomFully: boolean;
}

interface ListedRule {
  readonly text: string;
  readonly handle: string;
}

interface ListedChain {
  /** `type filter hook forward priority filter; policy accept;`; empty for a chain without a hook. */
  head: string;
  readonly rules: ListedRule[];
}

export interface ListedTable {
  readonly exists: boolean;
  readonly chains: ReadonlyMap<string, ListedChain>;
  /** Sets, maps and the like: somebody else's. */
  readonly hasOthers: boolean;
}

/** From `nft -a list table`; the empty text is a table that is not there. */
export function parseListing(text: string): ListedTable {
  const chains = new Map<string, ListedChain>();
  let chain: ListedChain | undefined;
  let hasOthers = false;
  for (const line of text.split('\n').map((part) => part.trim())) {
    const opened = /^(\w+) (\S+) \{/.exec(line);
    if (opened?.[1] === 'chain') {
      chain = { head: '', rules: [] };
      chains.set(opened[2] ?? '', chain);
    } else if (opened !== null && chain === undefined && !line.startsWith('table ')) {
      hasOthers = true;
    } else if (line === '}') chain = undefined;
    else if (/^type \w+ hook /.test(line) && chain !== undefined) chain.head = line;
    else if (chain !== undefined) {
      const [, rule, handle] = /^(.*) # handle (\d+)$/.exec(line) ?? [];
      if (rule !== undefined && handle !== undefined) chain.rules.push({ text: rule, handle });
    }
  }
  return { exists: text !== '', chains, hasOthers };
}

/** Commands that make our part of the table what the chains say; none when it is. */
export function nftCommands(
  chains: readonly NftChain[],
  table: ListedTable,
  networks: Networks,
  dialect: Dialect,
  wording = new Wording(),
): string[] {
  const wanted = chains.some((chain) => chain.wanted);
  const commands = chains.flatMap((chain) => {
    const found = table.chains.get(chain.name);
    const rules = (found?.rules ?? []).map((rule) => ({
      ...rule,
      ...ownedRule(nftShape(wording.meaning(rule.text)), networks),
    }));
    return chain.wanted
      ? wantedCommands(chain, found, rules, dialect)
      : removal(chain, found, rules);
  });
  if (wanted && !table.exists) {
    const comment = dialect.comments ? ` { comment "${NFT_TABLE_COMMENT}"; }` : '';
    return [`add table ip ${NFT_TABLE}${comment}`, ...commands];
  }
  const left = [...table.chains.keys()].filter(
    (name) => !commands.includes(`delete chain ip ${NFT_TABLE} ${name}`),
  );
  const empty = table.exists && !wanted && !table.hasOthers && left.length === 0;
  return empty ? [...commands, `delete table ip ${NFT_TABLE}`] : commands;
}

type FoundRule = ListedRule & OwnedRule;

function removal(
  chain: NftChain,
  found: ListedChain | undefined,
  rules: readonly FoundRule[],
): string[] {
  if (found === undefined) return [];
  const ours = rules.filter(removable(rules));
  const rest = ours.length === rules.length ? [`delete chain ip ${NFT_TABLE} ${chain.name}`] : [];
  return [...ours.map((rule) => deletion(chain, rule)), ...rest];
}

function wantedCommands(
  chain: NftChain,
  found: ListedChain | undefined,
  rules: readonly FoundRule[],
  dialect: Dialect,
): string[] {
  const intended = chain.rules.map((text) => ({ text, ...intendedRule(nftShape(text)) }));
  const head = headCommands(chain, found, rules, dialect);
  return areInPlace(intended, rules) ? head : [...head, ...ruleCommands(chain, rules, intended)];
}

/** Takes our rules out and puts the wanted ones where the first of them was. */
function ruleCommands(
  chain: NftChain,
  rules: readonly FoundRule[],
  intended: readonly (OwnedRule & { readonly text: string })[],
): string[] {
  const leaves = removable(rules);
  const first = rules.findIndex(leaves);
  const before = first < 0 ? rules : rules.slice(0, first);
  const next = first < 0 ? undefined : rules.slice(first).find((rule) => !leaves(rule));
  const marked = before.some((rule) => rule.owner === 'mark' && !leaves(rule));
  const block = intended.filter(({ owner }) => owner !== 'mark' || !marked);
  const where =
    next === undefined
      ? `add rule ip ${NFT_TABLE} ${chain.name}`
      : `insert rule ip ${NFT_TABLE} ${chain.name} position ${next.handle}`;
  return [
    ...block.map(({ text }) => `${where} ${text}`),
    ...rules.filter(leaves).map((rule) => deletion(chain, rule)),
  ];
}

/** Makes the chain, or its policy right. One that hangs elsewhere is made again when it is ours. */
function headCommands(
  chain: NftChain,
  found: ListedChain | undefined,
  rules: readonly FoundRule[],
  dialect: Dialect,
): string[] {
  const { name, comment, type, hook, priority, priorityNumber } = chain;
  const said = dialect.comments ? `comment "${comment}"; ` : '';
  const head = `type ${type} hook ${hook} priority ${priorityNumber}; policy accept;`;
  const add = `add chain ip ${NFT_TABLE} ${name} { ${said}${head} }`;
  if (found === undefined) return [add];
  const [, place, policy = 'accept'] = /^(.*?);(?: policy (\w+);)?$/.exec(found.head) ?? [];
  const places = [priority, String(priorityNumber)].map(
    (number) => `type ${type} hook ${hook} priority ${number}`,
  );
  if (places.includes(place ?? '')) return policy === 'accept' ? [] : [add];
  if (rules.length > 0) {
    throw systemError(
      `nft: chain ${name} of table ${NFT_TABLE} is not flannel's (${found.head || 'no hook'}): ` +
        `expected "${places[0] ?? ''}"; delete or rename it`,
    );
  }
  return [`delete chain ip ${NFT_TABLE} ${name}`, add];
}

function deletion(chain: NftChain, { handle }: ListedRule): string {
  return `delete rule ip ${NFT_TABLE} ${chain.name} handle ${handle}`;
}
