/**
 * The parts that the daemon is made of, for programs that build something else of them: stores, routes,
 * backends, the data plane, the firewall. They change more often than the entry `flannelette`.
 *
 * Addresses are unsigned 32-bit numbers in host order, times are milliseconds since the epoch, sizes
 * are bytes. Everything that bad input or the machine can cause is a FlannelletteError.
 */

// Errors and logs.
export {
  ExitCode,
  FlannelletteError,
  errnoOf,
  inputError,
  messageOf,
  systemError,
  type ErrorDetail,
  type ErrorKind,
} from './errors.js';
export { createLogger, silentLogger, type Logger, type LogOptions } from './log.js';

// Addresses and the network configuration.
export {
  broadcast,
  contains,
  containsCidr,
  firstHost,
  formatCidr,
  formatIpv4,
  overlaps,
  parseCidr,
  parseIpv4,
  parseSubnetKey,
  subnetKey,
  type Cidr,
  type Ipv4,
} from './config/ipv4.js';
export { parseNetworkConfig, type NetworkConfig } from './config/network.js';

// The host: its interface and what other programs read of us.
export {
  selectExternalInterface,
  sourceAddressTo,
  type ExternalInterface,
  type HostInterfaceInfo,
} from './host/interface.js';
export { readDefaultInterface } from './host/default-route.js';
export {
  InterfaceRules,
  type HostView,
  type InterfaceFlags,
  type OwnOverlay,
} from './host/interface-rules.js';
export { watchExternalInterface, type InterfaceWatchOptions } from './host/watch-interface.js';
export { readSubnetEnv, writeSubnetEnv, type SubnetEnv } from './host/subnet-env.js';

// Leases: the store's interface, to implement another; the stores in etcd and in a file.
export type {
  Lease,
  LeaseAttributes,
  LeaseEvent,
  LeaseRequest,
  LeaseStore,
  RejectedEntry,
} from './lease/store.js';
export { EtcdStore, type EtcdStoreOptions } from './lease/etcd/etcd-store.js';
export { ETCD_DEFAULTS, type EtcdOptions } from './lease/etcd/etcd-options.js';
export { isStoreAway, LEASE_LOST, STORE_AWAY } from './lease/store-errors.js';
export { RememberingStore, type RememberingOptions } from './lease/remembered/remembering-store.js';
export { KubeStore, type KubeStoreOptions } from './lease/kube/kube-store.js';
export { KUBE_DEFAULTS, type KubeOptions } from './lease/kube/kube-options.js';
export { LeaseFileStore, type LeaseFileOptions } from './lease/file/file-store.js';

// Routes: from leases to next hops.
export {
  RouteTable,
  type Route,
  type RouteChange,
  type RouteTableOptions,
} from './network/route-table.js';

// The data plane and the kernel under it.
export {
  DataPlane,
  hostInterfaces,
  probeKernel,
  type DataPlaneEvent,
  type DataPlaneOptions,
  type DataPlaneResources,
  type DataPlaneSnapshot,
  type HostInterface,
  type KernelFeature,
  type QueueSizes,
  type ThreadCounters,
} from './dataplane/dataplane.js';

// The firewall: masquerade and forward rules, kept.
export {
  createFirewall,
  FirewallKeeper,
  type Firewall,
  type FirewallKeeperOptions,
  type FirewallKind,
  type FirewallPlan,
} from './firewall/firewall.js';

// Backends.
export type {
  Backend,
  BackendContext,
  BackendKind,
  Forwarder,
  ForwarderHealth,
} from './network/forwarder.js';
export {
  register,
  type FollowState,
  type Network,
  type Registration,
  type RegistrationParts,
} from './network/registration.js';
export { createBackend, parseConfig, type ForwarderOptions } from './network/registry.js';
export { UDP_OVERHEAD_BYTES } from './forward/udp/udp-settings.js';
export { UdpBackend, type UdpOptions } from './forward/udp/udp.js';
export type { DataPlaneHandle, OpenDataPlane } from './forward/udp/supervisor.js';

// The daemon and what it shows.
export { Daemon, type DaemonDependencies } from './daemon/daemon.js';
export type { Readiness } from './daemon/reporter.js';
export {
  DAEMON_DEFAULTS,
  DAEMON_MODES,
  resolveDaemonOptions,
  statusSocketPath,
  validateDaemonOptions,
  type DaemonMode,
  type DaemonOptions,
  type DaemonSettings,
  type StoreOptions,
} from './daemon/options.js';
export type { DaemonStatus } from './daemon/status.js';
