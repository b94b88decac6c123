/**
 * `npm run bench:lease`: daemons that follow 65,536 leases, in etcd and in the lease file. Isolates
 * itself like the lab; touches nothing of the machine.
 */
import { writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { join, resolve } from 'node:path';
import { Command, CommanderError } from 'commander';
import { ExitCode, FlannelletteError, inputError, messageOf } from '../../src/errors.js';
import { checkIsolation, runIsolated, stopSignal } from '../../src/lab/isolate.js';
import { addHost, buildSwitch } from '../../src/lab/topology.js';
import { integer } from '../integer.js';
import { xorshift32 } from '../lab/stats.js';
import { describeCommit } from '../report/commit.js';
import { judgeLeases, summariseStore, type LeaseEnvironment } from '../report/lease-summary.js';
import { renderLeaseMarkdown, renderLeaseText } from '../report/lease-text.js';
import { measureStore, type StoreResult } from './measure.js';
import { FAR, GATEWAY, NEAR } from './network.js';
import { openEtcd, openFile, type BenchStore } from './stores.js';

/** The project's directory: this file is dist/bench/lease/main.js. */
const ROOT = resolve(import.meta.dirname, '..', '..', '..');
const COMMAND = [process.execPath, join(ROOT, 'dist', 'src', 'cli', 'main.js')];
const WRITER = [process.execPath, join(import.meta.dirname, 'writer.js')];

const STORES: Readonly<Record<BenchStore['name'], () => Promise<BenchStore>>> = {
  etcd: openEtcd,
  file: openFile,
};
const STORE_NAMES = Object.keys(STORES) as BenchStore['name'][];

interface Options {
  readonly stores: readonly BenchStore['name'][];
  readonly starts: number;
  readonly rounds: number;
  readonly seconds: number;
  readonly changes: number;
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
    await checkIsolation(options.stores.includes('etcd') ? { etcd: 'etcd-server' } : {});
    const self = [process.execPath, process.argv[1] ?? ''];
    return await runIsolated([...self, ...argv, '--inside'], () => undefined);
  } catch (error) {
    if (error instanceof CommanderError) return ExitCode.usage;
    process.stderr.write(`bench:lease: ${messageOf(error)}\n`);
    return error instanceof FlannelletteError ? error.exitCode : ExitCode.failure;
  } finally {
    // The channel to the outside would keep this process alive.
    if (process.connected) process.disconnect();
  }
}

function parse(argv: readonly string[]): Options | undefined {
  const stores = (text: string): BenchStore['name'][] =>
    text.split(',').map((name) => {
      const store = STORE_NAMES.find((candidate) => candidate === name);
      if (store !== undefined) return store;
      throw inputError('--stores', name, STORE_NAMES.join(', '));
    });
  const program = new Command('npm run bench:lease --')
    .description(
      'Measures daemons that follow 65,536 leases: start, memory, 1,000 changes a second.',
    )
    .option(
      '--stores <names>',
      `comma-separated, of: ${STORE_NAMES.join(', ')}`,
      stores,
      STORE_NAMES,
    )
    .option('--starts <n>', 'starts of each kind, 1 to 100', integer(1, 100), 5)
    .option('--rounds <n>', 'rounds, 1 to 1000', integer(1, 1_000), 8)
    .option('--seconds <n>', 'length of a phase, 1 to 60', integer(1, 60), 10)
    .option('--changes <n>', 'lease changes a second, 10 to 100000', integer(10, 100_000), 1_000)
    .option('--write <file>', 'write the result as Markdown')
    .option('--json', 'print one JSON object with all rounds as the last line', false)
    .addHelpText('after', '\nA round is four phases: about 45 s a round and store.')
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
  const progress = (text: string): void => {
    (options.json ? process.stderr : process.stdout).write(text);
  };
  const signal = stopSignal();
  await buildSwitch(GATEWAY);
  for (const plan of [NEAR, FAR]) await addHost(plan, { gateway: GATEWAY });

  const results: StoreResult[] = [];
  for (const name of options.stores) {
    const store = await STORES[name]();
    try {
      const random = xorshift32(Date.now());
      results.push(
        await measureStore(store, {
          ...{ starts: options.starts, rounds: options.rounds, seconds: options.seconds },
          changesPerSecond: options.changes,
          ...{ command: COMMAND, writer: WRITER, random, progress, signal },
        }),
      );
    } finally {
      await store.close();
    }
  }

  const environment = describeEnvironment(options, argv);
  const summaries = results.map((result) => summariseStore(result));
  const targets = summaries.flatMap((summary) => judgeLeases(summary));
  progress(`\n${renderLeaseText(environment, summaries, targets)}`);
  if (options.write !== undefined) {
    writeFileSync(options.write, renderLeaseMarkdown(environment, summaries, targets));
  }
  if (options.json) {
    process.stdout.write(`${JSON.stringify({ environment, targets, summaries, results })}\n`);
  }
  return ExitCode.ok;
}

function describeEnvironment(options: Options, argv: readonly string[]): LeaseEnvironment {
  const said = argv.filter((argument) => argument !== '--inside');
  return {
    date: new Date().toISOString().slice(0, 10),
    commit: describeCommit(ROOT),
    command: ['npm run bench:lease', ...(said.length === 0 ? [] : ['--', ...said])].join(' '),
    kernel: release(),
    node: process.version,
    cpu: cpus()[0]?.model ?? 'unknown CPU',
    cpus: cpus().length,
    starts: options.starts,
    rounds: options.rounds,
    seconds: options.seconds,
    changesPerSecond: options.changes,
  };
}
