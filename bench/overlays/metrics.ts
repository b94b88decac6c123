/** What a round of a subject yields. */

/** Of a delivered packet or of a Gbit; a metric that the subject does not have is left out. */
export type Round = Partial<Record<MetricKey, number>>;

export interface Metric {
  readonly key: MetricKey;
  readonly title: string;
  /** Shorter, for a column. */
  readonly short: string;
  readonly unit: string;
  readonly digits: number;
}

/** The loads whose cost is looked at. */
export type Load = 'tcp' | 'udp';

/** Of a load; all but the first three and the last are of one delivered packet. */
export type LoadMetric =
  /** Gbit/s of payload, and packets a second, that reached the receiving container. */
  | 'Throughput'
  | 'Packets'
  /** Packets a second that the receiving program read, where that is not all. */
  | 'Read'
  /** System calls and context switches of the ends; of these calls those that are sched_yield. */
  | 'Calls'
  | 'Yields'
  | 'Switches'
  | 'MachineSwitches'
  /** Bytes that crossed the user/kernel border for each byte of payload that arrived. */
  | 'Copied'
  /** Whole machine, by /proc/stat. */
  | 'UserNs'
  | 'SystemNs'
  | 'SoftirqNs'
  | 'StealNs'
  | 'IdleNs'
  | 'BusyNs'
  /** Throughput while perf counts, by that without. */
  | 'Counting';

export type MetricKey =
  | `${Load}${LoadMetric}`
  | 'tcp'
  | 'tcp4'
  | 'tcpReverse'
  | 'tcpBoth'
  | 'udp64'
  | 'udp64Carried'
  | 'udp1372'
  | 'udp1372Carried'
  | 'scatter'
  | 'rtt'
  | 'rttP99'
  | 'loadedRtt'
  | 'loadedRttP99'
  | 'rttGrowth'
  | 'tcpCpu'
  | 'udpCpu'
  | 'user'
  | 'system'
  | 'interrupts'
  | 'idle'
  | 'rss'
  | 'rssPeak';

const metric = (
  key: MetricKey,
  title: string,
  unit: string,
  digits: number,
  short = title,
): Metric => ({ key, title, unit, digits, short });

/** Each with a table of its own: medians, bounds, ratios. */
export const MAIN_METRICS: readonly Metric[] = [
  metric('tcp', 'TCP, 1 stream', 'Gbit/s', 2, 'TCP 1'),
  metric('tcp4', 'TCP, 4 streams', 'Gbit/s', 2, 'TCP 4'),
  metric('tcpReverse', 'TCP, 1 stream, reverse', 'Gbit/s', 2, 'reverse'),
  metric('tcpBoth', 'TCP, both directions at once, sum', 'Gbit/s', 2, 'both'),
  metric('udp64', 'UDP, 64-byte payloads, read', 'packets/s', 0, 'UDP 64 read'),
  metric('udp64Carried', 'UDP, 64-byte payloads, carried', 'packets/s', 0, 'UDP 64 carried'),
  metric('udp1372', 'UDP, 1372-byte payloads, read', 'packets/s', 0, 'UDP 1372 read'),
  metric('udp1372Carried', 'UDP, 1372-byte payloads, carried', 'packets/s', 0, 'UDP 1372 carried'),
  metric('scatter', 'UDP, 64-byte payloads to random destinations, carried', 'packets/s', 0),
  metric('rtt', 'Round trip (ping -A), median', 'ms', 3, 'ping'),
  metric('rttP99', 'Round trip (ping -A), 99th percentile', 'ms', 3),
  metric('loadedRtt', 'Round trip while TCP runs, median', 'ms', 3, 'ping under load'),
  metric('loadedRttP99', 'Round trip while TCP runs, 99th percentile', 'ms', 3),
  metric('rttGrowth', 'Round trip while TCP runs / idle, medians', 'x', 1),
  metric('tcpCpu', 'CPU per TCP Gbit, whole machine', 's', 3, 'CPU/Gbit'),
  metric('udpCpu', 'CPU per carried 64-byte UDP packet, whole machine', 'us', 1),
];

/** Columns of the first table, and what the noise is looked for in. */
export const SUMMARY_KEYS: readonly MetricKey[] = [
  ...(['tcp', 'tcp4', 'tcpReverse', 'tcpBoth', 'udp64', 'udp64Carried', 'udp1372Carried'] as const),
  ...(['rtt', 'loadedRtt', 'tcpCpu'] as const),
];

/** Columns of a table: medians only. */
export interface MetricGroup {
  readonly title: string;
  readonly metrics: readonly Metric[];
}

export const METRIC_GROUPS: readonly MetricGroup[] = [
  {
    title: 'The machine while TCP, 1 stream, runs',
    metrics: [
      metric('user', 'user', '%', 0),
      metric('system', 'system', '%', 0),
      metric('interrupts', 'interrupts', '%', 0),
      metric('idle', 'idle', '%', 0),
    ],
  },
  {
    title: 'System calls and context switches per delivered packet',
    metrics: [
      metric('tcpCalls', 'calls, TCP', '', 3),
      metric('udpCalls', 'calls, UDP 64', '', 3),
      metric('tcpSwitches', 'switches of the ends, TCP', '', 3),
      metric('udpSwitches', 'UDP 64', '', 3),
      metric('tcpMachineSwitches', 'switches of the machine, TCP', '', 3),
      metric('udpMachineSwitches', 'UDP 64', '', 3),
    ],
  },
  {
    title: 'Memory of the larger end, after the load',
    metrics: [metric('rss', 'RSS', 'MB', 0), metric('rssPeak', 'at most (VmHWM)', 'MB', 0)],
  },
];
