/**
 * The addon's whole surface. This file alone loads it; nothing else declares what it can do.
 *
 * Addresses cross as unsigned 32-bit numbers in host order (10.168.0.2 is 0x0aa80002); counters as
 * numbers, exact up to 2^53. Errors thrown by the addon are Error objects with `code` (errno name),
 * `errno` (positive number) and `syscall` (the operation).
 */
import { requirePackage } from '../commonjs.js';
import { cannotLoad, findBinary } from './binary.js';
import type { ThreadCounters } from './counters.js';
import type { LIMITS } from './limits.js';

export type NativeMode = 'basic' | 'batch' | 'offload' | 'kernel';

/**
 * Optional kernel features, each on a switch of its own, in the order of KernelFeature
 * (native/engine/features.h).
 */
export const FEATURE_NAMES = [
  'mmsg',
  'tun-tso',
  'tun-uso',
  'udp-gso',
  'udp-gro',
  'multiqueue',
  'fou',
  'kernel-path',
  'seccomp',
] as const;
export type NativeFeatureName = (typeof FEATURE_NAMES)[number];

export interface NativeEngineOptions {
  /** TUN name pattern; `%d` is the first free number (TUNSETIFF). At most 15 bytes. */
  readonly tunName: string;
  /** Address of the TUN device, set with prefix length 32. */
  readonly tunAddress: number;
  /** The overlay network, routed into the TUN. */
  readonly network: number;
  readonly networkPrefix: number;
  /** This host's own subnet: the only inner destinations it accepts. */
  readonly subnet: number;
  readonly subnetPrefix: number;
  /** TUN MTU in bytes, 68 (RFC 791) to 65507. */
  readonly mtu: number;
  /** Local address and port of the UDP socket. */
  readonly bindAddress: number;
  readonly port: number;
  readonly mode: NativeMode;
  /**
   * Threads, 1 to 32: 1 for both directions, 2 for one each, more (even) for that many halves of
   * queue pairs, each a queue of the TUN and a socket on the port.
   */
  readonly workers: number;
  /** UDP ports that datagrams leave by, 1 to 64: `port` and others the kernel picks. */
  readonly sourcePorts: number;
  /** CPUs that the threads keep to, in turn; empty for no such limit. */
  readonly cpus: readonly number[];
  /** Kernel features to do without although mode or workers would use them. */
  readonly disabled: readonly NativeFeatureName[];
  /** Refuse datagrams whose outer source holds no lease or whose inner source is not in it. */
  readonly sourceCheck: boolean;
  /** SO_RCVBUF and SO_SNDBUF in bytes, forced past rmem_max where privileged; 0 keeps defaults. */
  readonly socketBufferBytes: number;
  /** Packets the kernel holds for each reader of the TUN (txqueuelen), 1 to 65536. */
  readonly tunQueuePackets: number;
  /** Ring between TUN and socket in bytes, 512 KiB to 64 MiB. */
  readonly ringBytes: number;
  /** Seconds that a path which takes no full-size packets is believed to be one, 1 to 86400. */
  readonly pathMtuSeconds: number;
  /**
   * Descriptors that another process opened, used instead of new ones: a queue of the TUN and a socket on
   * the port for each pair. Nothing is changed of device and port until `start`. The engine closes them,
   * also when it cannot be opened.
   */
  readonly adoptedTun?: readonly number[] | undefined;
  readonly adoptedUdp?: readonly number[] | undefined;
  /** Those of `storeKernelPath`: what they keep going ends at `start`. */
  readonly adoptedLinks?: readonly number[] | undefined;
  /** The last descriptor of `sendDescriptors`, of a process that still uses the others. */
  readonly adoptedUntil?: number | undefined;
  /** Another program has the port: as after `stepAside`, from `start` on. EOPNOTSUPP in mode kernel. */
  readonly aside?: boolean | undefined;
}

export type NativeStoreSupport = 'none' | 'no-return' | 'usable';

/** What another process sent; the receiver closes the descriptors. */
export interface NativeHandover {
  readonly message: string;
  readonly descriptors: readonly number[];
}

/** The kernel's queues as granted; sizes of a socket are twice what was asked for. */
export interface NativeQueueSizes {
  readonly socketReceiveBytes: number;
  readonly socketSendBytes: number;
  readonly tunPackets: number;
}

export interface NativeFeatureState {
  readonly name: NativeFeatureName;
  /** `unused`: the mode does without; `refused`: the kernel said no, when opened or later. */
  readonly state: 'unused' | 'disabled' | 'refused' | 'active';
  /** Why it was refused (positive); 0 when it was not. */
  readonly errno: number;
}

