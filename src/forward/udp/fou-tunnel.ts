/**
 * Mode kernel where the kernel has FOU: its own tunnel on udp's wire, and nothing passes through this
 * process. Here it is set up, looked after and taken away:
 *
 *   device flannel0 (ipip in FOU) with SUBNET.0/32; for each other host a route and an element of the
 *   nf_tables set that its packets are checked with; an unreachable route for the rest of the overlay
 *
 * Unlike a TUN all of it outlives a process that is killed, or that leaves it. The next start goes on with
 * it, or, in another mode, takes it away.
 */
import { subnetKey, type Cidr, type Ipv4 } from '../../config/ipv4.js';
import { COUNTER_ROWS, type CounterName, type ThreadCounters } from '../../dataplane/counters.js';
import {
  FEATURE_NAMES,
  hostInterfaces,
  type DataPlaneOptions,
  type DataPlaneSnapshot,
  type HostInterface,
} from '../../dataplane/dataplane.js';
import {
  FOU_KERNEL,
  type FouEnd,
  type FouKernel,
  type FouStatistics,
} from '../../dataplane/fou.js';
import type { KernelRoutes } from '../../dataplane/kernel-routes.js';
import { errnoOf, messageOf, systemError } from '../../errors.js';
import type { ExternalInterface } from '../../host/interface.js';
import type { Logger } from '../../log.js';
import type { ForwarderHealth, Reach } from '../../network/forwarder.js';
import type { Route, RouteChange } from '../../network/route-table.js';
import type { ProblemBoard } from '../../problems.js';
import { reachBy } from '../direct-routing.js';
import { ExternalLink } from '../external-link.js';
import { RouteNetwork } from '../route-network.js';
import { compileRoutes } from './compile.js';
import { FouRoutes } from './fou-routes.js';

export interface FouTunnelParts {
  readonly kernel: FouKernel;
  readonly routes: KernelRoutes;
  readonly interfaces: (() => readonly HostInterface[]) | undefined;
  readonly external: ExternalInterface;
  readonly options: DataPlaneOptions;
  readonly directRouting: boolean;
  readonly log: Logger;
  readonly problems: ProblemBoard | undefined;
}

/**
 * Keeps other daemons from the end, and takes away what a killed one left unless it is to be gone on with.
 * What is returned lets others have it. Throws a system error when a daemon has it.
 */
export function claimEnd(
  end: FouEnd,
  keepLeft: boolean,
  kernel: FouKernel = FOU_KERNEL,
): () => void {
  let letGo: () => void;
  try {
    letGo = kernel.hold(end);
  } catch (error) {
    if (errnoOf(error) !== 'EADDRINUSE') throw error;
    throw systemError(
      `UDP port ${end.port} is taken (EADDRINUSE): another flannelette has the kernel use it on this address; expected a free port`,
      { cause: error, code: 'EADDRINUSE' },
    );
  }
  try {
    if (!keepLeft && kernel.find(end) !== 0) kernel.remove(end);
    return letGo;
  } catch (error) {
    letGo();
    throw error;
  }
}

/** Ports for a trial, of which some may be taken; RFC 6335's dynamic ones. */
const TRIAL_PORTS = { first: 49_152, count: 16_384 };
const TRIALS = 3;

/** Throws an Error that says what the kernel lacks or refuses: tried on another port, with nothing left. */
export function tryTunnel({ kernel, options }: Pick<FouTunnelParts, 'kernel' | 'options'>): void {
  for (let trial = 1; ; trial += 1) {
    const port = TRIAL_PORTS.first + Math.floor(Math.random() * TRIAL_PORTS.count);
    const end = { local: options.bindAddress, port };
    try {
      const index = kernel.make('fltry%d', end, options.port);
      const own = { network: options.subnet, prefix: options.subnetPrefix };
      if (options.sourceCheck) kernel.admit(index, end, { own, hosts: new Uint32Array() });
      kernel.openPort(end);
      return;
    } catch (error) {
      if (errnoOf(error) !== 'EADDRINUSE' || trial === TRIALS) throw error;
    } finally {
      kernel.remove(end);
    }
  }
}

