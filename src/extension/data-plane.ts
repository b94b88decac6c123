/**
 * The data plane that the commands of flanneld's extension backend drive: a daemon without a store of
 * its own, from `post` to `close`.
 *
 *   idle --post--> starting --forwards--> running --post with another subnet--> starting
 *                      |                     |
 *                      `------ fails --------+--> failed, with why --post--> starting
 *
 * What fails is answered to the command that finds it, because flanneld logs a command's output and no
 * log of ours.
 */
import { settledWithin } from '../abort.js';
import { formatCidr, formatIpv4, sameCidr, subnetKey } from '../config/ipv4.js';
import { Daemon } from '../daemon/daemon.js';
import type { DaemonOptions } from '../daemon/options.js';
import type { DaemonStatus } from '../daemon/status.js';
import { FlannelletteError, messageOf, systemError } from '../errors.js';
import type { Logger } from '../log.js';
import {
  checkBackendData,
  readHolder,
  readOwnNetwork,
  showHolder,
  type Environment,
  type OwnNetwork,
} from './contract.js';
import { ToldStore, type TunnelSettings } from './told-store.js';

/** Longer than a device takes to open on any machine; flanneld waits for the command. */
const START_MS = 30_000;
const STOP_WAIT_MS = 1_500;

export interface ExtensionOptions {
  readonly tunnel: TunnelSettings;
  /** Of the daemon behind it. Without `iface` the tunnel is bound to flanneld's PUBLIC_IP. */
  readonly daemon: Omit<
    DaemonOptions,
    'store' | 'publicIp' | 'ipMasq' | 'forwardRules' | 'leaseRenewMarginMinutes'
  >;
}

/** What a command may need of a daemon. */
type RunningDaemon = Pick<Daemon, 'run' | 'status'>;

export interface ExtensionDependencies {
  readonly createDaemon?: (options: DaemonOptions, log: Logger) => RunningDaemon;
  readonly startMs?: number;
}

interface Service {
  readonly own: OwnNetwork;
  readonly store: ToldStore;
  readonly daemon: RunningDaemon;
  readonly stop: AbortController;
  /** Never rejects. */
  readonly ended: Promise<void>;
  failure: Error | undefined;
}

export class ExtensionDataPlane {
  readonly #options: ExtensionOptions;
  readonly #log: Logger;
  readonly #dependencies: ExtensionDependencies;
  #service: Service | undefined;

  constructor(options: ExtensionOptions, log: Logger, dependencies: ExtensionDependencies = {}) {
    this.#options = options;
    this.#log = log;
    this.#dependencies = dependencies;
  }

  /** Resolves once packets can travel, with a line that says so. */
  async post(env: Environment): Promise<string> {
    const own = readOwnNetwork(env);
    const running = this.#service;
    if (running !== undefined && running.failure === undefined && sameNetwork(running.own, own)) {
      running.store.expectAgain();
      return describe(running);
    }
    await this.close();
    this.#service = this.#start(own);
    await this.#untilForwarding(this.#service);
    return describe(this.#service);
  }

  /** `data` is the BackendData of the other host. */
  async add(env: Environment, data: string): Promise<string> {
    const holder = readHolder(env);
    const { store, daemon } = this.#inService();
    checkBackendData(data, this.#options.tunnel.port);
    await store.put(holder);
    const key = subnetKey(holder.subnet);
    const refused = daemon.status().rejected.find((entry) => entry.key === key);
    if (refused === undefined) return `added ${showHolder(holder)}`;
    throw systemError(`no route for ${showHolder(holder)}: ${refused.reason}`, { field: 'SUBNET' });
  }

  async remove(env: Environment): Promise<string> {
    const holder = readHolder(env);
    const known = await this.#inService().store.delete(holder);
    return known ? `removed ${showHolder(holder)}` : `there was no ${formatCidr(holder.subnet)}`;
  }

  status(): DaemonStatus | undefined {
    return this.#service?.daemon.status();
  }

  /** Removes device and routes. Idempotent. */
  async close(): Promise<void> {
    const service = this.#service;
    this.#service = undefined;
    if (service === undefined) return;
    service.stop.abort();
    await settledWithin(STOP_WAIT_MS, service.ended);
  }

  #inService(): Service {
    const service = this.#service;
    if (service === undefined) {
      throw systemError(
        'no subnet was told yet: flannelette extension post (PostStartupCommand) comes first',
      );
    }
    if (service.failure !== undefined) {
      throw systemError(
        `the data plane ended: ${messageOf(service.failure)}; restart flanneld to start it again`,
      );
    }
    return service;
  }

  #start(own: OwnNetwork): Service {
    const { tunnel, daemon: given } = this.#options;
    const { createDaemon = (options, log) => new Daemon(options, log) } = this.#dependencies;
    const store = new ToldStore({ own, tunnel });
    const daemon = createDaemon(
      {
        ...given,
        iface: given.iface?.length ? given.iface : [formatIpv4(own.publicIp)],
        publicIp: formatIpv4(own.publicIp),
        store: { kind: 'given', store },
        // flanneld keeps the rules.
        ipMasq: false,
        forwardRules: false,
      },
      this.#log,
    );
    const stop = new AbortController();
    const service: Service = {
      own,
      store,
      daemon,
      stop,
      failure: undefined,
      ended: daemon.run(stop.signal).catch((error: unknown) => {
        service.failure = error instanceof Error ? error : new Error(messageOf(error));
        this.#log.fatal({ error: messageOf(error) }, 'the data plane ended');
      }),
    };
    return service;
  }

  async #untilForwarding(service: Service): Promise<void> {
    const { store, daemon, ended } = service;
    await settledWithin(
      this.#dependencies.startMs ?? START_MS,
      Promise.race([store.forwarding.then(() => undefined), ended]),
    );
    if (service.failure instanceof FlannelletteError) throw service.failure;
    if (service.failure !== undefined) throw systemError(messageOf(service.failure));
    const { ready, phase } = daemon.status();
    if (ready) return;
    await this.close();
    throw systemError(`the data plane did not forward in time: ${phase}`);
  }
}

function sameNetwork(a: OwnNetwork, b: OwnNetwork): boolean {
  return (
    sameCidr(a.network, b.network) && sameCidr(a.subnet, b.subnet) && a.publicIp === b.publicIp
  );
}

function describe({ daemon, own }: Service): string {
  const { device, mtu } = daemon.status();
  return `forwarding for ${formatCidr(own.subnet)} by ${device ?? 'the kernel'}, MTU ${mtu ?? '?'}`;
}
