/**
 * Single decisions, asked for where they were made: routes, neighbours and forwarding entries as ip(8)
 * and bridge(8) print them, and what the daemons know.
 */
import { contains, parseCidr, parseIpv4 } from '../../config/ipv4.js';
import type { DaemonStatus, RouteStatus } from '../../daemon/status.js';
import { systemError } from '../../errors.js';
import { inNamespace, run } from '../../testbed/programs.js';
import { showRoute, type Route } from '../backends/route.js';
import type { TracePlan } from './plan.js';

export interface Decision {
  readonly kind:
    | 'route'
    | 'way'
    | 'neighbour'
    | 'FDB'
    | 'lease'
    | 'source check'
    | 'bridge'
    | 'veth'
    | 'TUN'
    | 'program'
    | 'socket';
  /** What was looked up. */
  readonly key: string;
  /** What was found. */
  readonly found: string;
}

/** `ip route get fibmatch` names the route of the table that matched. */
export async function route(namespace: string, query: readonly string[]): Promise<Decision> {
  const found = await matchedRoute(namespace, query);
  return { kind: 'route', key: query[0] ?? '', found: showRoute(found) };
}

/** Of the packet, on the receiving host. */
export function routeIn({ from, to }: TracePlan, device: string): Promise<Decision> {
  return route(to.host, [to.containerAddress, 'from', from.containerAddress, 'iif', device]);
}

async function matchedRoute(namespace: string, query: readonly string[]): Promise<Route> {
  const argv = ['ip', '-j', 'route', 'get', 'fibmatch', ...query];
  const { stdout } = await run(inNamespace(namespace, argv));
  const [found] = JSON.parse(stdout) as Route[];
  if (found === undefined) throw systemError(`${argv.join(' ')} in ${namespace}: no route`);
  return found;
}

/** The MAC address for a next hop. */
export async function neighbour(
  namespace: string,
  address: string,
  device: string,
): Promise<Decision> {
  const argv = ['ip', 'neigh', 'show', 'to', address, 'dev', device];
  const [found] = await lines(namespace, argv);
  if (found === undefined) throw systemError(`${argv.join(' ')} in ${namespace}: no neighbour`);
  return { kind: 'neighbour', key: device, found };
}

/** The same of the host that a route to an address leads to: its gateway, or the address itself. */
export async function nextHopNeighbour(
  namespace: string,
  address: string,
  device: string,
): Promise<Decision> {
  const { gateway } = await matchedRoute(namespace, [address]);
  return neighbour(namespace, gateway ?? address, device);
}

/** The host to whom a VXLAN device sends frames for a MAC address. */
export async function fdbEntry(namespace: string, mac: string, device: string): Promise<Decision> {
  const argv = ['bridge', 'fdb', 'show', 'dev', device];
  const found = (await lines(namespace, argv)).find((line) => line.startsWith(`${mac} dst `));
  if (found === undefined)
    throw systemError(`${argv.join(' ')} in ${namespace}: no entry of ${mac}`);
  return { kind: 'FDB', key: device, found };
}

async function lines(namespace: string, argv: readonly string[]): Promise<string[]> {
  const { stdout } = await run(inNamespace(namespace, argv));
  return stdout.split('\n').flatMap((line) => line.trim().replaceAll(/\s+/g, ' ') || []);
}

/** The route that a daemon's table has for an address. */
export function routeStatusOf({ routes }: DaemonStatus, address: string): RouteStatus {
  const ip = parseIpv4('address', address);
  const found = routes.find(({ subnet }) => contains(parseCidr('subnet', subnet), ip));
  if (found === undefined) throw systemError(`the daemon has no lease for ${address}`);
  return found;
}

/** The lease that a daemon's table has for an address. */
export function leaseOf(status: DaemonStatus, address: string): Decision {
  const { subnet, nextHop } = routeStatusOf(status, address);
  return { kind: 'lease', key: address, found: `${subnet} is held by ${nextHop}` };
}

/** Why a daemon sends to a host without its tunnel; nothing where it has none. */
export function reachOf(status: DaemonStatus, address: string): readonly Decision[] {
  const { way, why, nextHop } = routeStatusOf(status, address);
  return why === undefined ? [] : [{ kind: 'way', key: nextHop, found: `${way}: ${why}` }];
}

/** Whether the sender of the datagram holds the lease of the packet's source (README, --source-check). */
export function sourceCheck(far: DaemonStatus, { from }: TracePlan, sender: string): Decision {
  const { found } = leaseOf(far, from.containerAddress);
  return { kind: 'source check', key: from.containerAddress, found: `${found}; sent by ${sender}` };
}

export function socket(key: string, found: string): Decision {
  return { kind: 'socket', key, found };
}

export function veth(device: string, peer: string): Decision {
  return { kind: 'veth', key: device, found: `its other end, ${peer}` };
}

/** An eBPF program of mode kernel, and where it is attached. */
export function program(key: string, found: string): Decision {
  return { kind: 'program', key, found };
}

interface FdbEntry {
  readonly mac: string;
  readonly ifname: string;
  readonly state?: string;
}

/** Where a bridge sends a frame: up to its own host, or out of the port where the address was learnt. */
export async function bridgePort(
  namespace: string | undefined,
  bridge: string,
  mac: string,
): Promise<Decision> {
  const links = await run(inNamespace(namespace, ['ip', '-j', 'link', 'show', 'dev', bridge]));
  const [own] = JSON.parse(links.stdout) as { readonly address: string }[];
  const key = `${mac} in ${bridge}`;
  if (own?.address === mac) return { kind: 'bridge', key, found: `${bridge} itself, up to IP` };
  const fdb = await run(inNamespace(namespace, ['bridge', '-j', 'fdb', 'show', 'br', bridge]));
  const entries = JSON.parse(fdb.stdout) as FdbEntry[];
  const learnt = entries.find((entry) => entry.mac === mac && entry.state !== 'permanent');
  return {
    kind: 'bridge',
    key,
    found: learnt === undefined ? 'every port' : `port ${learnt.ifname}`,
  };
}
