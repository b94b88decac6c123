/** What the kernel says of a process: memory and CPU time, and how both are read. */
import { readFile } from 'node:fs/promises';

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
