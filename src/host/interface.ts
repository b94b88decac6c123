/**
 * Which interface carries the tunnel's datagrams, and the address peers send theirs to.
 *
 * The order is flanneld's: each `--iface` (a name or an IPv4 address) in turn, then each
 * `--iface-regex`, else the interface from which `--iface-can-reach` is reached, else the one that
 * has `--public-ip`, else that of the default route. `--public-ip` replaces the advertised address only (NAT); the socket is always
 * bound to an address of the interface.
 */
import { createSocket } from 'node:dgram';
import { readFile } from 'node:fs/promises';
import {
  contains,
  formatIpv4,
  parseIpv4,
  tryParseIpv4,
  unreachableReason,
  type Cidr,
  type Ipv4,
} from '../config/ipv4.js';
import { inputError, messageOf, systemError, errnoOf } from '../errors.js';

export interface HostInterfaceInfo {
  readonly name: string;
  readonly index: number;
  /** Bytes. */
  readonly mtu: number;
  readonly up: boolean;
  readonly loopback: boolean;
  readonly addresses: readonly { readonly address: Ipv4; readonly prefix: number }[];
}

export interface ExternalInterface {
  readonly name: string;
  /** Where the UDP socket is bound. */
  readonly address: Ipv4;
  /** What the lease says; the address itself unless `--public-ip` was given. */
  readonly publicIp: Ipv4;
  /** Bytes. */
  readonly mtu: number;
}

export interface InterfaceChoice {
  /** `--iface`, in the order given: the first that matches is taken. */
  readonly iface: readonly string[];
  /** `--iface-regex`, in the order given: names and addresses are looked at. */
  readonly ifaceRegex?: readonly string[];
  /** `--iface-can-reach` and the local address the kernel would reach it from, sourceAddressTo. */
  readonly canReach?: { readonly destination: string; readonly source: Ipv4 } | undefined;
  /** `--public-ip`. */
  readonly publicIp?: string | undefined;
  /** The default route's interface, see readDefaultInterface. */
  readonly defaultInterface: string | undefined;
}

const LINK_LOCAL: Cidr = { network: 0xa9fe0000, prefix: 16 };

/** Throws an input error that lists what exists, or a system error when there is no default route. */
export function selectExternalInterface(
  interfaces: readonly HostInterfaceInfo[],
  choice: InterfaceChoice,
): ExternalInterface {
  const chosen = choose(interfaces, choice);
  return { ...chosen, publicIp: publicIpOf(chosen, choice.publicIp) };
}

/** What makes two choices different to a tunnel: where it is bound, what it tells, what fits. */
export function sameExternalInterface(a: ExternalInterface, b: ExternalInterface): boolean {
  return (
    a.name === b.name && a.address === b.address && a.publicIp === b.publicIp && a.mtu === b.mtu
  );
}

/**
 * The local address from which the kernel would send to `destination`: connecting a UDP socket
 * looks the route up and sends nothing (udp(7)). Rejects with a system error when there is no route.
 */
export async function sourceAddressTo(destination: string): Promise<Ipv4> {
  parseIpv4('--iface-can-reach', destination);
  const socket = createSocket('udp4');
  try {
    await new Promise<void>((resolve, reject) => {
      // Node tells this callback of an error, too, which its type does not say.
      socket.connect(9, destination, (error?: Error) => {
        if (error) reject(error);
        else resolve();
      });
    });
    return parseIpv4('--iface-can-reach', socket.address().address);
  } catch (error) {
    const code = errnoOf(error);
    throw systemError(
      `--iface-can-reach: no route to ${destination} (${messageOf(error)}): choose with --iface`,
      {
        field: '--iface-can-reach',
        value: destination,
        cause: error,
        ...(code === undefined ? {} : { code }),
      },
    );
  } finally {
    socket.close();
  }
}

/**
 * The interface of the default route with the lowest metric, in the network namespace of this
 * process; undefined when there is none.
 */
export async function readDefaultInterface(
  path = '/proc/self/net/route',
): Promise<string | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    const code = errnoOf(error);
    throw systemError(`cannot read the kernel's routes from ${path} (${messageOf(error)})`, {
      ...(code === undefined ? {} : { code }),
      cause: error,
    });
  }
  return parseDefaultInterface(text);
}

// Flags of /proc/net/route, linux/route.h.
const RTF_UP = 0x1;
const RTF_REJECT = 0x200;

/** Columns: Iface Destination Gateway Flags RefCnt Use Metric Mask; numbers in hexadecimal but Metric. */
export function parseDefaultInterface(text: string): string | undefined {
  let best: { name: string; metric: number } | undefined;
  for (const line of text.split('\n').slice(1)) {
    const [name, destination, , flagsText, , , metricText, mask] = line.trim().split(/\s+/);
    if (name === undefined || destination !== '00000000' || mask !== '00000000') continue;
    const flags = Number.parseInt(flagsText ?? '0', 16);
    if ((flags & RTF_UP) === 0 || (flags & RTF_REJECT) !== 0) continue;
    const metric = Number(metricText);
    if (best === undefined || metric < best.metric) best = { name, metric };
  }
  return best?.name;
}

type Found = Omit<ExternalInterface, 'publicIp'>;

