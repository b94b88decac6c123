/**
 * The modes beside kernel overlays and other user-space tunnels in the same lab, in interleaved rounds:
 * `npm run bench`; and, of the modes alone, `flannelette bench modes` (bench/door.ts).
 */
import { Command } from 'commander';
import { inputError } from '../../src/errors.js';
import type { Programs } from '../../src/testbed/isolate.js';
import { buildSwitch, UNDERLAY_MTU } from '../../src/testbed/topology.js';
import {
  integer,
  listOf,
  runnable,
  type Context,
  type Outputs,
  type Result,
} from '../frame/frame.js';
import { describePackages } from '../frame/machine.js';
import { UNDERLAYS, type UnderlayName } from './overlays-result.js';
import { hasShort, summarise, type UnderlayRounds } from './overlays-summary.js';
import {
  renderBlock,
  renderCsv,
  renderMarkdown,
  renderText,
  UNDERLAY_TITLES,
} from './overlays-text.js';
import { perfMissing } from './observe.js';
import { measureRounds } from './rounds.js';
import { STEPS, type Step, type StepName } from './steps.js';
import type { Subject } from './subject.js';
import { BASELINE, MODE_NAMES, SUBJECTS } from './subjects.js';

interface Options {
  /** Title of the page. */
  readonly title: string;
  readonly rounds: number;
  readonly seconds: number;
  readonly subjects: readonly string[];
  readonly metrics: readonly StepName[];
  readonly underlays: readonly UnderlayName[];
  readonly mtu: number;
  readonly quick: boolean;
}

/** Options not given follow from `quick`. */
type GivenOptions = Partial<Options> & { readonly quick: boolean };

const MAIN_SUBJECTS = SUBJECTS.filter(({ main }) => main).map(({ name }) => name);
const STEP_NAMES = STEPS.map(({ name }) => name);

type Extent = Pick<Options, 'rounds' | 'seconds' | 'metrics'>;
/** About half an hour with the main subjects: --help says how long anything takes. */
const WHOLE: Extent = { rounds: 6, seconds: 2, metrics: STEP_NAMES };
const QUICK: Extent = { rounds: 3, seconds: 1, metrics: ['tcp', 'udp64', 'ping'] };
const QUICK_TEXT = `${QUICK.rounds} rounds of ${QUICK.seconds} s, ${QUICK.metrics.join(', ')} alone: minimum to maximum instead of intervals, nothing of the rest`;

/** What a subject takes besides its loads: daemons, containers, pings; and a load besides its length. */
const SET_UP_SECONDS = 1.5;
const LOAD_SECONDS = 0.2;
/** Steps that are measured once more where perf counts the ends' system calls. */
const COUNTED: readonly StepName[] = ['tcp', 'tcp4', 'udp64'];

export const overlays = runnable<GivenOptions>({
  id: 'overlays',
  script: { name: 'bench', program: describeCommand },
  needs: (given) => programsOf(subjectsOf(settle(given))),
  check: (given) => {
    checkReadme(settle(given), given);
    checkPresent(given);
  },
  measure: (given, context) => compare(settle(given), context),
});

export interface ModesOptions {
  readonly quick: boolean;
  readonly rounds: number;
  readonly seconds: number;
  /** Comma-separated; all when left out. */
  readonly modes?: string | undefined;
}

/** `flannelette bench modes` as a run of the same benchmark. */
export function modesRun({ modes, ...extent }: ModesOptions): Options {
  return {
    ...extent,
    title: 'The modes, and what each costs a packet',
    subjects: modes === undefined ? MODE_NAMES : listOf('--modes', MODE_NAMES)(modes),
    metrics: QUICK.metrics,
    underlays: ['offload'],
    mtu: UNDERLAY_MTU,
  };
}

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
      `comma-separated, of: ${UNDERLAYS.join(', ')} (default: offload)`,
      listOf('--underlays', UNDERLAYS),
    )
    .option(
      '--mtu <bytes>',
      "MTU of the hosts' eth0, 1500 to 65535",
      integer(1_500, 65_535),
      UNDERLAY_MTU,
    )
    .option('--quick', `${QUICK_TEXT}; other options override it`, false)
    .option('--csv <file>', 'write all metrics as CSV')
    .option('--report <file>', 'write the result as an HTML page with figures')
    .option(
      '--readme <file>',
      'with --write: also write the short result into this document, between its benchmark marks',
    )
    .addHelpText('after', `\nRatios are to ${BASELINE}. ${describeDurations()}`);
}

