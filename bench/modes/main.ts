/**
 * `flannelette bench modes`: what each mode of the tunnel and the kernel's overlays cost a packet, from
 * JavaScript that carries every packet itself to plain routes, in interleaved rounds in the lab.
 *
 *   node dist/bench/modes/main.js OPTIONS     a ModesOptions as JSON; src/cli/bench.ts
 */
import { stopSignal } from '../../src/testbed/isolate.js';
import { buildSwitch, UNDERLAY_MTU } from '../../src/testbed/topology.js';
import { describeMachine, listOf } from '../frame/command.js';
import { busyNow, perfMissing } from '../overlays/observe.js';
import { measureRounds } from '../overlays/rounds.js';
import { STEPS } from '../overlays/steps.js';
import { runProgram, type ProgramOptions, type ProgramResult } from '../frame/program.js';
import { renderReport } from '../report/draw.js';
import { renderModesCsv, renderModesMarkdown, renderModesText } from './modes-text.js';
import { MODE_NAMES, type ModeName } from './result.js';
import { KERNEL_MODES, subjectsOf } from './subjects.js';
import { summariseModes } from './summary.js';

/** What a mode takes besides its loads: ends, containers, pings; and a load besides its length. */
const RAISE_SECONDS = 5;
const LOAD_SECONDS = 0.7;

interface ModesOptions extends ProgramOptions {
  readonly quick: boolean;
  readonly rounds: number;
  readonly seconds: number;
  /** Comma-separated; all when left out. */
  readonly modes?: string;
}

process.exitCode = await runProgram<ModesOptions>({
  name: 'flannelette bench modes',
  check: ({ modes }) => {
    modesOf(modes);
  },
  measure,
});

async function measure(
  options: ModesOptions,
  print: (text: string) => void,
): Promise<ProgramResult> {
  const { rounds, seconds, quick, command } = options;
  const signal = stopSignal();
  const modes = modesOf(options.modes);
  const missing = await perfMissing();
  const busyBefore = await busyNow();
  const minutes = Math.ceil(secondsOf(modes, options, missing === undefined) / 60);
  print(`${modes.length} modes, ${rounds} rounds of ${seconds} s: about ${minutes} min\n`);
  if (missing !== undefined) print(`${missing}: the ends count their own system calls\n`);
  await buildSwitch();
  const { subjects, repeated, congestion } = await measureRounds({
    underlay: 'offload',
    mtu: UNDERLAY_MTU,
    rounds,
    seconds,
    print,
    signal,
    subjects: subjectsOf(modes),
    steps: STEPS.filter(({ name }) => ['ping', 'tcp', 'udp64'].includes(name)),
    perf: missing === undefined ? 'all' : 'none',
  });
  print('\n');
  const environment = {
    ...describeMachine(command),
    node: process.version,
    rounds,
    seconds,
    underlayMtu: UNDERLAY_MTU,
    congestion,
    busyBefore,
    quick,
    repeated,
  };
  const data = summariseModes(environment, subjects, missing);
  return {
    text: renderModesText(data),
    markdown: renderModesMarkdown(data),
    csv: renderModesCsv(data),
    page: () => renderReport({ modes: data }),
    data,
  };
}

function modesOf(text: string | undefined): readonly ModeName[] {
  return text === undefined ? MODE_NAMES : [...new Set(listOf('--modes', MODE_NAMES)(text))];
}

/** Each load is sent once more where perf counts. */
function secondsOf(
  modes: readonly ModeName[],
  { rounds, seconds }: ModesOptions,
  perf: boolean,
): number {
  const round = modes.reduce((sum, mode) => {
    const loads = perf && !KERNEL_MODES.includes(mode) ? 4 : 2;
    return sum + RAISE_SECONDS + loads * (seconds + LOAD_SECONDS);
  }, 0);
  return rounds * round;
}
