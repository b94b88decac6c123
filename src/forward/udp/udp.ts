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
  type FeatureState,
  type HostInterface,
  type ThreadCounters,
} from '../../dataplane/dataplane.js';
import { FOU_KERNEL } from '../../dataplane/fou.js';
import { hostChanges } from '../../dataplane/host-changes.js';
import { KERNEL_ROUTES, type KernelRoutes } from '../../dataplane/kernel-routes.js';
import { addCounters, retire } from '../../dataplane/totals.js';
import { inputError, messageOf, systemError } from '../../errors.js';
import type { Ipv4 } from '../../config/ipv4.js';
import type { Lease, LeaseAttributes } from '../../lease/store.js';
import type { Logger } from '../../log.js';
import type {
  Aside,
  Backend,
  BackendContext,
  BackendKind,
  Forwarder,
  ForwarderHealth,
  Handover,
  PathMtu,
  Reach,
} from '../../network/forwarder.js';
import type { Route, RouteChange } from '../../network/route-table.js';
import { DirectRoutes } from '../direct-routing.js';
import { ExternalLink } from '../external-link.js';
import { MIN_MTU, mtuWithin } from '../link-mtu.js';
import { compileChanges, compileRoutes } from './compile.js';
import { claimEnd, FouTunnel, tryTunnel } from './fou-tunnel.js';
import {
  tunnelName,
  type InheritedTunnel,
  type TakeTunnel,
  type TunnelKeeper,
} from './inherited.js';
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
  /** The tunnel is to stay at the end, which FOU alone can; default false. */
  readonly keepForwarding?: boolean | undefined;
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
  /** By FOU; where that is refused, it is so when it is opened. */
  readonly outlivesDaemon: boolean;
  readonly #context: BackendContext;
  readonly #options: UdpOptions;
  readonly #directRouting: boolean;

  /** Throws an input error when the interface's MTU is too small. */
  constructor(context: BackendContext, options: UdpOptions) {
    const { config, external } = context;
    this.#context = context;
    this.#options = options;
    this.outlivesDaemon = options.mode === 'kernel' && options.openDataPlane === undefined;
    this.leaseAttributes = { publicIp: external.publicIp };
    const { port, directRouting } = parseUdpSettings(config.backend);
    this.udpPort = port;
    this.#directRouting = directRouting;
    this.mtu = Math.min(mtuWithin(external, external.mtu, UDP_OVERHEAD_BYTES), MAX_MTU);
  }

  open(lease: Lease, routes: () => readonly Route[]): Forwarder {
    return this.#openAs({ aside: false }, lease, routes);
  }

  openAside(lease: Lease, routes: () => readonly Route[]): Forwarder {
    // FOU's port is the kernel's, and a program in the kernel has none.
    if (this.#options.mode === 'kernel') {
      throw systemError('mode kernel does not forward beside another program');
    }
    return this.#openAs({ aside: true }, lease, routes);
  }

  #openAs(
    how: Pick<DataPlaneOptions, 'aside'>,
    lease: Lease,
    routes: () => readonly Route[],
  ): Forwarder {
    const { config, external, log, problems, events } = this.#context;
    const { tunName, mode, disabled, sourceCheck, resources, openDataPlane, takeTunnel, keeper } =
      this.#options;
    const { keepForwarding } = this.#options;
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
      ...how,
    };
    const open = openDataPlane ?? ((dataPlane: DataPlaneOptions) => new DataPlane(dataPlane));
    const all = (): Uint32Array => compileRoutes(routes());
    // Another data plane than the native one has no device of this host.
    const changes = openDataPlane === undefined ? hostChanges() : undefined;
    const name = tunnelName(config.network, lease.subnet);
    const openPlane = (
      planeOptions: DataPlaneOptions,
      inherited?: InheritedTunnel,
    ): DataPlaneSupervisor =>
      new DataPlaneSupervisor(planeOptions, open, all, log, problems, changes, events, {
        name,
        inherited,
        keeper,
      });
    return new UdpForwarder(this, {
      options,
      routes,
      keepForwarding: keepForwarding ?? false,
      inherited: how.aside === true ? undefined : takeTunnel?.(name),
      name,
      log,
      openPlane,
      ...(openDataPlane === undefined
        ? {
            openFou: () => this.#openFou(options),
            tryFou: () => {
              tryTunnel({ kernel: FOU_KERNEL, options });
            },
          }
        : {}),
      openDirect: this.#directRouting ? () => this.#directRoutes() : undefined,
    });
  }

  #openFou(options: DataPlaneOptions): FouTunnel {
    const { external, log, problems } = this.#context;
    const { kernelRoutes: routes = KERNEL_ROUTES, interfaces } = this.#options;
    return new FouTunnel({
      kernel: FOU_KERNEL,
      routes,
      interfaces,
      external,
      options,
      directRouting: this.#directRouting,
      log,
      problems,
    });
  }

  #directRoutes(): DirectRoutes {
    const { external, log, problems } = this.#context;
    const { kernelRoutes: kernel = KERNEL_ROUTES, interfaces } = this.#options;
    const link = new ExternalLink(external, interfaces);
    return new DirectRoutes({ kernel, external: link, log, problems });
  }
}

