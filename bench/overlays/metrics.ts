/** What a round of a subject yields. */

/** The loads whose cost is looked at: TCP streams; datagrams of 64 bytes, as fast as one can send. */
export const LOADS = ['tcp', 'tcp4', 'udp'] as const;
export type Load = (typeof LOADS)[number];

export const LOAD_TITLES: Readonly<Record<Load, string>> = {
  tcp: 'TCP, 1 stream',
  tcp4: 'TCP, 4 streams',
  udp: 'UDP, 64-byte payloads',
};

/** What a load yields. Per packet is per delivered packet: a datagram, or a full TCP segment. */
export type LoadMetric =
  /** Gbit/s of payload that reached the receiving container. */
  | 'throughput'
  /** Packets delivered a second: to the receiving container. */
  | 'packets'
  /** Packets its program read a second; what it was too slow for its socket dropped. UDP only. */
  | 'read'
  /** System calls of both ends a packet; 0 where the kernel alone carries the packets. */
  | 'calls'
  /** Those of them that are sched_yield; only where perf counts. */
  | 'yields'
  /** Context switches of both ends' threads a packet; 0 where there are none. */
  | 'switches'
  /** Context switches of the whole machine a packet. */
  | 'machineSwitches'
  /** Bytes copied across the user/kernel border for a byte of payload, by containers and ends. */
  | 'copied'
  /** CPU nanoseconds of the whole machine a packet, where they went; they add up to all CPUs' time. */
  | 'user'
  | 'system'
  /** Software interrupts, and the few hard ones. */
  | 'softirq'
  /** Taken by the hypervisor. */
  | 'steal'
  | 'idle'
  /** user + system + softirq + steal. */
  | 'busy'
  /** Throughput while perf counts system calls, by that without: the counting's own cost. */
  | 'counting';

export type MetricKey =
  | `${Load}.${LoadMetric}`
  | 'tcpReverse'
  | 'tcpBoth'
  | 'udp1372'
  | 'udp1372Read'
  | 'scatter'
  /** Round trips of pings in ms, median and 99th percentile, with nothing else to carry. */
  | 'rtt'
  | 'rttP99'
  /** The same while TCP runs, and how many times those with nothing else to carry. */
  | 'loadedRtt'
  | 'loadedRttP99'
  | 'rttGrowth'
  /** Memory of the larger end, after the load. */
  | 'rss'
  | 'rssPeak';

/** A metric that the subject does not have is left out. */
export type Round = Partial<Record<MetricKey, number>>;

export interface Metric {
  readonly key: MetricKey;
  readonly title: string;
  /** `Gbit/s`, `packets/s`, `ns`, `ms`; empty of a plain number. */
  readonly unit: string;
  /** Digits behind the point that mean something. */
  readonly digits: number;
  readonly better: 'more' | 'less';
  /** Title of its column in the table of ratios, whose metrics the noise is searched in. */
  readonly column?: string | undefined;
  /** Has a table of its own on a terminal, too, where the others have their medians alone. */
  readonly main: boolean;
}

type Form = readonly [unit: string, digits: number, better: Metric['better'], column?: string];

const GBIT = ['Gbit/s', 3, 'more'] as const;
const PACKETS = ['packets/s', 0, 'more'] as const;
const PER_PACKET = ['', 3, 'less'] as const;
const NS = ['ns', 0, 'less'] as const;
const MS = ['ms', 3, 'less'] as const;

const metric = (
  key: MetricKey,
  title: string,
  [unit, digits, better, column]: Form,
  main: boolean,
): Metric => ({ key, title, unit, digits, better, column, main });
const main = (key: MetricKey, title: string, form: Form): Metric => metric(key, title, form, true);
const detail = (key: MetricKey, title: string, form: Form): Metric =>
  metric(key, title, form, false);

const CPU_COLUMNS: Readonly<Record<Load, string>> = {
  tcp: 'CPU, TCP 1',
  tcp4: 'CPU, TCP 4',
  udp: 'CPU, UDP 64',
};

const costsOf = (load: Load): Metric[] => {
  const cost = (name: LoadMetric, title: string, form: Form): Metric =>
    detail(`${load}.${name}`, `${LOAD_TITLES[load]}: ${title}`, form);
  return [
    cost('calls', 'system calls of the ends per packet', PER_PACKET),
    cost('yields', 'of these sched_yield', PER_PACKET),
    cost('switches', 'context switches of the ends per packet', PER_PACKET),
    cost('machineSwitches', 'context switches of the machine per packet', PER_PACKET),
    cost('copied', 'bytes copied across the border per byte of payload', ['', 2, 'less']),
    cost('user', 'CPU per packet: user', NS),
    cost('system', 'CPU per packet: system', NS),
    cost('softirq', 'CPU per packet: softirq', NS),
    cost('steal', 'CPU per packet: steal', NS),
    cost('idle', 'CPU per packet: idle', NS),
    main(`${load}.busy`, `${LOAD_TITLES[load]}: CPU per packet: all but idle`, [
      'ns',
      0,
      'less',
      CPU_COLUMNS[load],
    ]),
    cost('counting', 'throughput while perf counts / without', ['x', 3, 'more']),
  ];
};

/** In the order of the tables. */
export const METRICS: readonly Metric[] = [
  main('tcp.throughput', 'TCP, 1 stream', [...GBIT, 'TCP 1']),
  detail('tcp.packets', 'TCP, 1 stream: packets carried', PACKETS),
  main('tcp4.throughput', 'TCP, 4 streams', [...GBIT, 'TCP 4']),
  detail('tcp4.packets', 'TCP, 4 streams: packets carried', PACKETS),
  main('tcpReverse', 'TCP, 1 stream, reverse', [...GBIT, 'reverse']),
  main('tcpBoth', 'TCP, both directions at once, sum', [...GBIT, 'both']),
  detail('udp.throughput', 'UDP, 64-byte payloads: throughput', GBIT),
  main('udp.packets', 'UDP, 64-byte payloads, carried', [...PACKETS, 'UDP 64 carried']),
  main('udp.read', 'UDP, 64-byte payloads, read', [...PACKETS, 'UDP 64 read']),
  main('udp1372', 'UDP, 1372-byte payloads, carried', [...PACKETS, 'UDP 1372 carried']),
  main('udp1372Read', 'UDP, 1372-byte payloads, read', PACKETS),
  main('scatter', 'UDP, 64-byte payloads to random destinations, carried', PACKETS),
  main('rtt', 'Round trip (ping -A), median', [...MS, 'ping']),
  main('rttP99', 'Round trip (ping -A), 99th percentile', MS),
  main('loadedRtt', 'Round trip while TCP runs, median', [...MS, 'ping under load']),
  main('loadedRttP99', 'Round trip while TCP runs, 99th percentile', MS),
  main('rttGrowth', 'Round trip while TCP runs / idle, medians', ['x', 1, 'less']),
  ...LOADS.flatMap(costsOf),
  detail('rss', 'Memory of the larger end, after the load', ['MB', 0, 'less']),
  detail('rssPeak', 'Memory of the larger end, at most (VmHWM)', ['MB', 0, 'less']),
];

/** Made by the ends: 0 where the kernel alone carries the packets. */
export function isOfEnds(key: MetricKey): boolean {
  const [load, cost = ''] = key.split('.');
  return LOADS.some((one) => one === load) && ['calls', 'yields', 'switches'].includes(cost);
}
