/** What the kernel says of processes and of the machine: memory, CPU time, context switches. */
import { readdir, readFile } from 'node:fs/promises';
import { errnoOf } from '../errors.js';

export interface Memory {
  /** Resident now, and at most since the start (VmRSS, VmHWM), in bytes. */
  readonly rss: number;
  readonly peak: number;
}

/** Reads /proc/PID/status. */
export function parseMemory(status: string): Memory {
  const kib = (name: string): number => {
    const match = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status);
    if (match === null) throw new RangeError(`/proc/PID/status has no ${name}`);
    return Number(match[1]) * 1_024;
  };
  return { rss: kib('VmRSS'), peak: kib('VmHWM') };
}

/** User and system time of all threads in seconds, of /proc/PID/stat (USER_HZ is 100 on Linux). */
export function parseCpuSeconds(stat: string): number {
  // The name may hold blanks and brackets: fields count from after its last bracket.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

export async function memoryOf(pid: number): Promise<Memory> {
  return parseMemory(await readFile(`/proc/${pid}/status`, 'utf8'));
}

export async function cpuSecondsOf(pid: number): Promise<number> {
  return parseCpuSeconds(await readFile(`/proc/${pid}/stat`, 'utf8'));
}

/** Voluntary and involuntary context switches of a thread so far, of /proc/PID/task/TID/status. */
export function parseSwitches(status: string): number {
  const found = [...status.matchAll(/^(?:non)?voluntary_ctxt_switches:\s+(\d+)$/gm)];
  if (found.length !== 2) throw new RangeError('/proc/PID/task/TID/status has no context switches');
  return found.reduce((sum, match) => sum + Number(match[1]), 0);
}

/** Context switches of all threads of a process so far. */
export async function switchesOf(pid: number): Promise<number> {
  const threads = await readdir(`/proc/${pid}/task`);
  const each = await Promise.all(
    threads.map(async (thread) =>
      parseSwitches(await readFile(`/proc/${pid}/task/${thread}/status`, 'utf8')),
    ),
  );
  return each.reduce((sum, switches) => sum + switches, 0);
}

/** A process and all it started, deepest last. */
export async function treeOf(pid: number): Promise<number[]> {
  const children = await childrenOf(pid);
  const trees = children.map((child) => unlessEnded(treeOf(child)));
  return [pid, ...(await Promise.all(trees)).flatMap((tree) => tree ?? [])];
}

/** Undefined of a process that ended before it could be asked, as a daemon's short-lived programs do. */
export async function unlessEnded<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (!['ENOENT', 'ESRCH'].includes(errnoOf(error) ?? '')) throw error;
    return undefined;
  }
}

/** Kernels without CONFIG_PROC_CHILDREN have no list: there each process is asked for its parent. */
export async function childrenOf(pid: number): Promise<number[]> {
  try {
    const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
    return text.split(' ').flatMap((word) => (word === '' ? [] : [Number(word)]));
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
    return childrenByParent(pid);
  }
}

/** The same, of every kernel. */
export async function childrenByParent(pid: number): Promise<number[]> {
  // ENOENT when it has ended itself.
  await readFile(`/proc/${pid}/stat`);
  const entries = await readdir('/proc');
  const processes = entries.map(Number).filter((number) => !Number.isNaN(number));
  const found = processes.map(async (child) => {
    const stat = await readFile(`/proc/${child}/stat`, 'utf8').catch(() => '');
    return parseParent(stat) === pid ? [child] : [];
  });
  return (await Promise.all(found)).flat();
}

/** Parent of the process whose /proc/PID/stat that is; undefined of none. */
export function parseParent(stat: string): number | undefined {
  const field = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1];
  return field === undefined ? undefined : Number(field);
}

/** What the whole machine did so far, of /proc/stat; times in CPU seconds. */
export interface MachineTimes {
  readonly user: number;
  readonly system: number;
  /** Hardware and software interrupts. */
  readonly interrupts: number;
  readonly steal: number;
  /** Waiting for disks included. */
  readonly idle: number;
  readonly switches: number;
}

/** USER_HZ is 100 on Linux. */
export function parseMachineTimes(stat: string): MachineTimes {
  const line = /^cpu +(.*)$/m.exec(stat)?.[1] ?? '';
  const switches = /^ctxt (\d+)$/m.exec(stat)?.[1];
  const times = line.split(' ').map((ticks) => Number(ticks) / 100);
  const [user = NaN, nice = NaN, system = NaN, idle = NaN, iowait = NaN] = times;
  const [irq = NaN, softirq = NaN, steal = NaN] = times.slice(5);
  if (switches === undefined || Number.isNaN(steal)) throw new RangeError('/proc/stat is cut');
  return {
    user: user + nice,
    system,
    interrupts: irq + softirq,
    steal,
    idle: idle + iowait,
    switches: Number(switches),
  };
}

export async function machineTimes(): Promise<MachineTimes> {
  return parseMachineTimes(await readFile('/proc/stat', 'utf8'));
}