interface UdpForwarderParts {
  readonly options: DataPlaneOptions;
  /** Every route that was applied. */
  readonly routes: () => readonly Route[];
  readonly keepForwarding: boolean;
  readonly inherited: InheritedTunnel | undefined;
  /** Of the tunnel (tunnelName). */
  readonly name: string;
  readonly log: Logger;
  readonly openPlane: (
    options: DataPlaneOptions,
    inherited?: InheritedTunnel,
  ) => DataPlaneSupervisor;
  /** Undefined where the data plane is not this host's. */
  readonly openFou?: () => FouTunnel;
  /** Throws what the kernel lacks for it. */
  readonly tryFou?: () => void;
  readonly openDirect: (() => DirectRoutes) | undefined;
}

/** What forwards: the kernel's FOU in mode kernel where there is one, else a data plane. */
type Carrier =
  | { readonly fou: FouTunnel }
  | { readonly plane: DataPlaneSupervisor; readonly direct: DirectRoutes | undefined };

class UdpForwarder implements Forwarder {
  readonly mtu: number;
  readonly minExternalMtu = MIN_EXTERNAL_MTU;
  readonly leaseAttributes: LeaseAttributes;
  readonly udpPort: number;
  readonly #parts: UdpForwarderParts;
  #carrier: Carrier;
  #mode: DataPlaneOptions['mode'];
  #started = false;
  #retired: readonly ThreadCounters[] = [];
  /** What kept FOU from being used, in mode kernel. */
  #refused: Pick<FeatureState, 'state' | 'errno'> | undefined;
  #handedOver = false;

  constructor({ mtu, leaseAttributes, udpPort }: UdpBackend, parts: UdpForwarderParts) {
    this.mtu = mtu;
    this.leaseAttributes = leaseAttributes;
    this.udpPort = udpPort;
    const { inherited, options } = parts;
    // What comes in its place has the port.
    this.#parts = { ...parts, options: { ...options, aside: false } };
    this.#mode = options.mode;
    // The process before has the port.
    this.#carrier =
      inherited === undefined ? this.#open(options) : this.#openPlane(options, inherited);
  }

  get device(): string {
    return this.#live.device;
  }

  apply(changes: readonly RouteChange[]): void {
    this.#started = true;
    if ('fou' in this.#carrier) {
      this.#carrier.fou.apply(changes);
      return;
    }
    const { plane, direct } = this.#carrier;
    plane.changeRoutes(compileChanges(changes));
    plane.start();
    direct?.apply(changes);
  }

