/**
 * Counters across data planes. A replaced data plane starts counting at zero, while a Prometheus
 * counter must never fall: the last counters of each closed data plane are kept and added to those
 * of the one in service. What describes the present (ring fill) is taken from the one in service.
 */
import { COUNTER_ROWS, type CounterName, type ThreadCounters } from './counters.js';

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

/** The counters of a data plane that is closed: what it counted stays, its present is gone. */
export function retire(threads: readonly ThreadCounters[]): readonly ThreadCounters[] {
  const gone = numbers((_, combined) => (combined === 'present' ? 0 : undefined));
  return threads.map((thread) => ({ ...thread, ...gone }));
}

function addThread(a: ThreadCounters, b: ThreadCounters): ThreadCounters {
  return {
    ...a,
    ...numbers((name, combined) =>
      combined === 'greatest' ? Math.max(a[name], b[name]) : a[name] + b[name],
    ),
    drops: addRecords(a.drops, b.drops),
    batchSizes: addArrays(a.batchSizes, b.batchSizes),
    queueDrops:
      a.queueDrops === null && b.queueDrops === null
        ? null
        : (a.queueDrops ?? 0) + (b.queueDrops ?? 0),
  };
}

type Combined = (typeof COUNTER_ROWS)[number][1]['combined'];

/** The values that `value` gives, by name. */
function numbers(
  value: (name: CounterName, combined: Combined) => number | undefined,
): Partial<Record<CounterName, number>> {
  const found: Partial<Record<CounterName, number>> = {};
  for (const [name, { combined }] of COUNTER_ROWS) {
    const number = value(name, combined);
    if (number !== undefined) found[name] = number;
  }
  return found;
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
