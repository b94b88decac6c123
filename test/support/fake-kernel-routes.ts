/** The kernel's main table of routes, played. */
import { formatCidr, formatIpv4, sameCidr } from '../../src/config/ipv4.js';
import type { GatewayRoute, KernelRoute, KernelRoutes } from '../../src/dataplane/kernel-routes.js';

export class FakeKernelRoutes implements KernelRoutes {
  routes: KernelRoute[] = [];
  /** By gateway: the errno name that putting a route by it is refused with. */
  readonly refuses = new Map<number, string>();
  puts = 0;

  list(): readonly KernelRoute[] {
    return this.routes;
  }
  put(route: GatewayRoute): void {
    this.puts += 1;
    const code = this.refuses.get(route.gateway);
    if (code !== undefined) throw Object.assign(new Error(`RTM_NEWROUTE: ${code}`), { code });
    this.routes = this.routes.filter(
      ({ destination, metric }) => metric !== 0 || !sameCidr(destination, route.destination),
    );
    this.routes.unshift({ ...route, metric: 0 });
  }
  delete(route: GatewayRoute): void {
    this.routes = this.routes.filter(
      ({ destination, gateway, metric }) =>
        metric !== 0 || gateway !== route.gateway || !sameCidr(destination, route.destination),
    );
  }
  show(): string[] {
    return this.routes.map(
      ({ destination, gateway, interfaceIndex, metric }) =>
        `${formatCidr(destination)} via ${formatIpv4(gateway)} dev ${interfaceIndex}${metric === 0 ? '' : ` metric ${metric}`}`,
    );
  }
}
