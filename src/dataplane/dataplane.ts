/**
 * The native engine as the control plane sees it: opened with plain options, fed with routes,
 * observed through counters and events. No packet ever passes through here.
 */
import { EventEmitter } from 'node:events';
import { closeSync, unlinkSync } from 'node:fs';
import { Socket } from 'node:net';
import { availableParallelism } from 'node:os';
import type { Ipv4 } from '../config/ipv4.js';
import { errnoOf, messageOf, systemError } from '../errors.js';
import type { ThreadCounters } from './counters.js';
import { decodeEvent, EVENT_BYTES, type DataPlaneEvent } from './events.js';
import {
  native,
  type NativeDeviceCheck,
  type NativeEngine,
  type NativeEngineOptions,
  type NativeFeature,
  type NativeFeatureName,
  type NativeFeatureState,
  type NativeHandover,
  type NativeStoreSupport,
  type NativeInterface,
  type NativeQueueSizes,
  type NativePrivileges,
  type NativeRestart,
  type NativeSignalLimits,
} from './native.js';

export type { ThreadCounters } from './counters.js';
export type { DataPlaneEvent } from './events.js';
export { FEATURE_NAMES } from './native.js';
export type DataPlaneOptions = NativeEngineOptions;
export type KernelFeature = NativeFeature;
export type FeatureName = NativeFeatureName;
export type FeatureState = NativeFeatureState;
export type DeviceCheck = NativeDeviceCheck;
export type HostInterface = NativeInterface;
export type QueueSizes = NativeQueueSizes;
export type SignalLimits = NativeSignalLimits;
export type FewerPrivileges = NativePrivileges;
export type Restart = NativeRestart;

/** How much of the machine a data plane takes. */
export type DataPlaneResources = Pick<
  DataPlaneOptions,
  | 'workers'
  | 'cpus'
  | 'sourcePorts'
  | 'socketBufferBytes'
  | 'tunQueuePackets'
  | 'ringBytes'
  | 'pathMtuSeconds'
>;

/**
 * One packet thread takes both directions where CPUs are few: containers, kernel and peers need them
 * as well, and it saves a wake-up for each packet that answers another (docs/benchmarks.md).
 */
export function defaultWorkers(cpus: number): number {
  return cpus < 4 ? 1 : 2;
}

export const DEFAULT_RESOURCES: DataPlaneResources = {
  workers: defaultWorkers(availableParallelism()),
  cpus: [],
  sourcePorts: 1,
  // Room for bursts while a thread is not scheduled: about 10 ms at 3 Gbit/s.
  socketBufferBytes: 4 * 1024 * 1024,
  // The kernel's own 500 is eleven TCP segments of 64 KiB cut to size: one burst overflows it.
  tunQueuePackets: 1000,
  // A few batches behind a blocked socket, within a core's cache.
  ringBytes: 1024 * 1024,
  // RFC 1191 section 6.3: a longer packet is not tried before 10 minutes.
  pathMtuSeconds: 600,
};

export interface DataPlaneSnapshot {
  readonly mode: DataPlaneOptions['mode'];
  readonly threads: readonly ThreadCounters[];
  /** The optional kernel features as they are used now. */
  readonly features: readonly FeatureState[];
  /** null while no data plane is in service. */
  readonly queues: QueueSizes | null;
}

/** Emits `event` with a DataPlaneEvent. Closing is idempotent and ends the events. */
export class DataPlane extends EventEmitter<{ event: [DataPlaneEvent] }> {
  readonly device: string;
  #mode: DataPlaneOptions['mode'];
  readonly #engine: NativeEngine;
  readonly #events: Socket;
  #last: Omit<DataPlaneSnapshot, 'mode'> = { threads: [], features: [], queues: null };
  #closed = false;

