/** `flannelette bench`: the benchmarks that are commands; bench/door.ts leads to them. */
import { errnoOf, inputError, messageOf, systemError } from '../errors.js';
import type { Command, CommandGroup } from './command.js';
import { booleanFlag, integerFlag, resolveFlags, textFlag } from './flags.js';

/** Rounds that give narrow intervals in about two minutes; and too few for one, for a short look. */
const ROUNDS = { full: 41, quick: 5 };
const BATCHES = { full: 20, quick: 10 };

const flags = {
  quick: booleanFlag(
    'quick',
    `${ROUNDS.quick} rounds: about 10 s, minimum to maximum instead of intervals, no result to quote`,
  ),
  rounds: integerFlag(
    'rounds',
    `rounds, each of all crossings; 0: ${ROUNDS.full}, with --quick ${ROUNDS.quick}`,
    { min: 0, max: 1_000, fallback: 0 },
  ),
  json: textFlag('json', 'write the result as JSON; - is standard output', { placeholder: 'file' }),
  csv: textFlag('csv', 'write all cells as CSV', { placeholder: 'file' }),
  write: textFlag('write', 'write the result as Markdown', { placeholder: 'file' }),
  report: textFlag('report', 'write the result as an HTML page with figures', {
    placeholder: 'file',
  }),
};

const copiesCommand: Command = {
  name: 'bench copies',
  summary: 'measure the price of each crossing of the user/kernel border',
  description:
    "Times each crossing of a packet alone: the container's send, TUN read, UDP send, UDP receive, TUN\nwrite, the container's receive; by size, with checksums in software, left to the device or none, and\nwith trains of 4 to 64 KiB. Fits t = a + b x bytes: a is the price of crossing, b that of the copy;\n95 % intervals from 6 rounds on, else minimum to maximum. Beside it an empty system call, memcpy and wake-ups. Everything happens in\nnamespaces that vanish with the process; nothing of this machine is touched.",
  flags,
  footer: `
Examples:
  flannelette bench copies                      # about 2 minutes; keep the machine idle
  flannelette bench copies --quick
  flannelette bench copies --json=- | jq .crossings
  flannelette bench copies --csv=copies.csv --write=copies.md
  flannelette bench copies --report=copies.html

Exit codes:
  0  measured
  1  the machine cannot measure it
  2  the input is wrong
`,
  run: async (given, _io, argv) => {
    const { quick, rounds, json, csv, write, report } = resolveFlags(flags, given, {});
    const speed = quick ? 'quick' : 'full';
    const { benchCopies } = await openDoor();
    return benchCopies(
      {
        quick,
        rounds: rounds === 0 ? ROUNDS[speed] : rounds,
        batches: BATCHES[speed],
        json,
        csv,
        write,
        report,
      },
      typed('bench copies', argv),
    );
  },
};

/** Rounds that give an interval in about 10 minutes; and too few for one, for a short look. */
const MODES_ROUNDS = { full: 10, quick: 3 };
const MODES_SECONDS = { full: 2, quick: 1 };

const modesFlags = {
  quick: booleanFlag(
    'quick',
    `${MODES_ROUNDS.quick} rounds of ${MODES_SECONDS.quick} s: about 2 minutes; minimum to maximum instead of intervals, TCP's slow start weighs more, no result to quote`,
  ),
  rounds: integerFlag(
    'rounds',
    `rounds, each of all modes; 0: ${MODES_ROUNDS.full}, with --quick ${MODES_ROUNDS.quick}`,
    { min: 0, max: 1_000, fallback: 0 },
  ),
  seconds: integerFlag(
    'seconds',
    `length of a load; 0: ${MODES_SECONDS.full}, with --quick ${MODES_SECONDS.quick}`,
    { min: 0, max: 600, fallback: 0 },
  ),
  modes: textFlag(
    'modes',
    'comma-separated, of js, basic, batch, offload, kernel, vxlan, vxlan-again, host-gw (default all)',
    { placeholder: 'names' },
  ),
  json: flags.json,
  csv: textFlag('csv', 'write all metrics as CSV', { placeholder: 'file' }),
  write: flags.write,
  report: flags.report,
};

