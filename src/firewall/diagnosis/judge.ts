/**
 * What a rule set does to an overlay: sample packets go through every base chain of their hooks, and
 * what certainly takes all of a kind is a problem with a name and a remedy. Pure.
 *
 * One drop is final, in whichever table: a chain of nftables does not know that iptables accepted.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { contains, formatIpv4, tryParseIpv4 } from '../../config/ipv4.js';
import type { Problem } from '../../problems.js';
import { walk, type BaseChain, type Packet, type Verdict } from './model.js';
import {
  acceptAnswers,
  acceptContainers,
  acceptDatagrams,
  acceptOverlay,
  keepAddresses,
  type Tools,
} from './remedies.js';
import {
  answers,
  incoming,
  leaving,
  outgoing,
  received,
  sent,
  type Overlay,
  type Peer,
  type Sample,
} from './sample-traffic.js';

export interface RuleSet {
  readonly chains: readonly BaseChain[];
  /** 0 where no rule gives packets a mark. */
  readonly mark: Packet['mark'];
}

interface Traffic {
  readonly overlay: Overlay;
  readonly mark: Packet['mark'];
  readonly tools: Tools;
  readonly out: readonly Sample[];
  readonly back: readonly Sample[];
  readonly answered: readonly Sample[];
  readonly received: ReadonlyMap<Peer, Sample>;
  readonly sent: ReadonlyMap<Peer, Sample>;
}

/** Gives the event loop its turn between base chains: some are long. */
export async function judge(
  { chains, mark }: RuleSet,
  overlay: Overlay,
  tools: Tools,
): Promise<Problem[]> {
  const traffic: Traffic = {
    overlay,
    mark,
    tools,
    out: outgoing(overlay, mark),
    back: incoming(overlay, mark),
    answered: answers(overlay, mark),
    received: received(overlay, mark),
    sent: sent(overlay, mark),
  };
  const problems: Problem[] = [];
  for (const base of chains) {
    for (const check of CHECKS) {
      const problem = check(base, traffic);
      if (problem !== undefined) problems.push(problem);
    }
    await nextTurn();
  }
  return problems;
}

/** What containers send to other hosts gets an address of this host, or may get it. */
export function hidesContainers({ chains, mark }: RuleSet, overlay: Overlay): boolean {
  const samples = leaving(overlay, mark);
  return chains.some((base) => {
    if (base.type !== 'nat' || base.hook !== 'postrouting') return false;
    return samples.some(({ packet }) => {
      const { kind, certain } = walk(base, at(base, packet));
      return kind === 'translate' || !certain;
    });
  });
}

type Check = (base: BaseChain, traffic: Traffic) => Problem | undefined;

/** Names listed in a message; more are counted. */
const LISTED = 3;
/** Containers with rules of their own that are looked at. */
const SAMPLED_CONTAINERS = 16;

const datagramsIn: Check = (base, { overlay: { port }, tools, received: samples }) => {
  const taken = takenPeers(base, samples);
  if (taken === undefined || port === undefined) return undefined;
  return {
    id: 'udp_port_blocked',
    message:
      `datagrams from ${taken.peers} to UDP port ${port} are ${taken.how} by ` +
      `${culprit(base, taken.verdict)}: what they send does not arrive`,
    remedy: acceptDatagrams(base, port, tools),
  };
};

const datagramsOut: Check = (base, { overlay: { port }, tools, sent: samples }) => {
  const taken = takenPeers(base, samples);
  if (taken === undefined || port === undefined) return undefined;
  return {
    id: 'udp_send_blocked',
    message:
      `datagrams to UDP port ${port} of ${taken.peers} are ${taken.how} by ` +
      `${culprit(base, taken.verdict)}: they get nothing from this host`,
    remedy: acceptDatagrams(base, port, tools),
  };
};

interface Taken {
  readonly peers: string;
  readonly how: string;
  readonly verdict: Verdict;
}

/** Refused, or sent to another destination, which is decided before they are routed. */
function takenPeers(base: BaseChain, samples: ReadonlyMap<Peer, Sample>): Taken | undefined {
  const redirects = base.type === 'nat';
  if (redirects && base.hook !== 'prerouting' && base.hook !== 'output') return undefined;
  const taken: Peer[] = [];
  let first: Verdict | undefined;
  for (const [peer, sample] of samples) {
    const verdict = ends(base, [sample], redirects ? 'translate' : 'drop');
    if (verdict === undefined) continue;
    taken.push(peer);
    first ??= verdict;
  }
  if (first === undefined) return undefined;
  const how = redirects ? 'redirected' : 'refused';
  return { peers: peerWords(taken, samples.size), how, verdict: first };
}

