/** The metrics of `flannelette bench modes`, and under which name a round has each. */
import type { Load, LoadMetric, MetricKey } from '../overlays/metrics.js';
import { LOADS, LOAD_METRICS, type LoadMetricName, type ModeMetric } from './result.js';

export interface MeasuredMetric extends ModeMetric {
  /** In a round. */
  readonly of: MetricKey;
}

export const LOAD_TITLES: Readonly<Record<Load, string>> = {
  tcp: 'TCP, 1 stream',
  udp: 'UDP, 64-byte payloads',
};

type Description = readonly [
  of: LoadMetric,
  title: string,
  unit: string,
  digits: number,
  better: ModeMetric['better'],
];

const DESCRIPTIONS: Readonly<Record<LoadMetricName, Description>> = {
  throughput: ['Throughput', 'throughput', 'Gbit/s', 3, 'more'],
  packets: ['Packets', 'packets carried', 'packets/s', 0, 'more'],
  read: ['Read', 'packets read', 'packets/s', 0, 'more'],
  calls: ['Calls', 'system calls of the ends per packet', '', 3, 'less'],
  yields: ['Yields', 'of these sched_yield', '', 3, 'less'],
  switches: ['Switches', 'context switches of the ends per packet', '', 3, 'less'],
  machineSwitches: [
    ...(['MachineSwitches', 'context switches of the machine per packet', '', 3, 'less'] as const),
  ],
  copied: ['Copied', 'bytes copied across the border per byte of payload', '', 2, 'less'],
  user: ['UserNs', 'CPU per packet: user', 'ns', 0, 'less'],
  system: ['SystemNs', 'CPU per packet: system', 'ns', 0, 'less'],
  softirq: ['SoftirqNs', 'CPU per packet: softirq', 'ns', 0, 'less'],
  steal: ['StealNs', 'CPU per packet: steal', 'ns', 0, 'less'],
  idle: ['IdleNs', 'CPU per packet: idle', 'ns', 0, 'less'],
  busy: ['BusyNs', 'CPU per packet: all but idle', 'ns', 0, 'less'],
  counting: ['Counting', 'throughput while perf counts / without', 'x', 3, 'more'],
};

export const MODE_METRICS: readonly MeasuredMetric[] = [
  ...LOADS.flatMap((load) =>
    LOAD_METRICS.map((name): MeasuredMetric => {
      const [of, title, unit, digits, better] = DESCRIPTIONS[name];
      return {
        ...{ key: `${load}.${name}`, of: `${load}${of}` },
        ...{ title: `${LOAD_TITLES[load]}: ${title}`, unit, digits, better },
      };
    }),
  ),
  {
    key: 'rtt',
    of: 'rtt',
    title: 'Round trip (ping -A), median',
    unit: 'ms',
    digits: 3,
    better: 'less',
  },
  {
    key: 'rttP99',
    of: 'rttP99',
    title: 'Round trip (ping -A), 99th percentile',
    unit: 'ms',
    digits: 3,
    better: 'less',
  },
];
