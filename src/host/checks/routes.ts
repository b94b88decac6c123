/**
 * Routes that take the overlay's packets away from its device: a more specific one that another
 * program left (flannel.1 of flannel's vxlan backend), or one in a table that the kernel asks before
 * the main one (Tailscale's table 52, a VPN). The kernel itself is asked where packets go, so a route
 * that does not win is not named.
 */
import {
  broadcast,
  containsCidr,
  formatCidr,
  sameCidr,
  type Cidr,
  type Ipv4,
} from '../../config/ipv4.js';
import type { Problem } from '../../problems.js';
import { routesWithin, waysTo, type KernelRoute, type Way } from './routing.js';
import type { OverlayView } from './view.js';

/** Other nodes that are asked about at each look, besides those that a suspicious route leads to. */
const SAMPLED = 8;
const SUSPECTS = 32;
/** Before Tailscale's rules (5210 to 5270) and those that wg-quick(8) adds below 32766. */
const RULE_PRIORITY = 5_000;

/** Types that are no way to send, and `throw`, which has the next table asked. */
const HARMLESS = new Set(['anycast', 'broadcast', 'local', 'multicast', 'throw']);

export function checkRoutes(view: OverlayView): Problem[] {
  const { network, device, isDirect, routing } = view;
  const peers = view.peers.filter(({ subnet }) => !isDirect(subnet));
  const routes = routesWithin(network, routing);
  const isOurs = (route: KernelRoute): boolean =>
    route.device === device && sameCidr(route.destination, network);
  // The device is being made, or made again: nothing can be said now.
  if (!routes.some(isOurs)) return [];
  const suspects = routes
    .filter((route) => isSuspect(route, view))
    .flatMap((route) => {
      const address = addressBehind(route.destination, view);
      return address === undefined ? [] : [{ route, address }];
    })
    .slice(0, SUSPECTS);
  const step = Math.max(1, Math.ceil(peers.length / SAMPLED));
  const sampled = peers
    .filter((_peer, index) => index % step === 0)
    .map(({ subnet }) => someHost(subnet));
  const asked = [...new Set([...suspects.map(({ address }) => address), ...sampled])];
  const ways = waysTo(asked, routing);
  const stolen = suspects.filter(({ route, address }) => wins(route, ways.get(address), device));
  if (stolen.length > 0) return stolen.map(({ route }) => byRoute(route, view));
  const other = sampled.map((address) => ways.get(address)).find((way) => isElsewhere(way, device));
  return other === undefined ? [] : [byTable(other, view)];
}

function isSuspect(route: KernelRoute, { subnet, device, isDirect }: OverlayView): boolean {
  return (
    !HARMLESS.has(route.type) &&
    route.device !== device &&
    route.table !== 'local' &&
    !containsCidr(subnet, route.destination) &&
    !isDirect(route.destination)
  );
}

/** An address that both the route and another node's subnet have; undefined: it hits no node. */
function addressBehind(destination: Cidr, { peers, holderOf }: OverlayView): Ipv4 | undefined {
  const holder = holderOf(destination.network);
  if (holder !== undefined && containsCidr(holder, destination)) return someHost(destination);
  const peer = peers.find(({ subnet }) => containsCidr(destination, subnet));
  return peer && someHost(peer.subnet);
}

function someHost(subnet: Cidr): Ipv4 {
  return Math.min(subnet.network + 2, broadcast(subnet));
}

/** A route without a device, as a blackhole, leaves no way at all. */
function wins(route: KernelRoute, way: Way | undefined, device: string): boolean {
  if (way === undefined) return route.device === undefined;
  return isElsewhere(way, device) && way.device === route.device;
}

function isElsewhere(way: Way | undefined, device: string): boolean {
  return way !== undefined && way.device !== device && way.device !== 'lo';
}

function byRoute(route: KernelRoute, view: OverlayView): Problem {
  const to = formatCidr(route.destination);
  const where = route.device === undefined ? 'nowhere' : `by ${route.device}`;
  return {
    id: 'overlay_route_taken',
    message: `packets to ${to} leave ${where} instead of ${view.device}: the route "${route.text}" wins`,
    remedy: remedyFor(route, view),
  };
}

function remedyFor({ type, destination, device, table }: KernelRoute, view: OverlayView): string {
  // What flannel's vxlan backend left; its routes go with the device.
  if (device !== undefined && /^flannel\.\d+$/.test(device)) return `ip link delete ${device}`;
  if (table !== 'main') return ruleFor(view);
  const to = formatCidr(destination);
  return device === undefined ? `ip route del ${type} ${to}` : `ip route del ${to} dev ${device}`;
}

function byTable({ device, table }: Way, view: OverlayView): Problem {
  const whole = formatCidr(view.network);
  return {
    id: 'overlay_route_taken',
    message:
      `packets to ${whole} leave by ${device} instead of ${view.device}: routing table ${table} is ` +
      'asked before the main one (ip rule)',
    remedy: ruleFor(view),
  };
}

function ruleFor({ network }: OverlayView): string {
  return `ip rule add to ${formatCidr(network)} lookup main priority ${RULE_PRIORITY}`;
}
