/**
 * flannelette for programs that embed it: one node's daemon in their own process.
 *
 * ```ts
 * import { createLogger, Daemon } from 'flannelette';
 *
 * const stop = new AbortController();
 * const daemon = new Daemon(
 *   { store: { kind: 'file', path: '/srv/leases.json' }, iface: ['eth0'] },
 *   createLogger(),
 * );
 * await daemon.run(stop.signal);
 * ```
 *
 * Addresses are unsigned 32-bit numbers in host order, times are milliseconds since the epoch, sizes
 * are bytes. Everything that bad input or the machine can cause is a FlannelletteError. What the daemon
 * is made of is in `flannelette/parts`.
 */
export {
  BACKEND_WAYS,
  chooseBackend,
  type BackendWay,
  type ChooseOptions,
  type ChosenBackend,
  type PassedOver,
} from './daemon/choose-backend.js';
export { Daemon, type DaemonDependencies } from './daemon/daemon.js';
export { DAEMON_DEFAULTS, type DaemonOptions, type StoreOptions } from './daemon/options.js';
export type { Readiness } from './daemon/reporter.js';
export type { DaemonStatus } from './daemon/status.js';
export { probeKernel, type KernelFeature } from './daemon/process.js';
export { FlannelletteError } from './errors.js';
export { readSubnetEnv, type SubnetEnv } from './host/subnet-env.js';
export { createLogger, type Logger, type LogOptions } from './log.js';
export {
  createMetrics,
  type Metrics,
  type MetricsOptions,
  type MetricsSample,
} from './metrics/metrics.js';
export { formatIpv4, parseIpv4, type Ipv4 } from './config/ipv4.js';
export { parseConfig, type ForwarderOptions } from './network/registry.js';
export type { DaemonEvent } from './network/events.js';
export type { NetworkConfig } from './config/network.js';
