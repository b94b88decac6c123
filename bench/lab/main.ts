/**
 * `npm run bench`: the modes beside kernel VXLAN and host-gw in the same lab, in interleaved rounds.
 * Isolates itself like the lab; touches nothing of the machine.
 */
import { writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { join, resolve } from 'node:path';
import { Command, CommanderError } from 'commander';
import { ExitCode, FlannelletteError, inputError, messageOf } from '../../src/errors.js';
import { checkIsolation, runIsolated, stopSignal } from '../../src/lab/isolate.js';
import { writeLeaseFile } from '../../src/lab/daemon-process.js';
import { addHost, buildSwitch, hostPlan } from '../../src/lab/topology.js';
import { describeCommit } from '../report/commit.js';
import { judge, summarise, type Environment, type SubjectRounds } from '../report/summary.js';
import { renderMarkdown, renderText } from '../report/text.js';
import { integer } from '../integer.js';
import { measure, type Round } from './measure.js';
import { shuffled, xorshift32 } from './stats.js';
import { BASELINE, SUBJECTS, type Subject } from './subjects.js';

/** The project's directory: this file is dist/bench/lab/main.js. */
const ROOT = resolve(import.meta.dirname, '..', '..', '..');
const COMMAND = [process.execPath, join(ROOT, 'dist', 'src', 'cli', 'main.js')];

interface Options {
  readonly rounds: number;
  readonly seconds: number;
  readonly subjects: readonly Subject[];
  readonly mtu: number;
  readonly offload: boolean;
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
    process.stderr.write(`bench: ${messageOf(error)}\n`);
    return error instanceof FlannelletteError ? error.exitCode : ExitCode.failure;
  }
}

function parse(argv: readonly string[]): Options | undefined {
  const names = SUBJECTS.map(({ name }) => name);
  const subjects = (text: string): Subject[] =>
    text.split(',').map((name) => {
      const subject = SUBJECTS.find((candidate) => candidate.name === name);
      if (subject !== undefined) return subject;
      throw inputError('--subjects', name, names.join(', '));
    });
  const program = new Command('npm run bench --')
    .description(
      'Compares the modes with kernel VXLAN and host-gw in the same lab, in interleaved rounds.',
    )
    .option('--rounds <n>', 'rounds, 1 to 1000', integer(1, 1_000), 10)
    .option('--seconds <n>', 'length of a throughput measurement', integer(1, 600), 2)
    .option('--subjects <names>', `comma-separated, of: ${names.join(', ')}`, subjects, SUBJECTS)
    .option('--mtu <bytes>', "MTU of the hosts' eth0, 576 to 65535", integer(576, 65_535), 1_500)
    .option('--no-offload', "no segmentation and checksum offload on the hosts' eth0")
    .option('--write <file>', 'write the result as Markdown')
    .option('--json', 'print one JSON object with all rounds as the last line', false)
    .addHelpText('after', `\nRatios are to ${BASELINE}. About 7 s per subject and round.`)
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
  const hosts = [hostPlan(1), hostPlan(2)];
  const underlay = { hosts, mtu: options.mtu, command: COMMAND };
  await buildSwitch();
  for (const plan of hosts) await addHost(plan, { mtu: options.mtu, offload: options.offload });
  await writeLeaseFile(hosts);

  const random = xorshift32(Date.now());
  const rounds = new Map<Subject, Round[]>(options.subjects.map((subject) => [subject, []]));
  for (let number = 1; number <= options.rounds; number += 1) {
    print(`round ${number} of ${options.rounds}:`);
    for (const subject of shuffled(options.subjects, random)) {
      signal.throwIfAborted();
      const round = await measure(subject, underlay, options.seconds, signal);
      rounds.get(subject)?.push(round);
      print(` ${subject.name} ${round.tcpGbps.toFixed(2)} Gbit/s;`);
    }
    print('\n');
  }

  const found: SubjectRounds[] = [...rounds].map(([subject, measured]) => ({
    name: subject.name,
    what: subject.what,
    mtu: subject.mtu(underlay),
    rounds: measured,
  }));
  const environment = describeEnvironment(options, argv);
  const tables = summarise(found);
  const targets = judge(tables);
  print(`\n${renderText(environment, found, tables, targets)}`);
  if (options.write !== undefined) {
    writeFileSync(options.write, renderMarkdown(environment, found, tables, targets));
  }
  if (options.json) {
    process.stdout.write(`${JSON.stringify({ environment, targets, tables, rounds: found })}\n`);
  }
  if (process.connected) process.disconnect();
  return ExitCode.ok;
}

function describeEnvironment(options: Options, argv: readonly string[]): Environment {
  const said = argv.filter((argument) => argument !== '--inside');
  return {
    date: new Date().toISOString().slice(0, 10),
    commit: describeCommit(ROOT),
    command: ['npm run bench', ...(said.length === 0 ? [] : ['--', ...said])].join(' '),
    kernel: release(),
    cpu: cpus()[0]?.model ?? 'unknown CPU',
    cpus: cpus().length,
    underlayMtu: options.mtu,
    underlayOffload: options.offload,
    rounds: options.rounds,
    seconds: options.seconds,
  };
}