/** Completes the given options with those of a whole run or a quick one. */
function settle(given: GivenOptions): Options {
  return {
    title: 'Benchmarks',
    subjects: MAIN_SUBJECTS,
    underlays: ['offload'],
    mtu: UNDERLAY_MTU,
    ...(given.quick ? QUICK : WHOLE),
    ...given,
  };
}

/** README and the page say the same, so one is not written without the other. */
function checkReadme({ subjects, metrics, underlays }: Options, { readme, write }: Outputs): void {
  if (readme === undefined) return;
  if (write === undefined) throw inputError('--write', undefined, 'a page beside --readme');
  if (hasShort(subjects, metrics, underlays)) return;
  throw inputError(
    '--readme',
    readme,
    `subjects basic, ${BASELINE} and batch or offload with metrics tcp, udp64 and ping on underlay offload`,
  );
}

/** Who asks for a subject by name gets it, or the reason why not. */
function checkPresent({ subjects = [] }: GivenOptions): void {
  for (const { name, absent } of SUBJECTS) {
    if (absent !== undefined && subjects.includes(name)) {
      throw inputError('--subjects', name, `subjects that this machine can have: ${absent}`);
    }
  }
}

function subjectsOf({ subjects }: Options): Subject[] {
  return SUBJECTS.filter(({ name, absent }) => absent === undefined && subjects.includes(name));
}

function stepsOf({ metrics }: Options): Step[] {
  return STEPS.filter(({ name }) => metrics.includes(name));
}

function programsOf(subjects: readonly Subject[]): Programs {
  return Object.assign({}, ...subjects.map(({ needs }) => needs ?? {})) as Programs;
}

function minutesOf(options: Options, perf: boolean): number {
  const { underlays, rounds, seconds } = options;
  const subjectSeconds = subjectsOf(options).map((subject) => {
    const steps = stepsOf(options).filter((step) => step.applies(subject));
    const again = perf && subject.kernelOnly !== true;
    const counted = again ? steps.filter(({ name }) => COUNTED.includes(name)).length : 0;
    const loads = steps.filter(({ name }) => name !== 'ping').length + counted;
    return SET_UP_SECONDS + loads * (seconds + LOAD_SECONDS);
  });
  const round = subjectSeconds.reduce((sum, one) => sum + one, 0);
  return Math.ceil((underlays.length * rounds * round) / 60);
}

function describeDurations(): string {
  const minutes = (given: Partial<Options>): string =>
    `${minutesOf(settle({ quick: false, ...given }), true)} min`;
  const all = SUBJECTS.map(({ name }) => name);
  return `About ${minutes({})}; ${minutes({ subjects: all })} with all subjects, ${minutes({ underlays: UNDERLAYS })} with both underlays; ${minutes({ quick: true })} with --quick.`;
}

async function compare(options: Options, { machine, print, signal }: Context): Promise<Result> {
  const subjects = subjectsOf(options);
  const missing = await perfMissing();
  print(
    `${subjects.length} subjects, ${options.rounds} rounds of ${options.seconds} s, underlay ${options.underlays.join(' and ')}: about ${minutesOf(options, missing === undefined)} min\n`,
  );
  if (missing !== undefined) print(`${missing}: the ends count their own system calls\n`);
  const absent = SUBJECTS.flatMap(({ name, absent: reason }) =>
    reason === undefined || !options.subjects.includes(name) ? [] : [{ what: name, reason }],
  );
  for (const { what, reason } of absent) print(`without ${what}: ${reason}\n`);
  await buildSwitch();
  const results: UnderlayRounds[] = [];
  const repeated: string[] = [];
  const congestion = new Set<string>();
  for (const underlay of options.underlays) {
    print(`\n${UNDERLAY_TITLES[underlay]}\n`);
    const found = await measureRounds({
      underlay,
      mtu: options.mtu,
      rounds: options.rounds,
      seconds: options.seconds,
      subjects,
      steps: stepsOf(options),
      perf: missing === undefined,
      print,
      signal,
    });
    repeated.push(...found.repeated);
    congestion.add(found.congestion);
    results.push({ underlay, subjects: found.subjects });
  }
  const environment = {
    ...machine,
    title: options.title,
    underlayMtu: options.mtu,
    rounds: options.rounds,
    seconds: options.seconds,
    congestion: [...congestion].join(', '),
    packages: describePackages(['iperf3', ...Object.values(programsOf(subjects))]),
    quick: options.quick,
    repeated,
  };
  const data = summarise(environment, results, missing, absent);
  return {
    text: renderText(data),
    markdown: renderMarkdown(data),
    csv: renderCsv(data),
    page: async () => (await import('../report/draw.js')).drawReport({ modes: data }),
    block: renderBlock(data),
    data,
  };
}
