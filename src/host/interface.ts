/**
 * Which interface carries the tunnel's datagrams, and the address peers send theirs to.
 *
 * The order is flanneld's: each `--iface` (a name or an IPv4 address) in turn, then each
 * `--iface-regex`, then the interface from which `--iface-can-reach` is reached; without any of them
 * the one that has `--public-ip`, else that of the default route. `--public-ip` replaces the
 * advertised address only (NAT); the socket is always bound to an address of the interface.
 *
 * An interface's global addresses come before link-local ones, permanent ones before those
 * of DHCP, then the kernel's order counts. Loopback addresses and deprecated ones are taken only when
 * no choice fits otherwise.
 */
import { createSocket } from 'node:dgram';
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
import { parseInterfaceRegex } from './interface-regex.js';

export interface HostAddress {
  readonly address: Ipv4;
  readonly prefix: number;
  /** Not leased for a time, as by DHCP; default true. */
  readonly permanent?: boolean;
  /** Not to be used for anything new. */
  readonly deprecated?: boolean;
}

export interface HostInterfaceInfo {
  readonly name: string;
  readonly index: number;
  /** Bytes. */
  readonly mtu: number;
  readonly up: boolean;
  readonly loopback: boolean;
  readonly addresses: readonly HostAddress[];
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
  readonly canReach?: ReachableFrom | undefined;
  /** `--public-ip`. */
  readonly publicIp?: string | undefined;
  /** The default route's interface, see readDefaultInterface. */
  readonly defaultInterface: string | undefined;
}

/** `--iface-can-reach` and the local address the kernel would reach it from, or why from none. */
export interface ReachableFrom {
  readonly destination: string;
  readonly source: Ipv4 | Error;
}

const LINK_LOCAL: Cidr = { network: 0xa9fe0000, prefix: 16 };
const LOOPBACK: Cidr = { network: 0x7f000000, prefix: 8 };

/** Names of devices of flannel's backends and of the bridges of the containers behind them. */
const OVERLAY_NAME = /^(?:flannel[-.\d].*|docker0|cni0)$/;

/** Whether a device is one of an overlay's, which can carry no tunnel to other hosts. */
export function isOverlayName(name: string): boolean {
  return OVERLAY_NAME.test(name);
}

/** Throws an input error that lists what exists, or a system error when there is no default route. */
export function selectExternalInterface(
  interfaces: readonly HostInterfaceInfo[],
  choice: InterfaceChoice,
): ExternalInterface {
  const { candidate, address } = choose(interfaces, choice);
  const publicIp = publicIpOf(candidate, address, choice.publicIp);
  const mtu = mtuOf(interfaces, candidate, address, choice.defaultInterface);
  return { name: candidate.name, address, publicIp, mtu };
}

/** What makes two choices different to a tunnel: where it is bound, what it tells, what fits. */
export function sameExternalInterface(a: ExternalInterface, b: ExternalInterface): boolean {
  return (
    a.name === b.name && a.address === b.address && a.publicIp === b.publicIp && a.mtu === b.mtu
  );
}

/**
 * MTU of the way an address leads to. An address on the loopback (of hosts that announce theirs by
 * BGP) is reached by another interface: the default route's, else the narrowest there is.
 */
