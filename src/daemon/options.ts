/**
 * What a daemon can be told. The names in errors are those of the flags, because that is where
 * the values come from; an embedder recognises them as easily.
 */
import { isIP } from 'node:net';
import { parseIpv4 } from '../config/ipv4.js';
import {
  DEFAULT_RESOURCES,
  FEATURE_NAMES,
  usableCpus,
  type DataPlaneOptions,
  type DataPlaneResources,
  type FeatureName,
} from '../dataplane/dataplane.js';
import { LIMITS } from '../dataplane/limits.js';
import { inputError } from '../errors.js';
import { parseInterfaceRegex } from '../host/interface-regex.js';
import {
  ETCD_DEFAULTS,
  normalizeEtcdOptions,
  type EtcdOptions,
} from '../lease/etcd/etcd-options.js';
import { checkKubeOptions, KUBE_DEFAULTS, type KubeOptions } from '../lease/kube/kube-options.js';
import type { LeaseStore } from '../lease/store.js';

export { FEATURE_NAMES, type FeatureName } from '../dataplane/dataplane.js';

/** `auto` is offload; that and `kernel` go on without what the kernel refuses. */
export type DaemonMode = 'auto' | 'basic' | 'batch' | 'offload' | 'kernel';
export const DAEMON_MODES: readonly DaemonMode[] = ['auto', 'basic', 'batch', 'offload', 'kernel'];

/** Backends that there are. */
export type BackendType = 'udp' | 'vxlan' | 'host-gw';

/** Throws an input error that names the field when it is no mode. */
export function checkMode(field: string, mode: string): asserts mode is DaemonMode {
  const known: readonly string[] = DAEMON_MODES;
  if (!known.includes(mode)) throw inputError(field, mode, DAEMON_MODES.join(', '));
}

/** The data plane's mode for a daemon's. */
export function dataPlaneMode(mode: DaemonMode): DataPlaneOptions['mode'] {
  return mode === 'auto' ? 'offload' : mode;
}

/** Where the leases are. */
export type StoreOptions =
  /** A JSON file that the daemons of one machine share. */
  | { readonly kind: 'file'; readonly path: string }
  /** etcd v3, with flannel's keys and values; `prefix` is `/coreos.com/network` unless given. */
  | ({ readonly kind: 'etcd' } & Partial<EtcdOptions> & Pick<EtcdOptions, 'endpoints'>)
  /** Annotations of Kubernetes' nodes, as flannel's; what is not given is what flanneld has in a pod. */
  | ({ readonly kind: 'kube' } & Partial<KubeOptions>)
  /** One that the program brings; the daemon closes it. */
  | { readonly kind: 'given'; readonly store: LeaseStore };

/** What a daemon is told: the store; everything else has flanneld's default. */
export interface DaemonOptions extends Partial<Omit<DaemonSettings, 'store' | 'resources'>> {
  readonly store: StoreOptions;
  readonly resources?: Partial<DataPlaneResources>;
}

/** The same with nothing left open. */
export interface DaemonSettings {
  readonly store:
    | { readonly kind: 'file'; readonly path: string }
    | ({ readonly kind: 'etcd' } & EtcdOptions)
    | ({ readonly kind: 'kube' } & KubeOptions)
    | { readonly kind: 'given'; readonly store: LeaseStore };
  readonly mode: DaemonMode;
  /**
   * Go on where a daemon with the same subnet file ends that runs now, without a gap; start as usual when
   * there is none.
   */
  readonly takeover: boolean;
  /** Begin to forward once the program that has the UDP port has ended, instead of failing. */
  readonly waitForPort: boolean;
  /** Change the backend when the network configuration in the store does. */
  readonly followConfig: boolean;
  /**
   * Leave the kernel forwarding at the end, for the next start to go on with; of the backends vxlan and
   * host-gw, and of mode kernel by FOU.
   */
  readonly keepForwarding: boolean;
  /** In place of the network configuration's Backend.Type, with that backend's defaults. */
  readonly backend?: BackendType;
  /** Kernel features to do without, of those that would be used. */
  readonly disable: readonly FeatureName[];
  readonly resources: DataPlaneResources;
  /** Names or addresses of interfaces, tried in order; empty for the default route's. */
  readonly iface: readonly string[];
  /** Regular expressions for names or addresses, tried in order after `iface`. */
  readonly ifaceRegex: readonly string[];
  /** Take the interface from which the kernel reaches this address; after the two above. */
  readonly ifaceCanReach?: string;
  /** Address other hosts reach this one by, when NAT hides the interface's. */
  readonly publicIp?: string;
  /** Where subnet.env is written; the status socket is this path and `.sock`. */
  readonly subnetFile: string;
  /** Address or name the health server listens on; empty for every address. */
  readonly healthzIp: string;
  /**
   * Answer /metrics and /status to everyone who reaches the port. Without it that is so only where
   * `healthzIp` is not the default, every IPv4 address: there only this host is told.
   */
  readonly healthzOpen?: boolean;
  /**
   * File with a bearer token: over TCP others than this host are told everything when they show it,
   * and nothing but health and readiness otherwise. Read again when it changes.
   */
  readonly healthzTokenFile?: string;
  /** TCP port of /healthz, /readyz, /metrics and /status, 0 to 65535; 0 serves the unix socket only. */
  readonly healthzPort: number;
  /** Masquerade what leaves the overlay's subnet for elsewhere. */
  readonly ipMasq: boolean;
  /** Source ports of masqueraded traffic fully random, where iptables can. */
  readonly ipMasqFullyRandom: boolean;
  /** Accept the overlay's packets in the FORWARD chain. */
  readonly forwardRules: boolean;
  /** Seconds between checks of the firewall's rules, 1 to 86400. */
  readonly firewallResyncSeconds: number;
  /** Accept datagrams only from the holder of the lease their inner source lies in. */
  readonly sourceCheck: boolean;
  /** flanneld's `-v`: 0 info, 1 debug, 2 and more trace. */
  readonly verbosity: number;
  /** A lease is renewed this many minutes before it expires, 1 to 1439. */
  readonly leaseRenewMarginMinutes: number;
}