  /** Opens device and socket; throws a system error naming what the kernel refused. */
  constructor(options: DataPlaneOptions) {
    super();
    this.#mode = options.mode;
    try {
      this.#engine = new (native().Engine)(options);
    } catch (error) {
      throw explain(error, options);
    }
    this.device = this.#engine.tunName;
    this.#events = new Socket({
      fd: this.#engine.takeEventFd(),
      readable: true,
      writable: false,
    });
    this.#events.unref();
    this.#readEvents();
  }

  start(): void {
    this.#engine.start();
  }

  changeRoutes(changes: Uint32Array): void {
    this.#engine.changeRoutes(changes);
  }

  /**
   * Goes on in another mode with the same device, port and counters; about a millisecond passes. The
   * routes have to be given again. After an error it is closed.
   */
  changeMode(mode: DataPlaneOptions['mode']): void {
    this.#engine.changeMode(mode);
    this.#mode = mode;
  }

  /**
   * Frees port and route for another program, and goes on; closed, it leaves both to that program without
   * a gap. Throws where the kernel cannot (nf_tables, Linux 4.5), and in mode kernel.
   */
  stepAside(): void {
    this.#engine.stepAside();
  }

  /** Takes both back; throws EADDRINUSE while another program has the port. */
  stepBack(): void {
    this.#engine.stepBack();
  }

  /** Restores what others changed of the device; throws ENODEV when it left this namespace. */
  restoreDevice(): DeviceCheck {
    return this.#engine.restoreDevice();
  }

  /**
   * Refuses datagrams from hosts that no route leads to before they are queued, or no more. What is refused
   * so is in `queueDrops`. Throws where another process uses the sockets.
   */
  filterSources(on: boolean): void {
    this.#engine.filterSources(on);
  }

  /** Sends copies of its descriptors with one datagram, for another process to go on with them. */
  sendDescriptors(path: string, message: string): void {
    this.#engine.sendDescriptors(path, message);
  }

  /** Sends copies of its descriptors with one datagram, for a service manager to keep them. */
  storeDescriptors(path: string, message: string): void {
    this.#engine.storeDescriptors(path, message);
  }

  /** The same with what keeps the kernel's own share going; false when there is nothing to send. */
  storeKernelPath(path: string, message: string): boolean {
    return this.#engine.storeKernelPath(path, message);
  }

  lookup(address: number): number | undefined {
    return this.#engine.lookup(address);
  }

  /** Counters as of now, or as of the close. */
  snapshot(): DataPlaneSnapshot {
    if (!this.#closed) this.#last = this.#look();
    return { mode: this.#mode, ...this.#last };
  }

  close(): void {
    this.#end(() => {
      this.#engine.close();
    });
  }

  /** As close, but what others hold of it goes on: device, port, and the kernel's own share for 10 s. */
  leave(): void {
    this.#end(() => {
      this.#engine.leave();
    });
  }

  #end(close: () => void): void {
    if (this.#closed) return;
    this.#last = this.#look();
    this.#closed = true;
    close();
    this.#events.destroy();
  }

  #look(): Omit<DataPlaneSnapshot, 'mode'> {
    return {
      threads: this.#engine.counters(),
      features: this.#engine.features(),
      queues: this.#engine.queueSizes(),
    };
  }

  #readEvents(): void {
    let pending: Buffer = Buffer.alloc(0);
    this.#events.on('data', (chunk: Buffer) => {
      pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
      let offset = 0;
      for (; offset + EVENT_BYTES <= pending.length; offset += EVENT_BYTES) {
        const event = decodeEvent(pending.subarray(offset, offset + EVENT_BYTES));
        if (event !== undefined) this.emit('event', event);
      }
      pending = pending.subarray(offset);
    });
    this.#events.on('error', () => {
      this.#events.destroy();
    });
  }
}

/**
 * What this kernel offers, each feature tried for real in a namespace of its own.
 *
 * @example
 * ```ts
 * const hasGso = probeKernel().some(({ name, state }) => name === 'udp-gso' && state === 'yes');
 * ```
 */
export function probeKernel(): readonly KernelFeature[] {
  return native().probe();
}

/** The network interfaces of this process's network namespace. */
export function hostInterfaces(): readonly HostInterface[] {
  return native().interfaces();
}

/**
 * By which interface (its index) a packet from `source` would leave for each destination, policy rules
 * included: lo for this host's own addresses, 0 without a route. A source of 0 is any.
 */
export function outgoingInterfaces(destinations: readonly Ipv4[], source: Ipv4): Uint32Array {
  return native()
    .waysTo(Uint32Array.from(destinations), source)
    .filter((_number, at) => at % 2 === 0);
}

/** CPUs that this process may run on. */
export function usableCpus(): readonly number[] {
  return native().cpus();
}

/**
 * Sends lines `NAME=VALUE` to the service manager listening on `path`, the value of NOTIFY_SOCKET.
 * Never waits; throws an Error with `code` (errno name) when the datagram could not be sent.
 */
export function notifyManager(path: string, message: string): void {
  native().notify(path, message);
}

