/**
 * One daemon, from its options to its end.
 *
 *   options -> status server -> external interface -> store -> network configuration (asked for each
 *   second) -> register the network: lease, device, route, socket
 *     -> firewall rules; follow the store -> first publication -> subnet.env -> ready
 *
 * Each step holds what it opened in a `finally`, so everything is closed in reverse order whether
 * the daemon is asked to stop or fails half-way; an aborted signal is a normal end. subnet.env stays,
 * as flanneld's does: the next start takes the subnet in it again.
 *
 * A network is registered anew when its subnet is lost for good and when the external interface is
 * another one or has another MTU; server and store live on, and the counters of the old one are
 * kept. A store that is away is waited for: what forwards goes on with the last known routes.
 */
import { createBackend } from '../backend/registry.js';
import type { Network } from '../backend/backend.js';
import type { OpenDataPlane } from '../backend/supervisor.js';
import { addCounters, retire } from '../backend/totals.js';
import { firstHost, formatCidr, formatIpv4, type Cidr, type Ipv4 } from '../config/ipv4.js';
import { parseNetworkConfig, type NetworkConfig } from '../config/network.js';
import {
  hostInterfaces,
  probeKernel,
  type DataPlaneSnapshot,
  type HostInterface,
  type KernelFeature,
  type ThreadCounters,
} from '../dataplane/dataplane.js';
import { messageOf } from '../errors.js';
import {
  createFirewall,
  FirewallKeeper,
  type Firewall,
  type FirewallKind,
} from '../firewall/firewall.js';
import {
  readDefaultInterface,
  selectExternalInterface,
  sourceAddressTo,
  type ExternalInterface,
} from '../host/interface.js';
import { readSubnetEnv, writeSubnetEnv } from '../host/subnet-env.js';
import { watchExternalInterface } from '../host/watch-interface.js';
import { isStoreAway, storeFault, type StoreFault } from '../lease/errors.js';
import { expiryTime } from '../lease/expiry.js';
import type { Lease, LeaseStore } from '../lease/store.js';
import type { Logger } from '../log.js';
import { createMetrics, type MetricsSample } from '../metrics/metrics.js';
import { ProblemBoard, type Problem } from '../problems.js';
import {
  dataPlaneMode,
  statusSocketPath,
  validateDaemonOptions,
  type DaemonOptions,
} from './options.js';
import { keepLease } from './renew.js';
import { StatusServer } from './server.js';
import { openStore } from './open-store.js';
import type { ServiceManager } from './sd-notify.js';
import { describeStatus, type DaemonStatus, type FirewallState } from './status.js';
import { packageVersion } from './version.js';
import { pause } from './wait.js';

/** What a daemon uses of the machine; tests and embedders may bring their own. */
export interface DaemonDependencies {
  readonly openStore?: typeof openStore;
  readonly openDataPlane?: OpenDataPlane;
  readonly hostInterfaces?: () => readonly HostInterface[];
  readonly defaultInterface?: () => Promise<string | undefined>;
  /** The local address the kernel would send from; for `--iface-can-reach`. */
  readonly sourceAddressTo?: (destination: string) => Promise<Ipv4>;
  readonly probeKernel?: () => readonly KernelFeature[];
  readonly createFirewall?: (kind: FirewallKind, log: Logger) => Firewall;
  /** Told when traffic can flow and when the end begins; only a program of its own has one. */
  readonly serviceManager?: Pick<ServiceManager, 'ready' | 'stopping'>;
}

export interface Readiness {
  readonly ready: boolean;
  readonly phase: string;
  readonly synced: boolean;
  readonly subnetFileWritten: boolean;
  readonly store: {
    readonly ok: boolean;
    readonly error: string | null;
    /** There when waiting alone does not help: somebody has to put it right, here or at the store. */
    readonly fault?: Exclude<StoreFault, 'unreachable'>;
    /** How old the knowledge in force is: 0 while the store is followed; null before there is any. */
    readonly leasesAgeSeconds: number | null;
  };
  readonly dataPlane: { readonly ok: boolean; readonly error: string | null };
  readonly firewall: { readonly ok: boolean; readonly error: string | null };
  /** What hinders traffic although every part works; a daemon may be ready all the same. */
  readonly problems: readonly Problem[];
  readonly [detail: string]: unknown;
}

const STORE_INTERVAL_MS = 1_000;
const STORE_LOG_EVERY = 60;
const SUBNET_FILE_INTERVAL_MS = 2_000;
const SUBNET_FILE_LOG_EVERY = 30;

