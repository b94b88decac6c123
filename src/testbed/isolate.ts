/**
 * Isolation: the lab runs itself again in fresh PID, mount and network namespaces, inside fresh user
 * namespaces when it is not root. An empty /run is mounted over the machine's.
 *
 *   flannelette lab ─ setpriv --pdeathsig ─ unshare --kill-child ─ flannelette lab --isolated (PID 1)
 *
 * When any of the three dies, however it dies, the kernel kills PID 1; with PID 1 every process in
 * the PID namespace goes, and with the processes the namespaces, devices, routes and mounts. There
 * is nothing to clean up and no way to leave anything behind.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:fs';
import { access, readFile, stat } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { ExitCode, errnoOf, systemError } from '../errors.js';
import { childrenOf } from './proc.js';

/** Programs by name, with the Debian package each is in. */
export type Programs = Readonly<Record<string, string>>;

/** What every lab needs. */
const PROGRAMS: Programs = {
  unshare: 'util-linux',
  nsenter: 'util-linux',
  setpriv: 'util-linux',
  mount: 'mount',
  ip: 'iproute2',
  bridge: 'iproute2',
  sysctl: 'procps',
  ping: 'iputils-ping',
  iperf3: 'iperf3',
  tcpdump: 'tcpdump',
  ethtool: 'ethtool',
};

const SBIN = ['/usr/sbin', '/sbin'];

/**
 * The command line that runs `argv` isolated.
 *
 * Without root there are two user namespaces, because one user can be mapped to one other only:
 * mount(8) insists on user 0, and tcpdump as user 0 insists on changing to another. The first
 * namespace has user 0 and mounts; the second has user 1000 with every capability over what is in
 * it, and everything else happens there.
 */
export function isolationCommand(argv: readonly string[]): string[] {
  const enter = ['unshare', '--kill-child=KILL', '--fork'];
  const fresh = ['--pid', '--mount-proc', '--net', '--mount'];
  // -n: mount(8) would else make /run/mount for its notes, in the machine's /run.
  const mountRun = ['sh', '-c', 'mount -n -t tmpfs lab /run && exec "$@"', 'sh'];
  const nested =
    process.getuid?.() === 0
      ? [...enter, ...fresh, '--', ...mountRun]
      : [
          ...[...enter, '--user', '--map-root-user', '--mount', '--', ...mountRun],
          ...[...enter, '--user', '--map-user=1000', '--map-group=1000', '--keep-caps'],
          ...[...fresh, '--'],
        ];
  return ['setpriv', '--pdeathsig', 'KILL', '--', ...nested, ...argv];
}

/** The environment for isolated programs: Debian keeps some in sbin, which users lack. */
export function isolationEnvironment(): NodeJS.ProcessEnv {
  const path = (process.env['PATH'] ?? '').split(delimiter);
  return { ...process.env, PATH: [...new Set([...path, ...SBIN])].join(delimiter) };
}

/**
 * Throws a system error that says why the lab cannot run on this machine, if it cannot. `more` are
 * programs that this run needs besides those every lab needs.
 */
export async function checkIsolation(more: Programs = {}): Promise<void> {
  const missing = new Set<string>();
  for (const [program, debianPackage] of Object.entries({ ...PROGRAMS, ...more })) {
    if (!(await onPath(program))) missing.add(`${program} (Debian package ${debianPackage})`);
  }
  if (missing.size > 0) {
    throw systemError(`the lab needs programs that are not installed: ${[...missing].join(', ')}`);
  }
  await checkTun();
  const trial = await finish(spawn(...spawnArguments(isolationCommand(['true']), 'pipe')));
  if (trial.code !== 0) {
    const why = trial.stderr.trim();
    throw systemError(
      process.getuid?.() === 0
        ? `the lab cannot make its namespaces: ${why}`
        : `the lab cannot make its namespaces without root: ${why}; allow unprivileged user namespaces (user.max_user_namespaces, kernel.unprivileged_userns_clone) or run as root`,
    );
  }
}