/** The device as it is after restoreDevice, and what that changed. */
export interface NativeDeviceCheck {
  /** As it is called now. */
  readonly name: string;
  readonly up: boolean;
  readonly mtu: number;
  /** Device it was made a port of, such as a VRF; empty: none. */
  readonly master: string;
  readonly addressRestored: boolean;
  readonly carrierRestored: boolean;
  readonly mtuRestored: boolean;
  readonly routeAdded: boolean;
  /** Another route for the overlay stood in its place or before it. */
  readonly routeReplaced: boolean;
  /** Device whose own network is all of the overlay, so that its route stays; empty: none. */
  readonly overlayTakenBy: string;
  /** An address of a subnet that was published and that the kernel sends nothing to; 0: none. */
  readonly refused: number;
  /** What the kernel says to that. */
  readonly refusedErrno: number;
}

export interface NativeEngine {
  /** Name the kernel gave the device, e.g. `flannel0`. */
  readonly tunName: string;
  /**
   * Read end of the event pipe, which the caller owns and closes from now on. Throws EBADF the second
   * time and after the close.
   */
  takeEventFd(): number;
  /**
   * Starts the threads. Throws when already started or closed. Those on adopted descriptors begin when the
   * process that uses them has stopped; EBUSY when they first have to be set up for another mode: start
   * again when it has stopped.
   */
  start(): void;
  /**
   * Changes the forwarding table, for the threads all at once: triples of network, prefix length,
   * next hop, in order; a next hop of 0 takes the route to exactly that subnet away.
   */
  changeRoutes(changes: Uint32Array): void;
  /**
   * Goes on in another mode with the same device, port and counters; packets wait about a millisecond.
   * The routes have to be given again: the kernel's own share does not know them. EBADF when closed;
   * after another error it is closed.
   */
  changeMode(mode: NativeMode): void;
  /**
   * Another program is to have port and route; it goes on all the same, and leaves both to that program
   * when it is closed. See native/engine/engine.h. EALREADY, EBUSY, and EOPNOTSUPP where it cannot be.
   */
  stepAside(): void;
  /** Takes both back. EADDRINUSE: another program has the port. EINVAL: it is not aside. */
  stepBack(): void;
  /**
   * Restores what others changed of the device: its address, the overlay's route, an MTU that is too
   * large. A device that is down is left alone. ENODEV: it is not in this network namespace.
   */
  restoreDevice(): NativeDeviceCheck;
  /**
   * Whether datagrams from hosts that no route leads to are refused before they are queued; see
   * native/engine/engine.h. EBADF when closed, EBUSY while or once another process has the sockets, ENOMEM.
   */
  filterSources(on: boolean): void;
  /** Next hop the data plane would use for an address; undefined when there is none. */
  lookup(address: number): number | undefined;
  counters(): readonly ThreadCounters[];
  queueSizes(): NativeQueueSizes;
  /** What of the kernel is in use now; also after the close. */
  features(): readonly NativeFeatureState[];
  /**
   * Sends copies of its descriptors with one datagram (SCM_RIGHTS) to a socket as `notify` takes it: queues
   * of the TUN, as many sockets on the port, and one that hangs up when the threads have stopped for good.
   * EBADF when closed; else as `notify`.
   */
  sendDescriptors(path: string, message: string): void;
  /** The same without the last of them, for who keeps the others and does not use them. */
  storeDescriptors(path: string, message: string): void;
  /**
   * The same with those that keep the kernel's own share going. False, and nothing sent, where there is
   * none or it cannot outlive the process (tcx, Linux 6.6).
   */
  storeKernelPath(path: string, message: string): boolean;
  /** As close, but the kernel's own share goes on for 10 s as long as it is held elsewhere. */
  leave(): void;
  /**
   * Stops the threads, once what they have read is passed on, removes the device unless somebody else has
   * its descriptors, closes the socket. Idempotent.
   */
  close(): void;
}

export interface NativeFeature {
  /** e.g. `tun`, `tun-vnet-hdr`, `tun-tso`, `tun-uso`, `multiqueue`, `mmsg`, `udp-gso`, `udp-gro`. */
  readonly name: string;
  /** `untried`: privilege, descriptors or memory were missing, which says nothing about the kernel. */
  readonly state: 'yes' | 'no' | 'untried';
  /** Kernel that brought it, for people, e.g. `4.18`. */
  readonly since: string;
  /** How it was found out, why not, or why it could not be tried. */
  readonly detail: string;
}

