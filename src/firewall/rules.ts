/**
 * The rules flanneld keeps, as text. Pure: nothing here runs a program.
 *
 * N is the overlay's Network, P the subnet of this node. Masquerading, in the order of evaluation
 * (a packet of the overlay must keep its address inside it and must lose it outside):
 *
 *     mark 0x4000          RETURN       kube-proxy masquerades it; twice corrupts some kernels' NAT
 *     P -> N, N -> P       RETURN       container to container
 *     outside N -> P       RETURN       a client of a container here keeps its address
 *     N -> not multicast   MASQUERADE   a container out to the world
 *     outside N -> N       MASQUERADE   this host or its clients to a container elsewhere
 *
 * Forwarding: what comes from N or goes to N is accepted, whatever FORWARD's policy (Docker's: DROP).
 * With nftables that ends our own chain only: a chain of another table may still drop the packet.
 *
 * Both notations are exactly flanneld's (v0.28, pkg/trafficmngr), so that a node changes over in
 * either direction without a rule being rewritten. In nftables flanneld compares the whole mark, and
 * its last RETURN is "outside P -> N", which leaves the last MASQUERADE nothing to do: a client
 * outside keeps its address all the way to a container elsewhere. That is kept, too.
 */
import { formatCidr, type Cidr } from '../config/ipv4.js';

export interface FirewallPlan {
  /** Network of the cluster's configuration. */
  readonly network: Cidr;
  /** This node's subnet, within `network`. */
  readonly subnet: Cidr;
  /** `--ip-masq`. */
  readonly masquerade: boolean;
  /** `--iptables-forward-rules`. */
  readonly forward: boolean;
  /** Source ports of masqueraded flows at random (Linux 3.14); dropped where it is not supported. */
  readonly randomFully: boolean;
  /** Network of an earlier run, whose rules are ours as well: they go. */
  readonly formerNetwork?: Cidr | undefined;
}

/** Whose rules in the shared chains are ours. */
export function ownNetworks({ network, formerNetwork }: FirewallPlan): readonly Cidr[] {
  return formerNetwork === undefined ? [network] : [network, formerNetwork];
}

/** True when the plan wants no rule at all. */
export function isEmptyPlan(plan: FirewallPlan): boolean {
  return !plan.masquerade && !plan.forward;
}

/** A chain of ours and the one rule of a built-in chain that leads to it. */
export interface OwnChain {
  readonly table: 'nat' | 'filter';
  readonly name: string;
  readonly hook: string;
  /** False: chain and jump must not be there. */
  readonly wanted: boolean;
  /** Shape of the rules and the jump, see shape.ts. */
  readonly comment: string;
  /** For a jump that stands in a chain behind the built-in one. */
  readonly innerComment: string;
  /** The jump must stand before what refuses everything (catch-all.ts). */
  readonly beforeCatchAll: boolean;
  /** What follows `-A` in iptables-save's output and in iptables-restore's input. */
  readonly jump: string;
  readonly rules: readonly string[];
}

const MULTICAST = '224.0.0.0/4';

/** Our chains of iptables, the unwanted ones too, in the order flanneld makes them. */
export function iptablesChains(plan: FirewallPlan): readonly OwnChain[] {
  return [
    ownChain('nat', 'POSTROUTING', 'FLANNEL-POSTRTG', 'flanneld masq', plan.masquerade, (rule) =>
      masqueradeRules(plan, rule),
    ),
    ownChain('filter', 'FORWARD', 'FLANNEL-FWD', 'flanneld forward', plan.forward, (rule) => {
      const network = formatCidr(plan.network);
      return [rule(`-s ${network}`, 'ACCEPT'), rule(`-d ${network}`, 'ACCEPT')];
    }),
  ];
}

type Rule = (match: string, target: string) => string;

