/**
 * IPv4 addresses and subnets as plain numbers.
 *
 * An address is an unsigned 32-bit number in host order, so comparisons and ranges are ordinary
 * arithmetic; JavaScript's bit operators are signed, hence the `>>> 0` after each of them. Text
 * forms exist only at the edges: configuration, store keys, logs.
 */
import type * as IpaddrJs from 'ipaddr.js';
import { requirePackage } from '../commonjs.js';
import { inputError } from '../errors.js';

const ipaddr = requirePackage('ipaddr.js') as typeof IpaddrJs;

/** 0 .. 2^32 - 1; 10.168.0.2 is 0x0aa80002. */
export type Ipv4 = number;

/** `network` has no bits set beyond `prefix` (0..32). */
export interface Cidr {
  readonly network: Ipv4;
  readonly prefix: number;
}

/**
 * Strict four-part decimal: no leading zeros, no short forms. Throws an input error.
 *
 * @example
 * ```ts
 * parseIpv4('PublicIP', '10.168.0.2'); // 0x0aa80002
 * ```
 */
export function parseIpv4(field: string, text: string): Ipv4 {
  const ip = tryParseIpv4(text);
  if (ip === undefined) {
    throw inputError(field, text, 'an IPv4 address of four decimal parts such as 10.168.0.2');
  }
  return ip;
}

export function tryParseIpv4(text: string): Ipv4 | undefined {
  if (!ipaddr.IPv4.isValidFourPartDecimal(text)) return undefined;
  return ipaddr.IPv4.parse(text).octets.reduce((ip, octet) => ip * 256 + octet, 0);
}

/**
 * Dotted decimal of an address, a number of 0 to 2^32 - 1 in host order.
 *
 * @example
 * ```ts
 * formatIpv4(0x0aa80002); // '10.168.0.2'
 * ```
 */
export function formatIpv4(ip: Ipv4): string {
  return `${ip >>> 24}.${(ip >>> 16) & 255}.${(ip >>> 8) & 255}.${ip & 255}`;
}

export interface ParseCidrOptions {
  /** Take `10.5.72.1/24` as 10.5.72.0/24, as flanneld does with Network. Default false. */
  readonly allowHostBits?: boolean;
}

/** `ADDRESS/PREFIX`. Throws an input error; host bits are one unless allowed. */
export function parseCidr(field: string, text: string, options: ParseCidrOptions = {}): Cidr {
  const match = /^([0-9.]+)\/(0|[1-9]\d?)$/.exec(text);
  const ip = match?.[1] === undefined ? undefined : tryParseIpv4(match[1]);
  const prefix = Number(match?.[2]);
  if (ip === undefined || !(prefix <= 32)) {
    throw inputError(field, text, 'an IPv4 subnet such as 100.96.0.0/16');
  }
  const cidr = cidrOf(ip, prefix);
  if (cidr.network !== ip && options.allowHostBits !== true) {
    throw inputError(field, text, `a subnet without host bits: ${formatCidr(cidr)}`);
  }
  return cidr;
}

/** The subnet of length `prefix` that `ip` lies in. */
export function cidrOf(ip: Ipv4, prefix: number): Cidr {
  return { network: (ip & prefixMask(prefix)) >>> 0, prefix };
}

export function formatCidr(cidr: Cidr): string {
  return `${formatIpv4(cidr.network)}/${cidr.prefix}`;
}

/** Number of addresses in a subnet of this length: 1 .. 2^32. */
export function subnetSize(prefix: number): number {
  return 2 ** (32 - prefix);
}

/** 24 -> 0xffffff00. A shift by 32 is a shift by 0 in JavaScript, so 0 is its own case. */
export function prefixMask(prefix: number): number {
  return prefix === 0 ? 0 : (0xffffffff << (32 - prefix)) >>> 0;
}

export function contains(cidr: Cidr, ip: Ipv4): boolean {
  return (ip & prefixMask(cidr.prefix)) >>> 0 === cidr.network;
}