export class Daemon {
  readonly #options: DaemonOptions;
  readonly #log: Logger;
  readonly #dependencies: DaemonDependencies;
  readonly #startedAt = performance.now();
  readonly #problems: ProblemBoard;
  #phase = 'starting';
  #synced = false;
  #subnetFileWritten = false;
  /** Why the store could not be asked last time; before a network follows it. */
  #storeProblem: Error | undefined;
  #features: readonly KernelFeature[] = [];
  #external: ExternalInterface | undefined;
  #store: LeaseStore | undefined;
  #config: NetworkConfig | undefined;
  #network: Network | undefined;
  #firewall: FirewallKeeper | undefined;
  #retired: readonly ThreadCounters[] = [];
  #retiredRestarts = 0;
  #retiredRepairs = 0;

  constructor(options: DaemonOptions, log: Logger, dependencies: DaemonDependencies = {}) {
    this.#options = options;
    this.#log = log;
    this.#problems = new ProblemBoard(log);
    this.#dependencies = dependencies;
  }

  /**
   * Resolves when the signal aborted and everything is closed. Rejects with a FlannelletteError
   * when the daemon cannot start or go on; nothing is left behind then either.
   */
  async run(signal: AbortSignal): Promise<void> {
    try {
      validateDaemonOptions(this.#options);
      const server = await this.#openServer();
      const { serviceManager } = this.#dependencies;
      if (serviceManager !== undefined) {
        const stopping = (): void => {
          serviceManager.stopping();
        };
        signal.addEventListener('abort', stopping, { once: true });
      }
      try {
        await this.#runWithServer(signal);
      } finally {
        await server.close();
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      this.#phase = 'stopped';
    }
    this.#log.info('stopped');
  }

  async #runWithServer(signal: AbortSignal): Promise<void> {
    this.#phase = 'choosing the external interface';
    this.#external = await this.#chooseInterface();
    this.#logInterface(this.#external, 'external interface');
    this.#phase = 'opening the lease store';
    const report = (problems: readonly Problem[]): void => {
      this.#problems.report('store', problems);
    };
    const open = this.#dependencies.openStore ?? openStore;
    const store = await open(this.#options, this.#log, report);
    try {
      this.#store = store;
      const config = await this.#readConfig(store, signal);
      this.#config = config;
      this.#features = this.#probe();
      await this.#serve(store, config, this.#external, signal);
    } finally {
      await store.close();
    }
  }

  /** The same JSON that /status gives. */
  status(): DaemonStatus {
    const { ready, phase, store } = this.readiness();
    return describeStatus({
      version: packageVersion(),
      mode: this.#options.mode,
      ready,
      phase,
      uptimeSeconds: Math.round(performance.now() - this.#startedAt) / 1000,
      store: this.#store,
      storeError: store.error,
      config: this.#config,
      network: this.#network,
      external: this.#external,
      features: this.#features,
      dataPlane: this.#dataPlane(),
      dataPlaneRestarts: this.#dataPlaneRestarts(),
      firewall: this.#firewallState(),
      problems: this.#problems.all,
    });
  }

  /**
   * What /readyz gives. A store that cannot be followed, a data plane being replaced or a firewall
   * that was in place and now refuses is shown but leaves a daemon ready: to take its node out of
   * service would not help.
   */
  readiness(): Readiness {
    const state = this.#network?.status();
    const waiting = this.#storeProblem === undefined ? undefined : messageOf(this.#storeProblem);
    const fault = state?.storeFault ?? storeFault(this.#storeProblem);
    const forwards = this.#synced && this.#subnetFileWritten;
    const guarded = this.#firewall?.inPlace === true;
    return {
      ready: forwards && guarded,
      phase: forwards && !guarded ? 'putting the firewall rules in place' : this.#phase,
      synced: this.#synced,
      subnetFileWritten: this.#subnetFileWritten,
      store: {
        ...health(this.#store !== undefined, state?.storeError ?? waiting),
        ...(fault === undefined || fault === 'unreachable' ? {} : { fault }),
        leasesAgeSeconds: this.#synced ? leasesAge(state?.leasesAsOf) : null,
      },
      dataPlane: health(state !== undefined, state?.dataPlaneError),
      firewall: health(guarded, this.#firewall?.error),
      problems: this.#problems.all,
    };
  }

  async #chooseInterface(): Promise<ExternalInterface> {
    const { iface, ifaceRegex, ifaceCanReach: destination, publicIp } = this.#options;
    const dependencies = this.#dependencies;
    const interfaces = (dependencies.hostInterfaces ?? hostInterfaces)();
    const byFlag = iface.length > 0 || ifaceRegex.length > 0;
    const canReach =
      byFlag || destination === undefined
        ? undefined
        : {
            destination,
            source: await (dependencies.sourceAddressTo ?? sourceAddressTo)(destination),
          };
    const defaultInterface =
      byFlag || canReach !== undefined
        ? undefined
        : await (dependencies.defaultInterface ?? readDefaultInterface)();
    return selectExternalInterface(interfaces, {
      ...{ iface, ifaceRegex, canReach, publicIp, defaultInterface },
    });
  }

  #logInterface({ name, address, publicIp, mtu }: ExternalInterface, message: string): void {
    this.#log.info(
      { interface: name, address: formatIpv4(address), publicIp: formatIpv4(publicIp), mtu },
      message,
    );
  }

  /** Only told, never acted upon: a daemon must not fail for want of a probe. */
  #probe(): readonly KernelFeature[] {
    try {
      const features = (this.#dependencies.probeKernel ?? probeKernel)();
      const names = (available: boolean): string[] =>
        features.filter((feature) => feature.available === available).map(({ name }) => name);
      this.#log.info({ available: names(true), missing: names(false) }, 'kernel features');
      return features;
    } catch (error) {
      this.#log.info({ error: messageOf(error) }, 'kernel features could not be probed');
      return [];
    }
  }

  async #readConfig(store: LeaseStore, signal: AbortSignal): Promise<NetworkConfig> {
    this.#phase = 'waiting for the network configuration';
    for (let attempt = 0; ; attempt += 1) {
      const text = await this.#untilAnswered(store, signal, () => store.readNetworkConfig(signal));
      if (text !== undefined) return parseNetworkConfig(text, `config in ${store.location}`);
      if (attempt % STORE_LOG_EVERY === 0) {
        this.#log.warn({ store: store.location }, 'no network configuration yet; waiting for it');
      }
      await pause(STORE_INTERVAL_MS, signal);
      signal.throwIfAborted();
    }
  }

  /** Asks a store again each second for as long as it is away; any other error is the caller's. */
  async #untilAnswered<T>(
    store: LeaseStore,
    signal: AbortSignal,
    ask: () => Promise<T>,
  ): Promise<T> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        const answer = await ask();
        this.#storeProblem = undefined;
        return answer;
      } catch (error) {
        if (signal.aborted || !isStoreAway(error)) throw error;
        const before = this.#storeProblem;
        this.#storeProblem = error as Error;
        // Another kind of fault is news at once.
        const isNews = before !== undefined && storeFault(before) !== storeFault(error);
        if (isNews || attempt % STORE_LOG_EVERY === 0) {
          this.#log.warn(
            { store: store.location, error: messageOf(error) },
            storeFault(error) === 'unreachable'
              ? 'the lease store is away; asking again'
              : 'the lease store cannot be used; asking again',
          );
        }
      }
      await pause(STORE_INTERVAL_MS, signal);
      signal.throwIfAborted();
    }
  }

  /** Registers the network and follows it; again whenever what it was registered with has changed. */
  async #serve(
    store: LeaseStore,
    config: NetworkConfig,
    first: ExternalInterface,
    signal: AbortSignal,
  ): Promise<void> {
    const { mode, disable, resources, sourceCheck, subnetFile } = this.#options;
    let external = first;
    let formerPublicIp: Ipv4 | undefined;
    let lease: Lease | undefined;
    let previousSubnet: Cidr | undefined = (await readSubnetEnv(subnetFile))?.subnet;
    for (;;) {
      this.#phase = 'registering the network';
      const log = this.#log;
      const context = { store, external, previousSubnet, formerPublicIp, lease, log };
      const backend = createBackend(
        config,
        context,
        { mode: dataPlaneMode(mode), disabled: disable, resources, sourceCheck },
        this.#dependencies.openDataPlane,
      );
      const network = await this.#untilAnswered(store, signal, () =>
        backend.registerNetwork(config, signal),
      );
      this.#network = network;
      let change: Change | undefined;
      try {
        change = await this.#follow(store, config, external, network, signal);
      } finally {
        network.close();
        this.#retire(network);
      }
      if (change === undefined) return;
      previousSubnet = change.subnet ?? network.lease.subnet;
      formerPublicIp = network.lease.attributes.publicIp;
      if (change.external !== undefined && change.external.address !== external.address) {
        store.reconnect?.();
      }
      external = change.external ?? external;
      // What the lease says is as true as before: with another MTU the store need not even be there.
      const holds = network.leaseLost === undefined && external.publicIp === formerPublicIp;
      lease = change.subnet === undefined && holds ? network.lease : undefined;
      this.#external = external;
    }
  }

  async #openServer(): Promise<StatusServer> {
    const metrics = createMetrics({
      version: packageVersion(),
      mode: this.#options.mode,
      sample: () => this.#sample(),
    });
    const server = new StatusServer({
      ready: () => this.readiness(),
      status: () => this.status(),
      metrics: () => metrics.scrape(),
    });
    try {
      await server.listenUnix(statusSocketPath(this.#options.subnetFile));
      const { healthzIp: host, healthzPort: port } = this.#options;
      if (port !== 0) await server.listenTcp({ host, port });
    } catch (error) {
      await server.close();
      throw error;
    }
    return server;
  }

  /**
   * Runs one network with its lease kept. Resolves with what changed when it has to be registered
   * anew, with `undefined` when the signal aborted.
   */
  async #follow(
    store: LeaseStore,
    config: NetworkConfig,
    external: ExternalInterface,
    network: Network,
    signal: AbortSignal,
  ): Promise<Change | undefined> {
    const end = new AbortController();
    const both = AbortSignal.any([signal, end.signal]);
    const running = network.run(both).then(() => undefined);
    const keeping = this.#keepLease(store, config, external, network, both);
    const watching = this.#watchInterface(external, both);
    const guarding = this.#guard(config, network, both);
    const announcing = this.#announce(network, config, both);
    try {
      return await Promise.race([running, keeping, watching, announcing.then(() => keeping)]);
    } finally {
      end.abort();
      await Promise.allSettled([running, keeping, watching, guarding, announcing]);
      this.#synced = false;
      this.#subnetFileWritten = false;
    }
  }

  async #keepLease(
    store: LeaseStore,
    config: NetworkConfig,
    external: ExternalInterface,
    network: Network,
    signal: AbortSignal,
  ): Promise<Change | undefined> {
    const attributes = { publicIp: external.publicIp };
    const lease = await keepLease(
      {
        store,
        network,
        marginMinutes: this.#options.leaseRenewMarginMinutes,
        acquire: (wait) => {
          const request = { config, attributes, previousSubnet: network.lease.subnet };
          return this.#untilAnswered(store, wait, () => store.acquireLease(request, wait));
        },
        log: this.#log,
      },
      signal,
    );
    if (lease === undefined) return undefined;
    this.#log.warn(
      { old: formatCidr(network.lease.subnet), new: formatCidr(lease.subnet) },
      'the subnet changed; registering the network again',
    );
    return { subnet: lease.subnet };
  }

  async #watchInterface(
    current: ExternalInterface,
    signal: AbortSignal,
  ): Promise<Change | undefined> {
    const choose = (): Promise<ExternalInterface> => this.#chooseInterface();
    const external = await watchExternalInterface({ current, choose, log: this.#log }, signal);
    if (external === undefined) return undefined;
    this.#logInterface(external, 'the external interface changed; registering the network again');
    return { external };
  }

  /** Puts the firewall's rules in place and keeps them until the signal aborts. */
  async #guard(config: NetworkConfig, network: Network, signal: AbortSignal): Promise<void> {
    const { ipMasq, ipMasqFullyRandom, forwardRules, firewallResyncSeconds } = this.#options;
    const create = this.#dependencies.createFirewall ?? createFirewall;
    const [kind, otherKind] = config.enableNFTables
      ? (['nftables', 'iptables'] as const)
      : (['iptables', 'nftables'] as const);
    const keeper = new FirewallKeeper({
      firewall: create(kind, this.#log),
      other: create(otherKind, this.#log),
      plan: {
        network: config.network,
        subnet: network.lease.subnet,
        masquerade: ipMasq,
        forward: forwardRules,
        randomFully: ipMasqFullyRandom,
      },
      resyncSeconds: firewallResyncSeconds,
      log: this.#log,
    });
    this.#firewall = keeper;
    keeper.onChange(() => {
      this.#tellReady();
    });
    await keeper.run(signal);
    this.#retiredRepairs += keeper.repairs;
    this.#firewall = undefined;
  }

  /**
   * Tells the service manager once there is nothing to wait for. A firewall that refuses is no
   * reason to keep units waiting that need the network: flanneld starts then, too.
   */
  #tellReady(): void {
    const settled = this.#firewall?.inPlace === true || this.#firewall?.error !== undefined;
    if (!settled || !this.#synced || !this.#subnetFileWritten) return;
    const subnet = this.#network?.lease.subnet;
    const text = subnet === undefined ? 'forwarding' : `forwarding for ${formatCidr(subnet)}`;
    this.#dependencies.serviceManager?.ready(text);
  }

  /** Writes subnet.env once traffic can flow; a full disk is waited out, forwarding goes on. */
  async #announce(network: Network, config: NetworkConfig, signal: AbortSignal): Promise<void> {
    this.#phase = 'waiting for the leases';
    try {
      await network.synced;
    } catch {
      return; // Closed before that; whoever closed it tells why.
    }
    this.#synced = true;
    this.#phase = 'writing subnet.env';
    const { subnetFile, ipMasq } = this.#options;
    const content = {
      network: config.network,
      subnet: network.lease.subnet,
      mtu: network.mtu,
      ipMasq,
    };
    for (let attempt = 0; !signal.aborted; attempt += 1) {
      try {
        await writeSubnetEnv(subnetFile, content);
        this.#subnetFileWritten = true;
        this.#phase = 'running';
        const { lease, mtu } = network;
        this.#log.info(
          { subnet: formatCidr(lease.subnet), gateway: formatIpv4(firstHost(lease.subnet)), mtu },
          'subnet.env written, traffic can flow',
        );
        this.#tellReady();
        return;
      } catch (error) {
        if (attempt % SUBNET_FILE_LOG_EVERY === 0) {
          this.#log.error(
            { path: subnetFile, error: messageOf(error) },
            'subnet.env could not be written; trying again',
          );
        }
        await pause(SUBNET_FILE_INTERVAL_MS, signal);
      }
    }
  }

  #retire(network: Network): void {
    const { dataPlane, dataPlaneRestarts } = network.status();
    this.#retired = addCounters(this.#retired, retire(dataPlane.threads));
    this.#retiredRestarts += dataPlaneRestarts;
    this.#network = undefined;
  }

  #dataPlane(): DataPlaneSnapshot | undefined {
    const live = this.#network?.status().dataPlane;
    if (live === undefined && this.#retired.length === 0) return undefined;
    return {
      mode: dataPlaneMode(this.#options.mode),
      threads: addCounters(this.#retired, live?.threads ?? []),
      features: live?.features ?? [],
      queues: live?.queues ?? null,
    };
  }

  #firewallState(): FirewallState {
    return {
      inPlace: this.#firewall?.inPlace ?? false,
      error: this.#firewall?.error ?? null,
      repairs: this.#retiredRepairs + (this.#firewall?.repairs ?? 0),
    };
  }

  #dataPlaneRestarts(): number {
    return this.#retiredRestarts + (this.#network?.status().dataPlaneRestarts ?? 0);
  }

  #sample(): MetricsSample {
    const network = this.#network;
    const state = network?.status();
    const { ready, store } = this.readiness();
    return {
      dataPlane: this.#dataPlane(),
      dataPlaneUp: state !== undefined && state.dataPlaneError === undefined,
      dataPlaneRestarts: this.#dataPlaneRestarts(),
      ready,
      routes: network?.routes.size ?? 0,
      rejectedLeases: state?.rejected.length ?? 0,
      leaseExpiresAt: network === undefined ? undefined : expiryTime(network.lease),
      storeUp: store.ok,
      leasesAgeSeconds: this.#synced ? leasesAge(state?.leasesAsOf) : undefined,
      firewall: this.#firewallState(),
      problems: this.#problems.all,
      features: this.#features,
    };
  }
}

/** Why a network has to be registered anew. */
interface Change {
  readonly subnet?: Cidr;
  readonly external?: ExternalInterface;
}

function leasesAge(asOf: number | undefined): number {
  return asOf === undefined ? 0 : Math.max(0, Math.round((Date.now() - asOf) / 1000));
}

function health(
  exists: boolean,
  error: string | undefined,
): { readonly ok: boolean; readonly error: string | null } {
  return { ok: exists && error === undefined, error: error ?? null };
}