function choose(interfaces: readonly HostInterfaceInfo[], choice: InterfaceChoice): Found {
  const { iface, ifaceRegex = [], canReach, defaultInterface } = choice;
  const found = byFlag(interfaces, iface) ?? byRegex(interfaces, ifaceRegex);
  if (found !== undefined) return found;
  if (iface.length > 0 || ifaceRegex.length > 0) throw noMatch(interfaces, iface, ifaceRegex);
  if (canReach !== undefined) return byReach(interfaces, canReach);
  const owner = choice.publicIp === undefined ? undefined : byFlag(interfaces, [choice.publicIp]);
  if (owner !== undefined) return owner;
  return byDefaultRoute(interfaces, defaultInterface);
}

function byFlag(
  interfaces: readonly HostInterfaceInfo[],
  wanted: readonly string[],
): Found | undefined {
  for (const text of wanted) {
    const ip = tryParseIpv4(text);
    for (const candidate of interfaces) {
      const address = ip === undefined ? addressOf(candidate) : ip;
      const matches =
        ip === undefined
          ? candidate.name === text
          : candidate.addresses.some((entry) => entry.address === ip);
      if (matches && address !== undefined) return found(candidate, address);
    }
  }
  return undefined;
}

/** Like flanneld: an expression is held against each interface's first address, then its name. */
function byRegex(
  interfaces: readonly HostInterfaceInfo[],
  expressions: readonly string[],
): Found | undefined {
  for (const expression of expressions) {
    const regex = parseInterfaceRegex(expression);
    const withAddress = interfaces.flatMap((candidate) => {
      const address = addressOf(candidate);
      return address === undefined ? [] : [{ candidate, address }];
    });
    const match =
      withAddress.find(({ address }) => regex.test(formatIpv4(address))) ??
      withAddress.find(({ candidate }) => regex.test(candidate.name));
    if (match !== undefined) return found(match.candidate, match.address);
  }
  return undefined;
}

/**
 * Throws an input error for what is no regular expression. JavaScript's, with the leading flags of
 * Go's: `(?i)eth`.
 */
export function parseInterfaceRegex(expression: string): RegExp {
  try {
    const [, flags = '', rest = ''] = /^(?:\(\?([ims]+)\))?(.*)$/su.exec(expression) ?? [];
    return new RegExp(rest, `u${flags}`);
  } catch (error) {
    throw inputError('--iface-regex', expression, `a regular expression (${messageOf(error)})`);
  }
}

function byReach(
  interfaces: readonly HostInterfaceInfo[],
  { destination, source }: NonNullable<InterfaceChoice['canReach']>,
): Found {
  const owner = interfaces.find(({ addresses }) =>
    addresses.some(({ address }) => address === source),
  );
  if (owner !== undefined) return found(owner, source);
  throw systemError(
    `--iface-can-reach: ${destination} is reached from ${formatIpv4(source)}, which no interface has; ` +
      `there is ${list(interfaces)}`,
    { field: '--iface-can-reach', value: destination },
  );
}

function noMatch(
  interfaces: readonly HostInterfaceInfo[],
  iface: readonly string[],
  expressions: readonly string[],
): Error {
  const [field, wanted] =
    iface.length > 0 ? (['--iface', iface] as const) : (['--iface-regex', expressions] as const);
  const value = wanted.length === 1 ? wanted[0] : wanted;
  const expected =
    field === '--iface'
      ? 'the name of an interface with an IPv4 address, or the address'
      : 'to match the name or address of an interface with an IPv4 address';
  return inputError(field, value, `${expected}; there is ${list(interfaces)}`);
}

function byDefaultRoute(interfaces: readonly HostInterfaceInfo[], name: string | undefined): Found {
  if (name === undefined) {
    throw systemError(
      `no default route, so no interface to send by: choose one with --iface; there is ${list(interfaces)}`,
      { field: '--iface' },
    );
  }
  const candidate = interfaces.find((entry) => entry.name === name);
  const address = candidate === undefined ? undefined : addressOf(candidate);
  if (candidate === undefined || address === undefined) {
    throw systemError(
      `the default route's interface ${name} has no IPv4 address: choose another with --iface; ` +
        `there is ${list(interfaces)}`,
      { field: '--iface', value: name },
    );
  }
  return found(candidate, address);
}

function publicIpOf(chosen: Found, flag: string | undefined): Ipv4 {
  const expected = 'an IPv4 address that other hosts can reach';
  if (flag !== undefined) {
    const ip = parseIpv4('--public-ip', flag);
    const reason = unreachableReason(ip);
    if (reason !== undefined) throw inputError('--public-ip', flag, `${expected}, not ${reason}`);
    return ip;
  }
  const reason = unreachableReason(chosen.address);
  if (reason !== undefined) {
    const value = `${chosen.name} (${formatIpv4(chosen.address)})`;
    throw inputError('--iface', value, `${expected}, not ${reason}; or give --public-ip`);
  }
  return chosen.address;
}

function found(candidate: HostInterfaceInfo, address: Ipv4): Found {
  return { name: candidate.name, address, mtu: candidate.mtu };
}

/** The first address with a scope beyond the link, else the first. */
function addressOf(candidate: HostInterfaceInfo): Ipv4 | undefined {
  const addresses = candidate.addresses.map((entry) => entry.address);
  return addresses.find((address) => !contains(LINK_LOCAL, address)) ?? addresses[0];
}

function list(interfaces: readonly HostInterfaceInfo[]): string {
  if (interfaces.length === 0) return 'none';
  return interfaces
    .map(({ name, addresses }) => {
      const texts = addresses.map((entry) => formatIpv4(entry.address));
      return texts.length === 0 ? `${name} (no IPv4 address)` : `${name} (${texts.join(', ')})`;
    })
    .join(', ');
}
