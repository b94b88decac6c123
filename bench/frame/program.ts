/**
 * Benchmarks that are commands of flannelette. src/cli/bench.ts starts each as a program with its
 * options as JSON; the program runs itself again isolated, like the lab, and measures there.
 */
import { ExitCode, FlannelletteError, messageOf } from '../../src/errors.js';
import { writeOutput } from '../../src/host/atomic-file.js';
import { checkIsolation, runIsolated } from '../../src/testbed/isolate.js';

export interface ProgramOptions {
  /** Path, or `-` for standard output; all else then goes to standard error. */
  readonly json?: string;
  readonly csv?: string;
  readonly write?: string;
  readonly report?: string;
  /** The command line, for the report. */
  readonly command: string;
  readonly inside?: boolean;
}

export interface ProgramResult {
  readonly text: string;
  readonly markdown: string;
  readonly csv: string;
  /** The HTML report. */
  page(): string;
  /** For `--json`. */
  readonly data: object;
}

export interface BenchmarkProgram<Options> {
  /** As people write it: `flannelette bench copies`. */
  readonly name: string;
  /** Throws an input error when the options are wrong; before anything is done. */
  check?(options: Options): void;
  /** Measures, isolated; `print` says how far it is. */
  measure(options: Options, print: (text: string) => void): Promise<ProgramResult>;
}

/** Runs the program of this process: its options are the first argument. */
export async function runProgram<Options extends ProgramOptions>(
  program: BenchmarkProgram<Options>,
): Promise<ExitCode> {
  try {
    const options = JSON.parse(process.argv[2] ?? '') as Options;
    program.check?.(options);
    if (options.inside === true) return await inside(program, options);
    await checkIsolation();
    const self = [process.execPath, process.argv[1] ?? ''];
    const again = JSON.stringify({ ...options, inside: true });
    return await runIsolated([...self, again]);
  } catch (error) {
    process.stderr.write(`${program.name}: ${messageOf(error)}\n`);
    return error instanceof FlannelletteError ? error.exitCode : ExitCode.failure;
  } finally {
    // The channel to the outside would keep this process alive.
    if (process.connected) process.disconnect();
  }
}

async function inside<Options extends ProgramOptions>(
  program: BenchmarkProgram<Options>,
  options: Options,
): Promise<ExitCode> {
  const print = (text: string): void => {
    (options.json === '-' ? process.stderr : process.stdout).write(text);
  };
  const result = await program.measure(options, print);
  const { text, markdown, csv, data } = result;
  print(text);
  if (options.csv !== undefined) await writeOutput(options.csv, csv);
  if (options.write !== undefined) await writeOutput(options.write, markdown);
  if (options.report !== undefined) await writeOutput(options.report, result.page());
  const json = `${JSON.stringify(data)}\n`;
  if (options.json === '-') process.stdout.write(json);
  else if (options.json !== undefined) await writeOutput(options.json, json);
  return ExitCode.ok;
}
