/**
 * One daemon, from its options to its end.
 *
 *   options -> status server -> external interface -> store -> network configuration (asked for each
 *   second) -> registration loop (registration-loop.ts); in Kubernetes the store comes before the interface
 *
 * Each step holds what it opened in a `finally`, so everything is closed in reverse order whether
 * the daemon is asked to stop or fails half-way; an aborted signal is a normal end. subnet.env stays,
 * as flanneld's does: the next start takes the subnet in it again.
 *
 * Server and store live on while networks are registered again. An unreachable store is waited for:
 * what forwards goes on with the last known routes.
 */
import { pause, settledWithin, unlessAborted, type Pause } from '../abort.js';
import type { NetworkConfig } from '../config/network.js';
import { hostInterfaces, probeKernel, type KernelFeature } from '../dataplane/dataplane.js';
import { untilHostChanges } from '../dataplane/host-changes.js';
import { FlannelletteError, messageOf, systemError } from '../errors.js';
import type { Firewall, FirewallKind } from '../firewall/firewall.js';
import type { LeaseStore } from '../lease/store.js';
import { silentLogger, type Logger } from '../log.js';
import type { Metrics } from '../metrics/metrics.js';
import { EventStream, type DaemonEvent } from '../network/events.js';
import { KernelView } from '../network/host-view.js';
import type { ForwarderOptions } from '../network/registry.js';
import { ProblemBoard, type Problem } from '../problems.js';
import type { ExternalInterface } from '../host/interface.js';
import { BearerToken } from './bearer-token.js';
import type { DescriptorStore } from './descriptor-store.js';
import { ExternalInterfaces, type ExternalDependencies } from './external.js';
import { summarizeFeatures } from './kernel-features.js';
import { awaitNetworkConfig } from './network-config.js';
import { openStore } from './open-store.js';
import {
  checkMode,
  dataPlaneMode,
  HEALTHZ_DEFAULT_IP,
  resolveDaemonOptions,
  statusSocketPath,
  validateDaemonOptions,
  type DaemonOptions,
  type DaemonSettings,
} from './options.js';
import { RegistrationLoop } from './registration-loop.js';
import { Reporter, type Readiness } from './reporter.js';
import type { ServiceManager } from './sd-notify.js';
import { StatusServer, type TcpAddress } from './server.js';
import { DaemonState } from './state.js';
import { listenAfter, listenOnStatusSocket } from './status-socket.js';
import type { DaemonStatus } from './status.js';
import { StepAside } from './step-aside.js';
import { untilAnswered } from './store-answer.js';
import { HandoverServer, Predecessor } from './takeover.js';
import { packageVersion } from './version.js';

/** What a daemon uses of the machine; tests and embedders may bring their own. */
export interface DaemonDependencies extends ExternalDependencies {
  readonly openStore?: typeof openStore;
  readonly openDataPlane?: ForwarderOptions['openDataPlane'];
  readonly probeKernel?: () => readonly KernelFeature[];
  readonly createFirewall?: (kind: FirewallKind, log: Logger) => Firewall;
  /** Told when traffic can flow and when the end begins; only a program of its own has one. */
  readonly serviceManager?: Pick<ServiceManager, 'ready' | 'stopping'>;
  /** Where the tunnel outlives this process. */
  readonly descriptorStore?: DescriptorStore;
}

/** While packets wait in a tunnel that was kept the last known leases have to do this soon. */
const KEPT_PATIENCE_MS = 300;

const CLOSE_WAIT_MS = 300;

/**
 * One node's daemon: takes a lease, sets the way of the packets up, and keeps both until it is stopped.
 *
 * @example
 * ```ts
 * const stop = new AbortController();
 * const store = { kind: 'file', path: '/srv/leases.json' } as const;
 * await new Daemon({ store, iface: ['eth0'] }).run(stop.signal);
 * ```
 */
export class Daemon {
  readonly #options: DaemonSettings;
  readonly #log: Logger;
  readonly #dependencies: DaemonDependencies;
  readonly #problems: ProblemBoard;
  #externals: ExternalInterfaces;
  readonly #hostPause: () => Pause;
  readonly #state: DaemonState;
  readonly #reporter: Reporter;
  readonly #events = new EventStream();
  /** Another daemon took over, or this one could not: the reason is the error then. */
  readonly #end = new AbortController();
  readonly #stepAside: StepAside;
  #predecessor: Predecessor | undefined;

