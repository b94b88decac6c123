/** What every benchmark's command has in common: options, isolation, exit codes, what is printed. */
import { cpus, release } from 'node:os';
import { join, resolve } from 'node:path';
import { CommanderError, InvalidArgumentError, type Command } from 'commander';
import { ExitCode, FlannelletteError, inputError, messageOf } from '../../src/errors.js';
import { writeOutput } from '../../src/host/atomic-file.js';
import { checkIsolation, runIsolated, type Programs } from '../../src/testbed/isolate.js';
import { describeCommit } from './versions.js';

/** The project's directory: this file is dist/bench/frame/command.js. */
export const PROJECT = resolve(import.meta.dirname, '..', '..', '..');

/** The command that is flannelette. */
export const FLANNELETTE = [process.execPath, join(PROJECT, 'dist', 'src', 'cli', 'main.js')];

/** Options of every benchmark. */
interface CommonOptions {
  readonly json: boolean;
  readonly write?: string;
  readonly inside: boolean;
}

/** Where and how a result came to be. */
export interface Machine {
  readonly date: string;
  readonly commit: string;
  /** The command line that gives the result again. */
  readonly command: string;
  readonly kernel: string;
  readonly cpu: string;
  readonly cpus: number;
}

export interface Result {
  readonly text: string;
  readonly markdown: string;
  /** For `--json`. */
  readonly data: object;
}

export interface Benchmark<Options> {
  /** npm's script. */
  readonly name: string;
  readonly program: Command;
  /** Programs that these options need besides those every lab needs. */
  needs(options: Options): Programs;
  /** Measures, isolated; `print` says how far it is. */
  measure(options: Options, machine: Machine, print: (text: string) => void): Promise<Result>;
}

/** Runs the command: outside it checks and runs itself again isolated, inside it measures. */
export async function runBenchmark<Options>(benchmark: Benchmark<Options>): Promise<ExitCode> {
  const { name, program } = benchmark;
  const argv = process.argv.slice(2);
  try {
    const options = parse<Options>(program, argv);
    if (options === undefined) return ExitCode.ok;
    if (options.inside) return await inside(benchmark, options, argv);
    await checkIsolation(benchmark.needs(options));
    const self = [process.execPath, process.argv[1] ?? ''];
    return await runIsolated([...self, ...argv, '--inside']);
  } catch (error) {
    if (error instanceof CommanderError) return ExitCode.usage;
    process.stderr.write(`${name}: ${messageOf(error)}\n`);
    return error instanceof FlannelletteError ? error.exitCode : ExitCode.failure;
  } finally {
    // The channel to the outside would keep this process alive.
    if (process.connected) process.disconnect();
  }
}

/** Reads the value of an option that is an integer. */
export function integer(low: number, high: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (Number.isInteger(value) && value >= low && value <= high) return value;
    throw new InvalidArgumentError(`expected an integer from ${low} to ${high}`);
  };
}

/** Reads the value of an option that is a list out of `names`. */
export function listOf<Name extends string>(
  flag: string,
  names: readonly Name[],
): (text: string) => Name[] {
  return (text) =>
    text.split(',').map((word) => {
      const name = names.find((candidate) => candidate === word);
      if (name !== undefined) return name;
      throw inputError(flag, word, `names out of ${names.join(', ')}`);
    });
}

/** Undefined when help was asked for and given. */
function parse<Options>(
  program: Command,
  argv: readonly string[],
): (Options & CommonOptions) | undefined {
  program
    .option('--write <file>', 'write the result as Markdown')
    .option('--json', 'print one JSON object with all rounds as the last line', false)
    .exitOverride();
  program.addOption(program.createOption('--inside').hideHelp().default(false));
  try {
    program.parse([...argv], { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return undefined;
    throw error;
  }
  return program.opts<Record<string, unknown> & Options & CommonOptions>();
}

async function inside<Options>(
  benchmark: Benchmark<Options>,
  options: Options & CommonOptions,
  argv: readonly string[],
): Promise<ExitCode> {
  const print = (text: string): void => {
    (options.json ? process.stderr : process.stdout).write(text);
  };
  const said = argv.filter((argument) => argument !== '--inside');
  const command = [`npm run ${benchmark.name}`, ...(said.length === 0 ? [] : ['--', ...said])];
  const machine = describeMachine(command.join(' '));
  const { text, markdown, data } = await benchmark.measure(options, machine, print);
  print(`\n${text}`);
  if (options.write !== undefined) await writeOutput(options.write, markdown);
  if (options.json) process.stdout.write(`${JSON.stringify(data)}\n`);
  return ExitCode.ok;
}

export function describeMachine(command: string): Machine {
  return {
    date: new Date().toISOString().slice(0, 10),
    commit: describeCommit(PROJECT),
    command,
    kernel: release(),
    cpu: cpus()[0]?.model ?? 'unknown CPU',
    cpus: cpus().length,
  };
}
