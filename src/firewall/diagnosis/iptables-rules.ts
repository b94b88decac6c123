/**
 * iptables' rules for the judge: base chains of what iptables-save printed, each rule read when a
 * packet comes to it. An option that is not known here cannot be judged; none is guessed.
 */
import { broadcast, parseCidr, tryParseIpv4 } from '../../config/ipv4.js';
import { wordsOf, type SavedTable, type SavedTables } from '../saved.js';
import {
  address,
  addressType,
  connectionState,
  device,
  mark,
  port,
  protocol,
  tcpFlags,
  UNKNOWN,
  type Range,
} from './conditions.js';
import {
  negatedIf,
  any,
  type Action,
  type BaseChain,
  type Condition,
  type Hook,
  type Packet,
  type Program,
  type Rule,
} from './model.js';

const HOOKS: Readonly<Record<string, Hook>> = {
  PREROUTING: 'prerouting',
  INPUT: 'input',
  FORWARD: 'forward',
  OUTPUT: 'output',
  POSTROUTING: 'postrouting',
};

export function iptablesBaseChains(
  tables: SavedTables,
  program: Exclude<Program, 'nft'>,
): BaseChain[] {
  return [...tables].flatMap(([table, chains]) =>
    [...chains].flatMap(([name, { policy }]) => {
      const hook = HOOKS[name];
      if (hook === undefined || policy === undefined) return [];
      const type = table === 'nat' ? ('nat' as const) : ('filter' as const);
      const rules = ruleReader(chains);
      const dropping = policy === 'DROP' ? ('drop' as const) : ('accept' as const);
      return [{ program, family: 'ip', table, name, hook, type, policy: dropping, rules }];
    }),
  );
}

/** True when some rule gives packets a mark, so that a sample's is not known. */
export function givesMarks(tables: SavedTables): boolean {
  for (const chains of tables.values()) {
    for (const { rules } of chains.values()) {
      if (rules.some((rule) => / -j (?:CONN)?MARK /.test(rule))) return true;
    }
  }
  return false;
}

function ruleReader(chains: SavedTable): BaseChain['rules'] {
  const read = new Map<string, readonly Rule[]>();
  return (name) => {
    const known = read.get(name);
    if (known !== undefined) return known;
    const rules = chains.get(name)?.rules.map((text) => parseRule(text, chains));
    if (rules !== undefined) read.set(name, rules);
    return rules;
  };
}

/** `text` is what follows `-A`. Reading the conditions waits until somebody asks. */
function parseRule(text: string, chains: SavedTable): Rule {
  let parsed: Parsed | undefined;
  const get = (): Parsed => (parsed ??= parse(text, chains));
  return {
    text: `-A ${text}`,
    get conditions() {
      return get().conditions;
    },
    action: () => get().action,
  };
}

interface Parsed {
  readonly conditions: readonly Condition[];
  readonly action: Action;
}

function parse(text: string, chains: SavedTable): Parsed {
  const [, ...words] = wordsOf(text);
  const conditions: Condition[] = [];
  const next = (): string => words.shift() ?? '';
  while (words.length > 0) {
    const negated = words[0] === '!';
    if (negated) next();
    const option = next();
    if (option === '-j' || option === '-g') {
      return { conditions, action: actionOf(next(), option === '-g', chains) };
    }
    if (option === '-m') {
      if (!MODULES.has(next())) conditions.push(UNKNOWN);
      continue;
    }
    const read = OPTIONS[option];
    if (read === undefined) {
      conditions.push(UNKNOWN);
      while (words.length > 0 && !/^(?:-|!)/.test(words[0] ?? '')) next();
    } else conditions.push(negatedIf(negated, read(next)));
  }
  // Without a target a rule only counts.
  return { conditions, action: { kind: 'continue' } };
}

/** Matches that say nothing by themselves, only by options that are looked at below. */
const MODULES = new Set([
  'addrtype',
  'comment',
  'conntrack',
  'icmp',
  'iprange',
  'mark',
  'multiport',
  'pkttype',
  'state',
  'tcp',
  'udp',
]);

const source = (packet: Packet) => packet.source;
const destination = (packet: Packet) => packet.destination;
const sourcePort = (packet: Packet) => packet.sourcePort;
const destinationPort = (packet: Packet) => packet.destinationPort;

