/**
 * nftables' rules for the judge, from `nft -j list`. An expression that is not known here cannot be
 * judged, and neither can a set whose members come and go with the packets.
 */
import { isObject } from '../../config/json.js';
import { broadcast, cidrOf, tryParseIpv4 } from '../../config/ipv4.js';
import {
  addressType,
  connectionState,
  device,
  mark,
  protocol,
  tcpFlags,
  UNKNOWN,
  within,
  type Range,
} from './conditions.js';
import {
  all,
  any,
  not,
  type Action,
  type BaseChain,
  type Condition,
  type Hook,
  type Packet,
  type Rule,
  type Tri,
} from './model.js';

type Json = Readonly<Record<string, unknown>>;

const HOOKS: readonly string[] = ['prerouting', 'input', 'forward', 'output', 'postrouting'];
/** Families that IPv4 packets go through. */
const FAMILIES: readonly unknown[] = ['ip', 'inet'];

/** A larger set is not looked into. */
const MOST_MEMBERS = 1_000;

interface ListedChain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly hook: string | undefined;
  readonly type: string | undefined;
  readonly policy: string | undefined;
}

/** Tables with a chain that an IPv4 packet goes through, as `FAMILY NAME`; from `nft -j list chains`. */
export function hookedTables(listing: string): ReadonlySet<string> {
  const hooked = objectsOf(listing, 'chain').map(chainOf).filter(isHooked);
  return new Set(hooked.map(({ family, table }) => `${family} ${table}`));
}

/** From `nft -j list table`. */
export function nftBaseChains(listing: string): BaseChain[] {
  const rules = new Map<string, Json[]>();
  const chains = objectsOf(listing, 'chain').map(chainOf);
  for (const { name } of chains) rules.set(name, []);
  for (const rule of objectsOf(listing, 'rule')) rules.get(String(rule['chain']))?.push(rule);
  const reader = ruleReader(rules, membersOf(listing));
  return chains.filter(isHooked).map(({ family, table, name, hook, type, policy }) => ({
    program: 'nft',
    family,
    table,
    name,
    hook: hook as Hook,
    type: type === 'nat' ? 'nat' : 'filter',
    policy: policy === 'drop' ? 'drop' : 'accept',
    rules: reader,
  }));
}

