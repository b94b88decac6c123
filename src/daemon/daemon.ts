/**
 * One daemon, from its options to its end.
 *
 *   options -> external interface -> store -> network configuration (asked for each second)
 *     -> register the network: lease, device, route, socket
 *     -> status server -> follow the store -> first publication -> subnet.env -> ready
 *
 * Each step holds what it opened in a `finally`, so everything is closed in reverse order whether
 * the daemon is asked to stop or fails half-way; an aborted signal is a normal end. subnet.env stays, as flanneld's does:
 * the next start takes the subnet in it again. If the subnet is lost for good, only the network is
 * registered anew; server and store live on, and counters of the old one are kept.
 */
import { createBackend } from '../backend/registry.js';
import type { Network } from '../backend/backend.js';
import type { OpenDataPlane } from '../backend/supervisor.js';
import { addCounters, retire } from '../backend/totals.js';
import { firstHost, formatCidr, formatIpv4, type Cidr } from '../config/ipv4.js';
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
  readDefaultInterface,
  selectExternalInterface,
  type ExternalInterface,
} from '../host/interface.js';
import { readSubnetEnv, writeSubnetEnv } from '../host/subnet-env.js';
import { LeaseFileStore } from '../lease/file-store.js';
import type { Lease, LeaseStore } from '../lease/store.js';
import type { Logger } from '../log.js';
import { createMetrics, type MetricsSample } from '../metrics/metrics.js';
import { statusSocketPath, validateDaemonOptions, type DaemonOptions } from './options.js';
import { keepLease } from './renew.js';
import { StatusServer } from './server.js';
import { describeStatus, type DaemonStatus } from './status.js';
import { packageVersion } from './version.js';
import { pause } from './wait.js';

/** What a daemon uses of the machine; tests and embedders may bring their own. */
export interface DaemonDependencies {
  readonly openStore?: (options: DaemonOptions, log: Logger) => Promise<LeaseStore>;
  readonly openDataPlane?: OpenDataPlane;
  readonly hostInterfaces?: () => readonly HostInterface[];
  readonly defaultInterface?: () => Promise<string | undefined>;
  readonly probeKernel?: () => readonly KernelFeature[];
}

export interface Readiness {
  readonly ready: boolean;
  readonly phase: string;
  readonly synced: boolean;
  readonly subnetFileWritten: boolean;
  readonly store: { readonly ok: boolean; readonly error: string | null };
  readonly dataPlane: { readonly ok: boolean; readonly error: string | null };
  readonly [detail: string]: unknown;
}

const CONFIG_INTERVAL_MS = 1_000;
const CONFIG_LOG_EVERY = 60;
const SUBNET_FILE_INTERVAL_MS = 2_000;
const SUBNET_FILE_LOG_EVERY = 30;

export class Daemon {
  readonly #options: DaemonOptions;
  readonly #log: Logger;
  readonly #dependencies: DaemonDependencies;
  readonly #startedAt = performance.now();
  #phase = 'starting';
  #synced = false;
  #subnetFileWritten = false;
  #features: readonly KernelFeature[] = [];
  #external: ExternalInterface | undefined;
  #store: LeaseStore | undefined;
  #config: NetworkConfig | undefined;
  #network: Network | undefined;
  #retired: readonly ThreadCounters[] = [];
  #retiredRestarts = 0;

  constructor(options: DaemonOptions, log: Logger, dependencies: DaemonDependencies = {}) {
    this.#options = options;
    this.#log = log;
    this.#dependencies = dependencies;
  }

