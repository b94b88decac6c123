/** A daemon below a stand-in for systemd and its descriptor store (store-manager.py). */
import { join } from 'node:path';
import type { DaemonProcess, DaemonSettings } from '../../src/testbed/daemon-process.js';
import { waitFor } from '../../src/testbed/programs.js';
import { COMMAND, ROOT } from './test-lab.js';

const SCRIPT = join(ROOT, 'test', 'support', 'store-manager.py');
const SOCKET = '/run/flannelette-store-manager';

/** What it does with descriptors; see the script. */
export type StoreKind = 'usable' | 'no-return' | 'none';

/** Settings of a daemon that it starts. */
export function managed(
  kind: StoreKind,
  settings: Partial<DaemonSettings> = {},
): Partial<DaemonSettings> {
  return { ...settings, command: ['python3', SCRIPT, SOCKET, kind, ...COMMAND] };
}

/** How the service ends before it is started again. */
export type RestartBy = 'SIGTERM' | 'SIGKILL';

/** Resolves once the daemon that was started again says that it is ready. */
export async function restart({ program }: DaemonProcess, by: RestartBy): Promise<void> {
  const before = events(program.stdout, 'ready').length;
  program.kill(by === 'SIGTERM' ? 'SIGHUP' : 'SIGUSR1');
  await waitFor('the next daemon', 30_000, () => {
    if (!program.running) throw new Error(`the manager ended: ${program.stderr}`);
    return events(program.stdout, 'ready').length > before || undefined;
  });
}

/** What it said of one kind, oldest first. */
export function events(said: string, kind: string): string[] {
  return said
    .split('\n')
    .filter((line) => line.split(' ')[0] === kind)
    .map((line) => line.slice(kind.length + 1));
}
