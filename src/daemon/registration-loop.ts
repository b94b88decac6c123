/**
 * Registers the network and follows it; again whenever what it was registered with has changed:
 *
 *   register: lease, device, route, socket
 *     -> beside each other until one ends: follow the store, keep the lease, watch the external
 *        interface; firewall rules; first application of routes -> subnet.env -> ready
 *
 * A network is registered again when its subnet is lost for good and when the external interface is
 * another one or has another MTU; the counters of the old one are kept.
 */
import { setMaxListeners } from 'node:events';
import { settledWithin, unlessAborted, type Pause } from '../abort.js';
import { firstHost, formatCidr, formatIpv4, type Cidr, type Ipv4 } from '../config/ipv4.js';
import type { NetworkConfig } from '../config/network.js';
import { inputError, messageOf } from '../errors.js';
import type { Firewall, FirewallKind } from '../firewall/firewall.js';
import type { ExternalInterface, HostInterfaceInfo } from '../host/interface.js';
import { readSubnetEnv, writeSubnetEnv } from '../host/subnet-env.js';
import type { LeaseStore } from '../lease/store.js';
import type { Logger } from '../log.js';
import type { EventSink } from '../network/events.js';
import type { HostView } from '../network/host-view.js';
import { register, type Registration, type RegistrationParts } from '../network/registration.js';
import { createBackend, differences, type ForwarderOptions } from '../network/registry.js';
import type { ProblemBoard } from '../problems.js';
import type { ExternalInterfaces } from './external.js';
import { formerNetwork, takenOver, type FormerNetwork } from './former-network.js';
import { Guard } from './guard.js';
import { CONFIG_SOURCE, followNetworkConfig, watchNetworkConfig } from './network-config.js';
import type { DaemonSettings } from './options.js';
import { keepLease } from './renew.js';
import type { ServiceManager } from './sd-notify.js';
import type { DaemonState } from './state.js';
import { untilAnswered } from './store-answer.js';
import { RetiringNetwork, RunningNetwork } from './retiring-network.js';
import { watchBridges } from './watch-bridges.js';

/** Several for each task of a network: more would be a leak. */
const MAX_LISTENERS = 50;
const STOP_WAIT_MS = 700;
const SUBNET_FILE_INTERVAL_MS = 2_000;
const SUBNET_FILE_LOG_EVERY = 30;
const ANNOUNCE_INTERVAL_MS = 60_000;

export interface RegistrationLoopParts {
  readonly options: DaemonSettings;
  readonly forwarding: ForwarderOptions;
  readonly store: LeaseStore;
  readonly config: NetworkConfig;
  /** As the store has it, where another backend was asked for. */
  readonly configInStore: NetworkConfig;
  readonly externals: ExternalInterfaces;
  readonly state: DaemonState;
  readonly problems: ProblemBoard;
  readonly events: EventSink;
  readonly log: Logger;
  readonly pause: Pause;
  /** A wait for the host to change, made for each that waits. */
  readonly hostPause: () => Pause;
  readonly interfaces: () => readonly HostInterfaceInfo[];
  /** A view for each network: it remembers the index of the network's device for a moment. */
  readonly createView: () => HostView | undefined;
  readonly createFirewall: ((kind: FirewallKind, log: Logger) => Firewall) | undefined;
  readonly serviceManager: Pick<ServiceManager, 'ready'> | undefined;
  /** Called whenever a network forwards and the service manager has been told. */
  readonly onForwarding: () => void;
}

/** Why a network has to be registered again. */
interface Change {
  readonly subnet?: Cidr;
  readonly external?: ExternalInterface;
  readonly config?: NetworkConfig;
}

export class RegistrationLoop {
  readonly #parts: RegistrationLoopParts;
  /** This host's PublicIP as the store may still have it; undefined once it knows the present one. */
  #formerPublicIp: Ipv4 | undefined;
  /** Network of the run before, whose firewall rules are ours as well. */
  #formerNetwork: Cidr | undefined;

  /** In force. */
  #config: NetworkConfig;
  /** One that could not be put in force; not tried again. */
  #refused: NetworkConfig | undefined;
  #retiring: RetiringNetwork | undefined;

  constructor(parts: RegistrationLoopParts) {
    this.#parts = parts;
    this.#config = parts.config;
  }