function ownChain(
  table: OwnChain['table'],
  hook: string,
  name: string,
  comment: string,
  wanted: boolean,
  rules: (rule: Rule) => readonly string[],
): OwnChain {
  const rule = (chain: string, match: string, target: string): string =>
    `${chain} ${match === '' ? '' : `${match} `}-m comment --comment "${comment}" -j ${target}`;
  return {
    table,
    name,
    hook,
    wanted,
    comment,
    innerComment: comment.replace('flanneld', 'flannelette'),
    beforeCatchAll: table === 'filter',
    jump: rule(hook, '', name),
    rules: wanted ? rules((match, target) => rule(name, match, target)) : [],
  };
}

function masqueradeRules(plan: FirewallPlan, rule: Rule): readonly string[] {
  const network = formatCidr(plan.network);
  const subnet = formatCidr(plan.subnet);
  const masquerade = plan.randomFully ? 'MASQUERADE --random-fully' : 'MASQUERADE';
  return [
    rule('-m mark --mark 0x4000/0x4000', 'RETURN'),
    rule(`-s ${subnet} -d ${network}`, 'RETURN'),
    rule(`-s ${network} -d ${subnet}`, 'RETURN'),
    rule(`! -s ${network} -d ${subnet}`, 'RETURN'),
    rule(`-s ${network} ! -d ${MULTICAST}`, masquerade),
    rule(`! -s ${network} -d ${network}`, masquerade),
  ];
}

export const NFT_TABLE = 'flannel-ipv4';
export const NFT_TABLE_COMMENT = `rules for ${NFT_TABLE}`;

/** A base chain of ours in the table of nftables. */
export interface NftChain {
  readonly name: string;
  readonly wanted: boolean;
  readonly comment: string;
  readonly type: 'nat' | 'filter';
  readonly hook: string;
  /** As nft 1.0 prints it; the number is what older ones print. */
  readonly priority: string;
  readonly priorityNumber: number;
  readonly rules: readonly string[];
}

/** Our chains of nftables, the unwanted ones too, in the order flanneld makes them. */
export function nftChains(plan: FirewallPlan): readonly NftChain[] {
  const network = formatCidr(plan.network);
  return [
    {
      name: 'postrtg',
      wanted: plan.masquerade,
      comment: 'chain to manage traffic masquerading by flannel',
      type: 'nat',
      hook: 'postrouting',
      priority: 'srcnat',
      priorityNumber: 100,
      rules: plan.masquerade ? nftMasqueradeRules(plan) : [],
    },
    {
      name: 'forward',
      wanted: plan.forward,
      comment: 'chain to accept flannel traffic',
      type: 'filter',
      hook: 'forward',
      priority: 'filter',
      priorityNumber: 0,
      rules: plan.forward ? [`ip saddr ${network} accept`, `ip daddr ${network} accept`] : [],
    },
  ];
}

function nftMasqueradeRules(plan: FirewallPlan): readonly string[] {
  const network = formatCidr(plan.network);
  const subnet = formatCidr(plan.subnet);
  const masquerade = plan.randomFully ? 'masquerade fully-random' : 'masquerade';
  return [
    'meta mark 0x00004000 return',
    `ip saddr ${subnet} ip daddr ${network} return`,
    `ip saddr ${network} ip daddr ${subnet} return`,
    `ip saddr != ${subnet} ip daddr ${network} return`,
    `ip saddr ${network} ip daddr != ${MULTICAST} ${masquerade}`,
    `ip saddr != ${network} ip daddr ${network} ${masquerade}`,
  ];
}

/** The table as `nft list table` of nft 1.0 prints it when all rules in it are ours. */
export function nftTable(plan: FirewallPlan): string {
  const chains = nftChains(plan).filter(({ wanted }) => wanted);
  const blocks = chains.map(({ name, comment, type, hook, priority, rules }) => {
    const head = `type ${type} hook ${hook} priority ${priority}; policy accept;`;
    const body = [`comment "${comment}"`, head, ...rules].map((line) => `\t\t${line}`);
    return [`\tchain ${name} {`, ...body, '\t}'].join('\n');
  });
  return `table ip ${NFT_TABLE} {\n\tcomment "${NFT_TABLE_COMMENT}"\n${blocks.join('\n\n')}\n}\n`;
}
