/**
 * Keeps one data plane in service: opens it, replaces it when it fails, and gives its user one
 * device, one set of routes and one set of counters all the while.
 *
 * A data plane fails for good when its TUN is deleted or a descriptor turns out to be none (an
 * interface that is down only drops packets, counted). It is then closed and opened again, at first
 * after 0.1 s, doubling to 4 s, so that forwarding is back within 5 s of the cause's end. The delay
 * starts over only once a data plane has lived through STABLE_MS: one that fails at once is not
 * retried ten times a second.
 *
 * A device that is set down and up again is no failure, but the kernel removes its routes and says
 * nothing to the descriptor. So the device is checked after changes of the host while it forwards. One that was
 * moved to another network namespace still has its descriptor: it is replaced like a deleted one.
 */
import type {
  DataPlane,
  DataPlaneEvent,
  DataPlaneOptions,
  DataPlaneSnapshot,
  FeatureState,
  ThreadCounters,
} from '../../dataplane/dataplane.js';
import { errnoOf, messageOf, systemError } from '../../errors.js';
import type { Logger } from '../../log.js';
import type { EventSink } from '../../network/events.js';
import type { PathMtu } from '../../network/forwarder.js';
import type { ProblemBoard } from '../../problems.js';
import { DeviceWatch } from './device-watch.js';
import { FloodGate } from './flood-gate.js';
import { lookAtHost, type HostChanges, type Looks } from '../../dataplane/host-changes.js';
import { addCounters, retire } from '../../dataplane/totals.js';
import { RateLimitedLog } from '../../rate-limited-log.js';
import { errnoName } from './errno.js';
import type { InheritedTunnel, TunnelLife, TunnelKeeper } from './inherited.js';
import { formatIpv4, type Ipv4 } from '../../config/ipv4.js';

/** The part of DataPlane that is used here; tests put their own in its place. */
export interface DataPlaneHandle extends Pick<
  DataPlane,
  | 'device'
  | 'start'
  | 'changeRoutes'
  | 'changeMode'
  | 'restoreDevice'
  | 'stepAside'
  | 'stepBack'
  | 'filterSources'
  | 'sendDescriptors'
  | 'storeDescriptors'
  | 'storeKernelPath'
  | 'leave'
  | 'snapshot'
  | 'close'
> {
  on(name: 'event', listener: (event: DataPlaneEvent) => void): unknown;
}

/** Opens device and socket; throws a system error that names what the kernel refused. */
export type OpenDataPlane = (options: DataPlaneOptions) => DataPlaneHandle;

const FIRST_DELAY_MS = 100;
const MAX_DELAY_MS = 4_000;
const STABLE_MS = 10_000;
/** Least time between two checks of the device. */
const CHECK_MS = 1_000;
/** Key of what is reported to the problem board. */
const SOURCE = 'device';

export class DataPlaneSupervisor {
  #options: DataPlaneOptions;
  readonly #open: OpenDataPlane;
  readonly #log: Logger;
  readonly #misses: RateLimitedLog;
  readonly #refusals: RateLimitedLog;
  readonly #pathChanges: RateLimitedLog;
  /** By next hop, of the data plane in service. */
  readonly #pathMtus = new Map<Ipv4, PathMtu>();
  readonly #problems: ProblemBoard | undefined;
  readonly #watch: DeviceWatch;
  #device: string;
  #live: DataPlaneHandle | undefined;
  /** Of the data plane in service. */
  #gate: FloodGate | undefined;
  #retired: readonly ThreadCounters[] = [];
  /** The routes published so far, for a replacement. */
  readonly #routes: () => Uint32Array;
  #started = false;
  #closed = false;
  #error: string | undefined;
  #restarts = 0;
  #attempts = 0;
  #openedAt = 0;
  #timer: NodeJS.Timeout | undefined;
  readonly #changes: HostChanges | undefined;
  readonly #events: EventSink | undefined;
  #check: Looks | undefined;
  #checkError: string | undefined;
  #inherited: InheritedTunnel | undefined;
  readonly #keeper: TunnelKeeper | undefined;
  readonly #name: string;