  /**
   * Checks and opens nothing yet. A logger that is not given says nothing; `dependencies` are for tests
   * and for programs that bring their own part of the machine.
   */
  constructor(
    options: DaemonOptions,
    log: Logger = silentLogger(),
    dependencies: DaemonDependencies = {},
  ) {
    const settings = resolveDaemonOptions(options);
    this.#options = settings;
    this.#state = new DaemonState(settings.mode);
    this.#log = log;
    this.#problems = new ProblemBoard(log);
    this.#stepAside = new StepAside(this.#state, log, this.#end);
    this.#dependencies = dependencies;
    // Of a host that is not this one nobody tells.
    const told = dependencies.hostInterfaces === undefined && dependencies.pause === undefined;
    this.#hostPause =
      dependencies.hostPause ?? (told ? () => untilHostChanges() : () => this.#pause);
    this.#externals = this.#externalInterfaces(settings);
    this.#reporter = new Reporter(this.#state, settings, this.#problems);
  }

  /**
   * Resolves when the signal aborted and everything is closed. Rejects with a FlannelletteError
   * when the daemon cannot start or go on; nothing is left behind then either.
   */
  async run(stop: AbortSignal): Promise<void> {
    const signal = AbortSignal.any([stop, this.#end.signal]);
    const { descriptorStore } = this.#dependencies;
    // Before anything is closed because of it.
    signal.addEventListener('abort', () => descriptorStore?.stopping(), { once: true });
    try {
      validateDaemonOptions(this.#options);
      if (this.#options.takeover) await this.#findPredecessor();
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
      this.#state.phase = 'stopped';
    }
    const reason: unknown = this.#end.signal.reason;
    if (reason instanceof FlannelletteError) throw reason;
    this.#log.info('stopped');
  }

  async #runWithServer(signal: AbortSignal): Promise<void> {
    const state = this.#state;
    // A node of Kubernetes may say there which address others reach it by.
    const late = this.#options.store.kind === 'kube';
    const chosen = late ? undefined : await this.#chooseExternal();
    state.phase = 'opening the lease store';
    const store = await this.#openStore(signal);
    try {
      state.store = store;
      const external = chosen ?? (await this.#chooseExternalBy(store, signal));
      const inStore = await this.#readConfig(store, signal);
      const config = this.#withBackend(inStore);
      state.config = config;
      signal.throwIfAborted();
      await this.#predecessor?.ask(this.#options.subnetFile);
      await this.#loop(store, config, inStore).run(external, signal);
    } finally {
      const closed = store.close();
      await (signal.aborted ? settledWithin(CLOSE_WAIT_MS, closed) : closed);
    }
  }

  /**
   * Lets packets cross the kernel in another mode, without losing device, port or connections. Throws an
   * input error when there is no such mode, a system error when the backend has but one.
   */
  changeMode(mode: string): void {
    checkMode('mode', mode);
    const forwarder = this.#state.network?.forwarder;
    if (forwarder !== undefined && forwarder.changeMode === undefined) {
      const backend = this.#state.config?.backend.type ?? 'this';
      throw systemError(`the ${backend} backend has no modes: expected the udp backend`);
    }
    const { phase } = this.#state;
    const beside = ['standing aside', 'stepped aside', 'waiting for the UDP port'];
    if (forwarder !== undefined && beside.includes(phase)) {
      throw systemError(`this daemon is ${phase}`);
    }
    const before = this.#state.mode;
    this.#state.mode = mode;
    forwarder?.changeMode?.(dataPlaneMode(mode));
    this.#log.info({ before, mode }, 'the mode was changed');
  }

  /**
   * Frees port and route for another flannel of this host, goes on until that one forwards, and ends then;
   * takes both back when none has come within so many seconds, 1 to 3,600. Throws an input error for another
   * number, a system error when it cannot be done now.
   */
  stepAside(seconds: number): void {
    this.#stepAside.begin(seconds);
  }

  /** It ended because another flannel of this host forwards in its place. */
  get steppedAside(): boolean {
    return this.#stepAside.done;
  }

  /**
   * What happens from now on, until the signal aborts or the loop is left. Nothing is kept for those who
   * do not read; who reads too slowly is told how many were missed.
   *
   * @example
   * ```ts
   * for await (const event of daemon.events(stop.signal)) {
   *   if (event.type === 'degraded') console.warn(event.part, event.reason);
   * }
   * ```
   */
  events(signal?: AbortSignal): AsyncIterableIterator<DaemonEvent> {
    return this.#events.read(signal);
  }

  async #findPredecessor(): Promise<void> {
    const { subnetFile } = this.#options;
    this.#predecessor = await Predecessor.find(subnetFile, this.#log);
    if (this.#predecessor === undefined) {
      this.#log.info({ subnetFile }, 'no daemon to take over from; starting as usual');
      return;
    }
    this.#predecessor.switched.catch((error: unknown) => {
      this.#end.abort(error);
    });
  }

  #externalInterfaces(settings: DaemonSettings): ExternalInterfaces {
    const parts = { ...this.#dependencies, hostPause: this.#hostPause };
    return new ExternalInterfaces(settings, parts, this.#problems, this.#log);
  }

  async #chooseExternal(): Promise<ExternalInterface> {
    this.#state.phase = 'choosing the external interface';
    const external = await this.#externals.choose();
    this.#state.external = external;
    return external;
  }

  async #chooseExternalBy(store: LeaseStore, signal: AbortSignal): Promise<ExternalInterface> {
    const publicIp = await this.#untilAnswered(store, signal, () => store.readPublicIp?.(signal));
    if (publicIp !== undefined) {
      this.#log.info(
        { publicIp, store: store.location },
        'public address as the node is annotated',
      );
      const settings = { ...this.#options, publicIp };
      this.#externals = this.#externalInterfaces(settings);
    }
    return this.#chooseExternal();
  }

  #untilAnswered<T>(
    store: LeaseStore,
    signal: AbortSignal,
    ask: () => Promise<T> | undefined,
  ): Promise<T | undefined> {
    const wait = this.#pause;
    const parts = { store, state: this.#state, log: this.#log, pause: wait };
    return untilAnswered(parts, signal, async () => ask());
  }

  /** The same JSON that /status gives. */
  status(): DaemonStatus {
    return this.#reporter.status();
  }

  /** What /readyz gives. */
  readiness(): Readiness {
    return this.#reporter.readiness();
  }

  get #pause(): Pause {
    return this.#dependencies.pause ?? pause;
  }

