/**
 * What every benchmark's command has in common: options, isolation, signals, exit codes, the files it
 * writes. There are two ways in, and both end in the same isolated process, which measures:
 *
 *   npm run bench -- FLAGS         bench/main.ts: flags by commander ──┐
 *   flannelette bench NAME FLAGS   bench/door.ts: flags by src/cli ────┴── run: checks, isolates
 *                                            node dist/bench/main.js NAME --isolated OPTIONS
 *
 * Ctrl-C ends the isolated process, and with it all that it set up (src/testbed/isolate.ts).
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CommanderError, InvalidArgumentError, type Command } from 'commander';
import { ExitCode, FlannelletteError, inputError, messageOf } from '../../src/errors.js';
import { writeOutput } from '../../src/host/atomic-file.js';
import {
  checkIsolation,
  runIsolated,
  stopSignal,
  type Programs,
} from '../../src/testbed/isolate.js';
import { replaceBlock } from './block.js';
import { describeMachine, PROJECT, type Machine } from './machine.js';

/** Files that a run writes; `-` is standard output, and all else then goes to standard error. */
export interface Outputs {
  readonly json?: string | undefined;
  readonly csv?: string | undefined;
  readonly write?: string | undefined;
  /** An HTML page with figures. */
  readonly report?: string | undefined;
  /** A document with the markers of `block.ts`, between which the short result goes. */
  readonly readme?: string | undefined;
}

/** The command as it was typed: for messages, and for the report. */
export interface Typed {
  /** In front of a message: `flannelette bench copies`. */
  readonly name: string;
  /** The whole line, which gives the result again. */
  readonly command: string;
}

export interface Result {
  readonly text: string;
  readonly markdown: string;
  /** For `json`. */
  readonly data: object;
  readonly csv?: string;
  /** For `report`. */
  readonly page?: () => Promise<string>;
  /** For `readme`; undefined when the subjects it needs did not run. */
  readonly block?: string | undefined;
  /** The run ends with an error although everything was measured and written. */
  readonly failed?: boolean;
}

export interface Context {
  readonly machine: Machine;
  /** Prints the progress. */
  readonly print: (text: string) => void;
  /** Aborts when the process is asked to stop. */
  readonly signal: AbortSignal;
}

export interface Benchmark<Options extends object> {
  /** By this bench/main.ts knows it. */
  readonly id: string;
  /** Its npm script and flags, where it has one. */
  readonly script?: { readonly name: string; readonly program: () => Command };
  /** Programs that these options need besides those every lab needs. */
  readonly needs?: (options: Options) => Programs;
  /** Throws when the options are wrong or something is missing, before anything is done. */
  readonly check?: (options: Options & Outputs) => void | Promise<void>;
  /** Measures, isolated. */
  readonly measure: (options: Options, context: Context) => Promise<Result>;
}

/** A benchmark with its ways in. */
export interface Runnable<Options extends object> {
  /** Checks, and measures in an isolated process. Throws what is wrong before that process begins. */
  readonly run: (options: Options & Outputs, typed: Typed) => Promise<ExitCode>;
  /** What bench/main.ts does with its arguments. */
  readonly main: (argv: readonly string[]) => Promise<ExitCode>;
}

const ISOLATED = '--isolated';

export function runnable<Options extends object>(benchmark: Benchmark<Options>): Runnable<Options> {
  const { id, script } = benchmark;

  const run = async (options: Options & Outputs, typed: Typed): Promise<ExitCode> => {
    await benchmark.check?.(options);
    if (options.readme !== undefined) await withBlock(options.readme, '');
    await checkIsolation(benchmark.needs?.(options));
    const program = [process.execPath, join(PROJECT, 'dist', 'bench', 'main.js'), id];
    return runIsolated([...program, ISOLATED, JSON.stringify({ options, typed })]);
  };

  const isolated = async (options: Options & Outputs, { command }: Typed): Promise<ExitCode> => {
    const print = (text: string): void => {
      (options.json === '-' ? process.stderr : process.stdout).write(text);
    };
    const signal = stopSignal();
    const machine = await describeMachine(command);
    const result = await benchmark.measure(options, { machine, print, signal });
    await write(result, options, print);
    return result.failed === true ? ExitCode.failure : ExitCode.ok;
  };

  const main = async (argv: readonly string[]): Promise<ExitCode> => {
    const [first, order = ''] = argv;
    if (first === ISOLATED) {
      const { options, typed } = JSON.parse(order) as { options: Options & Outputs; typed: Typed };
      return failing(typed.name, () => isolated(options, typed));
    }
    if (script === undefined) throw new RangeError(`${id} has no script`);
    const name = `npm run ${script.name}`;
    return failing(name, async () => {
      const options = parse<Options>(script.program(), argv);
      if (options === undefined) return ExitCode.ok;
      const command = [name, ...(argv.length === 0 ? [] : ['--', ...argv])].join(' ');
      return run(options, { name, command });
    });
  };

  return { run, main };
}

/** Writes what was asked for. */
async function write(
  result: Result,
  { json, csv, write: markdown, report, readme }: Outputs,
  print: (text: string) => void,
): Promise<void> {
  print(`\n${result.text}`);
  if (csv !== undefined && result.csv !== undefined) await writeOutput(csv, result.csv);
  if (markdown !== undefined) await writeOutput(markdown, result.markdown);
  if (report !== undefined && result.page !== undefined) {
    await writeOutput(report, await result.page());
  }
  if (readme !== undefined && result.block !== undefined) {
    await writeOutput(readme, await withBlock(readme, result.block));
  }
  const data = `${JSON.stringify(result.data)}\n`;
  if (json === '-') process.stdout.write(data);
  else if (json !== undefined) await writeOutput(json, data);
}

/** The document as it is with this block; an input error when it cannot be read or has no marks. */
async function withBlock(path: string, block: string): Promise<string> {
  const document = await readFile(path, 'utf8').catch((error: unknown) => {
    throw inputError('--readme', path, `a file that can be read (${messageOf(error)})`);
  });
  return replaceBlock(document, block);
}

/** Prints what was thrown, with the command's name before it. */
export async function failing(name: string, work: () => Promise<ExitCode>): Promise<ExitCode> {
  try {
    return await work();
  } catch (error) {
    // commander has printed what is wrong.
    if (error instanceof CommanderError) return error.exitCode === 0 ? ExitCode.ok : ExitCode.usage;
    process.stderr.write(`${name}: ${messageOf(error)}\n`);
    return error instanceof FlannelletteError ? error.exitCode : ExitCode.failure;
  } finally {
    // The channel to the outside would keep this process alive.
    if (process.connected) process.disconnect();
  }
}

/** Undefined when help was asked for and given. */
function parse<Options extends object>(
  program: Command,
  argv: readonly string[],
): (Options & Outputs) | undefined {
  program
    .option('--write <file>', 'write the result as Markdown')
    .option(
      '--json [file]',
      'write one JSON object with the values of every round; alone, as the last line of standard output',
    )
    .exitOverride();
  try {
    program.parse([...argv], { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return undefined;
    throw error;
  }
  const options = program.opts<Options & Outputs>();
  // --json without a file.
  return program.getOptionValue('json') === true ? { ...options, json: '-' } : options;
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
