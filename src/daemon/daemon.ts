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
import { setMaxListeners } from 'node:events';
import { settledWithin, unlessAborted } from '../abort.js';
import { createBackend } from '../network/registry.js';
import type { Network } from '../network/forwarder.js';
import type { OpenDataPlane } from '../forward/udp/supervisor.js';
import { addCounters, retire } from '../forward/udp/totals.js';
import { firstHost, formatCidr, formatIpv4, type Cidr, type Ipv4 } from '../config/ipv4.js';
import type { NetworkConfig } from '../config/network.js';
import {
  hostInterfaces,
  probeKernel,
  type DataPlaneSnapshot,
  type KernelFeature,
  type ThreadCounters,
} from '../dataplane/dataplane.js';
import { messageOf } from '../errors.js';
import type { Firewall, FirewallKeeper, FirewallKind } from '../firewall/firewall.js';
import type { ExternalInterface } from '../host/interface.js';
import { readSubnetEnv, writeSubnetEnv } from '../host/subnet-env.js';
import { isStoreAway, storeFault, type StoreFault } from '../lease/errors.js';
import { expiryTime } from '../lease/expiry.js';
import type { LeaseStore } from '../lease/store.js';
import type { Logger } from '../log.js';
import { createMetrics, type MetricsSample } from '../metrics/metrics.js';
import { ProblemBoard, type Problem } from '../problems.js';
import {
  dataPlaneMode,
  HEALTHZ_DEFAULT_IP,
  statusSocketPath,
  validateDaemonOptions,
  type DaemonOptions,
} from './options.js';
import { ExternalInterfaces, type ExternalDependencies } from './external.js';
import { formerNetwork, takenOver, type FormerNetwork } from './former-network.js';
import { knownFeatures, summarizeFeatures } from './kernel-features.js';
import { awaitNetworkConfig, watchNetworkConfig } from './network-config.js';
import { keepLease } from './renew.js';
import { StatusServer } from './server.js';
import { Guard } from './guard.js';
import { openStore } from './open-store.js';
import type { ServiceManager } from './sd-notify.js';
import { listenOnStatusSocket } from './status-socket.js';
import { describeStatus, type DaemonStatus, type FirewallState } from './status.js';
import { packageVersion } from './version.js';
import { pause } from './wait.js';
import { watchBridges } from './watch-bridges.js';

/** What a daemon uses of the machine; tests and embedders may bring their own. */
export interface DaemonDependencies extends ExternalDependencies {
  readonly openStore?: typeof openStore;
  readonly openDataPlane?: OpenDataPlane;
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

/** Several for each task of a network: more would be a leak. */
const MAX_LISTENERS = 50;
const STORE_INTERVAL_MS = 1_000;
const STORE_LOG_EVERY = 60;
const STOP_WAIT_MS = 700;
const CLOSE_WAIT_MS = 300;
const SUBNET_FILE_INTERVAL_MS = 2_000;
const SUBNET_FILE_LOG_EVERY = 30;

export class Daemon {
  readonly #options: DaemonOptions;
  readonly #log: Logger;
  readonly #dependencies: DaemonDependencies;
  readonly #startedAt = performance.now();
  readonly #problems: ProblemBoard;
  readonly #externals: ExternalInterfaces;
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
  /** This host's PublicIP as the store may still have it; undefined once it knows the present one. */
  #formerPublicIp: Ipv4 | undefined;
  #firewall: FirewallKeeper | undefined;
  /** Of the run before, whose firewall rules are ours as well. */
  #formerNetwork: Cidr | undefined;
  #retired: readonly ThreadCounters[] = [];
  #retiredRestarts = 0;
  #retiredRepairs = 0;

  constructor(options: DaemonOptions, log: Logger, dependencies: DaemonDependencies = {}) {
    this.#options = options;
    this.#log = log;
    this.#problems = new ProblemBoard(log);
    this.#dependencies = dependencies;
    this.#externals = new ExternalInterfaces(options, dependencies, this.#problems, log);
  }

