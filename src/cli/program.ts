/**
 * The program around the commands: help, dispatch, and the one place where errors become a line on
 * standard error and an exit code.
 */
import { Command as Program, CommanderError, Option } from 'commander';
import { packageVersion } from '../daemon/version.js';
import { ExitCode, FlannelletteError, messageOf } from '../errors.js';
import type { Command } from './command.js';
import { dockerOptsCommand } from './docker-opts.js';
import { flagText, readArguments, usageError, type Flag } from './flags.js';
import type { CliIo } from './io.js';
import { labCommand } from './lab.js';
import { nearest } from './nearest.js';
import { probeCommand } from './probe.js';
import { runCommand } from './run.js';
import { statusCommand } from './status.js';

const COMMANDS: readonly Command[] = [
  runCommand,
  labCommand,
  probeCommand,
  statusCommand,
  dockerOptsCommand,
];

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
    return dispatch([rest[0], '--help'], io);
  }
  const command = COMMANDS.find((candidate) => candidate.name === name);
  if (command === undefined) {
    checkFirst(name);
  } else if (!rest.some((argument) => argument === '-h' || argument === '--help')) {
    // commander only sees a command line that is known to be good.
    return command.run(readArguments(rest, command), io, rest);
  }
  return showHelp(argv, io);
}

/** Lets help and --version through; anything else before a command is a mistake with a name. */
function checkFirst(name: string | undefined): void {
  if (name === undefined) {
    throw usageError(`no command: expected one of ${names()}; see flannelette --help`, name);
  }
  if (['help', '-h', '--help', '--version', '-version'].includes(name)) return;
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
  const near = nearest(
    name,
    COMMANDS.map((command) => command.name),
  );
  const hint = near === undefined ? '' : ` (did you mean ${near}?)`;
  throw usageError(
    `unknown command ${JSON.stringify(name)}${hint}: expected one of ${names()}; see flannelette --help`,
    name,
  );
}

function names(): string {
  return COMMANDS.map((command) => command.name).join(', ');
}

async function showHelp(argv: readonly string[], io: CliIo): Promise<ExitCode> {
  const program = createProgram(io);
  try {
    const args = argv.map((argument) => (argument === '-version' ? '--version' : argument));
    // Of a command's line with --help in it, only the command matters.
    const [name = ''] = args;
    const isCommand = COMMANDS.some((command) => command.name === name);
    await program.parseAsync(isCommand ? [name, '--help'] : args, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode !== 0) throw usageError(messageOf(error), argv.join(' '));
  }
  return ExitCode.ok;
}

function createProgram(io: CliIo): Program {
  const program = new Program('flannelette')
    .description(
      "A user-space layer-3 tunnel for containers: a drop-in for flannel's udp backend.\nEach host runs one daemon; packets of the overlay travel in UDP datagrams between them.",
    )
    .version(packageVersion(), '--version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand('help [command]', 'print the help of a command')
    .addHelpText('after', PROGRAM_FOOTER);
  configure(program, io);
  for (const command of COMMANDS) {
    const sub = program
      .command(command.name)
      .summary(command.summary)
      .description(command.description)
      .usage('[flags]')
      .helpOption('-h, --help', 'print this help')
      .addHelpText('after', command.footer.trimEnd());
    configure(sub, io);
    for (const flag of Object.values(command.flags)) sub.addOption(helpOption(flag));
  }
  return program;
}

function configure(program: Program, io: CliIo): void {
  program.exitOverride().configureOutput({
    writeOut: io.out,
    writeErr: io.out,
    outputError: () => undefined,
    getOutHelpWidth: () => 100,
    getErrHelpWidth: () => 100,
  });
}

function helpOption(flag: Flag<unknown>): Option {
  const value = flag.placeholder === undefined ? '' : ` <${flag.placeholder}>`;
  const short = flag.short === undefined ? '' : `-${flag.short}, `;
  const option = new Option(`${short}${flagText(flag.name)}${value}`, flag.help);
  if (flag.shownDefault !== undefined && flag.shownDefault !== 'false') {
    option.default(flag.fallback, flag.shownDefault);
  }
  return flag.hidden === true ? option.hideHelp() : option;
}

const PROGRAM_FOOTER = `
The example network of the documentation:
  node 1  10.168.0.2  holds 100.96.1.0/24  container-1 100.96.1.2
  node 2  10.168.0.3  holds 100.96.2.0/24  container-2 100.96.2.3

Start here:
  flannelette lab                   both nodes on this machine, with real traffic, in 20 s
  flannelette probe                 what this kernel can do
  flannelette run --help            one node's daemon

Exit codes:
  0  done, or stopped by a signal
  1  the machine refused, or a check failed
  2  the input is wrong`;
