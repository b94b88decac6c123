/**
 * `flannelette run` gives up what it does not need before it opens anything: it runs itself again, in
 * the same process, with fewer capabilities and no_new_privs. Only so do all of its threads lose them:
 * Node's are there before the first line of a program (native/sys/privileges.h). Under a unit that grants
 * no more than is needed nothing is left to do, and nothing is done.
 *
 * The same way takes a password off the command line, which every user of the machine can read: it goes
 * on in the environment, which only this user and root can.
 */
import {
  capabilityNumber,
  neededCapabilities,
  ownPrivileges,
  type Capability,
  type Privileges,
} from '../daemon/privileges.js';
import { restartWithLess, type Restart } from '../daemon/process.js';
import { messageOf } from '../errors.js';
import {
  environmentName,
  flagText,
  readArguments,
  resolveFlags,
  type Flag,
  type GivenFlags,
} from './flags.js';
import { runFlags } from './run-flags.js';

export interface LessPrivilegesOptions {
  /** Capabilities to keep; undefined keeps all of them. */
  readonly keep: readonly Capability[] | undefined;
  readonly given: GivenFlags;
  /** Flags whose value nobody else is to read. */
  readonly secrets: readonly Flag<unknown>[];
  /** eBPF maps are to come. */
  readonly unlimitedLockedMemory: boolean;
}

/** The process as it was started. */
export interface StartedProcess {
  readonly pid: number;
  readonly execPath: string;
  readonly argv: readonly string[];
  readonly execArgv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** Set to the process's number when it has been here: whatever is left then stays. */
const MARK = 'FLANNELETTE_RESTARTED';
const LISTEN_FDS_START = 3;

/**
 * For a process that is the daemon's alone, before it loads its program. Does not return when there is
 * something to give up; the message when the kernel refuses that. A command line that is wrong, or asks
 * for help, is left to the command.
 */
export async function giveUpPrivileges(words: readonly string[]): Promise<string | undefined> {
  let given, values;
  try {
    given = readArguments(words, { name: 'run', flags: runFlags });
    values = resolveFlags(runFlags, given, process.env);
  } catch {
    return undefined;
  }
  if (values.version) return undefined;
  const { etcdPassword } = runFlags;
  if (given.has(etcdPassword.name)) {
    const { createLogger } = await import('../log.js');
    createLogger({ verbosity: values.verbosity, format: values.logFormat }).warn(
      `--${etcdPassword.name} on a command line can be read by every user until the daemon has hidden it: set ${environmentName(etcdPassword.name)} instead`,
    );
  }
  if (values.mode === 'kernel' && !values.disable.includes('fou')) {
    const { loadModules } = await import('./load-modules.js');
    loadModules(['fou', 'ipip']);
  }
  try {
    runWithLess({
      keep: values.dropPrivileges ? neededCapabilities(values.mode) : undefined,
      given,
      secrets: [etcdPassword],
      unlimitedLockedMemory: values.mode === 'kernel',
    });
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}

/**
 * Starts the process again with less, or returns when there is nothing to give up. Throws what the kernel
 * refused; the process goes on with what it has then.
 */
export function runWithLess(
  options: LessPrivilegesOptions,
  start: StartedProcess = process,
  restart: (restart: Restart) => void = restartWithLess,
  own: Privileges | undefined = ownPrivileges(),
): void {
  if (start.env[MARK] === String(start.pid)) {
    delete process.env[MARK];
    return;
  }
  const secrets = options.secrets.filter(({ name }) => options.given.has(name));
  if (secrets.length === 0 && !hasMore(own, options.keep)) return;
  restart(describeRestart(options, secrets, start));
}

function hasMore(own: Privileges | undefined, keep: readonly Capability[] | undefined): boolean {
  if (keep === undefined) return false;
  if (own === undefined || own.noNewPrivileges === false) return true;
  return own.capabilities.some((name) => !(keep as readonly string[]).includes(name));
}

function describeRestart(
  { keep, given, unlimitedLockedMemory }: LessPrivilegesOptions,
  secrets: readonly Flag<unknown>[],
  { pid, execPath, argv, execArgv, env }: StartedProcess,
): Restart {
  const hidden = secrets.map(({ name }): [string, string] => [
    environmentName(name),
    given.get(name)?.at(-1) ?? '',
  ]);
  const environment = { ...env, ...Object.fromEntries(hidden), [MARK]: String(pid) };
  const script = argv.slice(1, 3);
  const words =
    secrets.length === 0 ? argv.slice(3) : withoutFlags(given, new Set(secrets.map((s) => s.name)));
  const passed = env['LISTEN_PID'] === String(pid) ? Number(env['LISTEN_FDS'] ?? 0) : 0;
  return {
    path: execPath,
    arguments: [argv[0] ?? execPath, ...execArgv, ...script, ...words],
    environment: Object.entries(environment).flatMap(([name, value]) =>
      value === undefined ? [] : `${name}=${value}`,
    ),
    keep: keep?.map(capabilityNumber) ?? Array.from({ length: 64 }, (_, number) => number),
    descriptors: LISTEN_FDS_START + (Number.isInteger(passed) && passed > 0 ? passed : 0),
    unlimitedLockedMemory,
  };
}

/** The flags given but some, each in its one form. */
function withoutFlags(given: GivenFlags, left: ReadonlySet<string>): string[] {
  return [...given].flatMap(([name, values]) =>
    left.has(name) ? [] : values.map((value) => `${flagText(name)}=${value}`),
  );
}