const modesCommand: Command = {
  name: 'bench modes',
  summary: 'compare what each mode costs a packet, from JavaScript to the kernel',
  description:
    'Carries TCP and small UDP packets between two containers in every mode in turn: js (a read and a\nsend per packet from JavaScript, through FFI: for teaching), basic, batch, offload,\nkernel (eBPF), and VXLAN and host-gw. Per packet: system calls, context switches, bytes copied across the user/kernel\nborder, CPU nanoseconds of the whole machine by user, system, softirq and idle; throughput and round\ntrips; in interleaved rounds, with the noise, and 95 % intervals from 6 rounds on. perf counts the system calls\nwhere it can, and what that costs is shown. Everything happens in namespaces that vanish with the process.',
  flags: modesFlags,
  footer: `
Examples:
  flannelette bench modes                       # about 10 minutes; keep the machine idle
  flannelette bench modes --quick
  flannelette bench modes --modes=js,basic,vxlan --rounds=5
  flannelette bench modes --json=modes.json --report=modes.html
  flannelette bench modes --json=- | jq '.underlays[0].subjects[] | {name, calls: .values["udp.calls"].value.median}'

Exit codes:
  0  measured
  1  the machine cannot measure it
  2  the input is wrong
`,
  run: async (given, _io, argv) => {
    const { quick, rounds, seconds, ...rest } = resolveFlags(modesFlags, given, {});
    const speed = quick ? 'quick' : 'full';
    const { benchModes } = await openDoor();
    return benchModes(
      {
        ...rest,
        quick,
        rounds: rounds === 0 ? MODES_ROUNDS[speed] : rounds,
        seconds: seconds === 0 ? MODES_SECONDS[speed] : seconds,
      },
      typed('bench modes', argv),
    );
  },
};

const reportFlags = {
  copies: textFlag('copies', 'result of bench copies --json', { placeholder: 'file' }),
  modes: textFlag('modes', 'result of bench modes --json', { placeholder: 'file' }),
  report: textFlag('report', 'HTML page to write', { placeholder: 'file' }),
};

const reportCommand: Command = {
  name: 'bench report',
  summary: 'one HTML page with figures from the results of the benchmarks',
  description:
    'Draws the results of earlier runs on one machine: the path of a packet with the price of each\ncrossing, cost against size with the fitted lines, and, by mode, throughput, round trips and where\nthe CPU time of a packet goes. One file that needs no network and no script; light, dark, and for\npaper. The numbers stand in tables beside each figure, and as JSON and CSV in the page.',
  flags: reportFlags,
  footer: `
Examples:
  flannelette bench report --copies=copies.json --modes=modes.json --report=out.html
  flannelette bench report --copies=copies.json --report=copies.html

Exit codes:
  0  written
  1  the file cannot be written
  2  the input is wrong
`,
  run: async (given) => {
    const { copies, modes, report } = resolveFlags(reportFlags, given, {});
    if (report === undefined) throw inputError('--report', undefined, 'a file to write');
    const { benchReport } = await openDoor();
    return benchReport({ copies, modes }, report);
  },
};

export const benchGroup: CommandGroup = {
  name: 'bench',
  noun: 'benchmark',
  summary: 'benchmarks: copies, modes; their report',
  description: 'Benchmarks of the tunnel and of what it is made of.',
  commands: [copiesCommand, modesCommand, reportCommand],
};

/** Says plainly that the installed package has no benchmarks, or that theirs are missing. */
async function openDoor() {
  try {
    return await import('../../bench/door.js');
  } catch (error) {
    if (errnoOf(error) !== 'ERR_MODULE_NOT_FOUND') throw error;
    const needed = /Cannot find package '([^']+)'/.exec(messageOf(error))?.[1];
    if (needed !== undefined) {
      throw systemError(
        `the benchmarks need the package ${needed}: run npm install in the checkout, without --omit=dev`,
        { cause: error },
      );
    }
    throw systemError(
      'the benchmarks are not part of the installed package: run them from a checkout of the project, after npm start',
      { cause: error },
    );
  }
}

function typed(name: string, argv: readonly string[]): { name: string; command: string } {
  const whole = `flannelette ${name}`;
  return { name: whole, command: [whole, ...argv].join(' ') };
}