  /**
   * Opens the first data plane; what it throws is the caller's to handle. `routes` gives all routes,
   * compiled, when a replacement needs them. Without `changes` the device is checked each CHECK_MS. With
   * an inherited tunnel nothing is opened: it goes on where another process ends. While one forwards its
   * keeper holds it too, until it is closed for good.
   */
  constructor(
    options: DataPlaneOptions,
    open: OpenDataPlane,
    routes: () => Uint32Array,
    log: Logger,
    problems?: ProblemBoard,
    changes?: HostChanges,
    events?: EventSink,
    { name, inherited, keeper }: TunnelLife = { name: '' },
  ) {
    this.#options = options;
    this.#open = open;
    this.#routes = routes;
    this.#log = log;
    this.#problems = problems;
    this.#changes = changes;
    this.#events = events;
    this.#watch = new DeviceWatch(log);
    this.#misses = new RateLimitedLog((fields) => {
      log.debug(fields, 'no route to the destination');
    });
    this.#refusals = new RateLimitedLog((fields) => {
      log.warn(fields, 'refused datagrams: their source holds no lease for what they carry');
    });
    this.#pathChanges = new RateLimitedLog((fields) => {
      log.info(fields, 'the path to a host takes packets of another length');
    });
    this.#name = name;
    this.#keeper = keeper;
    this.#live = this.#adopt(this.#openInherited(inherited) ?? open(options));
    this.#device = this.#live.device;
  }

  /** Undefined when there is none, or one that was kept and does not fit. */
  #openInherited(inherited: InheritedTunnel | undefined): DataPlaneHandle | undefined {
    if (inherited === undefined) return undefined;
    try {
      const plane = this.#open({
        ...this.#options,
        adoptedTun: inherited.tun,
        adoptedUdp: inherited.udp,
        adoptedLinks: inherited.links,
        adoptedUntil: inherited.until,
      });
      this.#inherited = inherited;
      return plane;
    } catch (error) {
      // Another process goes on with its own.
      if (inherited.until !== undefined) throw error;
      this.#log.warn(
        { reason: messageOf(error) },
        'the tunnel that was kept does not fit; making a new one',
      );
      this.#keeper?.release();
      return undefined;
    }
  }

  /** Name of the device in service, or of the last one. */
  get device(): string {
    return this.#device;
  }

  /** Why there is no data plane in service; `undefined` while there is. */
  get error(): string | undefined {
    return this.#error;
  }

  /** What is known of paths that take no packets as long as the device does, by next hop. */
  get narrowPaths(): ReadonlyMap<Ipv4, PathMtu> {
    return this.#pathMtus;
  }

  /** How often a failed data plane has been replaced. */
  get restarts(): number {
    return this.#restarts;
  }

  /** Begins to forward; a replacement is started by itself. */
  start(): void {
    if (this.#started || this.#closed) return;
    this.#started = true;
    if (this.#inherited === undefined) {
      this.#begin();
      return;
    }
    const waiting = this.#startBehind();
    void this.#inherited.switchOver().then(
      () => {
        this.#begin(waiting);
      },
      () => {
        // Its user goes on as before, and whoever opened this one hears of it.
        this.close();
      },
    );
  }

  /** Sends the descriptors in service to a process that waits for them at `path`. */
  give(path: string, message: string): void {
    if (this.#live === undefined) throw systemError(`no data plane to take over: ${this.#error}`);
    if (this.#aside) throw systemError('it stands aside for another program');
    this.#live.sendDescriptors(path, message);
  }

  /** Whether the threads wait for the descriptors' present user to stop; they cannot always. */
  #startBehind(): boolean {
    try {
      this.#live?.start();
      return true;
    } catch (error) {
      if (errnoOf(error) !== 'EBUSY') this.#fail(messageOf(error));
      return false;
    }
  }

  #begin(started = false): void {
    if (this.#closed) return;
    const look = (): void => {
      this.#restoreDevice();
    };
    // The kernel's own share has to be kept alive, and watched for packets that get lost.
    const often = (): boolean => this.#options.mode === 'kernel' || this.#checkError !== undefined;
    this.#check = lookAtHost(look, { restMs: CHECK_MS, often }, this.#changes);
    this.#use((plane) => {
      if (!started) plane.start();
      this.#keep(plane);
      if (this.#inherited === undefined) return;
      // It is only now in charge of the device, and of what the kernel carries by itself.
      plane.changeRoutes(this.#routes());
      this.#logFeatures(plane);
    });
  }

  /** Publishes changes of routes (RouteTable.takeChanges); a replacement gets all routes. */
  changeRoutes(changes: Uint32Array): void {
    this.#use((plane) => {
      plane.changeRoutes(changes);
    });
  }

  /** Goes on in another mode with the same device; a replacement comes in that mode as well. */
  changeMode(mode: DataPlaneOptions['mode']): void {
    if (mode === this.#options.mode) return;
    this.#options = { ...this.#options, mode };
    this.#use((plane) => {
      // The device may have to be opened in another way, which is refused while somebody else has it.
      this.#keeper?.release();
      plane.changeMode(mode);
      if (this.#started) this.#keep(plane);
      plane.changeRoutes(this.#routes());
      this.#logFeatures(plane);
    });
    this.#check?.ring();
  }

  /** Another program has port and route, or is to have them: they are not looked after. */
  get #aside(): boolean {
    return this.#options.aside === true;
  }

  /** Frees port and route for another program, and goes on. Throws a system error where it cannot. */
  stepAside(): void {
    if (this.#live === undefined) throw systemError(`nothing forwards: ${this.#error}`);
    // What is kept is to end with this process.
    this.#keeper?.release();
    try {
      this.#live.stepAside();
      this.#options = { ...this.#options, aside: true };
    } catch (error) {
      this.#keep(this.#live);
      // It may have been closed over it.
      this.#restoreDevice();
      throw error;
    }
  }

  /** Takes both back, unless that has been done. Throws a system error while another program has the port. */
  stepBack(): void {
    if (!this.#aside) return;
    if (this.#live === undefined) throw systemError(`nothing forwards: ${this.#error}`);
    try {
      this.#live.stepBack();
    } catch (error) {
      if (errnoOf(error) !== 'EADDRINUSE') this.#fail(messageOf(error));
      throw error;
    }
    this.#options = { ...this.#options, aside: false };
    if (this.#started) this.#keep(this.#live);
    this.#check?.ring();
  }

  /** Totals over every data plane there has been. */
  snapshot(): DataPlaneSnapshot {
    const live = this.#live?.snapshot();
    return {
      mode: live?.mode ?? this.#options.mode,
      threads: addCounters(this.#retired, this.#corrected(live?.threads ?? [])),
      features: live?.features ?? [],
      queues: live?.queues ?? null,
    };
  }

  /** Removes the device, closes the socket, gives up any replacement under way. Idempotent. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#check?.end();
    this.#retireLive();
  }

  #corrected(threads: readonly ThreadCounters[]): readonly ThreadCounters[] {
    return this.#gate?.corrected(threads) ?? threads;
  }

  #keep(plane: DataPlaneHandle): void {
    if (!this.#aside) this.#keeper?.keep(this.#name, plane);
  }

  #restoreDevice(): void {
    if (this.#live === undefined || this.#aside) return;
    const { network, networkPrefix: prefix, mtu } = this.#options;
    const expected = { name: this.#device, mtu, network: { network, prefix } };
    try {
      this.#problems?.report(SOURCE, this.#watch.note(expected, this.#live.restoreDevice()));
      this.#checkError = undefined;
    } catch (reason) {
      if (errnoOf(reason) === 'EBADF') {
        this.#fail('the data plane is closed');
        return;
      }
      // The threads see a deleted device by themselves, one that was moved away they do not.
      if (errnoOf(reason) === 'ENODEV') {
        this.#fail(`device ${this.#device} is gone from this network namespace`);
        return;
      }
      const error = messageOf(reason);
      if (error !== this.#checkError) {
        this.#log.warn({ device: this.#device, error }, 'cannot check the device; retrying');
      }
      this.#checkError = error;
    }
  }

  #adopt(plane: DataPlaneHandle): DataPlaneHandle {
    this.#openedAt = performance.now();
    this.#pathMtus.clear();
    this.#logFeatures(plane);
    this.#gate = new FloodGate({
      filter: (on) => {
        plane.filterSources(on);
      },
      log: this.#log,
      problems: this.#problems,
    });
    plane.on('event', (event) => {
      if (plane === this.#live) this.#handle(event);
    });
    return plane;
  }

  /** One line about what the descriptors of a data plane gave. */
  #logFeatures(plane: DataPlaneHandle): void {
    const { mode, features } = plane.snapshot();
    const named = (state: FeatureState['state']): string[] =>
      features.filter((feature) => feature.state === state).map(({ name }) => name);
    const refused = features
      .filter(({ state }) => state === 'refused')
      .map(({ name, errno }) => `${name}: ${errnoName(errno)}`);
    this.#log.info(
      { mode, active: named('active'), disabled: named('disabled'), refused },
      'kernel features in use',
    );
  }

  #handle(event: DataPlaneEvent): void {
    switch (event.type) {
      case 'path-mtu':
        this.#notePath(event.host, event.bytes);
        break;
      case 'miss':
        this.#misses.report({ destination: formatIpv4(event.destination) }, event.repeated);
        break;
      case 'datagram-refused':
        this.#refusals.report({ source: formatIpv4(event.source) }, event.repeated);
        if (!event.holdsLease) this.#gate?.note(event.source, event.repeated + 1);
        break;
      case 'feature-refused':
        this.#log.warn(
          { feature: event.feature, error: errnoName(event.errno) },
          'the kernel refuses a feature; forwarding without it',
        );
        if (event.feature === 'kernel-path') {
          const reason = `the kernel refuses ${event.feature} (${errnoName(event.errno)})`;
          this.#events?.emit({ type: 'fallback', from: 'udp/kernel', to: 'udp/offload', reason });
        }
        break;
      case 'fault':
        this.#fail(
          `${event.operation === 'tun' ? `device ${this.#device}` : 'UDP socket'} failed: ${errnoName(event.errno)}`,
        );
        break;
    }
  }

  #notePath(host: number, bytes: number | undefined): void {
    const before = this.#pathMtus.get(host)?.bytes ?? this.#options.mtu;
    if (bytes === undefined) this.#pathMtus.delete(host);
    else this.#pathMtus.set(host, { bytes, since: new Date().toISOString() });
    const fields = { host: formatIpv4(host), bytes: bytes ?? this.#options.mtu, before };
    this.#pathChanges.report(fields);
  }

  #use(action: (plane: DataPlaneHandle) => void): void {
    if (this.#live === undefined || this.#closed) return;
    try {
      action(this.#live);
    } catch (error) {
      this.#fail(messageOf(error));
    }
  }

  #fail(reason: string): void {
    if (this.#closed) return;
    const lived = performance.now() - this.#openedAt;
    if (lived >= STABLE_MS) this.#attempts = 0;
    this.#retireLive();
    this.#error = reason;
    this.#log.warn({ reason }, 'data plane failed; opening a new one');
    this.#events?.emit({ type: 'degraded', part: 'forwarding', reason });
    this.#scheduleReplacement();
  }

  #scheduleReplacement(): void {
    const delay = Math.min(FIRST_DELAY_MS * 2 ** this.#attempts, MAX_DELAY_MS);
    this.#attempts += 1;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#replace();
    }, delay);
  }

  #replace(): void {
    let plane: DataPlaneHandle | undefined;
    try {
      // The old name keeps firewall rules and captures valid; if it was taken, any name will do.
      const tunName = this.#attempts % 2 === 1 ? this.#device : this.#options.tunName;
      plane = this.#open({ ...this.#options, tunName });
      plane.changeRoutes(this.#routes());
      if (this.#started) {
        plane.start();
        this.#keep(plane);
      }
    } catch (error) {
      plane?.close();
      this.#error = messageOf(error);
      this.#log.debug(
        { error: this.#error, attempt: this.#attempts },
        'cannot open a data plane yet',
      );
      this.#scheduleReplacement();
      return;
    }
    this.#live = this.#adopt(plane);
    this.#device = plane.device;
    this.#error = undefined;
    this.#restarts += 1;
    this.#log.info({ device: this.#device }, 'data plane restored');
    this.#events?.emit({ type: 'recovered', part: 'forwarding' });
  }

  #retireLive(): void {
    const plane = this.#live;
    if (plane === undefined) return;
    this.#live = undefined;
    this.#gate?.close();
    this.#problems?.report(SOURCE, []);
    if (this.#keeper?.leaves === true) {
      plane.leave();
    } else {
      plane.close();
      this.#keeper?.release();
    }
    // Taken after the close: the threads are joined, nothing they counted is missed.
    this.#retired = addCounters(this.#retired, retire(this.#corrected(plane.snapshot().threads)));
  }
}
