/**
 * DirectRouting: hosts on the external interface's own segment are sent to by a plain kernel route,
 * `SUBNET via HOST`, and the others by the tunnel. A route that the kernel refuses leaves the tunnel
 * in charge, whose own route is wider.
 */
import { cidrOf, contains, subnetKey, type Ipv4 } from '../config/ipv4.js';
import type { HostInterface } from '../dataplane/dataplane.js';
import type { Reach } from '../network/forwarder.js';
import type { Route, RouteChange } from '../network/route-table.js';
import { RouteNetwork, type RouteNetworkParts } from './route-network.js';

/** Whether one of the interface's networks has the host: a route to it has no gateway then. */
export function isOnLink({ addresses }: Pick<HostInterface, 'addresses'>, host: Ipv4): boolean {
  return addresses.some(
    ({ address, prefix }) => prefix > 0 && prefix < 32 && contains(cidrOf(address, prefix), host),
  );
}

/** How a host is reached with DirectRouting; `refusal`: why the kernel has no route to it. */
export function reachBy(
  { name, addresses }: Pick<HostInterface, 'name' | 'addresses'>,
  host: Ipv4,
  refusal: string | undefined,
): Reach {
  if (!isOnLink({ addresses }, host))
    return { way: 'tunnel', why: `not on the segment of ${name}` };
  if (refusal !== undefined) return { way: 'tunnel', why: refusal };
  return { way: 'direct', why: `on the segment of ${name}` };
}

/** The routes to hosts on the segment, beside a tunnel that has all of them. */
export class DirectRoutes {
  readonly #external: HostInterface;
  readonly #routes: RouteNetwork;
  /** Those in the kernel, by subnet. */
  readonly #direct = new Map<string, Route>();

  constructor(external: HostInterface, parts: Omit<RouteNetworkParts, 'external'>) {
    this.#external = external;
    this.#routes = new RouteNetwork({ ...parts, external });
  }

  apply(changes: readonly RouteChange[]): void {
    this.#routes.apply(changes.flatMap((change) => this.#inKernel(change)));
  }

  reach({ subnet, nextHop }: Route): Reach {
    return reachBy(this.#external, nextHop, this.#routes.refusalOf(subnet));
  }

  /** Takes every route away. Idempotent. */
  close(): void {
    this.#routes.close();
  }

  #inKernel({ type, route }: RouteChange): RouteChange[] {
    const key = subnetKey(route.subnet);
    const before = this.#direct.get(key);
    if (type !== 'remove' && isOnLink(this.#external, route.nextHop)) {
      this.#direct.set(key, route);
      return [
        before === undefined ? { type: 'add', route } : { type: 'update', route, previous: before },
      ];
    }
    this.#direct.delete(key);
    return before === undefined ? [] : [{ type: 'remove', route: before }];
  }
}
