/**
 * Routes by the FOU device in the shape of plain ones, so that RouteNetwork keeps them:
 *
 *   SUBNET via HOST   is   route SUBNET via HOST dev flannel0 onlink
 *   or, for a host on the external interface's own segment (DirectRouting),  route SUBNET via HOST
 */
import { subnetKey, type Ipv4 } from '../../config/ipv4.js';
import type { GatewayRoute, KernelRoute, KernelRoutes } from '../../dataplane/kernel-routes.js';

export interface FouRoutesParts {
  readonly routes: KernelRoutes;
  /** Index of the device. */
  readonly device: () => number;
  /** Puts back what others took away of the tunnel. */
  readonly restore: () => void;
  /** Index of the external interface. */
  readonly external: () => number;
  /** Hosts that are sent to without the tunnel. */
  readonly isDirect: (host: Ipv4) => boolean;
}

export class FouRoutes implements KernelRoutes {
  readonly #parts: FouRoutesParts;
  readonly #wanted = new Set<string>();

  constructor(parts: FouRoutesParts) {
    this.#parts = parts;
  }

  /** As `SUBNET via HOST` by the external interface; others by the device are taken away. */
  list(): readonly KernelRoute[] {
    const { routes, device, restore, external, isDirect } = this.#parts;
    restore();
    return routes.list().flatMap((route) => {
      const direct = isDirect(route.gateway);
      if (route.interfaceIndex === external() && direct) return [route];
      if (route.interfaceIndex !== device() || route.gateway === 0) return [];
      if (this.#wanted.has(subnetKey(route.destination)) && !direct && route.metric === 0)
        return [{ ...route, interfaceIndex: external() }];
      if (route.metric === 0) routes.delete(this.#byTunnel(route));
      return [];
    });
  }

  put(route: GatewayRoute): void {
    const { routes, isDirect } = this.#parts;
    this.#wanted.add(subnetKey(route.destination));
    if (!isDirect(route.gateway)) {
      routes.put(this.#byTunnel(route));
      return;
    }
    routes.delete(this.#byTunnel(route));
    routes.put(route);
  }

  delete(route: GatewayRoute): void {
    const { routes, isDirect } = this.#parts;
    this.#wanted.delete(subnetKey(route.destination));
    routes.delete(this.#byTunnel(route));
    if (isDirect(route.gateway)) routes.delete(route);
  }

  #byTunnel({ destination, gateway }: GatewayRoute): GatewayRoute {
    return { destination, gateway, interfaceIndex: this.#parts.device(), onlink: true };
  }
}
