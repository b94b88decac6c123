/**
 * The program around the commands: help, dispatch, and the one place where errors become a line on
 * standard error and an exit code.
 */
import { packageVersion } from '../daemon/version.js';
import { ExitCode, FlannelletteError, messageOf } from '../errors.js';
import { benchGroup } from './bench-command.js';
import type { Command, CommandGroup, Program } from './command.js';
import { dockerOptsCommand } from './docker-opts-command.js';
import { extensionGroup } from './extension-command.js';
import { readArguments, usageError } from './flags.js';
import { commandHelp, groupHelp, programHelp } from './help.js';
import { installCniCommand } from './install-cni-command.js';
import type { CliIo } from './io.js';
import { labCommand } from './lab-command.js';
import { nearest } from '../nearest.js';
import { modeGroup } from './mode-command.js';
import { probeCommand } from './probe-command.js';
import { runCommand } from './run-command.js';
import { statusCommand } from './status-command.js';
import { stepAsideCommand } from './step-aside-command.js';
import { traceCommand } from './trace-command.js';

const COMMANDS: readonly Command[] = [
  runCommand,
  labCommand,
  traceCommand,
  probeCommand,
  statusCommand,
  stepAsideCommand,
  dockerOptsCommand,
  installCniCommand,
];
const GROUPS: readonly CommandGroup[] = [modeGroup, extensionGroup, benchGroup];

/** Runs a command line (without node and script) and returns how the process is to end. */
export async function main(argv: readonly string[], io: CliIo): Promise<ExitCode> {
  try {
    return await dispatch(argv, io);
  } catch (error) {
    if (error instanceof FlannelletteError) {
      io.err(`${messageOf(error)}\n`);
      return error.exitCode;
    }
    io.err(`unexpected error, please report it: ${messageOf(error)}\n`);
    return ExitCode.failure;
  }
}

async function dispatch(argv: readonly string[], io: CliIo): Promise<ExitCode> {
  const [name, ...rest] = argv;
  if (name === 'help' && rest[0] !== undefined && rest[0] !== 'help') {
    // `help run` is `run --help`, and `help rum` the same mistake as `rum`.
    return dispatch([...rest, '--help'], io);
  }
  const group = GROUPS.find((candidate) => candidate.name === name);
  if (group !== undefined) return dispatchGroup(group, rest, io);
  const command = COMMANDS.find((candidate) => candidate.name === name);
  if (command !== undefined) return runOrHelp(command, rest, io);
  checkFirst(name);
  return showProgram(name, io);
}

async function dispatchGroup(
  group: CommandGroup,
  argv: readonly string[],
  io: CliIo,
): Promise<ExitCode> {
  const [name, ...rest] = argv;
  if (isHelp(name)) {
    io.out(groupHelp(group));
    return ExitCode.ok;
  }
  const command = group.commands.find((candidate) => candidate.name === `${group.name} ${name}`);
  if (command !== undefined) return runOrHelp(command, rest, io);
  const expected = group.commands.map((candidate) => candidate.name).join(', ');
  const { noun } = group;
  const wrong = name === undefined ? `no ${noun}` : `unknown ${noun} ${JSON.stringify(name)}`;
  throw usageError(
    `${wrong}: expected one of ${expected}; see flannelette ${group.name} --help`,
    name,
  );
}

async function runOrHelp(command: Command, argv: readonly string[], io: CliIo): Promise<ExitCode> {
  if (argv.some(isHelp)) {
    // With --help in a command's line, nothing else in it matters.
    io.out(commandHelp(command));
    return ExitCode.ok;
  }
  try {
    return await command.run(readArguments(argv, command), io, argv);
  } catch (error) {
    if (command.fail === undefined) throw error;
    return command.fail(error, argv, io);
  }
}

/** `-h`, and `help` with one dash or two, as Go's flags take it. */
function isHelp(argument: string | undefined): boolean {
  return argument === '-h' || argument === '--h' || argument === '-help' || argument === '--help';
}

/** Lets help and --version through; anything else before a command is a mistake with a name. */
function checkFirst(name: string | undefined): void {
  if (name === undefined) {
    throw usageError(`no command: expected one of ${names()}; see flannelette --help`, name);
  }
  if (isHelp(name) || ['help', '--version', '-version'].includes(name)) return;
  const flag = /^--?([^-=][^=]*)/.exec(name)?.[1];
  if (flag !== undefined) {
    const known = Object.values(runCommand.flags).some((candidate) => candidate.name === flag);
    throw usageError(
      known
        ? `--${flag} is a flag of a command: flannelette run ${name} ...; see flannelette --help`
        : `unknown flag --${flag}: expected a command first, one of ${names()}; see flannelette --help`,
      name,
    );
  }
  const near = nearest(name, topNames());
  const hint = near === undefined ? '' : ` (did you mean ${near}?)`;
  throw usageError(
    `unknown command ${JSON.stringify(name)}${hint}: expected one of ${names()}; see flannelette --help`,
    name,
  );
}

function topNames(): string[] {
  return [...COMMANDS, ...GROUPS].map(({ name }) => name);
}

function names(): string {
  return topNames().join(', ');
}

/** What `--help`, `help` and `--version` print, before any command. */
function showProgram(name: string | undefined, io: CliIo): ExitCode {
  const isVersion = name === '--version' || name === '-version';
  io.out(isVersion ? `${packageVersion()}\n` : programHelp(PROGRAM));
  return ExitCode.ok;
}

const PROGRAM_DESCRIPTION =
  "A user-space layer-3 tunnel for containers: a drop-in for flannel's udp backend.\nEach host runs one daemon; packets of the overlay travel in UDP datagrams between them.";

const PROGRAM_FOOTER = `
The example network of the documentation:
  node 1  10.168.0.2  holds 100.96.1.0/24  container-1 100.96.1.2
  node 2  10.168.0.3  holds 100.96.2.0/24  container-2 100.96.2.3

Start here:
  flannelette lab                   both nodes on this machine, with real traffic, in 20 s
  flannelette trace                 one packet, hop by hop
  flannelette probe                 what this kernel can do
  flannelette run --help            one node's daemon

Exit codes:
  0  done, or stopped by a signal
  1  the machine refused, or a check failed
  2  the input is wrong`;

/** For the help, and for what else is made of the same records: man page, completion. */
export const PROGRAM: Program = {
  description: PROGRAM_DESCRIPTION,
  commands: COMMANDS,
  groups: GROUPS,
  footer: PROGRAM_FOOTER,
};
