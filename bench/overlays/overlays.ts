/**
 * `npm run bench`: the modes beside kernel overlays and other user-space tunnels in the same lab, in
 * interleaved rounds. Isolates itself like the lab; touches nothing of the machine.
 */
import { Command } from 'commander';
import { stopSignal, type Programs } from '../../src/testbed/isolate.js';
import { buildSwitch, UNDERLAY_MTU } from '../../src/testbed/topology.js';
import { integer, listOf, runBenchmark, type Machine, type Result } from '../frame/command.js';
import {
  summarise,
  type Environment,
  type UnderlayName,
  type UnderlayRounds,
} from './overlays-summary.js';
import { describePackages } from '../frame/versions.js';
import { renderMarkdown, renderText, UNDERLAY_TITLES } from './overlays-text.js';
import { busyNow, perfMissing } from './observe.js';
import { measureRounds } from './rounds.js';
import { STEPS, type Step, type StepName } from './steps.js';
import type { Subject } from './subject.js';
import { BASELINE, SUBJECTS } from './subjects.js';

interface Options {
  readonly rounds: number;
  readonly seconds: number;
  readonly subjects: readonly string[];
  readonly metrics: readonly StepName[];
  readonly underlays: readonly UnderlayName[];
  readonly mtu: number;
  readonly quick: boolean;
}

/** Those not said follow from `quick`. */
type SaidOptions = Partial<Options> & { readonly quick: boolean };

const UNDERLAYS: readonly UnderlayName[] = ['offload', 'plain'];
const MAIN_SUBJECTS = SUBJECTS.filter(({ main }) => main).map(({ name }) => name);
const STEP_NAMES = STEPS.map(({ name }) => name);

type Extent = Pick<Options, 'rounds' | 'seconds' | 'metrics' | 'underlays'>;
const WHOLE: Extent = { rounds: 8, seconds: 2, metrics: STEP_NAMES, underlays: UNDERLAYS };
const QUICK: Extent = {
  rounds: 3,
  seconds: 1,
  underlays: ['offload'],
  metrics: ['tcp', 'udp64', 'ping'],
};
const QUICK_TEXT = `quick: ${QUICK.rounds} rounds of ${QUICK.seconds} s, ${QUICK.metrics.join(', ')} alone, one underlay: minimum to maximum instead of intervals, nothing of the rest`;

/** What a subject takes besides measuring: daemons, containers, iperf3's own start. */
const RAISE_SECONDS = 3;
const STEP_SECONDS = 0.7;

process.exitCode = await runBenchmark<SaidOptions>({
  name: 'bench',
  program: describeCommand(),
  needs: (said) => programsOf(subjectsOf(settle(said))),
  measure: (said, machine, print) => compare(settle(said), machine, print),
});

function describeCommand(): Command {
  const names = SUBJECTS.map(({ name }) => name);
  const list = listOf('--subjects', ['all', ...names]);
  const subjects = (text: string): string[] =>
    list(text).flatMap((name) => (name === 'all' ? names : [name]));
  return new Command('npm run bench --')
    .description(
      'Compares the modes with kernel overlays and other user-space tunnels in the same lab, in interleaved rounds.',
    )
    .option('--rounds <n>', `rounds, 1 to 1000 (default: ${WHOLE.rounds})`, integer(1, 1_000))
    .option(
      '--seconds <n>',
      `length of a throughput measurement (default: ${WHOLE.seconds})`,
      integer(1, 600),
    )
    .option(
      '--subjects <names>',
      `comma-separated, or all, of: ${names.join(', ')} (default: ${MAIN_SUBJECTS.join(', ')})`,
      subjects,
    )
    .option(
      '--metrics <names>',
      `comma-separated, of: ${STEP_NAMES.join(', ')} (default: all)`,
      listOf('--metrics', STEP_NAMES),
    )
    .option(
      '--underlays <names>',
      `comma-separated, of: ${UNDERLAYS.join(', ')} (default: both)`,
      listOf('--underlays', UNDERLAYS),
    )
    .option(
      '--mtu <bytes>',
      "MTU of the hosts' eth0, 1500 to 65535",
      integer(1_500, 65_535),
      UNDERLAY_MTU,
    )
    .option('--quick', `${QUICK_TEXT}; other options override it`, false)
    .addHelpText('after', `\nRatios are to ${BASELINE}. ${describeDurations()}`);
}

/** What was said, completed with what a whole run or a quick one has. */
function settle(said: SaidOptions): Options {
  return { subjects: MAIN_SUBJECTS, mtu: UNDERLAY_MTU, ...(said.quick ? QUICK : WHOLE), ...said };
}

function subjectsOf({ subjects }: Options): Subject[] {
  return SUBJECTS.filter(({ name }) => subjects.includes(name));
}

function stepsOf({ metrics }: Options): Step[] {
  return STEPS.filter(({ name }) => metrics.includes(name));
}

function programsOf(subjects: readonly Subject[]): Programs {
  return Object.assign({}, ...subjects.map(({ needs }) => needs ?? {})) as Programs;
}

function minutesOf(options: Options): number {
  const { underlays, rounds, seconds } = options;
  const subjectSeconds = subjectsOf(options).map((subject) =>
    stepsOf(options)
      .filter((step) => step.applies(subject))
      .reduce((sum) => sum + seconds + STEP_SECONDS, RAISE_SECONDS),
  );
  const round = subjectSeconds.reduce((sum, one) => sum + one, 0);
  return Math.ceil((underlays.length * rounds * round) / 60);
}

function describeDurations(): string {
  const minutes = (said: Partial<Options>): string =>
    `${minutesOf(settle({ quick: false, ...said }))} min`;
  const all = SUBJECTS.map(({ name }) => name);
  return `About ${minutes({})}; ${minutes({ subjects: all })} with all subjects; ${minutes({ quick: true })} with --quick.`;
}

async function compare(
  options: Options,
  machine: Machine,
  print: (text: string) => void,
): Promise<Result> {
  const signal = stopSignal();
  const subjects = subjectsOf(options);
  const missing = await perfMissing();
  const busyBefore = await busyNow();
  print(
    `${subjects.length} subjects, ${options.rounds} rounds, underlays ${options.underlays.join(' and ')}: about ${minutesOf(options)} min\n`,
  );
  await buildSwitch();
  const results: UnderlayRounds[] = [];
  const repeated: string[] = [];
  const congestion = new Set<string>();
  for (const underlay of options.underlays) {
    print(`\n${UNDERLAY_TITLES[underlay]}\n`);
    const found = await measureRounds({
      ...options,
      underlay,
      subjects,
      steps: stepsOf(options),
      perf: missing === undefined ? 'peers' : 'none',
      print,
      signal,
    });
    repeated.push(...found.repeated);
    congestion.add(found.congestion);
    results.push({ underlay, subjects: found.subjects });
  }
  const environment: Environment = {
    ...machine,
    underlayMtu: options.mtu,
    rounds: options.rounds,
    seconds: options.seconds,
    ...{ busyBefore, repeated, congestion: [...congestion].join(', ') },
    packages: describePackages(['iperf3', ...Object.values(programsOf(subjects))]),
    quick: options.quick ? QUICK_TEXT : undefined,
    uncounted: subjects.some(({ needs }) => needs !== undefined) ? missing : undefined,
  };
  const described = results[0]?.subjects ?? [];
  const summaries = results.map(summarise);
  return {
    text: renderText(environment, described, summaries),
    markdown: renderMarkdown(environment, described, summaries),
    data: { environment, summaries, results },
  };
}
