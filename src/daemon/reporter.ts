/**
 * What a daemon tells of itself: /readyz, /status and /metrics. Each answer is one look at the state,
 * so its parts agree.
 */
import type { DataPlaneSnapshot, KernelFeature } from '../dataplane/dataplane.js';
import { messageOf } from '../errors.js';
import { storeFault, type StoreFault } from '../lease/store-errors.js';
import { expiryTime } from '../lease/expiry.js';
import { formatIpv4 } from '../config/ipv4.js';
import type { MetricsSample } from '../metrics/metrics.js';
import type { ForwarderHealth } from '../network/forwarder.js';
import type { FollowState } from '../network/registration.js';
import type { Problem, ProblemBoard } from '../problems.js';
import { knownFeatures } from './kernel-features.js';
import { dataPlaneMode, type DaemonSettings } from './options.js';
import type { DaemonState } from './state.js';
import { describeStatus, type DaemonStatus, type FirewallState } from './status.js';
import { packageVersion } from './version.js';

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

/** What a network says of itself at one moment. */
interface Look {
  readonly follow: FollowState | undefined;
  readonly health: ForwarderHealth | undefined;
  /** The data plane in service; undefined when there is none in user space. */
  readonly live: DataPlaneSnapshot | undefined;
}

export class Reporter {
  readonly #state: DaemonState;
  readonly #options: DaemonSettings;
  readonly #problems: ProblemBoard;

  constructor(state: DaemonState, options: DaemonSettings, problems: ProblemBoard) {
    this.#state = state;
    this.#options = options;
    this.#problems = problems;
  }

  /** The same JSON that /status gives. */
  status(): DaemonStatus {
    const { store, config, network, external, startedAt } = this.#state;
    const look = this.#look();
    const readiness = this.#readiness(look);
    return describeStatus({
      version: packageVersion(),
      mode: this.#state.mode,
      ready: readiness.ready,
      phase: readiness.phase,
      uptimeSeconds: Math.round(performance.now() - startedAt) / 1000,
      store,
      storeError: readiness.store.error,
      config,
      network,
      follow: look.follow,
      external,
      features: this.#features(look),
      dataPlane: this.#dataPlane(look),
      dataPlaneError: look.health?.error ?? null,
      dataPlaneRestarts: this.#restarts(look),
      firewall: this.#firewall(),
      problems: this.#problems.all,
    });
  }

  /**
   * What /readyz gives. A store that cannot be followed, a data plane being replaced or a firewall
   * that was in place and now refuses is shown but leaves a daemon ready: to take its node out of
   * service would not help.
   */
  readiness(): Readiness {
    return this.#readiness({ ...this.#look('without counters') });
  }

  sample(): MetricsSample {
    const { network, synced } = this.#state;
    const look = this.#look();
    const { ready, store } = this.#readiness(look);
    return {
      mode: this.#state.mode,
      dataPlane: this.#dataPlane(look),
      dataPlaneUp: look.health !== undefined && look.health.error === undefined,
      dataPlaneRestarts: this.#restarts(look),
      ready,
      routes: network?.routes.size ?? 0,
      rejectedLeases: look.follow?.rejected.length ?? 0,
      leaseExpiresAt: network === undefined ? undefined : expiryTime(network.lease),
      storeUp: store.ok,
      leasesAgeSeconds: synced ? leasesAge(look.follow?.leasesAsOf) : undefined,
      firewall: this.#firewall(),
      problems: this.#problems.all,
      pathMtus: [...(network?.forwarder.narrowPaths?.() ?? [])].map(([host, { bytes }]) => ({
        host: formatIpv4(host),
        bytes,
      })),
      features: this.#features(look),
    };
  }

  /** Counters are the expensive part: the kernel is asked for each thread's queue. */
  #look(counters: 'with counters' | 'without counters' = 'with counters'): Look {
    const { network } = this.#state;
    return {
      follow: network?.followState(),
      health: network?.forwarder.health(),
      live: counters === 'with counters' ? network?.forwarder.counters() : undefined,
    };
  }

  #readiness({ follow, health: forwarding }: Look): Readiness {
    const { phase, synced, subnetFileWritten, store, storeProblem, firewall } = this.#state;
    const waiting = storeProblem === undefined ? undefined : messageOf(storeProblem);
    const fault = follow?.storeFault ?? storeFault(storeProblem);
    const guarded = firewall?.inPlace === true;
    return {
      ready: subnetFileWritten && guarded,
      phase: subnetFileWritten && !guarded ? 'putting the firewall rules in place' : phase,
      synced,
      subnetFileWritten,
      store: {
        ...health(store !== undefined, follow?.storeError ?? waiting),
        ...(fault === undefined || fault === 'unreachable' ? {} : { fault }),
        leasesAgeSeconds: synced ? leasesAge(follow?.leasesAsOf) : null,
      },
      dataPlane: health(forwarding !== undefined, forwarding?.error),
      firewall: health(guarded, firewall?.error),
      problems: this.#problems.all,
    };
  }

  /** Totals since the daemon's start; undefined while nothing was ever forwarded in user space. */
  #dataPlane({ live }: Look): DataPlaneSnapshot | undefined {
    const threads = this.#state.totals(live?.threads);
    if (threads === undefined) return undefined;
    return {
      mode: dataPlaneMode(this.#state.mode),
      threads,
      features: live?.features ?? [],
      queues: live?.queues ?? null,
    };
  }

  #features({ live }: Look): readonly KernelFeature[] {
    return knownFeatures(this.#state.features ?? [], live);
  }

  #restarts({ health: forwarding }: Look): number {
    return this.#state.restarts(forwarding?.restarts ?? 0);
  }

  #firewall(): FirewallState {
    const { firewall, repairs } = this.#state;
    return {
      enabled: this.#options.ipMasq || this.#options.forwardRules,
      inPlace: firewall?.inPlace ?? false,
      error: firewall?.error ?? null,
      repairs,
    };
  }
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