export interface NativeInterface {
  readonly name: string;
  readonly index: number;
  readonly mtu: number;
  readonly up: boolean;
  readonly loopback: boolean;
  /** MAC address as a number of 48 bits; 0: it has none. */
  readonly mac?: number;
  /** IPv4 addresses, as the kernel lists them. */
  readonly addresses: readonly NativeInterfaceAddress[];
}

export interface NativeInterfaceAddress {
  /** This end's on a point-to-point link. */
  readonly address: number;
  readonly prefix: number;
  /** Not leased for a time, as by DHCP. */
  readonly permanent: boolean;
  /** Not to be used for anything new: its preferred lifetime is over. */
  readonly deprecated: boolean;
}

/** When signals end the process, whatever hangs in it: a blocked event loop, a pool, a thread. */
export interface NativeSignalLimits {
  /** Numbers of signals that have a listener; their listeners are called as before. */
  readonly signals: readonly number[];
  /** Milliseconds after the first of them. */
  readonly firstMs: number;
  /** Milliseconds after another one, if that is sooner. */
  readonly secondMs: number;
  readonly code: number;
  /** A line for standard error. */
  readonly message: string;
}

/** What every thread of the process is left with: see native/sys/privileges.h. */
export interface NativePrivileges {
  /** Numbers of capabilities (linux/capability.h): of them those that this process has. */
  readonly keep: readonly number[];
  /** Takes RLIMIT_MEMLOCK away where permitted: kernels before 5.11 count eBPF maps in it. */
  readonly unlimitedLockedMemory: boolean;
}

/** Another program in this process, with fewer privileges. */
export interface NativeRestart extends NativePrivileges {
  /** An absolute path. */
  readonly path: string;
  /** The first is the program's name for itself. */
  readonly arguments: readonly string[];
  /** NAME=VALUE. */
  readonly environment: readonly string[];
  /** File descriptors from 0 on that it gets, at least 3. */
  readonly descriptors: number;
}

/** A route of the main table by a gateway: see `putRoute`. */
type NativeGatewayRoute = [
  network: number,
  prefix: number,
  gateway: number,
  ifindex: number,
  onlink?: boolean,
];

/** Index of the device, address and port, own network with prefix length, hosts: see `admitFou`. */
type NativeFouAdmission = [
  ifindex: number,
  local: number,
  port: number,
  network: number,
  prefix: number,
  hosts: Uint32Array,
];

export interface NativeFouStatistics {
  readonly receivedPackets: number;
  readonly receivedBytes: number;
  readonly sentPackets: number;
  readonly sentBytes: number;
}

