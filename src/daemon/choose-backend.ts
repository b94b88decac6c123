/**
 * The best way of packets that this host has: ways are tried in order, each for real, until one carries.
 *
 *   ways in order --> a daemon of that backend and mode --> carries? --no--> passed over, with the reason
 *                                                              | yes
 *                                in service <------------------+
 *                                   | carries no more: the next way; and again and again the better ones
 *
 * Ways of the udp backend share one daemon, whose mode changes without a gap. To another backend the
 * daemon starts anew.
 */
import { getSystemErrorName } from 'node:util';
import { pause } from '../abort.js';
import { inputError, messageOf, systemError } from '../errors.js';
import { silentLogger, type Logger } from '../log.js';
import { EventStream, type DaemonEvent } from '../network/events.js';
import { Daemon, type DaemonDependencies } from './daemon.js';
import {
  resolveDaemonOptions,
  validateDaemonOptions,
  type BackendType,
  type DaemonMode,
  type DaemonOptions,
} from './options.js';
import type { DaemonStatus } from './status.js';

/** From the fewest crossings between user space and kernel to the most. */
export const BACKEND_WAYS = [
  'vxlan',
  'host-gw',
  'udp/kernel',
  'udp/offload',
  'udp/batch',
  'udp/basic',
] as const;
export type BackendWay = (typeof BACKEND_WAYS)[number];

export interface ChooseOptions extends Omit<DaemonOptions, 'mode' | 'backend'> {
  /** In the order of preference; all of them, as in BACKEND_WAYS, when not given. */
  readonly ways?: readonly BackendWay[];
  /** Milliseconds until better ways are tried again, doubled up to 16 times; 0: never. Default 60,000. */
  readonly retryMs?: number;
  readonly signal?: AbortSignal;
  readonly log?: Logger;
}

export interface PassedOver {
  readonly way: BackendWay;
  readonly reason: string;
}

const RETRY_MS = 60_000;
const RETRY_GROWTH_MAX = 16;
/** How often the way in service is looked at. */
const LOOK_MS = 1_000;
/** A fault that lasts so many looks is no passing one: an interface that is made again, say. */
const FAULTS_MAX = 4;
/** Problems of a backend that does not reach hosts: off the segment, or their leases are another's. */
const NO_REACH: readonly string[] = ['route_refused', 'all_leases_rejected'];

/** A network in service. */
export class ChosenBackend {
  /** Resolves when it was closed; rejects when no way carries any more. */
  readonly ended: Promise<void>;
  readonly #chooser: Chooser;

  /** Use `chooseBackend`. */
  constructor(chooser: Chooser, ended: Promise<void>) {
    this.#chooser = chooser;
    this.ended = ended;
  }

  /** In service now. */
  get way(): BackendWay {
    return this.#chooser.way;
  }

  /** Those in front of it, and those that ceased to carry, each with its last reason. */
  get passedOver(): readonly PassedOver[] {
    return this.#chooser.passedOver;
  }

  status(): DaemonStatus {
    return this.#chooser.daemon.status();
  }

  /** What happens from now on, over all ways, until the signal aborts or the loop is left. */
  events(signal?: AbortSignal): AsyncIterableIterator<DaemonEvent> {
    return this.#chooser.events.read(signal);
  }

  /** Takes everything away. Idempotent. */
  async close(): Promise<void> {
    this.#chooser.stop();
    await this.ended.catch(() => undefined);
  }
}

/**
 * Tries ways of carrying packets in order and returns the first that carries, with reasons for those passed
 * over. It falls back by itself when that one ceases to, and climbs again later. Rejects with an input
 * error for a wrong option, with a system error that names every reason when no way carries.
 *
 * @example
 * ```ts
 * const network = await chooseBackend({
 *   store: { kind: 'file', path: '/srv/leases.json' },
 *   ways: ['udp/kernel', 'udp/offload'],
 * });
 * console.log(network.way, network.passedOver);
 * await network.close();
 * ```
 */
export async function chooseBackend(
  options: ChooseOptions,
  dependencies: DaemonDependencies = {},
): Promise<ChosenBackend> {
  const { ways = BACKEND_WAYS } = options;
  if (ways.length === 0) throw inputError('ways', ways, `some of ${BACKEND_WAYS.join(', ')}`);
  for (const way of ways) {
    if (!BACKEND_WAYS.includes(way)) throw inputError('ways', way, BACKEND_WAYS.join(', '));
  }
  validateDaemonOptions(resolveDaemonOptions(daemonOptions(options)));
  const chooser = new Chooser({ ...options, ways }, dependencies);
  await chooser.begin();
  return new ChosenBackend(chooser, chooser.run());
}