function peerWords(peers: readonly Peer[], known: number): string {
  return peers.length === known ? 'other nodes' : listed(peers);
}

function listed(names: readonly (string | undefined)[]): string {
  const named = names.slice(0, LISTED).join(', ');
  return names.length <= LISTED ? named : `${named} and ${names.length - LISTED} more`;
}

const forwarding: Check = (base, { overlay, tools, out, back }) => {
  const [there, here] = [ends(base, out, 'drop'), ends(base, back, 'drop')];
  const verdict = there ?? here;
  if (verdict === undefined) return undefined;
  const both = there !== undefined && here !== undefined;
  const one =
    there === undefined
      ? 'packets of other nodes for containers of this one'
      : 'packets of containers of this node for those of others';
  return {
    id: 'forward_blocked',
    message: `${both ? 'packets between containers of two nodes' : one} are refused by ${culprit(base, verdict)}`,
    remedy: acceptOverlay(base, verdict, overlay, tools),
  };
};

/**
 * Docker, from release 28 on, keeps a container with a published port from being reached past its
 * bridge: a rule for that container alone, before anything is routed.
 */
const published: Check = (base, { overlay, mark }) => {
  if (base.hook !== 'prerouting' || base.program === 'nft') return undefined;
  const named = (base.rules(base.name) ?? []).flatMap(({ text }) => {
    const address = /^-A \S+ -d ([\d.]+)\/32 ! -i \S+ -j DROP$/.exec(text)?.[1];
    const ip = address === undefined ? undefined : tryParseIpv4(address);
    return ip !== undefined && contains(overlay.subnet, ip) ? [ip] : [];
  });
  const taken = named.slice(0, SAMPLED_CONTAINERS).flatMap((ip) => {
    const verdict = ends(base, incoming(overlay, mark, [ip]), 'drop');
    return verdict === undefined ? [] : [{ address: formatIpv4(ip), verdict }];
  });
  const [first] = taken;
  if (first === undefined) return undefined;
  return {
    id: 'container_blocked',
    message:
      `packets of other nodes for ${listed(taken.map(({ address }) => address))} are refused by ` +
      `${culprit(base, first.verdict)}, as Docker does where a port is published`,
    remedy: acceptContainers(base, overlay),
  };
};

const toThisHost: Check = (base, { overlay, tools, answered }) => {
  const verdict = ends(base, answered, 'drop');
  if (verdict === undefined) return undefined;
  return {
    id: 'host_answers_blocked',
    message: `what containers of other nodes answer to this host is refused by ${culprit(base, verdict)}`,
    remedy: acceptAnswers(base, verdict, overlay, tools),
  };
};

const translation: Check = (base, { overlay, out, back }) => {
  if (base.hook !== 'postrouting') return undefined;
  const [there, here] = [ends(base, out, 'translate'), ends(base, back, 'translate')];
  const verdict = there ?? here;
  if (verdict === undefined) return undefined;
  const where = there === undefined ? 'here' : 'of other nodes';
  return {
    id: 'container_address_hidden',
    message:
      `containers ${where} see an address of this host instead of the sender's: ` +
      `${culprit(base, verdict)} masquerades traffic inside the overlay`,
    remedy: keepAddresses(base, verdict, overlay),
  };
};

const CHECKS: readonly Check[] = [
  datagramsIn,
  datagramsOut,
  forwarding,
  published,
  toThisHost,
  translation,
];

/** How a base chain ends the way of all these samples; undefined when it does not, or not for sure. */
function ends(
  base: BaseChain,
  samples: readonly Sample[],
  kind: 'drop' | 'translate',
): Verdict | undefined {
  if ((kind === 'translate') !== (base.type === 'nat')) return undefined;
  let found: Verdict | undefined;
  for (const { packet, hooks } of samples) {
    if (!hooks.includes(base.hook)) return undefined;
    const verdict = walk(base, at(base, packet));
    if (verdict.kind !== kind || !verdict.certain) return undefined;
    found ??= verdict;
  }
  return found;
}

/** What a hook does not know yet, or no more. */
function at({ hook }: BaseChain, packet: Packet): Packet {
  if (hook === 'prerouting') return { ...packet, oif: null };
  return hook === 'postrouting' ? { ...packet, iif: null } : packet;
}

function culprit({ program, family, table, name }: BaseChain, verdict: Verdict): string {
  const { rule, chain } = verdict;
  if (program === 'nft') {
    const what = rule === undefined ? 'policy drop' : rule.text;
    return `chain ${chain} of nft table ${family} ${table} (${what})`;
  }
  const where = table === 'filter' ? program : `${program}, table ${table}`;
  return rule === undefined
    ? `the policy DROP of chain ${name} (${where})`
    : `the rule "${rule.text}" (${where})`;
}
