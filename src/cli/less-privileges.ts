/**
 * `flannelette run` gives up what it does not need before it opens anything: all of its threads, Node's
 * among them, keep few capabilities and get no_new_privs (native/sys/privileges.h). Where a thread cannot
 * be made to, the program runs itself again in the same process, with less; that takes as long as the
 * start of Node. Under a unit that grants no more than is needed nothing is left to do, and nothing is
 * done.
 *
 * Running itself again also takes a password off the command line, which every user of the machine can
 * read: it goes on in the environment, which only this user and root can.
 */
import {
  capabilityNumber,
  neededCapabilities,
  ownPrivileges,
  type Capability,
  type Privileges,
} from '../daemon/privileges.js';
import {
  dropPrivileges,
  restartWithLess,
  type FewerPrivileges,
  type Restart,
} from '../daemon/process.js';
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

/** The two ways to less. */
export interface WaysToLess {
  /** Throws what was refused. */
  readonly drop: (fewer: FewerPrivileges) => void;
  /** Returns only by throwing. */
  readonly restart: (restart: Restart) => void;
}

/** Set to the process's number when it has been here: whatever is left then stays. */
const MARK = 'FLANNELETTE_RESTARTED';
const LISTEN_FDS_START = 3;

/**
 * For a process that is the daemon's alone, before it loads its program. May begin the process anew
 * instead of returning; the message when the kernel refuses to take what is to be given up. A command line that is wrong, or asks
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
 * Returns when there is nothing left to give up; starts the process again where that takes it. Throws what
 * the kernel refused; the process goes on with what it has then.
 */
export function runWithLess(
  options: LessPrivilegesOptions,
  start: StartedProcess = process,
  ways: WaysToLess = { drop: dropPrivileges, restart: restartWithLess },
  own: Privileges | undefined = ownPrivileges(),
): void {
  if (start.env[MARK] === String(start.pid)) {
    delete process.env[MARK];
    return;
  }
  const secrets = options.secrets.filter(({ name }) => options.given.has(name));
  const more = hasMore(own, options.keep);
  if (secrets.length === 0 && (!more || drops(options, ways))) return;
  ways.restart(describeRestart(options, secrets, start));
}

function drops(options: LessPrivilegesOptions, { drop }: WaysToLess): boolean {
  try {
    drop(fewerPrivileges(options));
    return true;
  } catch {
    // The restart may do, and says why if not.
    return false;
  }
}

function fewerPrivileges({ keep, unlimitedLockedMemory }: LessPrivilegesOptions): FewerPrivileges {
  const all = Array.from({ length: 64 }, (_, number) => number);
  return { keep: keep?.map(capabilityNumber) ?? all, unlimitedLockedMemory };
}

function hasMore(own: Privileges | undefined, keep: readonly Capability[] | undefined): boolean {
  if (keep === undefined) return false;
  if (own === undefined || own.noNewPrivileges === false) return true;
  return own.capabilities.some((name) => !(keep as readonly string[]).includes(name));
}

function describeRestart(
  options: LessPrivilegesOptions,
  secrets: readonly Flag<unknown>[],
  { pid, execPath, argv, execArgv, env }: StartedProcess,
): Restart {
  const hidden = secrets.map(({ name }): [string, string] => [
    environmentName(name),
    options.given.get(name)?.at(-1) ?? '',
  ]);
  const environment = { ...env, ...Object.fromEntries(hidden), [MARK]: String(pid) };
  const script = argv.slice(1, 3);
  const words =
    secrets.length === 0
      ? argv.slice(3)
      : withoutFlags(options.given, new Set(secrets.map((s) => s.name)));
  const passed = env['LISTEN_PID'] === String(pid) ? Number(env['LISTEN_FDS'] ?? 0) : 0;
  return {
    path: execPath,
    arguments: [argv[0] ?? execPath, ...execArgv, ...script, ...words],
    environment: Object.entries(environment).flatMap(([name, value]) =>
      value === undefined ? [] : `${name}=${value}`,
    ),
    descriptors: LISTEN_FDS_START + (Number.isInteger(passed) && passed > 0 ? passed : 0),
    ...fewerPrivileges(options),
  };
}

/** The flags given but some, each in its one form. */
function withoutFlags(given: GivenFlags, left: ReadonlySet<string>): string[] {
  return [...given].flatMap(([name, values]) =>
    left.has(name) ? [] : values.map((value) => `${flagText(name)}=${value}`),
  );
}
