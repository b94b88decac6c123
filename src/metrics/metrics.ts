/**
 * Prometheus metrics of one daemon, in a registry of its own: several daemons in one process (tests,
 * an embedder) do not mix.
 *
 * The data plane counts; nothing is counted here. At each scrape one sample is taken and written
 * into the metrics, so all values of a scrape belong to one moment. The registry asks its metrics
 * in the order of their registration and the first one's `collect` takes the sample: this holds
 * for `registry.metrics()` called by an embedder as well.
 */
import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client';
import { COUNTER_ROWS, type CounterName } from '../dataplane/counters.js';
import type { DataPlaneSnapshot, KernelFeature } from '../dataplane/dataplane.js';
import type { Problem } from '../problems.js';
import { BucketHistogram } from './bucket-histogram.js';

/** What a scrape sees. */
export interface MetricsSample {
  /** As it is now; that of the options when not given. */
  readonly mode?: string;
  /** Totals that never fall, also when the engine is replaced; `undefined` before there is one. */
  readonly dataPlane: DataPlaneSnapshot | undefined;
  readonly dataPlaneUp: boolean;
  readonly dataPlaneRestarts: number;
  readonly ready: boolean;
  readonly routes: number;
  readonly rejectedLeases: number;
  /** Milliseconds since the epoch; `undefined` for a reservation. */
  readonly leaseExpiresAt: number | undefined;
  readonly storeUp: boolean;
  /** Seconds since the leases in force were known to be true; `undefined` before there are any. */
  readonly leasesAgeSeconds: number | undefined;
  readonly firewall: { readonly inPlace: boolean; readonly repairs: number };
  /** Embedders of earlier versions give none. */
  readonly problems?: readonly Problem[] | undefined;
  /** Hosts whose path takes no packets as long as the device does; earlier embedders give none. */
  readonly pathMtus?: readonly { readonly host: string; readonly bytes: number }[] | undefined;
  readonly features: readonly KernelFeature[];
}

/** Gauges of prom-client named as counters; the same by type are nodejs_active_handles and so on. */
const MISNAMED = [
  'nodejs_active_handles_total',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
];
/** Percentiles that prom-client gets from a timer of 10 ms, which wakes an idle process 100 times a second. */
const COSTLY = ['min', 'max', 'mean', 'stddev', 'p50', 'p90', 'p99'].map(
  (name) => `nodejs_eventloop_lag_${name}_seconds`,
);
const DAY_MS = 86_400_000;

const FEATURE_VALUES = { yes: 1, no: 0, untried: -1 } as const;

export interface MetricsOptions {
  readonly version: string;
  readonly mode: string;
  /** Cheap and synchronous: called once a scrape. */
  readonly sample: () => MetricsSample;
}

export interface Metrics {
  readonly registry: Registry;
  /** The text of one scrape. */
  scrape(): Promise<{ readonly contentType: string; readonly text: string }>;
  /** Forgets every metric. */
  close(): void;
}

/**
 * The metrics of one daemon in a registry of their own, beside those that the embedder registers.
 *
 * @example
 * ```ts
 * const metrics = createMetrics({ version: '1.0.0', mode: 'auto', sample: () => sampleOf(daemon) });
 * const both = Registry.merge([register, metrics.registry]); // prom-client's
 * ```
 */
export function createMetrics(options: MetricsOptions): Metrics {
  const registry = new Registry();
  const state = stateMetrics(registry, options);
  const dataPlane = dataPlaneMetrics(registry);
  state.onCollect((sample) => {
    dataPlane.write(sample.dataPlane);
  });
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: DAY_MS });
  for (const name of [...MISNAMED, ...COSTLY]) registry.removeSingleMetric(name);
  return {
    registry,
    scrape: async () => ({ contentType: registry.contentType, text: await registry.metrics() }),
    close: () => {
      registry.clear();
    },
  };
}