/** Reads an option's arguments by calling `next`. */
const OPTIONS: Readonly<Record<string, (next: () => string) => Condition>> = {
  '-s': (next) => addresses(source, next()),
  '-d': (next) => addresses(destination, next()),
  '-i': (next) => device((packet) => packet.iif, next(), '+'),
  '-o': (next) => device((packet) => packet.oif, next(), '+'),
  '-p': (next) => protocol([next()]),
  // A sample is no fragment.
  '-f': () => () => false,
  '--comment': (next) => {
    next();
    return () => true;
  },
  '--ctstate': (next) => connectionState(next().split(',')),
  '--state': (next) => connectionState(next().split(',')),
  '--sport': (next) => ports(sourcePort, next()),
  '--dport': (next) => ports(destinationPort, next()),
  '--sports': (next) => ports(sourcePort, next()),
  '--dports': (next) => ports(destinationPort, next()),
  '--ports': (next) => {
    const text = next();
    const [here, there] = [ports(sourcePort, text), ports(destinationPort, text)];
    return (packet) => any([here(packet), there(packet)]);
  },
  '--src-range': (next) => span(source, next()),
  '--dst-range': (next) => span(destination, next()),
  '--src-type': (next) => addressType((packet) => packet.fromHost, next().split(',')),
  '--dst-type': (next) => addressType((packet) => packet.toHost, next().split(',')),
  '--pkt-type': (next) => {
    const type = next();
    return () => type === 'unicast';
  },
  '--tcp-flags': (next) => tcpFlags(next().split(','), next().split(',')),
  '--syn': () => tcpFlags(['fin', 'syn', 'rst', 'ack'], ['syn']),
  '--icmp-type': (next) => icmpType(next()),
  '--mark': (next) => {
    const [value = NaN, mask = 0xffffffff] = next().split('/').map(Number);
    return Number.isNaN(value) ? UNKNOWN : mark(value, mask);
  },
};

function addresses(pick: typeof source, text: string): Condition {
  try {
    const cidr = parseCidr('rule', text.includes('/') ? text : `${text}/32`);
    return address(pick, [{ first: cidr.network, last: broadcast(cidr) }]);
  } catch {
    return UNKNOWN;
  }
}

function span(pick: typeof source, text: string): Condition {
  const [first, last] = text.split('-').map(tryParseIpv4);
  return first === undefined ? UNKNOWN : address(pick, [{ first, last: last ?? first }]);
}

/** `80`, `1024:65535`, `:1023`, and of multiport several with commas between. */
function ports(pick: typeof sourcePort, text: string): Condition {
  const ranges = text.split(',').map((part): Range => {
    const [first = '', last = first] = part.split(':');
    return { first: Number(first || 0), last: Number(last || 65_535) };
  });
  if (ranges.some(({ first, last }) => Number.isNaN(first + last))) return UNKNOWN;
  return port(pick, ranges, ['tcp', 'udp']);
}

function icmpType(text: string): Condition {
  const ECHO_REQUEST = ['8', '8/0', 'any', '255', 'echo-request'];
  return (packet) =>
    packet.protocol === 'icmp' &&
    (packet.state === 'new' ? ECHO_REQUEST.includes(text) : undefined);
}

/** Targets after which the next rule is looked at. */
const CONTINUING = new Set([
  'AUDIT',
  'CHECKSUM',
  'CLASSIFY',
  'CONNMARK',
  'CONNSECMARK',
  'CT',
  'DSCP',
  'LOG',
  'MARK',
  'NFLOG',
  'NOTRACK',
  'RATEEST',
  'SECMARK',
  'SET',
  'TCPMSS',
  'TEE',
  'TOS',
  'TRACE',
  'TTL',
  'ULOG',
]);

function actionOf(target: string, isGoto: boolean, chains: SavedTable): Action {
  if (chains.has(target)) return { kind: isGoto ? 'goto' : 'jump', chain: target };
  if (CONTINUING.has(target)) return { kind: 'continue' };
  switch (target) {
    case 'ACCEPT':
      return { kind: 'accept' };
    case 'DROP':
    case 'REJECT':
      return { kind: 'drop' };
    case 'RETURN':
      return { kind: 'return' };
    case 'DNAT':
    case 'MASQUERADE':
    case 'NETMAP':
    case 'REDIRECT':
    case 'SNAT':
      return { kind: 'translate' };
    default:
      return { kind: 'unknown' };
  }
}