/** True when some rule gives packets a mark. */
export function nftGivesMarks(listing: string): boolean {
  return /"mangle": ?\{"key": ?\{"(?:meta|ct)": ?\{"key": ?"mark"/.test(listing);
}

function isHooked({ family, hook }: ListedChain): boolean {
  return FAMILIES.includes(family) && hook !== undefined && HOOKS.includes(hook);
}

function chainOf(chain: Json): ListedChain {
  const text = (key: string): string | undefined =>
    typeof chain[key] === 'string' ? chain[key] : undefined;
  return {
    family: text('family') ?? '',
    table: text('table') ?? '',
    name: text('name') ?? '',
    hook: text('hook'),
    type: text('type'),
    policy: text('policy'),
  };
}

function objectsOf(listing: string, kind: string): Json[] {
  const { nftables } = JSON.parse(listing) as { nftables?: unknown };
  return (Array.isArray(nftables) ? nftables : []).flatMap((entry: unknown) => {
    const found = isObject(entry) ? entry[kind] : undefined;
    return isObject(found) ? [found] : [];
  });
}

/** Members of named sets and maps, by `@NAME`. */
type Members = ReadonlyMap<string, readonly unknown[]>;

/** Only what a listing holds: with `nft -t` none, and no set that packets or time change. */
function membersOf(listing: string): Members {
  const members = new Map<string, readonly unknown[]>();
  for (const set of [...objectsOf(listing, 'set'), ...objectsOf(listing, 'map')]) {
    const flags = Array.isArray(set['flags']) ? (set['flags'] as unknown[]) : [set['flags']];
    const fixed = !flags.includes('dynamic') && !flags.includes('timeout');
    const elements = Array.isArray(set['elem']) ? (set['elem'] as unknown[]) : undefined;
    if (!fixed || elements === undefined || elements.length > MOST_MEMBERS) continue;
    members.set(`@${String(set['name'])}`, elements);
  }
  return members;
}

function ruleReader(
  chains: ReadonlyMap<string, readonly Json[]>,
  members: Members,
): BaseChain['rules'] {
  const read = new Map<string, readonly Rule[]>();
  return (name) => {
    const known = read.get(name);
    if (known !== undefined) return known;
    const rules = chains.get(name)?.map((rule) => parseRule(withMembers(rule, members)));
    if (rules !== undefined) read.set(name, rules);
    return rules;
  };
}

/** Named sets and maps in a rule's expressions are replaced by what is in them. */
function withMembers<T>(value: T, members: Members): T {
  if (typeof value === 'string') return (setOf(members.get(value)) ?? value) as T;
  if (Array.isArray(value)) return value.map((item: unknown) => withMembers(item, members)) as T;
  if (!isObject(value)) return value;
  const entries = Object.entries(value).map(([key, item]) => [key, withMembers(item, members)]);
  return Object.fromEntries(entries) as T;
}

function setOf(members: readonly unknown[] | undefined): Json | undefined {
  return members && { set: members };
}

function parseRule(rule: Json): Rule {
  const conditions: Condition[] = [];
  let action: Rule['action'] = () => ({ kind: 'continue' });
  const expressions = Array.isArray(rule['expr']) ? rule['expr'] : [];
  let said = '';
  for (const expression of expressions as unknown[]) {
    const [[name, value] = ['', undefined]] = isObject(expression)
      ? Object.entries(expression)
      : [[String(expression), undefined]];
    if (name === 'match') conditions.push(match(value));
    else if (name === 'vmap') action = verdictMap(value);
    else if (!NEUTRAL.has(name)) {
      const found = actionOf(name, value);
      if (found === undefined) conditions.push(UNKNOWN);
      else {
        action = () => found;
        said = name;
      }
    }
  }
  return { text: `handle ${String(rule['handle'])}${said && `: ${said}`}`, conditions, action };
}

/** Statements after which the next expression is looked at. */
const NEUTRAL = new Set(['counter', 'log', 'mangle', 'notrack', 'comment', 'flow', 'dup', 'set']);

function actionOf(name: string, value: unknown): Action | undefined {
  const target = isObject(value) ? String(value['target']) : '';
  switch (name) {
    case 'accept':
    case 'drop':
    case 'return':
    case 'continue':
      return { kind: name };
    case 'reject':
      return { kind: 'drop' };
    case 'jump':
    case 'goto':
      return { kind: name, chain: target };
    case 'dnat':
    case 'masquerade':
    case 'redirect':
    case 'snat':
      return { kind: 'translate' };
    case 'queue':
    case 'tproxy':
    case 'fwd':
    case 'synproxy':
      return { kind: 'unknown' };
    case 'xt':
      return isObject(value) && value['type'] === 'target' ? { kind: 'unknown' } : undefined;
    default:
      return undefined;
  }
}

/** `ct state vmap { established : accept, ... }`: the action of the first element that fits. */
function verdictMap(value: unknown): Rule['action'] {
  const { key, data } = isObject(value) ? value : { key: undefined, data: undefined };
  const elements = isObject(data) && Array.isArray(data['set']) ? (data['set'] as unknown[]) : [];
  if (elements.length === 0) return () => ({ kind: 'unknown' });
  const cases = elements.map((element) => {
    const [right, verdict] = Array.isArray(element) ? (element as unknown[]) : [];
    const [[name, target] = ['', undefined]] = isObject(verdict) ? Object.entries(verdict) : [];
    return { condition: compare(key, right), action: actionOf(name, target) };
  });
  return (packet) => {
    for (const { condition, action } of cases) {
      const fits = condition(packet);
      if (fits === undefined) return { kind: 'unknown' };
      if (fits) return action ?? { kind: 'unknown' };
    }
    return { kind: 'continue' };
  };
}

function match(value: unknown): Condition {
  if (!isObject(value)) return UNKNOWN;
  const { op, left, right } = value;
  const same = compare(left, right);
  switch (op) {
    case '==':
    case 'in':
      return same;
    case '!=':
    case '!':
      return (packet) => not(same(packet));
    default:
      return UNKNOWN;
  }
}

/** True where the left side has the right side's value, or one of them. */
function compare(left: unknown, right: unknown): Condition {
  if (typeof right === 'string' && right.startsWith('@')) return UNKNOWN;
  if (!isObject(left)) return UNKNOWN;
  if (Array.isArray(left['&'])) return masked(left['&'] as unknown[], right);
  if (isObject(right) && Array.isArray(right['set'])) {
    const members = (right['set'] as unknown[]).map((member) => compare(left, elementOf(member)));
    return (packet) => any(members.map((member) => member(packet)));
  }
  if (Array.isArray(left['concat'])) return concatenation(left['concat'] as unknown[], right);
  if (isObject(left['ct']) && left['ct']['key'] === 'state') {
    return connectionState(Array.isArray(right) ? right.map(String) : [String(right)]);
  }
  if (isObject(left['ct']) && left['ct']['key'] === 'status') {
    // A sample's addresses are not translated.
    return right === 'dnat' || right === 'snat' ? () => false : UNKNOWN;
  }
  if (isObject(left['meta'])) return meta(String(left['meta']['key']), right);
  if (isObject(left['payload'])) return payload(left['payload'], right);
  if (isObject(left['fib'])) return fib(left['fib'], right);
  return UNKNOWN;
}

/** Elements with a timeout, a counter or a comment are wrapped. */
function elementOf(member: unknown): unknown {
  return isObject(member) && isObject(member['elem']) ? member['elem']['val'] : member;
}

function concatenation(parts: readonly unknown[], right: unknown): Condition {
  const values = isObject(right) && Array.isArray(right['concat']) ? right['concat'] : undefined;
  if (values?.length !== parts.length) return UNKNOWN;
  const conditions = parts.map((part, index) => compare(part, values[index]));
  return (packet) => all(conditions.map((condition) => condition(packet)));
}

function masked([left, mask]: readonly unknown[], right: unknown): Condition {
  if (!isObject(left)) return UNKNOWN;
  if (isObject(left['meta']) && left['meta']['key'] === 'mark') {
    return typeof mask === 'number' && typeof right === 'number' ? mark(right, mask) : UNKNOWN;
  }
  const flags = isObject(left['payload']) && left['payload']['field'] === 'flags';
  if (!flags || !Array.isArray(mask)) return UNKNOWN;
  return tcpFlags(mask.map(String), Array.isArray(right) ? right.map(String) : [String(right)]);
}

function meta(key: string, right: unknown): Condition {
  const text = String(right);
  switch (key) {
    case 'iif':
    case 'iifname':
      return device((packet) => packet.iif, text, '*');
    case 'oif':
    case 'oifname':
      return device((packet) => packet.oif, text, '*');
    case 'l4proto':
      return protocol([text]);
    case 'nfproto':
      return () => text === 'ipv4';
    case 'protocol':
      return () => text === 'ip';
    case 'pkttype':
      return () => text === 'host' || text === 'unicast';
    case 'mark':
      return typeof right === 'number' ? mark(right, 0xffffffff) : UNKNOWN;
    default:
      return UNKNOWN;
  }
}

function payload({ protocol: layer, field }: Json, right: unknown): Condition {
  const ofLayer = LAYERS[String(layer)];
  if (ofLayer === undefined) return UNKNOWN;
  const value = FIELDS[String(field)];
  const inLayer = (packet: Packet): boolean => ofLayer === 'any' || ofLayer === packet.protocol;
  if (value === undefined) {
    if (layer === 'ip' && field === 'protocol') return protocol([String(right)]);
    if (layer === 'icmp' && field === 'type') return (packet) => icmpType(packet, right);
    // What another protocol's header would say does not matter.
    return (packet) => (inLayer(packet) ? undefined : false);
  }
  const range = rangeOf(right);
  return (packet) => {
    if (!inLayer(packet)) return false;
    return range === undefined ? undefined : within(value(packet), [range]);
  };
}

const LAYERS: Readonly<Record<string, Packet['protocol'] | 'any' | 'none'>> = {
  ip: 'any',
  th: 'any',
  tcp: 'tcp',
  udp: 'udp',
  icmp: 'icmp',
  ip6: 'none',
  icmpv6: 'none',
  sctp: 'none',
  dccp: 'none',
};

const FIELDS: Readonly<Record<string, (packet: Packet) => number | undefined>> = {
  saddr: (packet) => packet.source,
  daddr: (packet) => packet.destination,
  sport: (packet) => packet.sourcePort,
  dport: (packet) => packet.destinationPort,
};

function icmpType(packet: Packet, right: unknown): Tri {
  if (packet.protocol !== 'icmp') return false;
  return packet.state === 'new' ? right === 'echo-request' || right === 8 : undefined;
}

function fib({ result, flags }: Json, right: unknown): Condition {
  if (result !== 'type' || !Array.isArray(flags) || flags.length !== 1) return UNKNOWN;
  const isHosts =
    flags[0] === 'saddr' ? (packet: Packet) => packet.fromHost : (packet: Packet) => packet.toHost;
  return addressType(isHosts, [String(right)]);
}

/** 8285, "10.0.0.1", {range: [80, 90]}, {prefix: {addr, len}}. */
function rangeOf(right: unknown): Range | undefined {
  const single = numberOf(right);
  if (single !== undefined) return { first: single, last: single };
  if (!isObject(right)) return undefined;
  if (Array.isArray(right['range'])) {
    const [first, last] = (right['range'] as unknown[]).map(numberOf);
    return first === undefined || last === undefined ? undefined : { first, last };
  }
  if (!isObject(right['prefix'])) return undefined;
  const ip = numberOf(right['prefix']['addr']);
  const length = right['prefix']['len'];
  if (ip === undefined || typeof length !== 'number') return undefined;
  const cidr = cidrOf(ip, length);
  return { first: cidr.network, last: broadcast(cidr) };
}

function numberOf(value: unknown): number | undefined {
  if (typeof value === 'number') return value;
  return typeof value === 'string' ? tryParseIpv4(value) : undefined;
}