  /**
   * Resolves when the signal aborted and everything is closed. Rejects with a FlannelletteError
   * when the daemon cannot start or go on; nothing is left behind then either.
   */
  async run(signal: AbortSignal): Promise<void> {
    try {
      validateDaemonOptions(this.#options);
      this.#external = await this.#chooseInterface();
      this.#phase = 'opening the lease store';
      const store = await this.#openStore();
      try {
        this.#store = store;
        const config = await this.#readConfig(store, signal);
        this.#config = config;
        this.#features = this.#probe();
        await this.#serve(store, config, this.#external, signal);
      } finally {
        await store.close();
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      this.#phase = 'stopped';
    }
    this.#log.info('stopped');
  }

  /** The same JSON that /status gives. */
  status(): DaemonStatus {
    return describeStatus({
      version: packageVersion(),
      mode: this.#options.mode,
      ready: this.readiness().ready,
      phase: this.#phase,
      uptimeSeconds: Math.round(performance.now() - this.#startedAt) / 1000,
      store: this.#store,
      config: this.#config,
      network: this.#network,
      external: this.#external,
      features: this.#features,
      dataPlane: this.#dataPlane(),
      dataPlaneRestarts: this.#dataPlaneRestarts(),
    });
  }

  /**
   * What /readyz gives. A store that cannot be followed, or a data plane being replaced, is shown
   * but leaves a daemon ready: to take its node out of service would not help either.
   */
  readiness(): Readiness {
    const state = this.#network?.status();
    return {
      ready: this.#synced && this.#subnetFileWritten,
      phase: this.#phase,
      synced: this.#synced,
      subnetFileWritten: this.#subnetFileWritten,
      store: health(this.#store !== undefined, state?.storeError),
      dataPlane: health(state !== undefined, state?.dataPlaneError),
    };
  }

  async #chooseInterface(): Promise<ExternalInterface> {
    this.#phase = 'choosing the external interface';
    const { iface, publicIp } = this.#options;
    const interfaces = (this.#dependencies.hostInterfaces ?? hostInterfaces)();
    const defaultInterface = await (this.#dependencies.defaultInterface ?? readDefaultInterface)();
    const external = selectExternalInterface(interfaces, {
      iface,
      defaultInterface,
      ...(publicIp === undefined ? {} : { publicIp }),
    });
    const { name, mtu } = external;
    this.#log.info(
      {
        interface: name,
        address: formatIpv4(external.address),
        publicIp: formatIpv4(external.publicIp),
        mtu,
      },
      'external interface',
    );
    return external;
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

  #openStore(): Promise<LeaseStore> {
    const open =
      this.#dependencies.openStore ??
      ((options: DaemonOptions, log: Logger) => LeaseFileStore.open(options.leaseFile, { log }));
    return open(this.#options, this.#log);
  }

  async #readConfig(store: LeaseStore, signal: AbortSignal): Promise<NetworkConfig> {
    this.#phase = 'waiting for the network configuration';
    for (let attempt = 0; ; attempt += 1) {
      const text = await store.readNetworkConfig(signal);
      if (text !== undefined) return parseNetworkConfig(text, `config in ${store.location}`);
      if (attempt % CONFIG_LOG_EVERY === 0) {
        this.#log.warn({ store: store.location }, 'no network configuration yet; waiting for it');
      }
      await pause(CONFIG_INTERVAL_MS, signal);
      signal.throwIfAborted();
    }
  }

  /** Registers the network and follows it; again for as long as the subnet changes. */
  async #serve(
    store: LeaseStore,
    config: NetworkConfig,
    external: ExternalInterface,
    signal: AbortSignal,
  ): Promise<void> {
    const { mode, sourceCheck, subnetFile } = this.#options;
    let previousSubnet: Cidr | undefined = (await readSubnetEnv(subnetFile))?.subnet;
    let server: StatusServer | undefined;
    try {
      for (;;) {
        this.#phase = 'registering the network';
        const context = { store, external, previousSubnet, log: this.#log };
        const backend = createBackend(
          config,
          context,
          { mode, sourceCheck },
          this.#dependencies.openDataPlane,
        );
        const network = await backend.registerNetwork(config, signal);
        this.#network = network;
        let replacement: Lease | undefined;
        try {
          server ??= await this.#openServer();
          replacement = await this.#follow(store, config, external, network, signal);
        } finally {
          network.close();
          this.#retire(network);
        }
        if (replacement === undefined) return;
        previousSubnet = replacement.subnet;
        this.#log.warn(
          { old: formatCidr(network.lease.subnet), new: formatCidr(replacement.subnet) },
          'the subnet changed; registering the network again',
        );
      }
    } finally {
      await server?.close();
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
   * Runs one network with its lease kept. Resolves with the lease of another subnet when ours was
   * lost, with `undefined` when the signal aborted.
   */
  async #follow(
    store: LeaseStore,
    config: NetworkConfig,
    external: ExternalInterface,
    network: Network,
    signal: AbortSignal,
  ): Promise<Lease | undefined> {
    const end = new AbortController();
    const both = AbortSignal.any([signal, end.signal]);
    const attributes = { publicIp: external.publicIp };
    const running = network.run(both).then(() => undefined);
    const keeping = keepLease(
      {
        store,
        network,
        marginMinutes: this.#options.leaseRenewMarginMinutes,
        acquire: (wait) =>
          store.acquireLease({ config, attributes, previousSubnet: network.lease.subnet }, wait),
        log: this.#log,
      },
      both,
    );
    const announcing = this.#announce(network, config, both);
    try {
      return await Promise.race([running, keeping, announcing.then(() => keeping)]);
    } finally {
      end.abort();
      await Promise.allSettled([running, keeping, announcing]);
      this.#synced = false;
      this.#subnetFileWritten = false;
    }
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
          'ready',
        );
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
      mode: this.#options.mode,
      threads: addCounters(this.#retired, live?.threads ?? []),
    };
  }

  #dataPlaneRestarts(): number {
    return this.#retiredRestarts + (this.#network?.status().dataPlaneRestarts ?? 0);
  }

  #sample(): MetricsSample {
    const network = this.#network;
    const state = network?.status();
    return {
      dataPlane: this.#dataPlane(),
      dataPlaneUp: state !== undefined && state.dataPlaneError === undefined,
      dataPlaneRestarts: this.#dataPlaneRestarts(),
      ready: this.readiness().ready,
      routes: network?.routes.size ?? 0,
      rejectedLeases: state?.rejected.length ?? 0,
      leaseExpiresAt: network?.lease.expiresAt,
      storeUp: state !== undefined && state.storeError === undefined,
      features: this.#features,
    };
  }
}

function health(
  exists: boolean,
  error: string | undefined,
): { readonly ok: boolean; readonly error: string | null } {
  return { ok: exists && error === undefined, error: error ?? null };
}
