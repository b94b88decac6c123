/**
 * The rules flanneld keeps, and a guard of our own, as text. Pure: nothing here runs a program.
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
 * Guard, not flanneld's: a container that writes the tunnel's datagrams itself, and is masqueraded to
 * this node's address, would pass the source check of every other node as this node. What P's
 * addresses send to the tunnel's port by the external interface is dropped, before any rule of
 * FORWARD that accepts: in table mangle, in nftables at its priority.
 *
 *     P -> UDP port of the tunnel, out by the external interface   DROP, counted
 *
 * The notations of the rest are exactly flanneld's (v0.28, pkg/trafficmngr), so that a node changes over in
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
  /** The tunnel that this node's containers must not write to; undefined of a backend without one. */
  readonly tunnel?: GuardedTunnel | undefined;
  /** Network of an earlier run, whose rules are ours as well: they go. */
  readonly formerNetwork?: Cidr | undefined;
}

export interface GuardedTunnel {
  /** UDP port of every node. */
  readonly port: number;
  /** The external interface. */
  readonly device: string;
  /** Containers' packets for other nodes leave by that interface, too: they are not the tunnel's. */
  readonly direct: boolean;
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
  readonly table: 'nat' | 'filter' | 'mangle';
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
    ownChain('mangle', 'FORWARD', GUARD_CHAIN, 'flannelette guard', isGuarded(plan), (rule) => {
      const { device, elsewhere } = guardMatch(plan);
      const match = [
        `-s ${formatCidr(plan.subnet)}`,
        ...(elsewhere ? [`! -d ${formatCidr(plan.network)}`] : []),
        ...(device === undefined ? [] : [`-o ${device}`]),
        `-p udp -m udp --dport ${plan.tunnel?.port ?? 0}`,
      ];
      return [rule(match.join(' '), 'DROP')];
    }),
  ];
}

/** In table mangle. */
export const GUARD_CHAIN = 'FLANNELETTE-GUARD';

function isGuarded(plan: FirewallPlan): boolean {
  return plan.tunnel !== undefined && !isEmptyPlan(plan);
}

/** What tells the tunnel's datagrams from a container's for another: the interface, the destination. */
function guardMatch({ tunnel }: FirewallPlan): {
  readonly device: string | undefined;
  readonly elsewhere: boolean;
} {
  // Other names are patterns to iptables and nft, or need quotes.
  const device = /^[\w.@-]+$/.test(tunnel?.device ?? '') ? tunnel?.device : undefined;
  return { device, elsewhere: device === undefined || tunnel?.direct === true };
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
    {
      name: 'guard',
      wanted: isGuarded(plan),
      comment: 'chain to keep containers from writing to the tunnel',
      type: 'filter',
      hook: 'forward',
      priority: 'mangle',
      priorityNumber: -150,
      rules: isGuarded(plan) ? [nftGuardRule(plan)] : [],
    },
  ];
}

function nftGuardRule(plan: FirewallPlan): string {
  const { device, elsewhere } = guardMatch(plan);
  return [
    `ip saddr ${formatCidr(plan.subnet)}`,
    ...(elsewhere ? [`ip daddr != ${formatCidr(plan.network)}`] : []),
    ...(device === undefined ? [] : [`oifname "${device}"`]),
    `udp dport ${plan.tunnel?.port ?? 0} counter drop`,
  ].join(' ');
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
