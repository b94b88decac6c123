/**
 * Which interface carries the tunnel's datagrams, and the address peers send theirs to.
 *
 * The order is flanneld's: each `--iface` (a name or an IPv4 address) in turn, else the interface
 * of the default route. `--public-ip` replaces the advertised address only (NAT); the socket is
 * always bound to an address of the interface.
 */
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
  /** `--public-ip`. */
  readonly publicIp?: string;
  /** The default route's interface, see readDefaultInterface. */
  readonly defaultInterface: string | undefined;
}

const LINK_LOCAL: Cidr = { network: 0xa9fe0000, prefix: 16 };

/** Throws an input error that lists what exists, or a system error when there is no default route. */
export function selectExternalInterface(
  interfaces: readonly HostInterfaceInfo[],
  choice: InterfaceChoice,
): ExternalInterface {
  const chosen =
    choice.iface.length === 0
      ? byDefaultRoute(interfaces, choice.defaultInterface)
      : byFlag(interfaces, choice.iface);
  return { ...chosen, publicIp: publicIpOf(chosen, choice.publicIp) };
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

function byFlag(interfaces: readonly HostInterfaceInfo[], wanted: readonly string[]): Found {
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
  const value = wanted.length === 1 ? wanted[0] : wanted;
  throw inputError(
    '--iface',
    value,
    `the name of an interface with an IPv4 address, or the address; there is ${list(interfaces)}`,
  );
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
