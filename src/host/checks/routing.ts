/** The kernel's routes, and the ways that follow from them, as the checks need them. */
import { formatCidr, formatIpv4, type Cidr, type Ipv4 } from '../../config/ipv4.js';

/** Reads them; an Error with `code` (errno name) when the kernel refuses. */
export interface HostRouting {
  /** Of every table, those to the network or a part of it. */
  readonly within: (network: Cidr) => readonly FoundRoute[];
  /** By which interface and table a packet would leave for each, in their order. */
  readonly waysTo: (destinations: readonly Ipv4[]) => readonly FoundWay[];
  readonly interfaces: () => readonly { readonly index: number; readonly name: string }[];
}

export interface FoundRoute {
  readonly destination: Cidr;
  /** 0: on the link. */
  readonly gateway: Ipv4;
  /** 0: none, as of a blackhole. Of several next hops the first. */
  readonly interfaceIndex: number;
  /** RTN_* (rtnetlink(7)). */
  readonly type: number;
  readonly table: number;
}

export interface FoundWay {
  /** 0: there is no route. */
  readonly interfaceIndex: number;
  readonly table: number;
}

export interface KernelRoute {
  /** Nearly as `ip route` prints it. */
  readonly text: string;
  /** `unicast`, `blackhole`, `local`, ... */
  readonly type: string;
  readonly destination: Cidr;
  /** Interface of the first next hop; undefined for a blackhole and the like. */
  readonly device: string | undefined;
  /** `main`, `local`, `default` or a number. */
  readonly table: string;
}

/** By which device and table the kernel would send to an address. */
export interface Way {
  readonly device: string;
  readonly table: string;
}

/** As rtnetlink(7) numbers them. */
const TYPES = [
  ...['unspec', 'unicast', 'local', 'broadcast', 'anycast', 'multicast'],
  ...['blackhole', 'unreachable', 'prohibit', 'throw', 'nat'],
];
const TABLES = new Map([
  [253, 'default'],
  [254, 'main'],
  [255, 'local'],
]);

/** The routes of all tables to `network` or a part of it. */
export function routesWithin(network: Cidr, routing: HostRouting): KernelRoute[] {
  const names = namesOf(routing);
  return routing.within(network).map((found) => {
    const route = {
      type: TYPES[found.type] ?? String(found.type),
      destination: found.destination,
      device: names.get(found.interfaceIndex),
      table: tableOf(found.table),
    };
    return { ...route, text: textOf(route, found.gateway) };
  });
}

/** The ways to these addresses; one that the kernel refuses to send to is left out. */
export function waysTo(addresses: readonly Ipv4[], routing: HostRouting): ReadonlyMap<Ipv4, Way> {
  const ways = new Map<Ipv4, Way>();
  if (addresses.length === 0) return ways;
  const names = namesOf(routing);
  for (const [at, { interfaceIndex, table }] of routing.waysTo(addresses).entries()) {
    const address = addresses[at];
    const device = names.get(interfaceIndex);
    if (address !== undefined && device !== undefined)
      ways.set(address, { device, table: tableOf(table) });
  }
  return ways;
}

function namesOf(routing: HostRouting): ReadonlyMap<number, string> {
  return new Map(routing.interfaces().map(({ index, name }) => [index, name]));
}

function tableOf(table: number): string {
  return TABLES.get(table) ?? String(table);
}

function textOf(
  { type, destination, device, table }: Omit<KernelRoute, 'text'>,
  gateway: Ipv4,
): string {
  const to = destination.prefix === 32 ? formatIpv4(destination.network) : formatCidr(destination);
  return [
    ...(type === 'unicast' ? [] : [type]),
    to,
    ...(gateway === 0 ? [] : ['via', formatIpv4(gateway)]),
    ...(device === undefined ? [] : ['dev', device]),
    ...(table === 'main' ? [] : ['table', table]),
  ].join(' ');
}
