/**
 * DirectRouting: hosts on the external interface's own segment are sent to by a plain kernel route,
 * `SUBNET via HOST`, and the others by the tunnel. A route that the kernel refuses leaves the tunnel
 * in charge, whose own route is wider.
 */
import { subnetKey, type Ipv4 } from '../config/ipv4.js';
import type { Reach } from '../network/forwarder.js';
import type { Route, RouteChange } from '../network/route-table.js';
import type { ExternalLink } from './external-link.js';
import { RouteNetwork, type RouteNetworkParts } from './route-network.js';

/** How a host is reached with DirectRouting; `refusal`: why the kernel has no route to it. */
export function reachBy(external: ExternalLink, host: Ipv4, refusal: string | undefined): Reach {
  const { name } = external;
  if (!external.isOnLink(host)) return { way: 'tunnel', why: `not on the segment of ${name}` };
  if (refusal !== undefined) return { way: 'tunnel', why: refusal };
  return { way: 'direct', why: `on the segment of ${name}` };
}

/** The routes to hosts on the segment, beside a tunnel that has all of them. */
export class DirectRoutes {
  readonly #external: ExternalLink;
  readonly #routes: RouteNetwork;
  /** Those in the kernel, by subnet. */
  readonly #direct = new Map<string, Route>();

  constructor(parts: RouteNetworkParts) {
    this.#external = parts.external;
    this.#routes = new RouteNetwork(parts);
  }

  apply(changes: readonly RouteChange[]): void {
    this.#routes.apply(changes.flatMap((change) => this.#inKernel(change)));
  }

  removeLeft(routes: () => readonly Route[]): void {
    this.#routes.removeLeft(routes);
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
    if (type !== 'remove' && this.#external.isOnLink(route.nextHop)) {
      this.#direct.set(key, route);
      return [
        before === undefined ? { type: 'add', route } : { type: 'update', route, previous: before },
      ];
    }
    this.#direct.delete(key);
    return before === undefined ? [] : [{ type: 'remove', route: before }];
  }
}
