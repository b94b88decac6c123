/** Conditions that iptables and nftables have in common. */
import type { Ipv4 } from '../../config/ipv4.js';
import type { Condition, Packet, Protocol, Tri } from './model.js';

/** Both ends belong to the range. */
export interface Range {
  readonly first: number;
  readonly last: number;
}

export const UNKNOWN: Condition = () => undefined;

export function within(value: number | undefined, ranges: readonly Range[]): Tri {
  if (value === undefined) return undefined;
  return ranges.some(({ first, last }) => value >= first && value <= last);
}

export function address(
  pick: (packet: Packet) => Ipv4 | undefined,
  ranges: readonly Range[],
): Condition {
  return (packet) => within(pick(packet), ranges);
}

/** `protocols`: whose ports they are; another protocol has none and never matches. */
export function port(
  pick: (packet: Packet) => number | undefined,
  ranges: readonly Range[],
  protocols: readonly Protocol[],
): Condition {
  return (packet) => protocols.includes(packet.protocol) && within(pick(packet), ranges);
}

/** The number or name of a protocol; undefined for one that is never a sample's. */
export function protocolOf(text: string | number): Protocol | 'all' | undefined {
  switch (String(text)) {
    case '1':
    case 'icmp':
      return 'icmp';
    case '6':
    case 'tcp':
      return 'tcp';
    case '17':
    case 'udp':
      return 'udp';
    case '0':
    case 'all':
      return 'all';
    default:
      return undefined;
  }
}

export function protocol(names: readonly (string | number)[]): Condition {
  const wanted = names.map(protocolOf);
  return (packet) => wanted.includes('all') || wanted.includes(packet.protocol);
}

/** An interface's name; one that ends in `wildcard` stands for all that begin so. */
export function device(
  pick: (packet: Packet) => string | null | undefined,
  name: string,
  wildcard: '+' | '*',
): Condition {
  return (packet) => {
    const found = pick(packet);
    if (!name.endsWith(wildcard)) return found === undefined ? undefined : found === name;
    const start = name.slice(0, -1);
    if (start === '') return true;
    return found === undefined ? undefined : (found?.startsWith(start) ?? false);
  };
}

/** Names of connection tracking's states, in any case. */
export function connectionState(states: readonly string[]): Condition {
  const wanted = states.map((state) => state.toLowerCase());
  return (packet) => wanted.includes(packet.state);
}

/** What an address is to this host: `LOCAL`, `UNICAST`, ... */
export function addressType(
  isHosts: (packet: Packet) => boolean,
  types: readonly string[],
): Condition {
  const wanted = types.map((type) => type.toUpperCase());
  return (packet) => wanted.includes(isHosts(packet) ? 'LOCAL' : 'UNICAST');
}

export function mark(value: number, mask: number): Condition {
  return (packet) => (packet.mark === undefined ? undefined : (value & mask) === 0);
}

const TCP_FLAGS = ['fin', 'syn', 'rst', 'psh', 'ack', 'urg'];

/** A new connection's packet is a SYN; of an established one only ACK is sure. */
export function tcpFlags(mask: readonly string[], set: readonly string[]): Condition {
  const lower = (flags: readonly string[]): string[] =>
    flags.flatMap((flag) => (flag.toLowerCase() === 'all' ? TCP_FLAGS : flag.toLowerCase()));
  const examined = lower(mask);
  const wanted = lower(set).filter((flag) => flag !== 'none');
  return (packet) => {
    if (packet.protocol !== 'tcp') return false;
    if (packet.state !== 'new') return undefined;
    return examined.every((flag) => wanted.includes(flag) === (flag === 'syn'));
  };
}
