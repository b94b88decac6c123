/**
 * `npm run bench:micro`: the native core's loops and the control plane's operations, without a
 * kernel in the timed part. Isolates itself like the lab, because one part opens a data plane.
 */
import { writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { join, resolve } from 'node:path';
import { Command, CommanderError } from 'commander';
import { ExitCode, FlannelletteError, messageOf } from '../../src/errors.js';
import { checkIsolation, runIsolated, stopSignal } from '../../src/lab/isolate.js';
import { integer } from '../integer.js';
import { describeCommit } from '../report/commit.js';
import {
  renderMicroMarkdown,
  renderMicroText,
  type MicroEnvironment,
} from '../report/micro-text.js';
import { measureJavaScript } from './javascript.js';
import { gather, parseSample, runLines, type Sample } from './samples.js';

/** The project's directory: this file is dist/bench/micro/main.js. */
const ROOT = resolve(import.meta.dirname, '..', '..', '..');
/** Built by `make -C bench/micro`. */
const PROGRAMS = ['forwarding_table', 'checksum', 'segment'];
const JAVASCRIPT_SECONDS = 1;

interface Options {
  readonly rounds: number;
  readonly json: boolean;
  readonly write?: string;
  readonly inside: boolean;
}

process.exitCode = await main(process.argv.slice(2));

async function main(argv: readonly string[]): Promise<ExitCode> {
  try {
    const options = parse(argv);
    if (options === undefined) return ExitCode.ok;
    if (options.inside) return await inside(options, argv);
    await checkIsolation();
    const self = [process.execPath, process.argv[1] ?? ''];
    return await runIsolated([...self, ...argv, '--inside'], () => undefined);
  } catch (error) {
    if (error instanceof CommanderError) return ExitCode.usage;
    process.stderr.write(`bench:micro: ${messageOf(error)}\n`);
    return error instanceof FlannelletteError ? error.exitCode : ExitCode.failure;
  }
}

function parse(argv: readonly string[]): Options | undefined {
  const program = new Command('npm run bench:micro --')
    .description("Measures the native core's loops and the control plane's operations.")
    .option('--rounds <n>', 'rounds, 2 to 1000', integer(2, 1_000), 21)
    .option('--write <file>', 'write the result as Markdown')
    .option('--json', 'print one JSON object with all samples as the last line', false)
    .addHelpText('after', '\nAbout 2 s a round.')
    .exitOverride();
  program.addOption(program.createOption('--inside').hideHelp().default(false));
  try {
    program.parse([...argv], { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return undefined;
    throw error;
  }
  return program.opts<Options & Record<string, unknown>>();
}

async function inside(options: Options, argv: readonly string[]): Promise<ExitCode> {
  const print = (text: string): void => {
    (options.json ? process.stderr : process.stdout).write(text);
  };
  const signal = stopSignal();
  const samples: Sample[] = [];
  for (const name of PROGRAMS) {
    print(`${name}:`);
    const before = samples.length;
    let told = performance.now();
    const program = join(ROOT, 'bench', 'micro', 'build', name);
    await runLines(
      [program, String(options.rounds)],
      (line) => {
        samples.push(parseSample(line));
        if (performance.now() - told < 2_000) return;
        told = performance.now();
        print(` ${samples.length - before} samples ...`);
      },
      signal,
    );
    print(` ${samples.length - before} samples\n`);
  }
  print('operations of the control plane ...');
  samples.push(...measureJavaScript(JAVASCRIPT_SECONDS));
  print(' done\n');

  const cells = gather(samples);
  const environment = describeEnvironment(options, argv);
  print(`\n${renderMicroText(environment, cells)}`);
  if (options.write !== undefined) {
    writeFileSync(options.write, renderMicroMarkdown(environment, cells));
  }
  if (options.json) process.stdout.write(`${JSON.stringify({ environment, cells })}\n`);
  if (process.connected) process.disconnect();
  return ExitCode.ok;
}

function describeEnvironment(options: Options, argv: readonly string[]): MicroEnvironment {
  const said = argv.filter((argument) => argument !== '--inside');
  return {
    date: new Date().toISOString().slice(0, 10),
    commit: describeCommit(ROOT),
    command: ['npm run bench:micro', ...(said.length === 0 ? [] : ['--', ...said])].join(' '),
    kernel: release(),
    node: process.version,
    cpu: cpus()[0]?.model ?? 'unknown CPU',
    cpus: cpus().length,
    rounds: options.rounds,
  };
}