  /** Resolves when the signal aborted; rejects when a network cannot be registered or go on. */
  async run(first: ExternalInterface, signal: AbortSignal): Promise<void> {
    try {
      await this.#run(first, signal);
    } finally {
      await this.#retiring?.end();
    }
  }

  async #run(first: ExternalInterface, signal: AbortSignal): Promise<void> {
    const { options, store, externals, state } = this.#parts;
    const earlier = await readSubnetEnv(options.subnetFile);
    this.#formerNetwork = earlier?.network;
    let external = first;
    let former: FormerNetwork | undefined;
    /** Of a configuration that has changed, registered beside the one before. */
    let next: Registration | undefined;
    for (;;) {
      state.phase = 'registering the network';
      let network: Registration;
      try {
        const known =
          former === undefined
            ? { formerLeases: store.formerLeases }
            : takenOver(former, external, this.#formerPublicIp);
        network =
          next ?? (await this.#register(this.#config, external, earlier?.subnet, known, signal));
      } catch (error) {
        // With a lease known it was device or socket: the address may be gone again.
        if (signal.aborted || former?.lease === undefined) throw error;
        external = await externals.retry(external, former.overlay, error, signal);
        continue;
      }
      next = undefined;
      if (former?.lease === undefined) this.#formerPublicIp = undefined;
      state.external = external;
      state.network = network;
      const running = new RunningNetwork(network, signal);
      let change: Change | undefined;
      try {
        for (;;) {
          change = await this.#follow(external, running, signal);
          if (change?.config === undefined) break;
          next = await this.#registerBeside(change.config, external, network, signal);
          if (next !== undefined) break;
        }
      } finally {
        state.network = undefined;
        if (next === undefined) await this.#end(running, signal);
      }
      if (change === undefined) return;
      if (next !== undefined) {
        this.#retire(running, next);
        continue;
      }
      former = formerNetwork(network, change.subnet);
      // With another interface or subnet it may be had.
      this.#refused = undefined;
      this.#formerPublicIp ??= network.lease.attributes.publicIp;
      if (change.external !== undefined && change.external.address !== external.address) {
        store.reconnect?.();
      }
      external = change.external ?? external;
    }
  }

  async #end(running: RunningNetwork, signal: AbortSignal): Promise<void> {
    const ended = running.end();
    this.#parts.state.networkEnded(running.network);
    // A stop does not wait for what hangs: a file server that is gone, a program in the kernel.
    await (signal.aborted ? settledWithin(STOP_WAIT_MS, ended) : ended);
  }