interface Running {
  readonly daemon: Daemon;
  readonly end: AbortController;
  /** How it ended: with the reason when it ended by itself. */
  readonly ended: Promise<string>;
}

class Chooser {
  readonly events = new EventStream();
  readonly #options: ChooseOptions & { readonly ways: readonly BackendWay[] };
  readonly #dependencies: DaemonDependencies;
  readonly #log: Logger;
  readonly #stop = new AbortController();
  readonly #reasons = new Map<BackendWay, string>();
  readonly #carried = new Set<BackendWay>();
  #at = 0;
  #running: Running | undefined;

  constructor(
    options: ChooseOptions & { readonly ways: readonly BackendWay[] },
    dependencies: DaemonDependencies,
  ) {
    this.#options = options;
    this.#dependencies = dependencies;
    this.#log = options.log ?? silentLogger();
    const { signal } = options;
    const stop = (): void => {
      this.stop();
    };
    if (signal?.aborted === true) stop();
    signal?.addEventListener('abort', stop, { once: true });
  }

  get way(): BackendWay {
    return this.#wayAt(this.#at);
  }

  get daemon(): Daemon {
    if (this.#running === undefined) throw systemError('no way carries: the network has ended');
    return this.#running.daemon;
  }

  get passedOver(): readonly PassedOver[] {
    return this.#options.ways.flatMap((way) => {
      const reason = this.#reasons.get(way);
      return reason === undefined ? [] : [{ way, reason }];
    });
  }

  stop(): void {
    this.#stop.abort();
  }

  /** The first way that carries. */
  async begin(): Promise<void> {
    try {
      if (await this.#beginWith(0, this.#options.ways.length)) return;
      throw this.#none();
    } catch (error) {
      await this.#end();
      throw error;
    }
  }

  /** Looks after the way in service until stopped. */
  async run(): Promise<void> {
    const { signal } = this.#stop;
    const { retryMs = RETRY_MS } = this.#options;
    let faults = 0;
    let growth = 1;
    let climbAt = performance.now() + retryMs;
    try {
      while (!signal.aborted) {
        await Promise.race([pause(LOOK_MS, signal), this.#running?.ended]);
        if (signal.aborted) return;
        const fault = await this.#fault();
        faults = fault === undefined ? 0 : faults + 1;
        if (fault !== undefined && (fault.isFinal || faults >= FAULTS_MAX)) {
          await this.#fall(fault.reason);
          faults = 0;
        } else if (retryMs > 0 && this.#at > 0 && performance.now() >= climbAt) {
          growth = (await this.#climb()) ? 1 : Math.min(2 * growth, RETRY_GROWTH_MAX);
          climbAt = performance.now() + retryMs * growth;
        }
      }
    } finally {
      await this.#end();
    }
  }

  #wayAt(index: number): BackendWay {
    return this.#options.ways[index] ?? 'udp/basic';
  }

  #none(): Error {
    const reasons = this.passedOver.map(({ way, reason }) => `${way}: ${reason}`);
    return systemError(`no way carries packets here: ${reasons.join('; ')}`);
  }

  /** Tries the ways of these places in order, or those of them that may; false when none carries. */
  async #beginWith(
    from: number,
    to: number,
    may: (way: BackendWay) => boolean = () => true,
  ): Promise<boolean> {
    for (let index = from; index < to; index += 1) {
      const way = this.#wayAt(index);
      if (!may(way)) continue;
      const reason = await this.#try(way);
      this.#stop.signal.throwIfAborted();
      if (reason === undefined) {
        this.#reasons.delete(way);
        this.#carried.add(way);
        this.#at = index;
        return true;
      }
      this.#reasons.set(way, reason);
      this.#log.info({ way, reason }, 'a way of carrying packets was passed over');
    }
    return false;
  }

  /** Puts a way in service: undefined, or why it does not carry. */
  async #try(way: BackendWay): Promise<string | undefined> {
    const { backend, mode } = partsOf(way);
    if (this.#running !== undefined && backend === 'udp' && isUdp(this.#running.daemon)) {
      try {
        this.#running.daemon.changeMode(mode);
      } catch (error) {
        return messageOf(error);
      }
      return faultOf(way, this.#running.daemon);
    }
    await this.#end();
    this.#running = this.#start(backend, mode);
    const { daemon, ended } = this.#running;
    const refused = await Promise.race([ended, this.#carries(daemon)]);
    const reason = refused ?? faultOf(way, daemon);
    // Another mode of the same backend may do.
    const isOver = refused !== undefined || backend !== 'udp';
    if (reason !== undefined && isOver) await this.#end();
    return reason;
  }

  #start(backend: BackendType, mode: DaemonMode): Running {
    const options = { ...daemonOptions(this.#options), backend, mode };
    const daemon = new Daemon(options, this.#log, this.#dependencies);
    const end = new AbortController();
    void this.#passOn(daemon, end.signal);
    const ended = daemon.run(AbortSignal.any([end.signal, this.#stop.signal])).then(
      () => 'it was stopped',
      (error: unknown) => messageOf(error),
    );
    return { daemon, end, ended };
  }

  async #passOn(daemon: Daemon, signal: AbortSignal): Promise<void> {
    for await (const event of daemon.events(signal)) this.events.emit(event);
  }

  /** Resolves when traffic can flow. */
  async #carries(daemon: Daemon): Promise<undefined> {
    for await (const { type } of daemon.events(this.#stop.signal)) {
      if (type === 'lease') break;
    }
    return undefined;
  }

  async #end(): Promise<void> {
    const running = this.#running;
    if (running === undefined) return;
    this.#running = undefined;
    running.end.abort();
    await running.ended;
  }

  async #fault(): Promise<{ reason: string; isFinal: boolean } | undefined> {
    const { daemon, ended } = this.#running ?? {};
    if (daemon === undefined) return { reason: 'it has ended', isFinal: true };
    const over = await Promise.race([ended, Promise.resolve(undefined)]);
    if (over !== undefined) return { reason: over, isFinal: true };
    const reason = faultOf(this.way, daemon);
    return reason === undefined ? undefined : { reason, isFinal: false };
  }

  /** To the next way that carries; those in front of it are tried last. */
  async #fall(reason: string): Promise<void> {
    const from = this.way;
    const failed = this.#at;
    this.#reasons.set(from, reason);
    this.#log.warn({ way: from, reason }, 'a way of carrying packets failed');
    const fell =
      (await this.#beginWith(failed + 1, this.#options.ways.length)) ||
      (await this.#beginWith(0, failed + 1));
    if (!fell) throw this.#none();
    this.#tell(from, reason);
  }

  /**
   * To a better way, if one carries again; back to this one otherwise. Another backend, which costs half a
   * second without traffic, is tried only if it has carried here before.
   */
  async #climb(): Promise<boolean> {
    const from = this.way;
    const before = this.#at;
    const isUdpNow = partsOf(from).backend === 'udp';
    const climbed = await this.#beginWith(0, before, (way) => {
      return this.#carried.has(way) || (isUdpNow && partsOf(way).backend === 'udp');
    });
    if (!climbed && !(await this.#beginWith(before, this.#options.ways.length))) throw this.#none();
    if (this.way !== from) this.#tell(from, 'a better way carries again');
    return climbed;
  }

  #tell(from: BackendWay, reason: string): void {
    const to = this.way;
    this.#log.info({ from, to, reason }, 'packets go another way');
    this.events.emit({ type: 'fallback', from, to, reason });
  }
}

function daemonOptions(options: ChooseOptions): DaemonOptions {
  const own = ['ways', 'retryMs', 'signal', 'log'];
  return Object.fromEntries(
    Object.entries(options).filter(([name]) => !own.includes(name)),
  ) as unknown as DaemonOptions;
}

function partsOf(way: BackendWay): { backend: BackendType; mode: DaemonMode } {
  switch (way) {
    case 'vxlan':
    case 'host-gw':
      return { backend: way, mode: 'auto' };
    case 'udp/kernel':
      return { backend: 'udp', mode: 'kernel' };
    case 'udp/offload':
      return { backend: 'udp', mode: 'offload' };
    case 'udp/batch':
      return { backend: 'udp', mode: 'batch' };
    case 'udp/basic':
      return { backend: 'udp', mode: 'basic' };
  }
}

function isUdp(daemon: Daemon): boolean {
  return daemon.status().dataPlane !== null;
}

/** Why packets do not go this way now; undefined when they do. */
function faultOf(way: BackendWay, daemon: Daemon): string | undefined {
  const { dataPlane: forwarding, problems } = daemon.readiness();
  if (!forwarding.ok) return forwarding.error ?? 'nothing forwards';
  const refused = problems.find(({ id }) => NO_REACH.includes(id));
  if (refused !== undefined && partsOf(way).backend !== 'udp') return refused.message;
  if (way !== 'udp/kernel') return undefined;
  const features = daemon.status().dataPlane?.features ?? [];
  if (features.some(({ name, state }) => name === 'fou' && state === 'active')) return undefined;
  const feature = features.find(({ name }) => name === 'kernel-path');
  if (feature === undefined || feature.state === 'active') return undefined;
  const { state, errno } = feature;
  return `kernel-path is ${state}${errno === 0 ? '' : ` (${getSystemErrorName(-errno)})`}`;
}
