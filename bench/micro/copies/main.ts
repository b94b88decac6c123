/**
 * `flannelette bench copies`: what each crossing of the user/kernel border costs. This program raises
 * two hosts and a container in namespaces of its own; flannelette-copies (main.cc) measures there,
 * without JavaScript; what it prints is summarised here.
 *
 *   node dist/bench/micro/copies/main.js OPTIONS     a CopiesOptions as JSON; src/cli/bench.ts
 */
import { writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { join, resolve } from 'node:path';
import { ExitCode, FlannelletteError, messageOf } from '../../../src/errors.js';
import { checkIsolation, runIsolated, stopSignal } from '../../../src/lab/isolate.js';
import { addContainer, addHost, buildSwitch, hostPlan } from '../../../src/lab/topology.js';
import { describeCommit } from '../../report/versions.js';
import {
  renderCopiesCsv,
  renderCopiesMarkdown,
  renderCopiesText,
} from '../../report/copies-text.js';
import type { CopiesEnvironment } from '../result.js';
import { runLines } from '../samples.js';
import { parseLine, type CopiesLine } from './lines.js';
import { summariseCopies } from './summary.js';

/** The project's directory: this file is dist/bench/micro/copies/main.js. */
const ROOT = resolve(import.meta.dirname, '..', '..', '..', '..');
const PROGRAM = join(ROOT, 'build', 'Release', 'flannelette-copies');
const OVERLAY_MTU = 1_472;

interface CopiesOptions {
  readonly quick: boolean;
  readonly rounds: number;
  readonly batches: number;
  /** Path, or `-` for standard output; all else then goes to standard error. */
  readonly json?: string;
  readonly csv?: string;
  readonly write?: string;
  /** The command line, for the report. */
  readonly command: string;
  readonly inside?: boolean;
}

process.exitCode = await main(JSON.parse(process.argv[2] ?? '') as CopiesOptions);

async function main(options: CopiesOptions): Promise<ExitCode> {
  try {
    if (options.inside === true) return await inside(options);
    await checkIsolation();
    const self = [process.execPath, process.argv[1] ?? ''];
    const again = JSON.stringify({ ...options, inside: true });
    return await runIsolated([...self, again]);
  } catch (error) {
    process.stderr.write(`flannelette bench copies: ${messageOf(error)}\n`);
    return error instanceof FlannelletteError ? error.exitCode : ExitCode.failure;
  } finally {
    if (process.connected) process.disconnect();
  }
}

async function inside(options: CopiesOptions): Promise<ExitCode> {
  const print = (text: string): void => {
    (options.json === '-' ? process.stderr : process.stdout).write(text);
  };
  const signal = stopSignal();
  await raise();
  if (options.quick) print('quick: few rounds, so wide intervals; not to be quoted\n');
  const lines: CopiesLine[] = [];
  let round = 0;
  print(`rounds, of ${options.rounds} after one to warm up:`);
  await runLines(
    [PROGRAM, String(options.rounds), String(options.batches)],
    (text) => {
      const line = parseLine(text);
      lines.push(line);
      if (line.type === 'missing' || line.round === round) return;
      round = line.round;
      print(` ${round}`);
    },
    signal,
  );
  print('\nintervals ...\n\n');
  const result = summariseCopies(describeEnvironment(options), lines);
  print(renderCopiesText(result));
  if (options.csv !== undefined) writeFileSync(options.csv, renderCopiesCsv(result));
  if (options.write !== undefined) writeFileSync(options.write, renderCopiesMarkdown(result));
  const json = `${JSON.stringify(result)}\n`;
  if (options.json === '-') process.stdout.write(json);
  else if (options.json !== undefined) writeFileSync(options.json, json);
  return ExitCode.ok;
}

/** Two hosts on the switch, a container on the first; the program opens the TUNs. */
async function raise(): Promise<void> {
  const near = hostPlan(1);
  await buildSwitch();
  await addHost(near);
  await addHost(hostPlan(2));
  await addContainer(near, `${near.bridgeAddress}/24`, OVERLAY_MTU);
}

function describeEnvironment(options: CopiesOptions): CopiesEnvironment {
  return {
    date: new Date().toISOString().slice(0, 10),
    commit: describeCommit(ROOT),
    command: options.command,
    kernel: release(),
    node: process.version,
    cpu: cpus()[0]?.model ?? 'unknown CPU',
    cpus: cpus().length,
    rounds: options.rounds,
    batches: options.batches,
    quick: options.quick,
  };
}
