/**
 * Routes by the VXLAN device in the shape of plain ones, so that RouteNetwork keeps them:
 *
 *   SUBNET via HOST   is   route SUBNET via SUBNET.0 onlink, neighbour SUBNET.0 = MAC, MAC at HOST
 *   or, for a host on the external interface's own segment (DirectRouting),  route SUBNET via HOST
 */
import { subnetKey, type Cidr, type Ipv4 } from '../../config/ipv4.js';
import type { GatewayRoute, KernelRoute, KernelRoutes } from '../../dataplane/kernel-routes.js';
import type { Vtep, VxlanKernel } from '../../dataplane/vxlan.js';

export interface VxlanRoutesParts {
  readonly routes: KernelRoutes;
  readonly kernel: VxlanKernel;
  /** Index of the device. */
  readonly device: () => number;
  /** The same, after it was made again where it is gone. */
  readonly restoredDevice: () => number;
  /** Index of the external interface. */
  readonly external: () => number;
  /** MAC address of the host that holds the subnet. */
  readonly macOf: (subnet: Cidr) => number | undefined;
  /** Hosts on the external interface's own segment are sent to without the tunnel. */
  readonly isDirect: (host: Ipv4) => boolean;
}

export class VxlanRoutes implements KernelRoutes {
  readonly #parts: VxlanRoutesParts;

  constructor(parts: VxlanRoutesParts) {
    this.#parts = parts;
  }

  /** Only those that are complete, as `SUBNET via HOST` by the external interface. */
  list(): readonly KernelRoute[] {
    const { routes, kernel, restoredDevice, external, isDirect } = this.#parts;
    const index = restoredDevice();
    const hosts = new Map(kernel.list(index).map((vtep) => [vtep.address, vtep]));
    return routes.list().flatMap((route) => {
      if (route.interfaceIndex === external() && isDirect(route.gateway)) return [route];
      const vtep = hosts.get(route.gateway);
      if (route.interfaceIndex !== index || vtep === undefined) return [];
      const { destination } = route;
      if (isDirect(vtep.host) || vtep.mac !== this.#parts.macOf(destination)) return [];
      return [{ ...route, gateway: vtep.host, interfaceIndex: external() }];
    });
  }

  put(route: GatewayRoute): void {
    const { routes, kernel, device, isDirect } = this.#parts;
    const index = device();
    if (isDirect(route.gateway)) {
      this.#removeTunnel(index, route);
      routes.put(route);
      return;
    }
    const vtep = this.#vtep(route);
    if (vtep === undefined) throw new Error(`no MAC address for ${subnetKey(route.destination)}`);
    kernel.put(index, vtep);
    routes.put({
      destination: route.destination,
      gateway: vtep.address,
      interfaceIndex: index,
      onlink: true,
    });
  }

  delete(route: GatewayRoute): void {
    const { routes, device, isDirect } = this.#parts;
    // Without DirectRouting such a route is another's: host-gw's, which takes this one's place.
    if (isDirect(route.gateway)) routes.delete(route);
    this.#removeTunnel(device(), route);
  }

  /** Takes the device's routes and entries for all other subnets away: how many hosts they were of. */
  removeOthers(isWanted: (subnet: Cidr) => boolean): number {
    const { routes, kernel, device } = this.#parts;
    const index = device();
    const own = routes.list().filter((one) => one.interfaceIndex === index && one.gateway !== 0);
    const left = own.filter(({ destination }) => !isWanted(destination));
    const addresses = new Set(left.map(({ gateway }) => gateway));
    for (const { destination, gateway } of left) {
      routes.delete({ destination, gateway, interfaceIndex: index, onlink: true });
    }
    const used = new Set(own.filter((one) => !left.includes(one)).map(({ gateway }) => gateway));
    for (const vtep of kernel.list(index)) {
      if (used.has(vtep.address)) continue;
      addresses.add(vtep.address);
      kernel.remove(index, vtep);
    }
    return addresses.size;
  }

  #removeTunnel(index: number, route: GatewayRoute): void {
    const { routes, kernel } = this.#parts;
    const { destination } = route;
    const gateway = destination.network;
    routes.delete({ destination, gateway, interfaceIndex: index, onlink: true });
    const vtep = this.#vtep(route);
    if (vtep !== undefined) kernel.remove(index, vtep);
  }

  #vtep({ destination, gateway }: GatewayRoute): Vtep | undefined {
    const mac = this.#parts.macOf(destination);
    return mac === undefined ? undefined : { address: destination.network, mac, host: gateway };
  }
}