  #openStore(signal: AbortSignal): Promise<LeaseStore> {
    const report = (problems: readonly Problem[]): void => {
      this.#problems.report('store', problems);
    };
    const { openStore: open = openStore, descriptorStore } = this.#dependencies;
    const patienceMs = descriptorStore?.hasTunnel === true ? KEPT_PATIENCE_MS : undefined;
    const opening = open(this.#options, this.#log, report, patienceMs);
    return unlessAborted(signal, opening).catch((error: unknown) => {
      // One that opens after all, when a dead file server is back, is closed at once.
      void opening.then((late) => late.close()).catch(() => undefined);
      throw error;
    });
  }

  /** The backend that was asked for; what the configuration says of another is not for it. */
  #withBackend(config: NetworkConfig): NetworkConfig {
    const { backend: type } = this.#options;
    if (type === undefined || type === config.backend.type) return config;
    return { ...config, backend: { type, raw: { Type: type } } };
  }

  #loop(store: LeaseStore, config: NetworkConfig, configInStore: NetworkConfig): RegistrationLoop {
    const { openDataPlane, createFirewall, serviceManager, descriptorStore, ...dependencies } =
      this.#dependencies;
    const { disable, resources, sourceCheck, keepForwarding } = this.#options;
    const state = this.#state;
    return new RegistrationLoop({
      options: this.#options,
      forwarding: {
        get mode() {
          return dataPlaneMode(state.mode);
        },
        disabled: disable,
        resources,
        sourceCheck,
        keepForwarding,
        openDataPlane,
        takeTunnel: (name) => this.#predecessor?.take(name) ?? descriptorStore?.take(name),
        keeper: descriptorStore,
      },
      store,
      config,
      configInStore,
      events: this.#events,
      externals: this.#externals,
      state: this.#state,
      problems: this.#problems,
      log: this.#log,
      pause: this.#pause,
      hostPause: this.#hostPause,
      interfaces: dependencies.hostInterfaces ?? hostInterfaces,
      createView: () => (openDataPlane === undefined ? new KernelView() : undefined),
      createFirewall,
      serviceManager,
      onForwarding: () => {
        descriptorStore?.discard();
        this.#state.features ??= this.#probe();
      },
    });
  }

  /**
   * Only told, never acted upon: a daemon must not fail for want of a probe, nor begin to forward
   * later for it, because making and removing a network namespace takes the kernel 0.1 to 0.2 s.
   */
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
    this.#state.phase = 'waiting for the network configuration';
    const log = this.#log;
    const wait = this.#pause;
    const ask = (): Promise<string | undefined> =>
      this.#untilAnswered(store, signal, () => store.readNetworkConfig(signal));
    const parts = { store, ask, problems: this.#problems, log, pause: wait };
    return awaitNetworkConfig(parts, signal);
  }

  async #createMetrics(): Promise<Metrics> {
    const { createMetrics } = await import('../metrics/metrics.js');
    return createMetrics({
      version: packageVersion(),
      mode: this.#state.mode,
      sample: () => this.#reporter.sample(),
    });
  }

  /** Who else than this host is told everything over TCP; said when that is everybody. */
  async #tcpAccess(host: string): Promise<Pick<TcpAddress, 'open' | 'token'>> {
    const { healthzOpen, healthzTokenFile } = this.#options;
    if (healthzTokenFile !== undefined) {
      const token = new BearerToken(healthzTokenFile);
      await token.check();
      return { token };
    }
    const open = healthzOpen ?? host !== HEALTHZ_DEFAULT_IP;
    if (open && !/^(127\.|::1$|localhost$)/.test(host)) {
      this.#log.warn(
        { address: host },
        '/metrics and /status are open to everyone who reaches --healthz-ip, containers too: ' +
          '--healthz-token-file asks others than this host for a token',
      );
    }
    return { open };
  }

  async #openServer(): Promise<{ close(): Promise<void> }> {
    // Loaded when somebody may ask: prom-client takes 5 MB.
    let metrics: Promise<Metrics> | undefined;
    const metricsOnce = (): Promise<Metrics> => (metrics ??= this.#createMetrics());
    const handover = new HandoverServer(
      this.#options.subnetFile,
      () => this.#state.network?.forwarder,
      () => this.#state.config?.backend.type,
    );
    const server = new StatusServer({
      ready: () => this.#reporter.readiness(),
      status: () => this.#reporter.status(),
      changeMode: (mode) => {
        this.changeMode(mode);
      },
      stepAside: (seconds) => {
        this.stepAside(Number(seconds));
      },
      handover: {
        give: (version) => {
          const given = handover.give(version);
          this.#log.info(given, 'descriptors given to another daemon, which is to take over');
          return given;
        },
        end: (version) => {
          handover.end(version);
          this.#log.info('another daemon forwards from now on; stopping');
        },
        left: () => {
          this.#end.abort();
        },
      },
      metrics: async () => (await metricsOnce()).scrape(),
    });
    const end = new AbortController();
    let settled: Promise<unknown> = Promise.resolve();
    const close = async (): Promise<void> => {
      end.abort();
      await settled;
      await server.close();
    };
    const { healthzIp: host, healthzPort: port, subnetFile } = this.#options;
    const socket = { server, path: statusSocketPath(subnetFile), problems: this.#problems };
    const listenTcp = async (): Promise<void> => {
      if (port === 0) return;
      await metricsOnce();
      await server.listenTcp({ host, port, ...(await this.#tcpAccess(host)) });
    };
    try {
      if (this.#predecessor === undefined) {
        ({ settled } = await listenOnStatusSocket(socket, end.signal));
        await listenTcp();
      } else {
        const listeners = [
          async (): Promise<void> => {
            await listenOnStatusSocket(socket, end.signal);
          },
          listenTcp,
        ];
        settled = listenAfter(this.#predecessor.switched, listeners, end.signal).catch(
          (error: unknown) => {
            this.#end.abort(error);
          },
        );
      }
    } catch (error) {
      await close();
      throw error;
    }
    return { close };
  }
}