/** True for equal subnets as well. */
export function containsCidr(outer: Cidr, inner: Cidr): boolean {
  return inner.prefix >= outer.prefix && contains(outer, inner.network);
}

export function overlaps(a: Cidr, b: Cidr): boolean {
  return containsCidr(a, b) || containsCidr(b, a);
}

export function sameCidr(a: Cidr, b: Cidr): boolean {
  return a.network === b.network && a.prefix === b.prefix;
}

/** Ascending by address, the wider subnet first. */
export function compareCidr(a: Cidr, b: Cidr): number {
  return a.network - b.network || a.prefix - b.prefix;
}

/** The last address of the subnet. */
export function broadcast(cidr: Cidr): Ipv4 {
  return cidr.network + subnetSize(cidr.prefix) - 1;
}

/** Network + 1: where the host's bridge sits. */
export function firstHost(cidr: Cidr): Ipv4 {
  return (cidr.network + 1) >>> 0;
}

/** The store's form: `100.96.1.0-24`. */
export function subnetKey(cidr: Cidr): string {
  return `${formatIpv4(cidr.network)}-${cidr.prefix}`;
}

/**
 * The reverse, and what else flanneld reads as a key: host bits are cut off (100.96.1.7-24), and of a
 * dual-stack key (100.96.1.0-24&fd00::-64) the IPv4 subnet counts. Undefined when it is no key.
 */
export function parseSubnetKey(text: string): Cidr | undefined {
  const [v4 = '', v6] = text.split('&', 2);
  if (v6 !== undefined && (text.split('&').length > 2 || !isSubnetKey6(v6))) return undefined;
  const dash = v4.indexOf('-');
  if (dash < 0) return undefined;
  const ip = tryParseIpv4(v4.slice(0, dash));
  const length = v4.slice(dash + 1);
  if (ip === undefined || !/^\d{1,3}$/.test(length)) return undefined;
  const prefix = Number(length);
  return prefix > 32 ? undefined : cidrOf(ip, prefix);
}

/** `fd00::-64`, in the letters flanneld's expression has. */
function isSubnetKey6(text: string): boolean {
  const [, address, length] = /^([a-f\d:]+)-(\d{1,3})$/.exec(text) ?? [];
  return address !== undefined && Number(length) <= 128 && ipaddr.IPv6.isValid(address);
}

const THIS_NETWORK: Cidr = { network: 0, prefix: 8 };
const LOOPBACK: Cidr = { network: 0x7f000000, prefix: 8 };
const LINK_LOCAL: Cidr = { network: 0xa9fe0000, prefix: 16 };
const MULTICAST: Cidr = { network: 0xe0000000, prefix: 4 };
const LIMITED_BROADCAST: Ipv4 = 0xffffffff;

/**
 * Why another host cannot be reached at this address (RFC 6890); undefined when it can. 240.0.0.0/4 is
 * not among them: Linux sends there since 2.6.25, and clouds give such addresses to hosts.
 */
export function unreachableReason(ip: Ipv4): string | undefined {
  if (contains(THIS_NETWORK, ip)) return 'an address of 0.0.0.0/8';
  if (contains(LOOPBACK, ip)) return 'a loopback address';
  if (contains(MULTICAST, ip)) return 'a multicast address';
  if (ip === LIMITED_BROADCAST) return 'the broadcast address';
  return undefined;
}

/** True for 169.254.0.0/16: what a host gives itself when it is given no address (RFC 3927). */
export function isLinkLocal(ip: Ipv4): boolean {
  return contains(LINK_LOCAL, ip);
}

/**
 * Why no host of this link can have the address: the link's network address, which older kernels take
 * for a broadcast, or its broadcast address. A link of two addresses (RFC 3021) or one has neither.
 */
export function broadcastReason(link: Cidr, ip: Ipv4): string | undefined {
  if (link.prefix > 30) return undefined;
  if (ip === link.network) return `the network address of ${formatCidr(link)}`;
  if (ip === broadcast(link)) return `the broadcast address of ${formatCidr(link)}`;
  return undefined;
}
