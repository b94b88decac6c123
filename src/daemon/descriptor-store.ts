/**
 * The service manager keeps the tunnel's descriptors (systemd's descriptor store: FileDescriptorStoreMax=),
 * so that device, address, routes and port outlive the daemon, and packets wait in the kernel's queues
 * until the next one goes on:
 *
 *   this daemon                                     service manager
 *   forwards          FDSTORE=1, FDNAME=NAME -----> has the descriptors too
 *   kill -9, or a restart                           starts the unit again:
 *   the next daemon   <------ LISTEN_FDS, LISTEN_FDNAMES
 *   a tunnel that is closed for good
 *                     FDSTOREREMOVE=1 ------------> lets go, the device is gone
 *   a stop                                          lets go when the unit has ended
 *
 * A daemon cannot tell a stop from a restart: at the end of both it leaves the tunnel to the manager, which
 * can.
 */
import { closeSync, fstatSync } from 'node:fs';
import { managerStore, notifyManager } from '../dataplane/dataplane.js';
import { messageOf } from '../errors.js';
import type { Logger } from '../log.js';
import type { InheritedTunnel, TunnelKeeper } from '../network/registry.js';

/** Begins the name of what is ours; a later version that uses it in another way takes another. */
const PREFIX = 'flannelette ';
/** Ends the name of what keeps the kernel's own share of a tunnel going. */
const LINKS = ' kernel';
/** The first descriptor that is passed on (sd_listen_fds(3)). */
const LISTEN_FDS_START = 3;

type Environment = Readonly<Record<string, string | undefined>>;

export interface StoreCalls {
  readonly notify: typeof notifyManager;
  readonly settle: typeof managerStore.settle;
  readonly probe: typeof managerStore.probe;
  readonly keepPrivate: typeof managerStore.keepPrivate;
}

const CALLS: StoreCalls = { notify: notifyManager, ...managerStore };

export class DescriptorStore implements TunnelKeeper {
  readonly #path: string | undefined;
  readonly #log: Logger;
  readonly #calls: StoreCalls;
  /** Names of what the manager has of ours. */
  readonly #stored = new Set<string>();
  readonly #passed = new Map<string, number[]>();
  #usable: boolean | undefined;
  #stopping = false;

  private constructor(path: string | undefined, log: Logger, calls: StoreCalls) {
    this.#path = path;
    this.#log = log;
    this.#calls = calls;
  }

  /** The store of the manager that NOTIFY_SOCKET names, with what it passed on; without one it keeps nothing. */
  static fromEnvironment(
    env: Environment,
    log: Logger,
    pid: number = process.pid,
    calls: StoreCalls = CALLS,
  ): DescriptorStore {
    const { NOTIFY_SOCKET: path } = env;
    const store = new DescriptorStore(path === '' ? undefined : path, log, calls);
    for (const { name, fd } of passedDescriptors(env, pid)) store.#receive(name, fd);
    return store;
  }

  /** The manager has a tunnel to go on with: packets wait in its queues. */
  get hasTunnel(): boolean {
    return this.#passed.size > 0;
  }

  /** From now on the manager decides what becomes of the tunnel. */
  stopping(): void {
    this.#stopping = true;
  }

  get leaves(): boolean {
    return this.#stopping && this.#stored.size > 0;
  }

  /** The tunnel that was passed on, once; undefined when there is none, or it is another one than `name`. */
  take(name: string): InheritedTunnel | undefined {
    const descriptors = this.#passed.get(name);
    this.#passed.delete(name);
    if (descriptors === undefined) {
      this.discard(name);
      return undefined;
    }
    this.#log.info({ tunnel: name }, 'going on with the tunnel that the service manager kept');
    const links = this.#passed.get(name + LINKS) ?? [];
    this.#passed.delete(name + LINKS);
    const isSocket = (fd: number): boolean => fstatSync(fd).isSocket();
    return {
      tun: descriptors.filter((fd) => !isSocket(fd)),
      udp: descriptors.filter(isSocket),
      links,
      until: undefined,
      switchOver: () => Promise.resolve(),
    };
  }

  /** What was passed on and is not used. */
  discard(instead?: string): void {
    if (!this.hasTunnel) return;
    const tunnels = [...this.#passed.keys()];
    this.#log.warn({ tunnels, instead }, 'the service manager kept another tunnel; it is removed');
    for (const fd of [...this.#passed.values()].flat()) closeSync(fd);
    this.#passed.clear();
    this.#letGo(tunnels);
  }

  keep(name: string, plane: Parameters<TunnelKeeper['keep']>[1]): void {
    const path = this.#path;
    if (path === undefined || this.#stopping) return;
    this.#usable ??= this.#stored.has(name) || this.#probe(path);
    if (!this.#usable) return;
    try {
      if (!this.#stored.has(name)) {
        plane.storeDescriptors(path, storing(name));
        this.#stored.add(name);
      }
      // Those that were kept ended with the start.
      if (this.#stored.has(name + LINKS)) this.#letGo([name + LINKS]);
      if (plane.storeKernelPath(path, storing(name + LINKS))) this.#stored.add(name + LINKS);
    } catch (error) {
      this.#log.warn({ error: messageOf(error) }, 'the service manager does not keep the tunnel');
    }
  }

  release(): void {
    this.#letGo([...this.#stored]);
  }

  #letGo(names: readonly string[]): void {
    if (this.#path === undefined || names.length === 0 || this.#stopping) return;
    try {
      for (const name of names) {
        this.#calls.notify(this.#path, `FDSTOREREMOVE=1\nFDNAME=${PREFIX}${name}`);
        this.#stored.delete(name);
      }
      this.#calls.settle(this.#path);
    } catch (error) {
      const fields = { error: messageOf(error) };
      this.#log.warn(fields, 'the service manager may still have descriptors of a closed tunnel');
    }
  }

  #receive(name: string, fd: number): void {
    if (!name.startsWith(PREFIX)) return;
    this.#calls.keepPrivate(fd);
    const tunnel = name.slice(PREFIX.length);
    this.#passed.set(tunnel, [...(this.#passed.get(tunnel) ?? []), fd]);
    this.#stored.add(tunnel);
  }

  #probe(path: string): boolean {
    try {
      const support = this.#calls.probe(path);
      this.#log.info({ support }, 'descriptor store of the service manager');
      return support === 'usable';
    } catch (error) {
      const fields = { error: messageOf(error) };
      this.#log.info(fields, 'the service manager has no descriptor store');
      return false;
    }
  }
}

/** FDPOLL=0 (systemd 246): the manager need not watch what it is told to let go of. */
function storing(name: string): string {
  return `FDSTORE=1\nFDNAME=${PREFIX}${name}\nFDPOLL=0`;
}

/** sd_listen_fds_with_names(3). */
function passedDescriptors(env: Environment, pid: number): { name: string; fd: number }[] {
  const count = Number(env['LISTEN_FDS'] ?? 0);
  if (env['LISTEN_PID'] !== String(pid) || !Number.isInteger(count) || count < 1) return [];
  const names = (env['LISTEN_FDNAMES'] ?? '').split(':');
  if (names.length !== count) return [];
  return names.map((name, index) => ({ name, fd: LISTEN_FDS_START + index }));
}