/** The descriptor store of the service manager at `path`; each call throws an Error with `code`. */
export const managerStore = {
  /** Waits up to a second until the manager has dealt with all that was sent to it. */
  settle: (path: string): void => {
    native().notifyBarrier(path);
  },
  /** What it does with descriptors; waits up to two seconds. */
  probe: (path: string): NativeStoreSupport => native().probeStore(path),
  /** Has a descriptor that it passed on closed in the programs that this process starts. */
  keepPrivate: (fd: number): void => {
    native().keepPrivate(fd);
  },
};

/** A place where another process of this user leaves descriptors, until it is closed. */
export class HandoverPlace {
  readonly path: string;
  readonly #fd: number;

  /** Makes the socket; a path of at most 107 bytes. Throws what the kernel refused. */
  constructor(path: string) {
    this.#fd = native().openHandover(path);
    this.path = path;
  }

  /** What was left there; throws EAGAIN when it is nothing. The caller closes the descriptors. */
  receive(): NativeHandover {
    return native().receiveHandover(this.#fd);
  }

  close(): void {
    closeSync(this.#fd);
    unlinkSync(this.path);
  }
}

/**
 * Ends this process some time after the first of these signals, whatever hangs in it. For a program
 * whose signals have listeners, never for a library; called again it changes the limits.
 */
export function guardSignals(limits: SignalLimits): void {
  native().guardSignals(limits);
}

/** Ends this process with `code` unless it has ended after `ms` milliseconds; nothing is waited for. */
export function exitWithin(ms: number, code: number): void {
  native().exitWithin(ms, code);
}

/**
 * Leaves every thread of this process, and all they start, with fewer privileges. Throws what the kernel
 * refused: the main thread has what it had then, others may have less. For a program, never for a library.
 */
export function dropPrivileges(fewer: FewerPrivileges): void {
  native().dropPrivileges(fewer);
}

/**
 * Runs another program in this process, with fewer privileges; returns only by throwing what the kernel
 * refused. For a program, never for a library.
 */
export function restartWithLess(restart: Restart): void {
  native().restartWithLess(restart);
}

/**
 * Lets go of the pages of files that this process has mapped (its program, libraries), which come back
 * when they are used; returns their bytes. Throws where the kernel does not say which those are
 * (CONFIG_PROC_PAGE_MONITOR). Blocks for some 7 ms: for a program, not for a library.
 */
export function giveFilePagesBack(): number {
  return native().giveFilePagesBack();
}

/** Where /dev/net/tun cannot be opened as it is not there. */
export const TUN_ADVICE =
  'load the tun module, or create the device node (mknod /dev/net/tun c 10 200)';

function explain(error: unknown, options: DataPlaneOptions): Error {
  const code = errnoOf(error);
  const syscall = error instanceof Error && 'syscall' in error ? String(error.syscall) : '';
  const detail = { cause: error, ...(code === undefined ? {} : { code }), field: syscall };
  if (syscall === 'open /dev/net/tun') {
    const advice =
      code === 'ENOENT' || code === 'ENODEV' || code === 'ENXIO'
        ? `the kernel has no TUN driver here: ${TUN_ADVICE}`
        : 'access to the TUN device is needed: run as root or give access to /dev/net/tun';
    return systemError(`cannot open /dev/net/tun (${code ?? 'unknown'}): ${advice}`, detail);
  }
  if (syscall === 'bind' && code === 'EADDRINUSE') {
    return systemError(
      `UDP port ${options.port} is taken (EADDRINUSE): another flanneld or flannelette runs on this address; expected a free port, or --wait-for-port to follow that one`,
      detail,
    );
  }
  if (syscall === 'bind' && code === 'EACCES') {
    return systemError(
      `UDP port ${options.port} is not permitted (EACCES): below net.ipv4.ip_unprivileged_port_start it needs CAP_NET_BIND_SERVICE, which --drop-privileges=false keeps; expected a Port from 1024 on`,
      detail,
    );
  }
  if (syscall === 'packet memory') {
    const advice = 'lower --ring-bytes or --workers, or raise the memory limit';
    return systemError(`no memory for the packet rings (${code ?? 'unknown'}): ${advice}`, detail);
  }
  if (code === 'EPERM' || code === 'EACCES') {
    return systemError(
      `${syscall}: not permitted (${code}): CAP_NET_ADMIN and CAP_NET_RAW are needed; run as root`,
      detail,
    );
  }
  return systemError(messageOf(error), detail);
}