/** flanneld's. */
export const HEALTHZ_DEFAULT_IP = '0.0.0.0';

/**
 * What holds for each option that is not given: flanneld's defaults.
 *
 * @example
 * ```ts
 * DAEMON_DEFAULTS.subnetFile; // '/run/flannel/subnet.env'
 * ```
 */
export const DAEMON_DEFAULTS: Omit<DaemonSettings, 'store'> = {
  mode: 'auto',
  disable: [],
  resources: DEFAULT_RESOURCES,
  iface: [],
  ifaceRegex: [],
  subnetFile: '/run/flannel/subnet.env',
  healthzIp: HEALTHZ_DEFAULT_IP,
  healthzPort: 0,
  takeover: false,
  waitForPort: false,
  followConfig: false,
  keepForwarding: false,
  ipMasq: false,
  ipMasqFullyRandom: true,
  forwardRules: true,
  firewallResyncSeconds: 5,
  sourceCheck: true,
  verbosity: 0,
  leaseRenewMarginMinutes: 60,
};

/**
 * Options that are undefined count as not given. Only that there is a store is checked here, the rest by
 * validateDaemonOptions.
 */
export function resolveDaemonOptions(options: DaemonOptions): DaemonSettings {
  const { store, resources = {}, ...given } = options;
  const kinds: readonly unknown[] = ['file', 'etcd', 'kube', 'given'];
  if (!kinds.includes((store as StoreOptions | undefined)?.kind)) {
    const expected = "{ kind: 'file', path }, { kind: 'etcd', endpoints } or { kind: 'kube' }";
    throw inputError('store', store, expected);
  }
  return {
    ...DAEMON_DEFAULTS,
    ...withoutUndefined(given),
    resources: { ...DEFAULT_RESOURCES, ...withoutUndefined(resources) },
    store: resolveStore(store),
  };
}

function resolveStore(store: StoreOptions): DaemonSettings['store'] {
  if (store.kind === 'etcd') return { prefix: ETCD_DEFAULTS.prefix, ...withoutUndefined(store) };
  return store.kind === 'kube' ? { ...KUBE_DEFAULTS, ...withoutUndefined(store) } : store;
}

function withoutUndefined<T extends object>(given: T): T {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as T;
}

/** A lease lives 24 h: a margin of a whole day would renew without end. */
export const MAX_RENEW_MARGIN_MINUTES = 1439;

/** A day: longer is a mistake, and setTimeout ends at 24 days. */
export const MAX_RESYNC_SECONDS = 86_400;

/** Bytes of a unix socket's path: sun_path is 108 with the terminating NUL (unix(7)). */
const MAX_SOCKET_PATH_BYTES = 107;

/** The unix socket on which the daemon with this subnet file answers `flannelette status`. */
export function statusSocketPath(subnetFile: string): string {
  return `${subnetFile}.sock`;
}