  /**
   * The network of another configuration, while the one before goes on; undefined when it cannot be, which
   * is told on the board of problems until the configuration is another one.
   */
  async #registerBeside(
    config: NetworkConfig,
    external: ExternalInterface,
    before: Registration,
    signal: AbortSignal,
  ): Promise<Registration | undefined> {
    const { log, problems, state } = this.#parts;
    const { type } = config.backend;
    const from = this.#config.backend.type;
    // It may have what this one needs.
    await this.#retiring?.end();
    try {
      const { lease } = before;
      const held = { lease, announceLast: true };
      const network = await this.#register(config, external, lease.subnet, held, signal);
      const changes = differences(this.#config, config);
      log.info({ from, to: type, changes }, 'the backend changes as the configuration says');
      problems.report(CONFIG_SOURCE, []);
      this.#config = config;
      state.config = config;
      return network;
    } catch (error) {
      if (signal.aborted) throw error;
      const message = `the network configuration asks for the backend ${type}, which cannot be had: ${messageOf(error)}; ${from} stays in force`;
      log.error({ backend: type, error: messageOf(error) }, 'the backend does not change');
      problems.report(CONFIG_SOURCE, [{ id: 'backend_refused', message }]);
      this.#refused = config;
      return undefined;
    }
  }

  /** The network before goes on for hosts that are not reached by the new one yet. */
  #retire(running: RunningNetwork, next: Registration): void {
    const { log, state } = this.#parts;
    this.#retiring = new RetiringNetwork(running, next, () => {
      state.networkEnded(running.network);
      log.info({ device: running.network.forwarder.device }, 'the backend before is closed');
    });
  }

  #register(
    config: NetworkConfig,
    external: ExternalInterface,
    previousSubnet: Cidr | undefined,
    known: Partial<RegistrationParts> | undefined,
    signal: AbortSignal,
  ): Promise<Registration> {
    const { forwarding, store, createView, problems, log, events } = this.#parts;
    const { keepForwarding, waitForPort } = this.#parts.options;
    const formerPublicIp = this.#formerPublicIp;
    const backend = createBackend({ config, external, problems, log, events }, forwarding);
    if (keepForwarding && backend.outlivesDaemon !== true) {
      throw inputError(
        '--keep-forwarding',
        true,
        `Backend.Type vxlan or host-gw, or --mode=kernel by FOU, with which the kernel goes on by itself; it is ${config.backend.type}`,
      );
    }
    const parts = {
      store,
      backend,
      config,
      external,
      previousSubnet,
      formerPublicIp,
      onPortTaken: waitForPort
        ? () => {
            this.#waitsForPort(backend.udpPort);
          }
        : undefined,
      keepAfter: keepForwarding ? signal : undefined,
      view: createView(),
      problems,
      events,
      log,
      ...known,
    };
    return untilAnswered(this.#parts, signal, () => register(parts, signal));
  }

  #waitsForPort(port: number | undefined): void {
    const { log, state } = this.#parts;
    state.phase = 'waiting for the UDP port';
    log.info({ port }, 'another program has the UDP port: waiting for its end');
  }

  /**
   * Runs one network with its lease kept. Resolves with what changed when it has to be registered
   * anew, with `undefined` when the signal aborted.
   */
  async #follow(
    external: ExternalInterface,
    { network, running }: RunningNetwork,
    signal: AbortSignal,
  ): Promise<Change | undefined> {
    const { options, store, configInStore, externals, state, problems, log, interfaces } =
      this.#parts;
    const config = this.#config;
    const { pause, hostPause } = this.#parts;
    const end = new AbortController();
    const both = AbortSignal.any([signal, end.signal]);
    // Every task below waits on it at once, which from the eleventh on Node takes for a leak.
    setMaxListeners(MAX_LISTENERS, both);
    const keeping = this.#keepLease(network, both);
    const current = (): ExternalInterface => state.external ?? external;
    const renamed = (now: ExternalInterface): void => {
      state.external = now;
    };
    const watching = externals.watch(external, network, renamed, both);
    const announcing = this.#announce(network, both);
    const followed = (): boolean => {
      const { storeError, leasesAsOf } = network.followState();
      return storeError === undefined && leasesAsOf === undefined;
    };
    const { subnet } = network.lease;
    const beside = [
      externals.watchPeers(current, network, both),
      this.#guard(external, network, both),
      watchBridges(
        {
          interfaces,
          network: config.network,
          subnet,
          external,
          problems,
          pause: hostPause(),
        },
        both,
      ),
    ];
    const watch = { store, followed, problems, log, pause };
    const configured = options.followConfig
      ? followNetworkConfig({ ...watch, config, refused: this.#refused }, both)
      : watchNetworkConfig({ ...watch, config: configInStore }, both);
    const changed = configured.then((found) => (found === undefined ? keeping : { config: found }));
    try {
      return await Promise.race([
        running,
        keeping,
        watching,
        changed,
        announcing.then(() => keeping),
      ]);
    } finally {
      end.abort();
      const ends = Promise.allSettled([keeping, watching, announcing, changed, ...beside]);
      // A stop does not wait for what hangs: a file server that is gone, a program in the kernel.
      await (signal.aborted ? settledWithin(STOP_WAIT_MS, ends) : ends);
      state.phase = signal.aborted ? 'stopped' : 'registering the network';
    }
  }

  async #keepLease(network: Registration, signal: AbortSignal): Promise<Change | undefined> {
    const { options, store, log } = this.#parts;
    const acquire = async (wait: AbortSignal) => {
      const request = {
        ...network.leaseRequest,
        previousSubnet: network.lease.subnet,
        formerPublicIp: this.#formerPublicIp,
      };
      const acquired = await store.acquireLease(request, wait);
      this.#formerPublicIp = undefined;
      return acquired;
    };
    const lease = await keepLease(
      {
        store,
        network,
        marginMinutes: options.leaseRenewMarginMinutes,
        acquire: (wait) => untilAnswered(this.#parts, wait, () => acquire(wait)),
        log,
      },
      signal,
    );
    if (lease === undefined) return undefined;
    log.warn(
      { old: formatCidr(network.lease.subnet), new: formatCidr(lease.subnet) },
      'the subnet changed; registering the network again',
    );
    return { subnet: lease.subnet };
  }

  /** Puts the firewall's rules in place and keeps them until the signal aborts. */
  async #guard(
    external: ExternalInterface,
    network: Registration,
    signal: AbortSignal,
  ): Promise<void> {
    const { options, config, state, problems, log, interfaces, createFirewall } = this.#parts;
    const guard = new Guard({
      options,
      config,
      external,
      network,
      formerNetwork: this.#formerNetwork,
      board: problems,
      log,
      interfaces,
      createFirewall,
    });
    this.#formerNetwork = config.network;
    state.firewall = guard.keeper;
    guard.keeper.onChange(() => {
      this.#tellReady();
    });
    await guard.run(signal);
    state.firewallEnded();
  }

  /**
   * Tells the service manager once there is nothing to wait for. A firewall that refuses is no
   * reason to keep units waiting that need the network: flanneld starts then, too.
   */
  #tellReady(): void {
    const { state, serviceManager } = this.#parts;
    const settled = state.firewall?.inPlace === true || state.firewall?.error !== undefined;
    if (!settled || !state.subnetFileWritten) return;
    const subnet = state.network?.lease.subnet;
    const text = subnet === undefined ? 'forwarding' : `forwarding for ${formatCidr(subnet)}`;
    serviceManager?.ready(text);
  }

  /** Writes subnet.env once traffic can flow, then lets the store make it known. */
  async #announce(network: Registration, signal: AbortSignal): Promise<void> {
    const { state } = this.#parts;
    state.phase = 'waiting for the leases';
    try {
      await network.synced;
    } catch {
      return; // Closed before that; what closed it tells why.
    }
    if (!signal.aborted) await this.#untilPortIsFree(network, signal);
    state.phase = 'writing subnet.env';
    await this.#writeSubnetEnv(network, signal);
    if (signal.aborted) return;
    this.#tellReady();
    const { forwarder, lease, mtu } = network;
    const subnet = formatCidr(lease.subnet);
    this.#parts.events.emit({ type: 'lease', subnet, device: forwarder.device, mtu });
    this.#parts.onForwarding();
    await this.#announceToStore(signal);
  }

  async #untilPortIsFree(network: Registration, signal: AbortSignal): Promise<void> {
    const { state } = this.#parts;
    const before = state.phase;
    state.phase = 'waiting for the UDP port';
    await unlessAborted(signal, network.portFree).catch(() => undefined);
    state.phase = before;
  }

  /** A full disk is waited out, forwarding goes on. */
  async #writeSubnetEnv({ lease, mtu }: Registration, signal: AbortSignal): Promise<void> {
    const { options, config, state, log, pause } = this.#parts;
    const { subnetFile: path, ipMasq } = options;
    const { subnet } = lease;
    for (let attempt = 0; !signal.aborted; attempt += 1) {
      try {
        await writeSubnetEnv(path, { network: config.network, subnet, mtu, ipMasq });
        state.phase = 'running';
        log.info(
          { subnet: formatCidr(subnet), gateway: formatIpv4(firstHost(subnet)), mtu },
          'subnet.env written, traffic can flow',
        );
        return;
      } catch (error) {
        if (attempt % SUBNET_FILE_LOG_EVERY === 0) {
          const fields = { path, error: messageOf(error) };
          log.error(fields, 'cannot write subnet.env; retrying');
        }
        await pause(SUBNET_FILE_INTERVAL_MS, signal);
      }
    }
  }

  /** Best effort: a store that cannot be told does not stop what forwards. */
  async #announceToStore(signal: AbortSignal): Promise<void> {
    const { store, log, pause } = this.#parts;
    while (store.announce !== undefined && !signal.aborted) {
      try {
        await store.announce(signal);
        return;
      } catch (error) {
        if (signal.aborted) return;
        const fields = { store: store.location, error: messageOf(error) };
        log.warn(fields, 'the lease store was not told that the network is up; retrying');
        await pause(ANNOUNCE_INTERVAL_MS, signal);
      }
    }
  }
}