/** Gauges of the control plane; registered first, because theirs is the collect that samples. */
function stateMetrics(registry: Registry, options: MetricsOptions) {
  const registers = [registry];
  let observer: (sample: MetricsSample) => void = () => undefined;
  const buildInfo = new Gauge({
    name: 'flannelette_build_info',
    help: 'Always 1; the labels say what runs.',
    labelNames: ['version', 'mode', 'node_version'] as const,
    registers,
    collect: () => {
      const sample = options.sample();
      build(sample.mode ?? options.mode);
      write(sample);
    },
  });
  const build = (mode: string): void => {
    const { version } = options;
    buildInfo.reset();
    buildInfo.set({ version, mode, node_version: process.version }, 1);
  };
  build(options.mode);
  const gauge = (name: string, help: string): Gauge =>
    new Gauge({ name: `flannelette_${name}`, help, registers });
  const ready = gauge(
    'ready',
    '1 when routes are published, subnet.env is written and the firewall rules are in place.',
  );
  const storeUp = gauge('store_up', '1 while the lease store can be followed.');
  const leasesAge = new Gauge({
    name: 'flannelette_leases_age_seconds',
    help: 'Time since the leases in force were known to be true; 0 while the store is followed.',
    registers,
  });
  const dataPlaneUp = gauge('data_plane_up', '1 while a data plane is in service.');
  const restarts = new Counter({
    name: 'flannelette_data_plane_restarts_total',
    help: 'Data planes opened to replace one that failed.',
    registers,
  });
  const routes = gauge('routes', 'Subnets of other hosts in the route table.');
  const rejected = gauge('rejected_leases', 'Entries of the store that must not become routes.');
  const expiry = new Gauge({
    name: 'flannelette_lease_expiry_timestamp_seconds',
    help: 'When the lease of this host ends, in Unix time; absent for a reservation.',
    registers,
  });
  const firewall = gauge('firewall_in_place', '1 once the firewall rules are in place.');
  const repairs = new Counter({
    name: 'flannelette_firewall_repairs_total',
    help: 'How often firewall rules were found changed and put back.',
    registers,
  });
  const problems = new Gauge({
    name: 'flannelette_problem',
    help: '1 for each problem found on this host or in the store that hinders traffic.',
    labelNames: ['problem'] as const,
    registers,
  });
  const pathMtus = new Gauge({
    name: 'flannelette_path_mtu_bytes',
    help: "Longest packet of the overlay that reaches a host whole; absent where that is the device's MTU.",
    labelNames: ['host'] as const,
    registers,
  });
  const active = new Gauge({
    name: 'flannelette_feature_active',
    help: '1 for an optional kernel feature the data plane uses now, 0 for one it does without.',
    labelNames: ['feature'] as const,
    registers,
  });
  const features = new Gauge({
    name: 'flannelette_kernel_feature',
    help: '1 for a kernel feature that is there, 0 for one that is not, -1 for one that could not be tried.',
    labelNames: ['feature'] as const,
    registers,
  });

  const write = (sample: MetricsSample): void => {
    ready.set(Number(sample.ready));
    storeUp.set(Number(sample.storeUp));
    if (sample.leasesAgeSeconds === undefined) leasesAge.remove();
    else leasesAge.set(sample.leasesAgeSeconds);
    dataPlaneUp.set(Number(sample.dataPlaneUp));
    restarts.reset();
    restarts.inc(sample.dataPlaneRestarts);
    routes.set(sample.routes);
    rejected.set(sample.rejectedLeases);
    if (sample.leaseExpiresAt === undefined) expiry.remove();
    else expiry.set(sample.leaseExpiresAt / 1000);
    firewall.set(Number(sample.firewall.inPlace));
    repairs.reset();
    repairs.inc(sample.firewall.repairs);
    problems.reset();
    for (const { id } of sample.problems ?? []) problems.set({ problem: id }, 1);
    pathMtus.reset();
    for (const { host, bytes } of sample.pathMtus ?? []) pathMtus.set({ host }, bytes);
    active.reset();
    for (const { name, state } of sample.dataPlane?.features ?? []) {
      active.set({ feature: name }, Number(state === 'active'));
    }
    features.reset();
    for (const { name, state } of sample.features) {
      features.set({ feature: name }, FEATURE_VALUES[state]);
    }
    observer(sample);
  };
  return {
    onCollect: (listener: (sample: MetricsSample) => void) => {
      observer = listener;
    },
  };
}

/**
 * Counters and gauges of the data plane, by direction. prom-client's counters only count up, so each
 * is set back and raised to the data plane's total within one turn of the event loop.
 */
function dataPlaneMetrics(registry: Registry) {
  const registers = [registry];
  const counter = (name: string, help: string, ...labels: string[]) =>
    new Counter({
      name: `flannelette_${name}_total`,
      help,
      labelNames: ['direction', ...labels],
      registers,
    });
  const gauge = (name: string, help: string) =>
    new Gauge({ name: `flannelette_${name}`, help, labelNames: ['direction'], registers });
  // Registered in the order of the text: the table's, with what is no single number in between.
  const series = new Map<string, Counter | Gauge>();
  const register = (until?: CounterName): void => {
    for (const [name, { kind, metric, help, label }] of COUNTER_ROWS) {
      if (name === until) return;
      if (series.has(metric)) continue;
      const made =
        kind === 'gauge'
          ? gauge(metric, help)
          : counter(metric, help, ...(label?.slice(0, 1) ?? []));
      series.set(metric, made);
    }
  };
  register('icmpTimeExceeded');
  const dropped = counter('dropped_packets', 'Packets dropped, by reason.', 'reason');
  register('ringBytes');
  const batches = new BucketHistogram(
    'flannelette_batch_packets',
    'Packets passed on together; the sum is that of packets sent.',
    registry,
  );
  const queueDropped = counter(
    'queue_dropped_packets',
    'Packets the kernel dropped in front of a direction: queue of the TUN or buffer of the socket full.',
  );
  register();

  return {
    write: (snapshot: DataPlaneSnapshot | undefined): void => {
      for (const metric of [...series.values(), dropped, queueDropped]) metric.reset();
      batches.clear();
      for (const thread of snapshot?.threads ?? []) {
        const { direction } = thread;
        for (const [name, { metric, label }] of COUNTER_ROWS) {
          const labels = label === undefined ? { direction } : { direction, [label[0]]: label[1] };
          series.get(metric)?.inc(labels, thread[name]);
        }
        for (const [reason, count] of Object.entries(thread.drops)) {
          dropped.inc({ direction, reason }, count);
        }
        batches.add({ direction }, thread.batchSizes, thread.sentPackets);
        if (thread.queueDrops !== null) queueDropped.inc({ direction }, thread.queueDrops);
      }
    },
  };
}
