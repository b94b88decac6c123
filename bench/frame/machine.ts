/** Where a result comes from: machine, sources and programs; and how busy the machine is with others. */
import { execFileSync } from 'node:child_process';
import { cpus, release } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { machineTimes, type MachineTimes } from '../../src/testbed/proc.js';

/** The project's directory: this file is dist/bench/frame/machine.js. */
export const PROJECT = resolve(import.meta.dirname, '..', '..', '..');

/** The command that is flannelette. */
export const FLANNELETTE = [process.execPath, join(PROJECT, 'dist', 'src', 'cli', 'main.js')];

/** Where and how a result came to be. */
export const machineSchema = z.object({
  date: z.string(),
  commit: z.string(),
  /** The command line that gives the result again. */
  command: z.string(),
  kernel: z.string(),
  cpu: z.string(),
  cpus: z.number(),
  node: z.string(),
  /** Share of the machine's CPU time that others used in the second before, 0 to 1. */
  busyBefore: z.number(),
});
export type Machine = Readonly<z.infer<typeof machineSchema>>;

/** Takes a second: called before the measurement, which is a load of its own. */
export async function describeMachine(command: string): Promise<Machine> {
  const busyBefore = await busyNow();
  return {
    date: new Date().toISOString().slice(0, 10),
    commit: describeCommit(),
    command,
    kernel: release(),
    cpu: cpus()[0]?.model ?? 'unknown CPU',
    cpus: cpus().length,
    node: process.version,
    busyBefore,
  };
}

/** Share of the machine's CPU time that is used now, over one second; 0 to 1. */
async function busyNow(): Promise<number> {
  const before = await machineTimes();
  await delay(1_000);
  const spent = machineSince(await machineTimes(), before);
  const busy = busySeconds(spent);
  return busy / (busy + spent.idle);
}

/** CPU seconds the machine was busy, whatever with. */
export function busySeconds({ user, system, interrupts, steal }: MachineTimes): number {
  return user + system + interrupts + steal;
}

export function machineSince(now: MachineTimes, then: MachineTimes): MachineTimes {
  const difference = (key: keyof MachineTimes): number => now[key] - then[key];
  return {
    user: difference('user'),
    system: difference('system'),
    interrupts: difference('interrupts'),
    steal: difference('steal'),
    idle: difference('idle'),
    switches: difference('switches'),
  };
}

/** The short hash of HEAD, with `, changed` when files differ from it; `unknown` without git. */
function describeCommit(): string {
  try {
    const git = (...args: string[]): string =>
      execFileSync('git', ['-C', PROJECT, ...args], { encoding: 'utf8', stdio: 'pipe' }).trim();
    const dirty = git('status', '--porcelain', '--untracked-files=no') === '' ? '' : ', changed';
    return `${git('rev-parse', '--short', 'HEAD')}${dirty}`;
  } catch {
    return 'unknown';
  }
}

/** Debian packages with their versions; `unknown` where dpkg does not know. */
export function describePackages(names: readonly string[]): string {
  try {
    const argv = ['-W', '-f', '${Package} ${Version}\\n', ...names];
    const found = execFileSync('dpkg-query', argv, { encoding: 'utf8', stdio: 'pipe' });
    return found.trim().split('\n').join(', ');
  } catch {
    return 'unknown';
  }
}