export function mtuOf(
  interfaces: readonly HostInterfaceInfo[],
  holder: HostInterfaceInfo,
  address: Ipv4,
  defaultInterface: string | undefined,
): number {
  if (!holder.loopback || contains(LOOPBACK, address)) return holder.mtu;
  const others = interfaces.filter(
    ({ name, up, loopback }) => up && !loopback && !isOverlayName(name),
  );
  const byDefault = others.filter(({ name }) => name === defaultInterface);
  const ways = byDefault.length > 0 ? byDefault : others;
  return Math.min(holder.mtu, ...ways.map(({ mtu }) => mtu));
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
      // Without descriptors left the socket itself fails, by an event.
      socket.on('error', reject);
      // Node tells this callback of an error, too, which its type does not say.
      socket.connect(9, destination, (error?: Error) => {
        if (error) reject(error);
        else resolve();
      });
    });
    return parseIpv4('--iface-can-reach', socket.address().address);
  } catch (error) {
    const code = errnoOf(error);
    const what = isReadFailure(error) ? 'cannot look up the route' : 'no route';
    throw systemError(
      `--iface-can-reach: ${what} to ${destination} (${messageOf(error)}): choose with --iface`,
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

const READ_FAILURES = new Set(['EMFILE', 'ENFILE', 'ENOMEM', 'ENOBUFS', 'EAGAIN']);

/** The kernel could not say what there is: neither that it is there nor that it is not. */
export function isReadFailure(error: unknown): boolean {
  return READ_FAILURES.has(errnoOf(error) ?? '');
}

interface Found {
  readonly candidate: HostInterfaceInfo;
  readonly address: Ipv4;
}

function choose(interfaces: readonly HostInterfaceInfo[], choice: InterfaceChoice): Found {
  const { iface, ifaceRegex = [], canReach, publicIp } = choice;
  // What is no use to a tunnel is taken only when nothing else fits: the error then says why not.
  for (const sound of [true, false]) {
    const found =
      byFlag(interfaces, iface, sound) ??
      byRegex(interfaces, ifaceRegex, sound) ??
      byReach(interfaces, canReach, sound);
    if (found !== undefined) return found;
  }
  if (iface.length > 0 || ifaceRegex.length > 0) throw noMatch(interfaces, iface, ifaceRegex);
  if (canReach !== undefined) throw unreached(interfaces, canReach);
  const owner = publicIp === undefined ? undefined : byFlag(interfaces, [publicIp], false);
  return owner ?? byDefaultRoute(interfaces, choice.defaultInterface);
}

function byFlag(
  interfaces: readonly HostInterfaceInfo[],
  wanted: readonly string[],
  sound: boolean,
): Found | undefined {
  for (const text of wanted) {
    const ip = tryParseIpv4(text);
    if (ip !== undefined) {
      const candidate = holderOf(interfaces, ip);
      if (candidate === undefined || (sound && contains(LOOPBACK, ip))) continue;
      return { candidate, address: ip };
    }
    const candidate = interfaces.find(({ name }) => name === text);
    const address = candidate === undefined ? undefined : addressesOf(candidate, sound)[0];
    if (candidate !== undefined && address !== undefined) return { candidate, address };
  }
  return undefined;
}

/** The interface that has an address. */
export function holderOf(
  interfaces: readonly HostInterfaceInfo[],
  ip: Ipv4,
): HostInterfaceInfo | undefined {
  return interfaces.find(({ addresses }) => addresses.some(({ address }) => address === ip));
}

/**
 * Like flanneld: an expression is held against every address of each interface, then against the
 * names. An overlay's devices come last, since an expression that is wide fits them as well.
 */
function byRegex(
  interfaces: readonly HostInterfaceInfo[],
  expressions: readonly string[],
  sound: boolean,
): Found | undefined {
  const candidates = interfaces.filter(({ name }) => !sound || !isOverlayName(name));
  for (const expression of expressions) {
    const regex = parseInterfaceRegex(expression);
    const withAddress = candidates.flatMap((candidate) =>
      addressesOf(candidate, sound).map((address) => ({ candidate, address })),
    );
    const match =
      withAddress.find(({ address }) => regex.test(formatIpv4(address))) ??
      withAddress.find(({ candidate }) => regex.test(candidate.name));
    if (match !== undefined) return match;
  }
  return undefined;
}

function byReach(
  interfaces: readonly HostInterfaceInfo[],
  canReach: ReachableFrom | undefined,
  sound: boolean,
): Found | undefined {
  if (canReach === undefined || canReach.source instanceof Error) return undefined;
  const address = canReach.source;
  if (sound && contains(LOOPBACK, address)) return undefined;
  const candidate = holderOf(interfaces, address);
  return candidate === undefined ? undefined : { candidate, address };
}

function unreached(
  interfaces: readonly HostInterfaceInfo[],
  { destination, source }: ReachableFrom,
): Error {
  if (source instanceof Error) return source;
  return systemError(
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
  const [address] = candidate === undefined ? [] : soundFirst(candidate);
  if (candidate === undefined || address === undefined) {
    throw systemError(
      `the default route's interface ${name} has no IPv4 address: choose another with --iface; ` +
        `there is ${list(interfaces)}`,
      { field: '--iface', value: name },
    );
  }
  return { candidate, address };
}

function publicIpOf(candidate: HostInterfaceInfo, address: Ipv4, flag: string | undefined): Ipv4 {
  const expected = 'an IPv4 address that other hosts can reach';
  if (flag !== undefined) {
    const ip = parseIpv4('--public-ip', flag);
    const reason = unreachableReason(ip);
    if (reason !== undefined) throw inputError('--public-ip', flag, `${expected}, not ${reason}`);
    return ip;
  }
  const reason = unreachableReason(address);
  if (reason !== undefined) {
    const value = `${candidate.name} (${formatIpv4(address)})`;
    throw inputError('--iface', value, `${expected}, not ${reason}; or give --public-ip`);
  }
  return address;
}

/** An interface's addresses, the one to be preferred first; those of no use only on demand. */
function addressesOf({ addresses }: HostInterfaceInfo, sound: boolean): Ipv4[] {
  return addresses
    .filter((entry) => !sound || (!contains(LOOPBACK, entry.address) && entry.deprecated !== true))
    .toSorted((a, b) => rank(a) - rank(b))
    .map(({ address }) => address);
}

function soundFirst(candidate: HostInterfaceInfo): Ipv4[] {
  return [...addressesOf(candidate, true), ...addressesOf(candidate, false)];
}

function rank({ address, permanent }: HostAddress): number {
  return (contains(LINK_LOCAL, address) ? 2 : 0) + (permanent === false ? 1 : 0);
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