/** Throws an input error for the first option that cannot be. */
export function validateDaemonOptions(options: DaemonSettings): void {
  checkStore(options);
  checkMode('--mode', options.mode);
  checkFeatures('--disable', options.disable);
  checkResources(options.resources);
  if (options.iface.includes('')) {
    throw inputError('--iface', '', 'the name or IPv4 address of an interface');
  }
  for (const expression of options.ifaceRegex) parseInterfaceRegex(expression);
  if (options.ifaceCanReach !== undefined) parseIpv4('--iface-can-reach', options.ifaceCanReach);
  if (options.publicIp !== undefined) parseIpv4('--public-ip', options.publicIp);
  checkSubnetFile(options.subnetFile);
  checkHealthzIp(options.healthzIp);
  if (options.healthzTokenFile === '') {
    throw inputError('--healthz-token-file', '', 'the path of a file with a token');
  }
  checkRange('--healthz-port', options.healthzPort, 0, 65_535, 'a TCP port, 0 to turn it off');
  checkRange(
    '--iptables-resync',
    options.firewallResyncSeconds,
    1,
    MAX_RESYNC_SECONDS,
    'seconds between checks of the firewall',
  );
  checkRange(
    '--subnet-lease-renew-margin',
    options.leaseRenewMarginMinutes,
    1,
    MAX_RENEW_MARGIN_MINUTES,
    'minutes',
  );
}

/** The names of kernel features; throws an input error for any other name. */
export function checkFeatures(field: string, names: readonly string[]): FeatureName[] {
  return names.map((name) => {
    const found = FEATURE_NAMES.find((feature) => feature === name);
    if (found === undefined) throw inputError(field, name, FEATURE_NAMES.join(', '));
    return found;
  });
}

/** An address, a name such as `localhost`, or nothing for every address. */
function checkHealthzIp(text: string): void {
  const label = '[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?';
  const isName = new RegExp(`^(${label}\\.)*${label}$`).test(text) && !/^[\d.]+$/.test(text);
  if (text === '' || isIP(text) !== 0 || isName) return;
  throw inputError('--healthz-ip', text, 'an IP address or a name, e.g. 127.0.0.1');
}

function checkResources({ workers, cpus, sourcePorts, ...sizes }: DataPlaneResources): void {
  if (
    !Number.isInteger(workers) ||
    workers < 1 ||
    workers > LIMITS.workersMax ||
    (workers > 1 && workers % 2 !== 0)
  ) {
    throw inputError(
      '--workers',
      workers,
      `1 or an even number up to ${LIMITS.workersMax}: a thread for each direction of each queue pair`,
    );
  }
  checkRange('--source-ports', sourcePorts, 1, LIMITS.sourcePortsMax, 'UDP ports to send from');
  checkRange(
    '--socket-buffer',
    sizes.socketBufferBytes,
    0,
    LIMITS.socketBufferBytesMax,
    "bytes, 0 for the kernel's default",
  );
  checkRange('--tun-queue', sizes.tunQueuePackets, 1, LIMITS.tunQueuePacketsMax, 'packets');
  checkRange('--ring-bytes', sizes.ringBytes, LIMITS.ringBytesMin, LIMITS.ringBytesMax, 'bytes');
  checkRange('--path-mtu-age', sizes.pathMtuSeconds, 1, LIMITS.pathMtuSecondsMax, 'seconds');
  checkCpus(cpus);
}

function checkCpus(cpus: readonly number[]): void {
  if (cpus.length === 0) return;
  const usable = usableCpus();
  const absent = cpus.find((cpu) => !usable.includes(cpu));
  if (absent === undefined) return;
  throw inputError('--cpus', absent, `CPUs this process may run on: ${usable.join(', ')}`);
}

function checkStore({ store }: DaemonSettings): void {
  if (store.kind === 'etcd') normalizeEtcdOptions(store);
  else if (store.kind === 'kube') checkKubeOptions(store);
  else if (store.kind === 'file' && store.path === '') {
    throw inputError('--lease-file', store.path, 'the path of the lease file');
  }
}

/** Throws an input error when no status socket can lie beside this file. */
export function checkSubnetFile(path: string): void {
  if (path === '' || path.endsWith('/')) {
    throw inputError('--subnet-file', path, 'the path of a file');
  }
  if (Buffer.byteLength(statusSocketPath(path)) > MAX_SOCKET_PATH_BYTES) {
    throw inputError(
      '--subnet-file',
      path,
      `a path of at most ${MAX_SOCKET_PATH_BYTES - '.sock'.length} bytes: the status socket beside it, PATH.sock, cannot be longer than ${MAX_SOCKET_PATH_BYTES}`,
    );
  }
}

function checkRange(field: string, value: number, min: number, max: number, what: string): void {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw inputError(field, value, `${min} to ${max} (${what})`);
  }
}
