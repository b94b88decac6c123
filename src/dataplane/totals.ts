/**
 * Counters across data planes. A replaced data plane starts counting at zero, while a Prometheus
 * counter must never fall: the last counters of each closed data plane are kept and added to those
 * of the one in service. What describes the present (ring fill) is taken from the one in service.
 */
import type { ThreadCounters } from './dataplane.js';

/** Sums per direction; threads of one direction become one entry. */
export function addCounters(
  retired: readonly ThreadCounters[],
  live: readonly ThreadCounters[],
): readonly ThreadCounters[] {
  const sums = new Map<ThreadCounters['direction'], ThreadCounters>();
  for (const thread of [...retired, ...live]) {
    const sum = sums.get(thread.direction);
    sums.set(thread.direction, sum === undefined ? thread : addThread(sum, thread));
  }
  return [...sums.values()];
}

/** The counters of a data plane that is closed: what it counted stays, its ring is gone. */
export function retire(threads: readonly ThreadCounters[]): readonly ThreadCounters[] {
  return threads.map((thread) => ({ ...thread, ringBytes: 0, ringCapacityBytes: 0 }));
}

function addThread(a: ThreadCounters, b: ThreadCounters): ThreadCounters {
  return {
    direction: a.direction,
    receivedPackets: a.receivedPackets + b.receivedPackets,
    receivedBytes: a.receivedBytes + b.receivedBytes,
    sentPackets: a.sentPackets + b.sentPackets,
    sentBytes: a.sentBytes + b.sentBytes,
    drops: addRecords(a.drops, b.drops),
    icmpTimeExceeded: a.icmpTimeExceeded + b.icmpTimeExceeded,
    icmpUnreachable: a.icmpUnreachable + b.icmpUnreachable,
    icmpSuppressed: a.icmpSuppressed + b.icmpSuppressed,
    readCalls: a.readCalls + b.readCalls,
    writeCalls: a.writeCalls + b.writeCalls,
    pollCalls: a.pollCalls + b.pollCalls,
    batchSizes: addArrays(a.batchSizes, b.batchSizes),
    queueDrops:
      a.queueDrops === null && b.queueDrops === null
        ? null
        : (a.queueDrops ?? 0) + (b.queueDrops ?? 0),
    ringBytes: a.ringBytes + b.ringBytes,
    ringCapacityBytes: a.ringCapacityBytes + b.ringCapacityBytes,
    ringHighWaterBytes: Math.max(a.ringHighWaterBytes, b.ringHighWaterBytes),
    eventsLost: a.eventsLost + b.eventsLost,
  };
}

function addRecords(
  a: Readonly<Record<string, number>>,
  b: Readonly<Record<string, number>>,
): Record<string, number> {
  const sum: Record<string, number> = { ...a };
  for (const [key, value] of Object.entries(b)) sum[key] = (sum[key] ?? 0) + value;
  return sum;
}

function addArrays(a: readonly number[], b: readonly number[]): number[] {
  const longer = a.length >= b.length ? a : b;
  const shorter = longer === a ? b : a;
  return longer.map((value, index) => value + (shorter[index] ?? 0));
}