export class FouTunnel {
  readonly device: string;
  readonly #parts: FouTunnelParts;
  readonly #end: FouEnd;
  readonly #own: Cidr;
  readonly #overlay: Cidr;
  readonly #underlay: ExternalLink;
  readonly #letGo: () => void;
  readonly #hosts = new Map<string, Route>();
  readonly #routes: RouteNetwork;
  #index: number;
  #error: string | undefined;
  #restarts = 0;
  #closed = false;
  /** Of devices before the one there is. */
  #before: FouStatistics = NOTHING;
  #seen: FouStatistics = NOTHING;

  /** Throws an Error that says what the kernel lacks or refuses, with nothing left behind. */
  constructor(parts: FouTunnelParts) {
    const { kernel, options, external, log, problems } = parts;
    this.#parts = parts;
    this.#end = { local: options.bindAddress, port: options.port };
    this.#own = { network: options.subnet, prefix: options.subnetPrefix };
    this.#overlay = { network: options.network, prefix: options.networkPrefix };
    this.#underlay = new ExternalLink(external, parts.interfaces);
    this.#letGo = claimEnd(this.#end, true, kernel);
    try {
      const left = kernel.find(this.#end);
      this.#index = left === 0 ? this.#make(options.tunName) : left;
      // What was left forwards already, with hosts that are told anew by the first changes.
      if (left === 0) this.#admit();
      kernel.restore(this.#index, options.tunAddress, options.mtu);
      if (!kernel.openPort(this.#end) && left === 0) {
        throw systemError(`UDP port ${options.port} is taken (EADDRINUSE) by another FOU`, {
          code: 'EADDRINUSE',
        });
      }
      kernel.putOverlay(this.#overlay);
      this.device = this.#name();
    } catch (error) {
      this.#remove();
      this.#letGo();
      throw error;
    }
    const underlay = this.#underlay;
    this.#routes = new RouteNetwork({
      kernel: new FouRoutes({
        routes: parts.routes,
        device: () => this.#index,
        restore: () => {
          this.#restore();
        },
        external: () => underlay.index,
        isDirect: (host) => this.#isDirect(host),
      }),
      external: underlay,
      log,
      problems,
    });
  }

  apply(changes: readonly RouteChange[]): void {
    if (this.#closed) return;
    for (const { type, route } of changes) {
      if (type === 'remove') this.#hosts.delete(subnetKey(route.subnet));
      else this.#hosts.set(subnetKey(route.subnet), route);
    }
    try {
      this.#admit();
    } catch (error) {
      this.#failed(error);
    }
    this.#routes.apply(changes);
  }

  removeLeft(routes: () => readonly Route[]): void {
    if (this.#parts.directRouting) this.#routes.removeLeft(routes);
  }

  reach({ subnet, nextHop }: Route): Reach {
    return this.#parts.directRouting
      ? reachBy(this.#underlay, nextHop, this.#routes.refusalOf(subnet))
      : { way: 'tunnel' };
  }

  health(): ForwarderHealth {
    return { error: this.#error ?? this.#routes.error, restarts: this.#restarts };
  }

  /** What the device counts; of packets that were not let in nothing is known. */
  snapshot(): DataPlaneSnapshot {
    const { sentPackets, sentBytes, receivedPackets, receivedBytes } = this.#statistics();
    return {
      mode: 'kernel',
      threads: [
        counted('encapsulate', sentPackets, sentBytes),
        counted('decapsulate', receivedPackets, receivedBytes),
      ],
      features: FEATURE_NAMES.map((name) => ({
        name,
        state: name === 'fou' ? 'active' : 'unused',
        errno: 0,
      })),
      queues: null,
    };
  }

  /** Takes everything away, or, with `keep`, leaves it to go on. Idempotent. */
  close(keep = false): void {
    if (this.#closed) return;
    this.#statistics();
    this.#closed = true;
    this.#routes.close(keep);
    if (!keep) this.#remove();
    this.#letGo();
  }

  #make(name: string): number {
    const { kernel, options } = this.#parts;
    return kernel.make(name, this.#end, options.sourcePorts > 1 ? 0 : options.port);
  }

  #name(): string {
    const interfaces = this.#parts.interfaces ?? hostInterfaces;
    const found = interfaces().find(({ index }) => index === this.#index);
    if (found === undefined) throw systemError('the FOU device is gone');
    return found.name;
  }

  #admission() {
    return { own: this.#own, hosts: compileRoutes([...this.#hosts.values()]) };
  }

  #admit(): void {
    const { kernel, options } = this.#parts;
    if (options.sourceCheck) kernel.admit(this.#index, this.#end, this.#admission());
  }

  /** Routes apart, which RouteNetwork restores. */
  #restore(): void {
    if (this.#closed) return;
    const { kernel, options, log } = this.#parts;
    const restored: string[] = [];
    try {
      if (kernel.find(this.#end) !== this.#index) {
        this.#before = sum(this.#before, this.#seen);
        this.#seen = NOTHING;
        this.#index = this.#make(this.device);
        this.#restarts += 1;
        restored.push('device');
      }
      if (options.sourceCheck && !kernel.admits(this.#index, this.#end, this.#admission())) {
        this.#admit();
        if (!restored.includes('device')) restored.push('source check');
      }
      if (kernel.restore(this.#index, options.tunAddress, options.mtu) && restored.length === 0)
        restored.push('state of the device');
      if (kernel.openPort(this.#end)) restored.push('UDP port');
      if (kernel.putOverlay(this.#overlay)) restored.push('route of the overlay');
      this.#error = undefined;
    } catch (error) {
      this.#failed(error);
    }
    if (restored.length > 0) {
      log.warn({ device: this.device, restored }, 'another program changed the tunnel; restored');
    }
  }

  #failed(error: unknown): void {
    const text = `the FOU tunnel cannot be kept: ${messageOf(error)}`;
    if (text !== this.#error)
      this.#parts.log.warn({ device: this.device, error: text }, 'retrying');
    this.#error = text;
  }

  #isDirect(host: Ipv4): boolean {
    return this.#parts.directRouting && this.#underlay.isOnLink(host);
  }

  #statistics(): FouStatistics {
    try {
      if (!this.#closed) this.#seen = this.#parts.kernel.statistics(this.#index);
    } catch {
      // Gone: what was seen last counts.
    }
    return sum(this.#before, this.#seen);
  }

  #remove(): void {
    try {
      this.#parts.kernel.remove(this.#end);
    } catch (error) {
      this.#parts.log.debug({ error: messageOf(error) }, 'the FOU tunnel was not removed');
    }
  }
}

const NOTHING: FouStatistics = {
  receivedPackets: 0,
  receivedBytes: 0,
  sentPackets: 0,
  sentBytes: 0,
};

function sum(a: FouStatistics, b: FouStatistics): FouStatistics {
  return {
    receivedPackets: a.receivedPackets + b.receivedPackets,
    receivedBytes: a.receivedBytes + b.receivedBytes,
    sentPackets: a.sentPackets + b.sentPackets,
    sentBytes: a.sentBytes + b.sentBytes,
  };
}

/** This process carries nothing, which is what its own counters say. */
function counted(
  direction: ThreadCounters['direction'],
  kernelPackets: number,
  kernelBytes: number,
): ThreadCounters {
  const none = Object.fromEntries(COUNTER_ROWS.map(([name]) => [name, 0]));
  return {
    ...(none as Record<CounterName, number>),
    kernelPackets,
    kernelBytes,
    direction,
    drops: {},
    batchSizes: [],
    queueDrops: null,
  };
}
