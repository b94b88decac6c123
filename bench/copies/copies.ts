/**
 * `flannelette bench copies`: what each crossing of the user/kernel border costs. This program sets up
 * two hosts and a container in namespaces of its own; flannelette-copies (main.cc) measures there,
 * without JavaScript; what it prints is summarised here.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { systemError } from '../../src/errors.js';
import { addContainer, addHost, buildSwitch, hostPlan } from '../../src/testbed/topology.js';
import { runnable, type Context, type Result } from '../frame/frame.js';
import { PROJECT, type Machine } from '../frame/machine.js';
import { runLines } from '../frame/run-lines.js';
import { renderCopiesCsv, renderCopiesMarkdown, renderCopiesText } from './copies-text.js';
import type { CopiesEnvironment } from './copies-result.js';
import { parseLine, type CopiesLine } from './lines.js';
import { summariseCopies } from './copies-summary.js';

const SOURCE = join(PROJECT, 'bench', 'copies', 'native');
const PROGRAM = join(SOURCE, 'build', 'flannelette-copies');
const OVERLAY_MTU = 1_472;

export interface CopiesOptions {
  readonly quick: boolean;
  readonly rounds: number;
  readonly batches: number;
}

/** `flannelette bench copies`. */
export const copies = runnable<CopiesOptions>({
  id: 'copies',
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
  { machine, print, signal }: Context,
): Promise<Result> {
  await setUp();
  if (options.quick) print('quick: few rounds, not to be quoted\n');
  const environment = environmentOf(options, machine);
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
    page: async () => (await import('../report/draw.js')).drawReport({ copies: data }),
    data,
  };
}

/** Two hosts on the switch, a container on the first; the program opens the TUNs. */
async function setUp(): Promise<void> {
  const near = hostPlan(1);
  await buildSwitch();
  await addHost(near);
  await addHost(hostPlan(2));
  await addContainer(near, `${near.bridgeAddress}/24`, OVERLAY_MTU);
}

function environmentOf(
  { rounds, batches, quick }: CopiesOptions,
  machine: Machine,
): CopiesEnvironment {
  return { ...machine, mtu: OVERLAY_MTU, rounds, batches, quick };
}