  /**
   * Resolves when the signal aborted and everything is closed. Rejects with a FlannelletteError
   * when the daemon cannot start or go on; nothing is left behind then either.
   */
  async run(signal: AbortSignal): Promise<void> {
    try {
      validateDaemonOptions(this.#options);
      const server = await this.#openServer();
      // A stop that came early must not wait for what is set up from here on.
      const { serviceManager } = this.#dependencies;
      if (serviceManager !== undefined) {
        const stopping = (): void => {
          serviceManager.stopping();
        };
        signal.addEventListener('abort', stopping, { once: true });
      }
      try {
        signal.throwIfAborted();
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
    this.#external = await this.#externals.choose();
    this.#phase = 'opening the lease store';
    const report = (problems: readonly Problem[]): void => {
      this.#problems.report('store', problems);
    };
    const opening = (this.#dependencies.openStore ?? openStore)(this.#options, this.#log, report);
    const store = await unlessAborted(signal, opening).catch((error: unknown) => {
      // One that opens after all, when a dead file server is back, is closed at once.
      void opening.then((late) => late.close()).catch(() => undefined);
      throw error;
    });
    try {
      this.#store = store;
      const config = await this.#readConfig(store, signal);
      this.#config = config;
      signal.throwIfAborted();
      this.#features = this.#probe();
      await this.#serve(store, config, this.#external, signal);
    } finally {
      const closed = store.close();
      await (signal.aborted ? settledWithin(CLOSE_WAIT_MS, closed) : closed);
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
      features: knownFeatures(this.#features, this.#network?.status().dataPlane),
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

  /** Only told, never acted upon: a daemon must not fail for want of a probe. */
  #probe(): readonly KernelFeature[] {
    try {
      const features = (this.#dependencies.probeKernel ?? probeKernel)();
      this.#log.info(summarizeFeatures(features), 'kernel features');
      return features;
    } catch (error) {
      this.#log.info({ error: messageOf(error) }, 'kernel features could not be probed');
      return [];
    }
  }

  #readConfig(store: LeaseStore, signal: AbortSignal): Promise<NetworkConfig> {
    this.#phase = 'waiting for the network configuration';
    const ask = (): Promise<string | undefined> =>
      this.#untilAnswered(store, signal, () => store.readNetworkConfig(signal));
    const parts = { store, ask, problems: this.#problems, log: this.#log };
    return awaitNetworkConfig(parts, signal);
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
    const earlier = await readSubnetEnv(subnetFile);
    const previousSubnet = earlier?.subnet;
    let external = first;
    this.#formerNetwork = earlier?.network;
    let former: FormerNetwork | undefined;
    for (;;) {
      this.#phase = 'registering the network';
      const formerPublicIp = this.#formerPublicIp;
      const more = former && takenOver(former, external, formerPublicIp);
      const context = {
        store,
        external,
        previousSubnet,
        formerPublicIp,
        problems: this.#problems,
        log: this.#log,
        ...more,
      };
      const backend = createBackend(
        config,
        context,
        { mode: dataPlaneMode(mode), disabled: disable, resources, sourceCheck },
        this.#dependencies.openDataPlane,
      );
      let network: Network;
      try {
        network = await this.#untilAnswered(store, signal, () =>
          backend.registerNetwork(config, signal),
        );
      } catch (error) {
        // With a lease known it was device or socket: the address may be gone again.
        if (signal.aborted || former?.lease === undefined) throw error;
        external = await this.#externals.retry(external, former.overlay, error, signal);
        continue;
      }
      if (former?.lease === undefined) this.#formerPublicIp = undefined;
      this.#external = external;
      this.#network = network;
      let change: Change | undefined;
      try {
        change = await this.#follow(store, config, external, network, signal);
      } finally {
        network.close();
        this.#retire(network);
      }
      if (change === undefined) return;
      former = formerNetwork(network, change.subnet);
      this.#formerPublicIp ??= network.lease.attributes.publicIp;
      if (change.external !== undefined && change.external.address !== external.address) {
        store.reconnect?.();
      }
      external = change.external ?? external;
    }
  }

  async #openServer(): Promise<{ close(): Promise<void> }> {
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
    const end = new AbortController();
    let settled = Promise.resolve();
    const close = async (): Promise<void> => {
      end.abort();
      await settled;
      await server.close();
    };
    try {
      const { healthzIp: host, healthzPort: port, healthzOpen, subnetFile } = this.#options;
      const socket = { server, path: statusSocketPath(subnetFile), problems: this.#problems };
      ({ settled } = await listenOnStatusSocket(socket, end.signal));
      const open = healthzOpen ?? host !== HEALTHZ_DEFAULT_IP;
      if (port !== 0) await server.listenTcp({ host, port, open });
    } catch (error) {
      await close();
      throw error;
    }
    return { close };
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
    // Every task below waits on it at once, which from the eleventh on Node takes for a leak.
    setMaxListeners(MAX_LISTENERS, both);
    const running = network.run(both).then(() => undefined);
    const keeping = this.#keepLease(store, network, both);
    const current = (): ExternalInterface => this.#external ?? external;
    const renamed = (now: ExternalInterface): void => {
      this.#external = now;
    };
    const watching = this.#externals.watch(external, network, renamed, both);
    const asking = this.#externals.watchPeers(current, network, both);
    const guarding = this.#guard(config, external, network, both);
    const announcing = this.#announce(network, config, both);
    const bridges = this.#watchBridges(config, external, network, both);
    const problems = this.#problems;
    const followed = (): boolean => {
      const { storeError, leasesAsOf } = network.status();
      return storeError === undefined && leasesAsOf === undefined;
    };
    const log = this.#log;
    const comparing = watchNetworkConfig({ store, config, followed, problems, log }, both);
    const beside = [asking, guarding, bridges, comparing];
    try {
      return await Promise.race([running, keeping, watching, announcing.then(() => keeping)]);
    } finally {
      end.abort();
      const ends = Promise.allSettled([running, keeping, watching, announcing, ...beside]);
      // A stop does not wait for what hangs: a file server that is gone, a program in the kernel.
      await (signal.aborted ? settledWithin(STOP_WAIT_MS, ends) : ends);
      this.#synced = false;
      this.#subnetFileWritten = false;
    }
  }

  async #keepLease(
    store: LeaseStore,
    network: Network,
    signal: AbortSignal,
  ): Promise<Change | undefined> {
    const lease = await keepLease(
      {
        store,
        network,
        marginMinutes: this.#options.leaseRenewMarginMinutes,
        acquire: (wait) => {
          return this.#untilAnswered(store, wait, async () => {
            const request = {
              ...network.leaseRequest,
              previousSubnet: network.lease.subnet,
              formerPublicIp: this.#formerPublicIp,
            };
            const acquired = await store.acquireLease(request, wait);
            this.#formerPublicIp = undefined;
            return acquired;
          });
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

  #watchBridges(
    { network }: NetworkConfig,
    external: ExternalInterface,
    { lease: { subnet } }: Network,
    signal: AbortSignal,
  ): Promise<void> {
    const interfaces = this.#dependencies.hostInterfaces ?? hostInterfaces;
    const problems = this.#problems;
    return watchBridges({ interfaces, network, subnet, external, problems }, signal);
  }

  /** Puts the firewall's rules in place and keeps them until the signal aborts. */
  async #guard(
    config: NetworkConfig,
    external: ExternalInterface,
    network: Network,
    signal: AbortSignal,
  ): Promise<void> {
    const guard = new Guard({
      options: this.#options,
      config,
      external,
      network,
      formerNetwork: this.#formerNetwork,
      board: this.#problems,
      log: this.#log,
      interfaces: this.#dependencies.hostInterfaces ?? hostInterfaces,
      createFirewall: this.#dependencies.createFirewall,
    });
    this.#formerNetwork = config.network;
    this.#firewall = guard.keeper;
    guard.keeper.onChange(() => {
      this.#tellReady();
    });
    await guard.run(signal);
    this.#retiredRepairs += guard.keeper.repairs;
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
      enabled: this.#options.ipMasq || this.#options.forwardRules,
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
      features: knownFeatures(this.#features, state?.dataPlane),
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
