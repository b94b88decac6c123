/** What a daemon knows of itself: written by what runs, read by what reports (reporter.ts). */
import type { NetworkConfig } from '../config/network.js';
import type { KernelFeature, ThreadCounters } from '../dataplane/dataplane.js';
import type { FirewallKeeper } from '../firewall/firewall.js';
import { addCounters, retire } from '../dataplane/totals.js';
import type { ExternalInterface } from '../host/interface.js';
import type { LeaseStore } from '../lease/store.js';
import type { DaemonMode } from './options.js';
import type { Registration } from '../network/registration.js';

/**
 * What a daemon does or waits for:
 *
 *   starting -> choosing the external interface -> opening the lease store
 *     -> waiting for the network configuration -> registering the network <-----------------+
 *          -> waiting for the leases -> writing subnet.env -> running --(subnet, interface  |
 *                        |                     |                 |       or MTU changed)----+
 *   any -> stopped       +---------------------+-----------------+--------------------------+
 * running -> standing aside -> stepped aside -> stopped, or running again
 * registering the network -> waiting for the UDP port -> waiting for the leases, with --wait-for-port alone
 */
export type Phase =
  | 'starting'
  | 'choosing the external interface'
  | 'opening the lease store'
  | 'waiting for the network configuration'
  | 'registering the network'
  | 'waiting for the UDP port'
  | 'waiting for the leases'
  | 'writing subnet.env'
  | 'running'
  | 'standing aside'
  | 'stepped aside'
  | 'stopped';

export class DaemonState {
  // Until the daemon ends.
  readonly startedAt = performance.now();
  phase: Phase = 'starting';
  /** As asked for, at the start or since. */
  mode: DaemonMode;
  /** Undefined until they were probed, once a network forwards. */
  features: readonly KernelFeature[] | undefined;
  external: ExternalInterface | undefined;
  /** Totals of the networks that have ended. */
  #retired: readonly ThreadCounters[] = [];
  #retiredRestarts = 0;
  #retiredRepairs = 0;

  // Until the store is closed.
  store: LeaseStore | undefined;
  config: NetworkConfig | undefined;
  /** Why the store could not be asked last time; before a network follows it. */
  storeProblem: Error | undefined;

  // Until the network is registered again.
  network: Registration | undefined;
  firewall: FirewallKeeper | undefined;

  constructor(mode: DaemonMode) {
    this.mode = mode;
  }

  /** The leases are known and traffic flows. */
  get synced(): boolean {
    return this.phase === 'writing subnet.env' || this.subnetFileWritten;
  }

  get subnetFileWritten(): boolean {
    return ['running', 'standing aside', 'stepped aside'].includes(this.phase);
  }

  /** Totals of closed data planes and these; undefined where none was ever in user space. */
  totals(live: readonly ThreadCounters[] | undefined): readonly ThreadCounters[] | undefined {
    if (live === undefined && this.#retired.length === 0) return undefined;
    return addCounters(this.#retired, live ?? []);
  }

  restarts(live: number): number {
    return this.#retiredRestarts + live;
  }

  get repairs(): number {
    return this.#retiredRepairs + (this.firewall?.repairs ?? 0);
  }

  /** The network is closed: what it counted stays. */
  networkEnded({ forwarder }: Registration): void {
    this.#retired = addCounters(this.#retired, retire(forwarder.counters()?.threads ?? []));
    this.#retiredRestarts += forwarder.health().restarts;
  }

  firewallEnded(): void {
    this.#retiredRepairs += this.firewall?.repairs ?? 0;
    this.firewall = undefined;
  }
}
