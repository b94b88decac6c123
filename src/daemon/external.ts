/**
 * The external interface of a daemon: chosen at the start, followed while it runs, and the routes to
 * the peers that lead out of it. What hinders traffic goes to the problem board.
 */
import type { Registration } from '../network/registration.js';
import { formatIpv4 } from '../config/ipv4.js';
import { hostInterfaces, outgoingInterfaces } from '../dataplane/dataplane.js';
import { messageOf } from '../errors.js';
import type { ExternalInterface } from '../host/interface.js';
import {
  InterfaceRules,
  type HostView,
  type InterfaceFlags,
  type OwnOverlay,
} from '../host/interface-rules.js';
import { PeerRoutes, type PeerRoutesView } from '../host/peer-routes.js';
import { watchExternalInterface } from '../host/watch-interface.js';
import type { Logger } from '../log.js';
import type { ProblemBoard } from '../problems.js';
import { pause, type Pause } from '../abort.js';

const PEERS_INTERVAL_MS = 5_000;
const RETRY_MS = 1_000;
const RETRY_LOG_EVERY = 60;

/** What is asked of the machine; tests and embedders may bring their own. */
export interface ExternalDependencies {
  readonly hostInterfaces?: HostView['interfaces'];
  /** The default route's interface, of those that are usable. */
  readonly defaultInterface?: NonNullable<HostView['defaultInterface']>;
  /** The local address the kernel would send from; for `--iface-can-reach`. */
  readonly sourceAddressTo?: NonNullable<HostView['sourceAddressTo']>;
  /** Where the kernel sends packets; for the routes to other nodes. */
  readonly outgoingInterfaces?: PeerRoutesView['outgoingInterfaces'];
  /** How the daemon waits from one look or attempt to the next; tests make it short. */
  readonly pause?: Pause;
  /** How it waits for the host to change, made for each that waits; `pause` when not given. */
  readonly hostPause?: (() => Pause) | undefined;
}

export interface RunningOverlay extends OwnOverlay {
  /** Smallest MTU of the external interface that it can do with, in bytes. */
  readonly minExternalMtu: number;
}

export interface ExternalChange {
  readonly external: ExternalInterface;
}

export class ExternalInterfaces {
  readonly #rules: InterfaceRules;
  readonly #peers: PeerRoutes;
  readonly #board: ProblemBoard;
  readonly #log: Logger;
  readonly #pause: Pause;
  readonly #hostPause: () => Pause;
  #failures = 0;

  constructor(
    flags: InterfaceFlags,
    dependencies: ExternalDependencies,
    board: ProblemBoard,
    log: Logger,
  ) {
    const interfaces = dependencies.hostInterfaces ?? hostInterfaces;
    this.#rules = new InterfaceRules(flags, { ...dependencies, interfaces });
    const outgoing = dependencies.outgoingInterfaces ?? outgoingInterfaces;
    this.#peers = new PeerRoutes({ interfaces, outgoingInterfaces: outgoing });
    this.#board = board;
    this.#pause = dependencies.pause ?? pause;
    this.#hostPause = dependencies.hostPause ?? (() => this.#pause);
    this.#log = log;
  }

  /** Rejects when the flags fit nothing. */
  async choose(): Promise<ExternalInterface> {
    const external = await this.#rules.choose();
    this.#tell(external, 'external interface');
    return external;
  }

  /**
   * Resolves when the network has to be registered with another address or MTU; `undefined` when the
   * signal aborted. `onRenamed` hears of another name for the same.
   */
  async watch(
    current: ExternalInterface,
    network: Registration,
    onRenamed: (external: ExternalInterface) => void,
    signal: AbortSignal,
  ): Promise<ExternalChange | undefined> {
    this.#failures = 0;
    const overlay = overlayOf(network);
    const changed = await watchExternalInterface(
      {
        current,
        look: (now) => this.#look(now, overlay),
        onRenamed: (external) => {
          this.#tell(external, 'the external interface has another name');
          onRenamed(external);
        },
        onMissing: (reason) => {
          this.#missing(current, reason);
        },
        log: this.#log,
        pause: this.#pause,
        untilChange: this.#hostPause(),
      },
      signal,
    );
    if (changed === undefined) return undefined;
    this.#tell(changed, 'the external interface changed; registering the network again');
    return { external: changed };
  }

  /** After a registration that failed: waits, and looks what the interface is then. */
  async retry(
    current: ExternalInterface,
    overlay: RunningOverlay,
    error: unknown,
    signal: AbortSignal,
  ): Promise<ExternalInterface> {
    if (this.#failures % RETRY_LOG_EVERY === 0) {
      const fields = { interface: current.name, error: messageOf(error) };
      this.#log.error(fields, 'the network cannot be registered again; retrying');
    }
    this.#failures += 1;
    await this.#pause(RETRY_MS, signal);
    signal.throwIfAborted();
    try {
      return await this.#look(current, overlay);
    } catch (reason) {
      this.#missing(current, messageOf(reason));
      return current;
    }
  }

  /** Looks after the routes to the peers until the signal aborts. Never rejects. */
  async watchPeers(
    external: () => ExternalInterface,
    network: Registration,
    signal: AbortSignal,
  ): Promise<void> {
    const overlay = overlayOf(network);
    await network.synced.catch(() => undefined);
    const wait = this.#hostPause();
    while (!signal.aborted) {
      const peers = [...new Set(network.routes.routes().map(({ nextHop }) => nextHop))];
      const question = { peers, external: external(), overlay };
      const problems = await this.#peers.look(question).catch((error: unknown) => {
        this.#log.debug({ error: messageOf(error) }, 'cannot look up the routes to other nodes');
        return undefined;
      });
      if (problems !== undefined) this.#board.report('routes to other nodes', problems);
      await (this.#peers.isRoundDone ? wait : this.#pause)(PEERS_INTERVAL_MS, signal);
    }
  }

  async #look(current: ExternalInterface, overlay: RunningOverlay): Promise<ExternalInterface> {
    const seen = await this.#rules.again(current, overlay);
    const { minExternalMtu } = overlay;
    const fits = seen.mtu >= minExternalMtu;
    const small = {
      id: 'external_mtu_too_small',
      message: `MTU of ${seen.name} is ${seen.mtu}, below the ${minExternalMtu} bytes that the tunnel needs: the former MTU of ${current.mtu} stays in use`,
      remedy: `ip link set ${seen.name} mtu ${current.mtu}`,
    };
    this.#board.report('external MTU', fits ? [] : [small]);
    return fits ? seen : { ...seen, mtu: current.mtu };
  }

  #missing({ name, address }: ExternalInterface, reason: string | undefined): void {
    const message = `${formatIpv4(address)} of ${name}, which the tunnel is bound to, is gone and nothing takes its place (${reason ?? ''}): no traffic with other nodes`;
    this.#board.report(
      'external interface',
      reason === undefined ? [] : [{ id: 'external_address_gone', message }],
    );
  }

  #tell({ name, address, publicIp, mtu }: ExternalInterface, message: string): void {
    this.#log.info(
      { interface: name, address: formatIpv4(address), publicIp: formatIpv4(publicIp), mtu },
      message,
    );
  }
}

export function overlayOf({ forwarder, lease }: Registration): RunningOverlay {
  const { device, minExternalMtu } = forwarder;
  return { device, subnet: lease.subnet, minExternalMtu };
}
