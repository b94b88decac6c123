/**
 * The table of what a data plane counts, by direction. The addon's own table (native/core/counters.h)
 * has the same names; snapshots, totals, metrics and system calls in figures follow from this one. A
 * new counter is a row here, a row there, and the native line that counts it.
 */

/** How the values of several threads, or of data planes one after another, become one. */
type Combined =
  /** Their sum. */
  | 'sum'
  /** Their sum over what is in service: gone with its data plane. */
  | 'present'
  /** The greatest of them. */
  | 'greatest';

interface CounterRow {
  readonly combined: Combined;
  /** `counter` gets flannelette_METRIC_total, `gauge` flannelette_METRIC. */
  readonly kind: 'counter' | 'gauge';
  readonly metric: string;
  /** Help text of the metric; rows of one metric have the same. */
  readonly help: string;
  /** Besides `direction`. */
  readonly label?: readonly [name: string, value: string];
}

const ICMP_ERRORS = 'ICMP errors sent about packets, by type.';
const SYSCALLS = 'System calls of the packet loops, by kind.';

/** In the order of the metrics' text; drops and batch sizes, which are no single numbers, apart. */
export const COUNTERS = {
  receivedPackets: {
    combined: 'sum',
    kind: 'counter',
    metric: 'received_packets',
    help: 'Packets read from the TUN or the socket.',
  },
  receivedBytes: {
    combined: 'sum',
    kind: 'counter',
    metric: 'received_bytes',
    help: 'Bytes of inner packets read.',
  },
  sentPackets: {
    combined: 'sum',
    kind: 'counter',
    metric: 'sent_packets',
    help: 'Packets given to the socket or the TUN.',
  },
  sentBytes: {
    combined: 'sum',
    kind: 'counter',
    metric: 'sent_bytes',
    help: 'Bytes of inner packets given on.',
  },
  kernelPackets: {
    combined: 'sum',
    kind: 'counter',
    metric: 'kernel_packets',
    help: 'Packets the kernel carried by itself (--mode=kernel); in no other counter.',
  },
  kernelBytes: {
    combined: 'sum',
    kind: 'counter',
    metric: 'kernel_bytes',
    help: 'Bytes of inner packets the kernel carried by itself.',
  },
  icmpTimeExceeded: {
    combined: 'sum',
    kind: 'counter',
    metric: 'icmp_errors',
    help: ICMP_ERRORS,
    label: ['type', 'time_exceeded'],
  },
  icmpUnreachable: {
    combined: 'sum',
    kind: 'counter',
    metric: 'icmp_errors',
    help: ICMP_ERRORS,
    label: ['type', 'unreachable'],
  },
  icmpFragNeeded: {
    combined: 'sum',
    kind: 'counter',
    metric: 'icmp_errors',
    help: ICMP_ERRORS,
    label: ['type', 'frag_needed'],
  },
  icmpSuppressed: {
    combined: 'sum',
    kind: 'counter',
    metric: 'icmp_suppressed',
    help: 'ICMP errors withheld by rule or rate limit.',
  },
  readCalls: {
    combined: 'sum',
    kind: 'counter',
    metric: 'syscalls',
    help: SYSCALLS,
    label: ['call', 'read'],
  },
  writeCalls: {
    combined: 'sum',
    kind: 'counter',
    metric: 'syscalls',
    help: SYSCALLS,
    label: ['call', 'write'],
  },
  pollCalls: {
    combined: 'sum',
    kind: 'counter',
    metric: 'syscalls',
    help: SYSCALLS,
    label: ['call', 'poll'],
  },
  eventsLost: {
    combined: 'sum',
    kind: 'counter',
    metric: 'events_lost',
    help: 'Events of the data plane that were not taken in time.',
  },
  ringBytes: {
    combined: 'present',
    kind: 'gauge',
    metric: 'ring_bytes',
    help: 'Bytes in the ring between reader and writer.',
  },
  ringCapacityBytes: {
    combined: 'present',
    kind: 'gauge',
    metric: 'ring_capacity_bytes',
    help: 'Size of the ring.',
  },
  ringHighWaterBytes: {
    combined: 'greatest',
    kind: 'gauge',
    metric: 'ring_high_water_bytes',
    help: 'Most bytes the ring ever held.',
  },
} as const satisfies Record<string, CounterRow>;

export type CounterName = keyof typeof COUNTERS;

export const COUNTER_ROWS = Object.entries(COUNTERS) as readonly (readonly [
  CounterName,
  CounterRow,
])[];

/** Counters of one direction of one queue pair, or of several together. */
export interface ThreadCounters extends Readonly<Record<CounterName, number>> {
  /** `encapsulate` (TUN to UDP) or `decapsulate` (UDP to TUN). */
  readonly direction: 'encapsulate' | 'decapsulate';
  /** Packets dropped, by reason; every reason is present. */
  readonly drops: Readonly<Record<string, number>>;
  /** Batches drained by size: bucket i counts sizes in (2^(i-1), 2^i], the first size 1. */
  readonly batchSizes: readonly number[];
  /**
   * What the kernel dropped in front of this direction: packets when the TUN's queue was full,
   * datagrams when the socket's buffer was (or their checksum wrong); null where it does not tell
   * (SO_MEMINFO, Linux 4.12).
   */
  readonly queueDrops: number | null;
}

/** System calls that moved packets or waited for them. */
export function systemCalls(thread: ThreadCounters): number {
  let calls = 0;
  for (const [name, { metric }] of COUNTER_ROWS) if (metric === 'syscalls') calls += thread[name];
  return calls;
}
