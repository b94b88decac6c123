/** The kernel's own IPv4 routes of the main table, by rtnetlink. */
import { cidrOf, type Cidr, type Ipv4 } from '../config/ipv4.js';
import { hostChanges, type HostChanges } from './host-changes.js';
import { native } from './native.js';

export interface KernelRoute {
  readonly destination: Cidr;
  /** 0: on the link, or several next hops. */
  readonly gateway: Ipv4;
  /** Index of the interface; 0: none (a blackhole), or several next hops. */
  readonly interfaceIndex: number;
  /** The route of the least metric counts among several to one destination. */
  readonly metric: number;
}

/** `destination via gateway` through an interface, of metric 0. */
export interface GatewayRoute extends Pick<
  KernelRoute,
  'destination' | 'gateway' | 'interfaceIndex'
> {
  /** The gateway is taken to be on the interface's link, whatever its addresses say; default false. */
  readonly onlink?: boolean;
}

/** Each throws an Error with `code` (errno name) when the kernel refuses. */
export interface KernelRoutes {
  /** In the kernel's order: of those to one destination the first counts. */
  list(): readonly KernelRoute[];
  /**
   * Puts the route in place of another of metric 0 to its destination. ENETUNREACH (EHOSTUNREACH
   * before Linux 4.17) when the gateway is on no link of this host.
   */
  put(route: GatewayRoute): void;
  /** Takes that route away, if it is there. */
  delete(route: GatewayRoute): void;
  /** Tells when the list may be another. */
  readonly changes?: HostChanges;
}

const NUMBERS = 8;

/** A route of any table. */
export interface TableRoute extends Omit<KernelRoute, 'metric'> {
  /** RTN_* (rtnetlink(7)). */
  readonly type: number;
  readonly table: number;
}

/** Where a packet goes, and by which table. */
export interface KernelWay {
  /** 0: there is no route. */
  readonly interfaceIndex: number;
  readonly table: number;
}

/** Of every table, those to the network or a part of it; of several next hops the first. */
export function kernelRoutesWithin({ network, prefix }: Cidr): readonly TableRoute[] {
  return entriesOf(native().routes(network, prefix), NUMBERS, (numbers) => {
    const [first = 0, length = 0, gateway = 0, interfaceIndex = 0, , type = 0, , table = 0] =
      numbers;
    return { destination: cidrOf(first, length), gateway, interfaceIndex, type, table };
  });
}

/** The way to each address, whatever the source, policy rules included. */
export function kernelWaysTo(destinations: readonly Ipv4[]): readonly KernelWay[] {
  const numbers = native().waysTo(Uint32Array.from(destinations), 0);
  return entriesOf(numbers, 2, ([interfaceIndex = 0, table = 0]) => ({ interfaceIndex, table }));
}

function entriesOf<Entry>(
  numbers: Uint32Array,
  each: number,
  entry: (numbers: Uint32Array) => Entry,
): Entry[] {
  return Array.from({ length: numbers.length / each }, (_, at) =>
    entry(numbers.subarray(at * each, (at + 1) * each)),
  );
}

export const KERNEL_ROUTES: KernelRoutes = {
  get changes() {
    return hostChanges();
  },
  list: () =>
    entriesOf(native().routes(), NUMBERS, (numbers) => {
      const [network = 0, prefix = 0, gateway = 0, interfaceIndex = 0, metric = 0] = numbers;
      return { destination: cidrOf(network, prefix), gateway, interfaceIndex, metric };
    }),
  put: ({ destination: { network, prefix }, gateway, interfaceIndex, onlink }) => {
    native().putRoute(network, prefix, gateway, interfaceIndex, onlink);
  },
  delete: ({ destination: { network, prefix }, gateway, interfaceIndex, onlink }) => {
    native().deleteRoute(network, prefix, gateway, interfaceIndex, onlink);
  },
};