export interface NativeAddon {
  /** Limits of the constructor's options; see limits.ts. */
  readonly limits: Readonly<Record<keyof typeof LIMITS, number>>;
  readonly Engine: new (options: NativeEngineOptions) => NativeEngine;
  /** Probes in a network namespace of its own; the host's interfaces are not touched. */
  probe(): readonly NativeFeature[];
  interfaces(): readonly NativeInterface[];
  /**
   * Two numbers for each destination: index of the interface a packet from `source` would leave by (that of
   * lo for this host's own addresses, 0 without a route) and the table that says so (RT_TABLE_*; before
   * Linux 4.4 always the main one). A source of 0, or one this host lacks, is any.
   */
  waysTo(destinations: Uint32Array, source: number): Uint32Array;
  /**
   * IPv4 routes of the main table, eight numbers each: network, prefix length, gateway (0: none, or
   * several), interface index (likewise), metric, type (RTN_*), protocol (RTPROT_*) and table.
   */
  routes(): Uint32Array;
  /** The same of all tables, of routes to the network or a part of it; of several next hops the first. */
  routes(network: number, prefix: number): Uint32Array;
  /**
   * Puts `network/prefix via gateway` through the interface first in the main table, in place of
   * another route of the same metric. ENETUNREACH when the gateway is on no link of this host, unless
   * `onlink`. Neither gateway nor index may be 0, which to the kernel is any.
   */
  putRoute(...route: NativeGatewayRoute): void;
  /** Takes that route away, if it is there. */
  deleteRoute(...route: NativeGatewayRoute): void;
  /**
   * Takes a name of 1 to 107 bytes in this network namespace until the descriptor returned is closed, or
   * the process ends. EADDRINUSE: another process has it.
   */
  holdName(name: string): number;
  /**
   * Makes a VXLAN device, in place of one of that name, and sets it up: its index. A MAC address is a
   * number of 48 bits. EEXIST: another device has this VNI on this port; EADDRINUSE: a program has the
   * port; EOPNOTSUPP: the kernel has no vxlan.
   */
  makeVxlan(
    name: string,
    vni: number,
    port: number,
    local: number,
    underlay: number,
    mac: number,
    mtu: number,
    address: number,
    gbp: boolean,
    learning: boolean,
  ): number;
  /** Deletes the device, if it is there. */
  deleteVxlan(ifindex: number): void;
  /** Permanent entries: the neighbour `address` has `mac`, which is found at `host`. */
  putVtep(ifindex: number, address: number, mac: number, host: number): void;
  deleteVtep(ifindex: number, address: number, mac: number, host: number): void;
  /** Those of which both entries are there: address, upper 16 and lower 32 bits of the MAC, host. */
  vteps(ifindex: number): Uint32Array;
  /**
   * Makes the ipip device of a FOU tunnel that other hosts send to at `local:port` (0: all addresses), and
   * leaves it down: its index. `%d` in the name is the first free number; a source port of 0 is one by the
   * flow. The message says what the kernel lacks.
   */
  makeFou(name: string, local: number, port: number, sourcePort: number): number;
  /**
   * Gives that device address and MTU, has it finish checksums, and sets it up; true when something of
   * that was missing. ENODEV: it is gone.
   */
  restoreFou(ifindex: number, address: number, mtu: number): boolean;
  /** The device made for that address and port, whoever made it; 0: none. */
  findFou(local: number, port: number): number;
  /** Has the kernel take datagrams there; false when it does already. EADDRINUSE: a program does. */
  openFouPort(local: number, port: number): boolean;
  /** An unreachable route of the overlay unless it has one; true when it was missing. */
  putFouOverlay(network: number, prefix: number): boolean;
  /**
   * Lets packets in from hosts that hold a lease for their source alone, and for the own subnet alone:
   * hosts as `changeRoutes` takes them. Replaces what was said before, in one step.
   */
  admitFou(...admission: NativeFouAdmission): void;
  /** That very thing is in force. */
  hasFouAdmission(...admission: NativeFouAdmission): boolean;
  /** Takes all of the tunnel away, what of it there is. */
  removeFou(local: number, port: number): void;
  /** Of the device, since it was made. */
  fouStatistics(ifindex: number): NativeFouStatistics;
  /**
   * A descriptor, the caller's to close, of which a byte can be read after links, IPv4 addresses, routes
   * or rules of this network namespace changed; at most ten a second.
   */
  watchHost(): number;
  /** CPUs that this process may run on. */
  cpus(): readonly number[];
  /**
   * Sends one datagram to a service manager (sd_notify(3)). `path` is absolute or `@abstract`, at
   * most 107 or 108 bytes. Never waits: EAGAIN when the manager's queue is full.
   */
  notify(path: string, message: string): void;
  /**
   * Waits until the manager has dealt with all that was sent to it, a second at most: ETIMEDOUT. Blocks, as
   * a manager answers within milliseconds.
   */
  notifyBarrier(path: string): void;
  /**
   * What the manager does with descriptors (FDSTORE=1): closes them (`none`), keeps them for good
   * (`no-return`, systemd before 236), or keeps them until it is told to let go. Blocks as notifyBarrier.
   */
  probeStore(path: string): NativeStoreSupport;
  /** Has a descriptor from elsewhere closed by execve, and not block. */
  keepPrivate(fd: number): void;
  /**
   * A datagram socket of mode 0600 at a path of at most 107 bytes, in place of a socket that is there; the
   * caller closes the descriptor and unlinks the path.
   */
  openHandover(path: string): number;
  /** The datagram that waits there; EAGAIN when there is none. */
  receiveHandover(fd: number): NativeHandover;
  /** One for the process; called again it changes the limits. See native/sys/exit_guard.h. */
  guardSignals(limits: NativeSignalLimits): void;
  /** Ends the process with `code` after `ms` milliseconds unless it has ended by then. */
  exitWithin(ms: number, code: number): void;
  /** Bytes of files that this process no longer has in memory. See native/sys/file_pages.h. */
  giveFilePagesBack(): number;
  /** Throws what the kernel refused; the main thread has what it had then. Blocks half a second at most. */
  dropPrivileges(fewer: NativePrivileges): void;
  /** Does not return: throws what the kernel refused. The main thread may have lost capabilities then. */
  restartWithLess(restart: NativeRestart): void;
}

let loaded: NativeAddon | undefined;

/** Loads the addon once. Throws a system error that says how to build it. */
export function native(): NativeAddon {
  loaded ??= load();
  return loaded;
}

function load(): NativeAddon {
  const path = findBinary();
  try {
    return requirePackage(path) as NativeAddon;
  } catch (cause) {
    throw cannotLoad(path, cause);
  }
}
