/**
 * What keeps the way of the overlay's packets through this host open while a network is in service:
 * its firewall rules, and a look at everything else that may stand in the way, which ends up on the
 * board of problems.
 */
import type { Registration } from '../network/registration.js';
import { contains, sameCidr, type Cidr, type Ipv4 } from '../config/ipv4.js';
import { field } from '../config/json.js';
import type { NetworkConfig } from '../config/network.js';
import {
  createFirewall,
  FirewallInspector,
  FirewallKeeper,
  otherIptables,
  Pace,
  watchRules,
  type Cleanable,
  type Firewall,
  type FirewallKind,
  type Overlay,
} from '../firewall/firewall.js';
import { kernelRoutesWithin, kernelWaysTo } from '../dataplane/kernel-routes.js';
import { messageOf } from '../errors.js';
import { checkHost } from '../host/checks/checks.js';
import type { HostRouting } from '../host/checks/routing.js';
import type { ExternalInterface, HostInterfaceInfo } from '../host/interface.js';
import type { Logger } from '../log.js';
import type { ProblemBoard } from '../problems.js';
import type { DaemonSettings } from './options.js';

/** Other nodes that an inspection knows of; more would only cost time. */
const PEERS = 64;
/** --iptables-resync may be a day; a look at the host is cheap. */
const LONGEST_PAUSE_SECONDS = 30;

export interface GuardOptions {
  readonly options: Pick<
    DaemonSettings,
    'ipMasq' | 'ipMasqFullyRandom' | 'forwardRules' | 'firewallResyncSeconds'
  >;
  readonly config: NetworkConfig;
  readonly network: Registration;
  readonly external: ExternalInterface;
  /** Network of the run before, if it was another. */
  readonly formerNetwork: Cidr | undefined;
  readonly board: ProblemBoard;
  readonly log: Logger;
  readonly interfaces: () => readonly HostInterfaceInfo[];
  /** Brought by an embedder, who then looks after the host as well. */
  readonly createFirewall?: ((kind: FirewallKind, log: Logger) => Firewall) | undefined;
}

/** Milliseconds between two inspections because of a change, and in durations of one. */
const INSPECTION_GAP_MS = 1_000;
const INSPECTION_GAP = 10;
/** A check may wait for its gap (pace.ts), and a program for a lock. */
const CHECK_LIMIT_MS = 5_000;

export class Guard {
  readonly keeper: FirewallKeeper;
  readonly #options: GuardOptions;
  readonly #firewall: Firewall;
  readonly #inspector = new FirewallInspector();
  readonly #pace = new Pace();
  readonly #routing: HostRouting;
  /** Our rules have been checked since the last change: what stands in their way is not for them to mend. */
  #fresh = false;
  /** Why the host could not be checked last time. */
  #unchecked: string | undefined;

  constructor(options: GuardOptions) {
    this.#options = options;
    this.#routing = {
      within: kernelRoutesWithin,
      waysTo: kernelWaysTo,
      interfaces: options.interfaces,
    };
    const { config, network, external, formerNetwork, log } = options;
    const { ipMasq, ipMasqFullyRandom, forwardRules, firewallResyncSeconds } = options.options;
    const [kind, otherKind] = config.enableNFTables
      ? (['nftables', 'iptables'] as const)
      : (['iptables', 'nftables'] as const);
    const create = options.createFirewall ?? createFirewall;
    const others: Cleanable[] = [create(otherKind, log)];
    if (options.createFirewall === undefined) others.push(otherIptables(log));
    this.#firewall = create(kind, log);
    const { udpPort } = network.forwarder;
    const direct = field(config.backend.raw, 'DirectRouting') === true;
    this.keeper = new FirewallKeeper({
      firewall: this.#firewall,
      others,
      plan: {
        network: config.network,
        subnet: network.lease.subnet,
        masquerade: ipMasq,
        forward: forwardRules,
        randomFully: ipMasqFullyRandom,
        ...(udpPort === undefined
          ? {}
          : { tunnel: { port: udpPort, device: external.name, direct } }),
        formerNetwork,
      },
      resyncSeconds: firewallResyncSeconds,
      log,
      onChecked: () => {
        if (!this.#fresh) this.#pace.ring();
        this.#fresh = true;
      },
    });
  }

