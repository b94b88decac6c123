/**
 * The udp backend: IPv4 packets of the overlay inside UDP datagrams, one each, to the host that
 * holds the lease of their destination.
 *
 *   changes of routes --> forwarding table of the data plane
 *                                | events: miss, refused, fault
 *                                v
 *                      supervisor: replaces a data plane that failed
 *
 * With DirectRouting the kernel also gets a route to each host on the same segment, in front of the
 * device's. The forwarding table still has those hosts: they may send by the tunnel.
 *
 * Forwarding starts with the first changes applied: until then packets wait in the kernel's queue
 * instead of being answered with net-unreachable.
 */
import {
  DataPlane,
  DEFAULT_RESOURCES,
  type DataPlaneOptions,
  type DataPlaneResources,
  type DataPlaneSnapshot,
  type FeatureName,
  type HostInterface,
} from '../../dataplane/dataplane.js';
import { hostChanges } from '../../dataplane/host-changes.js';
import { KERNEL_ROUTES, type KernelRoutes } from '../../dataplane/kernel-routes.js';
import type { Lease, LeaseAttributes } from '../../lease/store.js';
import type {
  Backend,
  BackendContext,
  BackendKind,
  Forwarder,
  ForwarderHealth,
  Reach,
} from '../../network/forwarder.js';
import type { Route, RouteChange } from '../../network/route-table.js';
import { DirectRoutes } from '../direct-routing.js';
import { ExternalLink } from '../external-link.js';
import { MIN_MTU, mtuWithin } from '../link-mtu.js';
import { compileChanges, compileRoutes } from './compile.js';
import { tunnelName, type TakeTunnel, type TunnelKeeper } from './inherited.js';
import { parseUdpSettings, UDP_OVERHEAD_BYTES } from './udp-settings.js';
import { DataPlaneSupervisor, type OpenDataPlane } from './supervisor.js';

/** Smallest MTU of the external interface. */
export const MIN_EXTERNAL_MTU = MIN_MTU + UDP_OVERHEAD_BYTES;

/** What fits in one datagram; a loopback's MTU of 65,536 would leave more. */
const MAX_MTU = 65_535 - UDP_OVERHEAD_BYTES;

export interface UdpOptions {
  /** How packets cross into and out of the kernel: one by one, or many a system call. */
  readonly mode: DataPlaneOptions['mode'];
  /** Optional kernel features to do without. */
  readonly disabled?: readonly FeatureName[];
  /** Threads, queues and buffers; DEFAULT_RESOURCES when not given. */
  readonly resources?: DataPlaneResources;
  /** Refuse datagrams whose outer source holds no lease for the inner source. */
  readonly sourceCheck: boolean;
  /** TUN name pattern, `%d` is the first free number; `flannel%d` when not given. */
  readonly tunName?: string;
  /** In place of the kernel's routes and interfaces, for tests. */
  readonly kernelRoutes?: KernelRoutes | undefined;
  readonly interfaces?: (() => readonly HostInterface[]) | undefined;
  /** Brings the tunnel of a process that runs, to go on with. */
  readonly takeTunnel?: TakeTunnel | undefined;
  readonly keeper?: TunnelKeeper | undefined;
  /** Brings another data plane than the native one, for tests and embedders. */
  readonly openDataPlane?: OpenDataPlane | undefined;
}

export const UDP: BackendKind<UdpOptions> = {
  type: 'udp',
  keys: ['Port', 'DirectRouting'],
  settings: (config) => {
    const { port, directRouting } = parseUdpSettings(config);
    return [
      ['Port', String(port)],
      ['DirectRouting', String(directRouting)],
    ];
  },
  create: (context, options) => new UdpBackend(context, options),
};

export class UdpBackend implements Backend {
  readonly mtu: number;
  readonly minExternalMtu = MIN_EXTERNAL_MTU;
  /** flannel's udp leases carry neither BackendType nor BackendData. */
  readonly leaseAttributes: LeaseAttributes;
  readonly udpPort: number;
  readonly #context: BackendContext;
  readonly #options: UdpOptions;
  readonly #directRouting: boolean;