async function checkTun(): Promise<void> {
  try {
    await access('/dev/net/tun', constants.R_OK | constants.W_OK);
  } catch (error) {
    const code = errnoOf(error) ?? 'unknown';
    if (code === 'ENOENT') {
      throw systemError(
        'the lab needs /dev/net/tun, which does not exist: load the tun module, or create the device node (mknod /dev/net/tun c 10 200)',
        { code },
      );
    }
    const { mode, uid } = await stat('/dev/net/tun');
    throw systemError(
      `the lab needs to read and write /dev/net/tun: ${code}; its mode is ${(mode & 0o777).toString(8)}, owner ${uid}, and this is user ${process.getuid?.() ?? '?'}: run as root, or make it accessible (chmod 0666)`,
      { code },
    );
  }
}

async function onPath(program: string): Promise<boolean> {
  for (const directory of (isolationEnvironment()['PATH'] ?? '').split(delimiter)) {
    try {
      await access(join(directory, program), constants.X_OK);
      return true;
    } catch {
      continue;
    }
  }
  return false;
}

/** What the isolated process tells the one outside. */
export type IsolatedMessage =
  /** The lab stands and stays. */
  | { readonly type: 'kept' }
  /** A file for the outside to write: paths in /run mean another place in here. */
  | { readonly type: 'file'; readonly base64: string };

/** A conversation with the isolated process, by its IPC channel. */
export interface Conversation<Message> {
  /** Gets what it tells, and a way to find its PID as seen here. */
  readonly hear?: (message: Message, findPid: () => Promise<number>) => void;
  /** Called once it runs, with what sends it a message; false when it is gone. */
  readonly begin?: (send: (message: object) => boolean) => void;
}

/**
 * Runs `argv` isolated with this process's standard streams and returns its exit code. SIGINT and
 * SIGTERM ask it to stop (its IPC channel is disconnected).
 */
export async function runIsolated<Message>(
  argv: readonly string[],
  { hear, begin }: Conversation<Message> = {},
): Promise<ExitCode> {
  const [file, args, options] = spawnArguments(isolationCommand(argv), 'inherit');
  const child = spawn(file, args, { ...options, stdio: ['inherit', 'inherit', 'inherit', 'ipc'] });
  const stop = (): void => {
    if (child.connected) child.disconnect();
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  child.on('message', (message) => {
    hear?.(message as Message, () => insideOf(child.pid ?? 0));
  });
  // A channel that closes while a message is under way is no error: the exit tells the rest.
  begin?.((message) => child.connected && (child.send(message, () => undefined), true));
  try {
    // Not `close`, which never comes once the channel was disconnected from this side.
    const code = await new Promise<number>((resolve, reject) => {
      child.on('error', reject);
      child.on('exit', (exitCode) => {
        resolve(exitCode ?? 1);
      });
    });
    // What it told last may not be read yet.
    if (child.connected) await once(child, 'disconnect');
    return code === 0 ? ExitCode.ok : code === 2 ? ExitCode.usage : ExitCode.failure;
  } finally {
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
  }
}

/** A signal that aborts when the process is asked to stop, or its outside is gone. */
export function stopSignal(): AbortSignal {
  const controller = new AbortController();
  const stop = (): void => {
    controller.abort(systemError('stopped before the end'));
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  process.on('disconnect', stop);
  // Disconnected while the program still loaded: that event is over.
  if (process.connected === false) stop();
  return controller.signal;
}

function spawnArguments(
  argv: readonly string[],
  stdio: 'inherit' | 'pipe',
): [string, string[], { stdio: 'inherit' | 'pipe'; env: NodeJS.ProcessEnv }] {
  const [file = '', ...args] = argv;
  return [file, args, { stdio, env: isolationEnvironment() }];
}

function finish(child: ReturnType<typeof spawn>): Promise<{ code: number; stderr: string }> {
  let stderr = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
      resolve({ code: code ?? 1, stderr });
    });
  });
}

/** The process isolated below `pid`: each unshare has exactly one child. */
async function insideOf(pid: number): Promise<number> {
  const name = await readFile(`/proc/${pid}/comm`, 'utf8');
  if (name.trim() !== 'unshare') return pid;
  const [child = pid] = await childrenOf(pid);
  return child === pid ? pid : insideOf(child);
}
