/**
 * `flannelette bench copies`: what each crossing of the user/kernel border costs. This program raises
 * two hosts and a container in namespaces of its own; flannelette-copies (main.cc) measures there,
 * without JavaScript; what it prints is summarised here.
 *
 *   node dist/bench/copies/main.js OPTIONS     a CopiesOptions as JSON; src/cli/bench.ts
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { systemError } from '../../src/errors.js';
import { stopSignal } from '../../src/testbed/isolate.js';
import { addContainer, addHost, buildSwitch, hostPlan } from '../../src/testbed/topology.js';
import { describeMachine, PROJECT } from '../frame/command.js';
import { busyNow } from '../overlays/observe.js';
import { runProgram, type ProgramOptions, type ProgramResult } from '../frame/program.js';
import { renderCopiesCsv, renderCopiesMarkdown, renderCopiesText } from './copies-text.js';
import { renderReport } from '../report/draw.js';
import type { CopiesEnvironment } from './copies-result.js';
import { runLines } from '../micro/samples.js';
import { parseLine, type CopiesLine } from './lines.js';
import { summariseCopies } from './copies-summary.js';

const SOURCE = join(PROJECT, 'bench', 'copies', 'native');
const PROGRAM = join(SOURCE, 'build', 'flannelette-copies');
const OVERLAY_MTU = 1_472;

interface CopiesOptions extends ProgramOptions {
  readonly quick: boolean;
  readonly rounds: number;
  readonly batches: number;
}

process.exitCode = await runProgram<CopiesOptions>({
  name: 'flannelette bench copies',
  check: build,
  measure,
});

/** Nothing to do when it is built already, as npm test does. */
function build(): void {
  const { status, error, stderr } = spawnSync('make', ['-C', SOURCE], { encoding: 'utf8' });
  if (status === 0) return;
  throw systemError(`cannot build ${PROGRAM}: ${error?.message ?? stderr.trim()}`);
}

async function measure(
  options: CopiesOptions,
  print: (text: string) => void,
): Promise<ProgramResult> {
  const signal = stopSignal();
  await raise();
  if (options.quick) print('quick: few rounds, not to be quoted\n');
  const environment = await describeEnvironment(options);
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
  print('\n\n');
  const data = summariseCopies(environment, lines);
  return {
    text: renderCopiesText(data),
    markdown: renderCopiesMarkdown(data),
    csv: renderCopiesCsv(data),
    page: () => renderReport({ copies: data }),
    data,
  };
}

/** Two hosts on the switch, a container on the first; the program opens the TUNs. */
async function raise(): Promise<void> {
  const near = hostPlan(1);
  await buildSwitch();
  await addHost(near);
  await addHost(hostPlan(2));
  await addContainer(near, `${near.bridgeAddress}/24`, OVERLAY_MTU);
}

/** Before the measurement, which is a load of its own. */
async function describeEnvironment(options: CopiesOptions): Promise<CopiesEnvironment> {
  const { rounds, batches, quick, command } = options;
  const busyBefore = await busyNow();
  return {
    ...describeMachine(command),
    node: process.version,
    mtu: OVERLAY_MTU,
    busyBefore,
    rounds,
    batches,
    quick,
  };
}