  /** Throws an input error when the interface's MTU is too small. */
  constructor(context: BackendContext, options: UdpOptions) {
    const { config, external } = context;
    this.#context = context;
    this.#options = options;
    this.leaseAttributes = { publicIp: external.publicIp };
    const { port, directRouting } = parseUdpSettings(config.backend);
    this.udpPort = port;
    this.#directRouting = directRouting;
    this.mtu = Math.min(mtuWithin(external, external.mtu, UDP_OVERHEAD_BYTES), MAX_MTU);
  }

  open(lease: Lease, routes: () => readonly Route[]): Forwarder {
    const { config, external, log, problems, events } = this.#context;
    const { tunName, mode, disabled, sourceCheck, resources, openDataPlane, takeTunnel, keeper } =
      this.#options;
    const options: DataPlaneOptions = {
      tunName: tunName ?? 'flannel%d',
      tunAddress: lease.subnet.network,
      network: config.network.network,
      networkPrefix: config.network.prefix,
      subnet: lease.subnet.network,
      subnetPrefix: lease.subnet.prefix,
      mtu: this.mtu,
      bindAddress: external.address,
      port: this.udpPort,
      mode,
      disabled: disabled ?? [],
      sourceCheck,
      ...(resources ?? DEFAULT_RESOURCES),
    };
    const open = openDataPlane ?? ((dataPlane: DataPlaneOptions) => new DataPlane(dataPlane));
    const all = (): Uint32Array => compileRoutes(routes());
    const direct = this.#directRouting ? this.#directRoutes() : undefined;
    // Another data plane than the native one has no device of this host.
    const changes = openDataPlane === undefined ? hostChanges() : undefined;
    const name = tunnelName(config.network, lease.subnet);
    const inherited = takeTunnel?.(name);
    const plane = new DataPlaneSupervisor(options, open, all, log, problems, changes, events, {
      name,
      inherited,
      keeper,
    });
    return new UdpForwarder(this, plane, direct, name);
  }

  #directRoutes(): DirectRoutes {
    const { external, log, problems } = this.#context;
    const { kernelRoutes: kernel = KERNEL_ROUTES, interfaces } = this.#options;
    const link = new ExternalLink(external, interfaces);
    return new DirectRoutes({ kernel, external: link, log, problems });
  }
}

class UdpForwarder implements Forwarder {
  readonly mtu: number;
  readonly minExternalMtu = MIN_EXTERNAL_MTU;
  readonly leaseAttributes: LeaseAttributes;
  readonly udpPort: number;
  readonly #plane: DataPlaneSupervisor;
  readonly #direct: DirectRoutes | undefined;
  readonly #name: string;
  #handedOver = false;

  constructor(
    { mtu, leaseAttributes, udpPort }: UdpBackend,
    plane: DataPlaneSupervisor,
    direct: DirectRoutes | undefined,
    name: string,
  ) {
    this.#name = name;
    this.mtu = mtu;
    this.leaseAttributes = leaseAttributes;
    this.udpPort = udpPort;
    this.#plane = plane;
    this.#direct = direct;
  }

  get device(): string {
    return this.#plane.device;
  }

  apply(changes: readonly RouteChange[]): void {
    this.#plane.changeRoutes(compileChanges(changes));
    this.#plane.start();
    this.#direct?.apply(changes);
  }

  changeMode(mode: DataPlaneOptions['mode']): void {
    this.#plane.changeMode(mode);
  }

  reach(route: Route): Reach {
    const reach = this.#direct?.reach(route) ?? { way: 'tunnel' };
    const pathMtu = this.#plane.pathMtu(route.nextHop);
    return pathMtu === undefined || reach.way === 'direct' ? reach : { ...reach, pathMtu };
  }

  health(): ForwarderHealth {
    return { error: this.#plane.error, restarts: this.#plane.restarts };
  }

  counters(): DataPlaneSnapshot {
    return this.#plane.snapshot();
  }

  readonly handover = {
    give: (path: string): string => {
      this.#plane.give(path, this.#name);
      return this.#name;
    },
    end: (): void => {
      this.#handedOver = true;
      this.#plane.close();
    },
  };

  close(): void {
    // The kernel's routes are the successor's.
    if (!this.#handedOver) this.#direct?.close();
    this.#plane.close();
  }
}
