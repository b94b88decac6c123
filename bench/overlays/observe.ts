/** What a load costs the machine and the user-space ends meanwhile. */
import { Program, run } from '../../src/testbed/programs.js';
import { systemError } from '../../src/errors.js';
import {
  machineTimes,
  memoryOf,
  switchesOf,
  treeOf,
  unlessEnded,
  type MachineTimes,
} from '../../src/testbed/proc.js';
import { machineSince } from '../frame/machine.js';
import type { EndCounters, RunningOverlay } from './subject.js';

export interface Cost {
  readonly machine: MachineTimes;
  /** Context switches of the ends' threads; undefined when there are no ends. */
  readonly switches: number | undefined;
  /** Counters of the ends' packet loops, where they count. */
  readonly counters: EndCounters | undefined;
}

export async function observe<T>(
  overlay: RunningOverlay,
  work: () => Promise<T>,
): Promise<{ result: T; cost: Cost }> {
  const before = await sample(overlay);
  const result = await work();
  const after = await sample(overlay);
  const switches =
    after.switches === undefined || before.switches === undefined
      ? undefined
      : after.switches - before.switches;
  const counters = countersSince(after.counters, before.counters);
  return {
    result,
    cost: { machine: machineSince(after.machine, before.machine), switches, counters },
  };
}

async function sample(overlay: RunningOverlay): Promise<Cost> {
  const counters = await overlay.counters?.();
  const processes = await processesOf(overlay);
  const switches = await Promise.all(processes.map((pid) => unlessEnded(switchesOf(pid))));
  return {
    machine: await machineTimes(),
    switches: processes.length === 0 ? undefined : sumOf(switches),
    counters,
  };
}

function sumOf(numbers: readonly (number | undefined)[]): number {
  return numbers.reduce<number>((sum, number) => sum + (number ?? 0), 0);
}

function countersSince(now?: EndCounters, then?: EndCounters): EndCounters | undefined {
  if (now === undefined || then === undefined) return undefined;
  return {
    systemCalls: now.systemCalls - then.systemCalls,
    copiedBytes: now.copiedBytes - then.copiedBytes,
  };
}

/** Resident memory of the largest process, now and ever, in bytes. */
export async function largestMemory(
  overlay: RunningOverlay,
): Promise<{ rss: number; peak: number } | undefined> {
  const asked = (await processesOf(overlay)).map((pid) => unlessEnded(memoryOf(pid)));
  const memories = (await Promise.all(asked)).filter((memory) => memory !== undefined);
  if (memories.length === 0) return undefined;
  return {
    rss: Math.max(...memories.map(({ rss }) => rss)),
    peak: Math.max(...memories.map(({ peak }) => peak)),
  };
}

/** The ends and the processes they started. */
async function processesOf({ programs }: RunningOverlay): Promise<number[]> {
  const trees = programs.flatMap(({ pid }) => (pid === undefined ? [] : [treeOf(pid)]));
  return (await Promise.all(trees)).flat();
}

const SYSTEM_CALLS = 'raw_syscalls:sys_enter';
const YIELDS = 'syscalls:sys_enter_sched_yield';
const EVENTS = [SYSTEM_CALLS, YIELDS].join(',');

/** Why the kernel cannot be asked for the system calls of a program. */
export async function perfMissing(): Promise<string | undefined> {
  const trial = await run(['perf', 'stat', '-e', EVENTS, '--', 'true'], {
    accept: Array.from({ length: 256 }, (_, code) => code),
  });
  if (trial.code === 0) return undefined;
  return trial.code === 127
    ? 'perf (Debian package linux-perf) is not installed'
    : `perf cannot count ${EVENTS} here`;
}

interface CountedCalls {
  readonly calls: number;
  /** Those of them that are sched_yield. */
  readonly yields: number;
}

/** System calls of the ends while `work` goes on; perf(1) counts, which slows them down. */
export async function countCalls<T>(
  overlay: RunningOverlay,
  work: () => Promise<T>,
): Promise<{ result: T } & CountedCalls> {
  const processes = (await processesOf(overlay)).join(',');
  const perf = new Program(['perf', 'stat', '-x', ';', '-e', EVENTS, '-p', processes]);
  try {
    const result = await work();
    // It reports what it has counted when interrupted.
    perf.kill('SIGINT');
    await perf.ended;
    return { result, ...parsePerf(perf.stderr) };
  } finally {
    await perf.stop();
  }
}

/** Reads `perf stat -x ';'`: the count is the first field. */
export function parsePerf(output: string): CountedCalls {
  const countOf = (event: string): number => {
    const count = new RegExp(`^(\\d+);[^;]*;${event};`, 'm').exec(output)?.[1];
    if (count === undefined) throw systemError(`perf stat counted nothing: ${output.slice(-200)}`);
    return Number(count);
  };
  return { calls: countOf(SYSTEM_CALLS), yields: countOf(YIELDS) };
}