  /** Of DirectRouting: the others end with the device. */
  removeLeft(routes: () => readonly Route[]): void {
    if ('fou' in this.#carrier) this.#carrier.fou.removeLeft(routes);
    else this.#carrier.direct?.removeLeft(routes);
  }

  changeMode(mode: DataPlaneOptions['mode']): void {
    if (mode === this.#mode) return;
    this.#mode = mode;
    this.#refused = undefined;
    if ('plane' in this.#carrier) {
      // With the same device, but by FOU.
      if (mode !== 'kernel' || !this.#canFou()) this.#carrier.plane.changeMode(mode);
      else this.#replace(() => this.#openKernel());
      return;
    }
    const tunName = this.device;
    this.#replace(() => this.#openPlane({ ...this.#parts.options, mode, tunName }));
  }

  /** Puts another one in its place; packets of the moment in between are lost. */
  #replace(open: () => Carrier): void {
    const before = this.#live;
    if ('plane' in this.#carrier) this.#carrier.direct?.close();
    before.close();
    this.#retired = addCounters(this.#retired, retire(before.snapshot().threads));
    this.#carrier = open();
    if (!this.#started) return;
    this.apply(this.#parts.routes().map((route) => ({ type: 'add', route })));
  }

  /** Whether FOU can take over. Tried out before anything is given up for it. */
  #canFou(): boolean {
    const { tryFou } = this.#parts;
    return tryFou !== undefined && typeof this.#attempt(tryFou) !== 'string';
  }

  /** By FOU, which was tried out; should it be refused all the same, by eBPF. */
  #openKernel(): Carrier {
    const { options, openFou, log } = this.#parts;
    const fou = openFou === undefined ? 'there is none' : this.#attempt(openFou);
    if (typeof fou !== 'string') return { fou };
    log.info({ reason: fou }, 'no tunnel by FOU; trying eBPF');
    return this.#openPlane({ ...options, mode: 'kernel' });
  }

  reach(route: Route): Reach {
    if ('fou' in this.#carrier) return this.#carrier.fou.reach(route);
    const { plane, direct } = this.#carrier;
    const reach = direct?.reach(route) ?? { way: 'tunnel' };
    const pathMtu = plane.narrowPaths.get(route.nextHop);
    return pathMtu === undefined || reach.way === 'direct' ? reach : { ...reach, pathMtu };
  }

  narrowPaths(): ReadonlyMap<Ipv4, PathMtu> {
    return 'fou' in this.#carrier ? new Map() : this.#carrier.plane.narrowPaths;
  }

  health(): ForwarderHealth {
    if ('fou' in this.#carrier) return this.#carrier.fou.health();
    const { error, restarts } = this.#carrier.plane;
    return { error, restarts };
  }

  counters(): DataPlaneSnapshot {
    const { threads, features, ...rest } = this.#live.snapshot();
    const refused = this.#refused;
    return {
      ...rest,
      threads: addCounters(this.#retired, threads),
      features: features.map((one) =>
        one.name === 'fou' && refused !== undefined ? { ...one, ...refused } : one,
      ),
    };
  }

  /** The kernel's own ways have no reader that could stand aside: user space carries on. */
  get aside(): Aside {
    return {
      step: () => {
        if (this.#mode === 'kernel') this.changeMode('offload');
        if ('plane' in this.#carrier) this.#carrier.plane.stepAside();
      },
      back: () => {
        if ('plane' in this.#carrier) this.#carrier.plane.stepBack();
      },
    };
  }

  /** Descriptors are of a data plane; the kernel's own tunnel has none. */
  get handover(): Handover | undefined {
    if ('fou' in this.#carrier) return undefined;
    const { plane } = this.#carrier;
    return {
      give: (path) => {
        plane.give(path, this.#parts.name);
        return this.#parts.name;
      },
      end: () => {
        this.#handedOver = true;
        plane.close();
      },
    };
  }

  close(keep = false): void {
    if ('fou' in this.#carrier) {
      this.#carrier.fou.close(keep);
      return;
    }
    // The kernel's routes are the successor's.
    if (!this.#handedOver) this.#carrier.direct?.close();
    this.#carrier.plane.close();
  }

  get #live(): FouTunnel | DataPlaneSupervisor {
    return 'fou' in this.#carrier ? this.#carrier.fou : this.#carrier.plane;
  }

  #open(options: DataPlaneOptions): Carrier {
    const { openFou, keepForwarding, log } = this.#parts;
    if (openFou === undefined || options.aside === true) return this.#openPlane(options);
    const end = { local: options.bindAddress, port: options.port };
    let reason: string | undefined;
    if (options.mode === 'kernel') {
      const fou = this.#attempt(openFou);
      if (typeof fou !== 'string') return { fou };
      if (keepForwarding) throw inputError('--keep-forwarding', true, `FOU, but ${fou}`);
      reason = fou;
    }
    // What a killed process left has the port.
    claimEnd(end, false)();
    const plane = this.#openPlane(options);
    // Not before: where the port is taken this is tried again and again (--wait-for-port).
    if (reason !== undefined) log.info({ reason }, 'no tunnel by FOU; trying eBPF');
    return plane;
  }

  /** What `work` with FOU gives, or why there is none. */
  #attempt<T>(work: () => T): T | string {
    if (this.#parts.options.disabled.includes('fou')) {
      this.#refused = { state: 'disabled', errno: 0 };
      return 'it is disabled';
    }
    try {
      return work();
    } catch (error) {
      this.#refused = { state: 'refused', errno: numberOf(error) };
      return messageOf(error);
    }
  }

  #openPlane(options: DataPlaneOptions, inherited?: InheritedTunnel): Carrier {
    const direct = this.#parts.openDirect?.();
    return { plane: this.#parts.openPlane(options, inherited), direct };
  }
}

function numberOf(error: unknown): number {
  return error instanceof Error && 'errno' in error && typeof error.errno === 'number'
    ? error.errno
    : 0;
}