  /** Resolves when aborted. */
  async run(signal: AbortSignal): Promise<void> {
    const running = [this.keeper.run(signal)];
    if (this.#options.createFirewall === undefined) {
      running.push(this.#watch(signal), this.#inspectAgain(signal));
    }
    await Promise.all(running);
  }

  /** What other programs change is looked at at once, where the machine tells of it. */
  async #watch(signal: AbortSignal): Promise<void> {
    const { log } = this.#options;
    const changed = (): void => {
      this.#fresh = false;
      this.#inspector.rulesChanged();
      this.keeper.checkSoon();
    };
    try {
      await watchRules(changed, signal);
    } catch (error) {
      log.debug({ reason: messageOf(error) }, 'firewall rules are looked at each resync only');
    }
  }

  /** After a check of the rules because of a change, and each resync; beside it, as it takes longer. */
  async #inspectAgain(signal: AbortSignal): Promise<void> {
    const { options, network } = this.#options;
    const pauseMs = Math.min(options.firewallResyncSeconds, LONGEST_PAUSE_SECONDS) * 1_000;
    // Before that no other node is known, and no rule of ours may be there yet.
    await Promise.race([network.synced.catch(() => undefined), aborted(signal)]);
    if (!this.#fresh) await this.#pace.rest(pauseMs, 0, 0, signal);
    while (!signal.aborted) {
      const started = performance.now();
      await this.#inspect(signal);
      const tookMs = performance.now() - started;
      const gapMs = Math.max(INSPECTION_GAP_MS, tookMs * INSPECTION_GAP);
      await this.#pace.rest(Math.max(pauseMs, gapMs), tookMs, gapMs, signal);
      // A check is on its way, and rings.
      if (!this.#fresh) await this.#pace.rest(CHECK_LIMIT_MS, 0, 0, signal);
    }
  }

  async #inspect(signal: AbortSignal): Promise<void> {
    const { options, network, board, log } = this.#options;
    // Without rules of ours there is no saved copy.
    const read = this.#fresh && (options.ipMasq || options.forwardRules);
    const saved = read ? this.#firewall.saved : undefined;
    try {
      const overlay = this.#overlay();
      const found = await this.#inspector.inspect(overlay, saved, signal);
      const holderOf = (ip: Ipv4): Cidr | undefined => network.routes.lookup(ip)?.subnet;
      const isDirect = (subnet: Cidr): boolean => {
        const route = network.routes.lookup(subnet.network);
        if (route === undefined || !sameCidr(route.subnet, subnet)) return false;
        return network.forwarder.reach(route).way === 'direct';
      };
      const { masquerades } = found;
      const view = { ...overlay, holderOf, isDirect, masquerades, routing: this.#routing };
      const host = await checkHost(view);
      if (signal.aborted) return;
      board.report('firewall', found.problems);
      board.report('host', host.problems);
      this.#tellUnchecked(host.unchecked);
    } catch (error) {
      if (!signal.aborted) log.debug({ reason: messageOf(error) }, 'the host was not inspected');
    }
  }

  /** Once, until it is another reason. */
  #tellUnchecked([reason]: readonly string[]): void {
    if (reason === this.#unchecked) return;
    this.#unchecked = reason;
    if (reason !== undefined) {
      this.#options.log.warn(
        { reason },
        'cannot check routes and reverse path filters of this host',
      );
    }
  }

  #overlay(): Overlay {
    const { config, network, external, interfaces } = this.#options;
    const { subnet } = network.lease;
    const { device = external.name, udpPort } = network.forwarder;
    const routes = network.routes.routes();
    const step = Math.max(1, Math.ceil(routes.length / PEERS));
    return {
      network: config.network,
      subnet,
      port: udpPort,
      external: { name: external.name, address: external.address },
      device,
      bridges: interfaces()
        .filter(({ name, addresses }) => {
          return name !== device && addresses.some(({ address }) => contains(subnet, address));
        })
        .map(({ name }) => name),
      peers: routes
        .filter((_route, index) => index % step === 0)
        .map((route) => ({ subnet: route.subnet, address: route.nextHop })),
    };
  }
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    signal.addEventListener(
      'abort',
      () => {
        resolve();
      },
      { once: true },
    );
  });
}
