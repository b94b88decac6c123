/**
 * Whether this host can reach others at all. A daemon whose every part works is ready; when no lease has
 * become a route, or no route leads to a host, it says so all the same.
 */
import { formatIpv4, type Ipv4 } from '../config/ipv4.js';
import type { RejectedEntry } from '../lease/store.js';
import type { Problem } from '../problems.js';
import type { RouteTable } from './route-table.js';
import type { Way } from './host-view.js';

/** So many of the other hosts are looked at, spread over all: a network may have 65,536. */
const SAMPLE = 64;

export interface PeerCheck {
  readonly routes: Pick<RouteTable, 'size' | 'nextHops'>;
  readonly rejected: readonly RejectedEntry[];
  readonly device: string;
  /** Undefined where the kernel does not say. */
  readonly ways: (destinations: readonly Ipv4[]) => readonly Way[] | undefined;
}

export function peerProblems({ routes, rejected, device, ways }: PeerCheck): Problem[] {
  const [first] = rejected;
  if (routes.size === 0) {
    if (first === undefined) return [];
    return [
      {
        id: 'all_leases_rejected',
        message: `no other host can be reached: every lease but this host's own is rejected, ${first.key} because ${first.reason}`,
      },
    ];
  }
  const sample = spread([...routes.nextHops()]);
  const answers = ways(sample);
  if (answers === undefined || answers.includes('elsewhere')) return [];
  const address = formatIpv4(sample[0] ?? 0);
  const why = answers.includes('overlay')
    ? `the route to ${address}, as to the others, leads into ${device} itself`
    : `there is no route to ${address} or any other`;
  return [{ id: 'no_peer_reachable', message: `no other host can be reached: ${why}` }];
}

function spread(addresses: readonly Ipv4[]): Ipv4[] {
  const step = Math.max(1, addresses.length / SAMPLE);
  const count = Math.min(SAMPLE, addresses.length);
  return Array.from({ length: count }, (_, at) => addresses[Math.floor(at * step)] ?? 0);
}
