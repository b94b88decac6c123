/**
 * `npm run bench`: the modes beside kernel VXLAN and host-gw in the same lab, in interleaved rounds.
 * Isolates itself like the lab; touches nothing of the machine.
 */
import { Command } from 'commander';
import { stopSignal } from '../../src/lab/isolate.js';
import { writeLeaseFile } from '../../src/lab/daemon-process.js';
import { addHost, buildSwitch, hostPlan } from '../../src/lab/topology.js';
import {
  FLANNELETTE,
  integer,
  listOf,
  runBenchmark,
  type Machine,
  type Result,
} from '../command.js';
import { judge, summarise, type Environment, type SubjectRounds } from '../report/summary.js';
import { renderMarkdown, renderText } from '../report/text.js';
import { measure, type Round } from './measure.js';
import { shuffled, xorshift32 } from './stats.js';
import { BASELINE, SUBJECTS, type Subject } from './subjects.js';

interface Options {
  readonly rounds: number;
  readonly seconds: number;
  readonly subjects: readonly Subject[];
  readonly mtu: number;
  readonly offload: boolean;
}

process.exitCode = await runBenchmark<Options>({
  name: 'bench',
  program: describeCommand(),
  needs: () => ({}),
  measure: compare,
});

function describeCommand(): Command {
  const names = SUBJECTS.map(({ name }) => name);
  const list = listOf('--subjects', names);
  const subjects = (text: string): Subject[] =>
    list(text).flatMap((name) => SUBJECTS.filter((subject) => subject.name === name));
  return new Command('npm run bench --')
    .description(
      'Compares the modes with kernel VXLAN and host-gw in the same lab, in interleaved rounds.',
    )
    .option('--rounds <n>', 'rounds, 1 to 1000', integer(1, 1_000), 10)
    .option('--seconds <n>', 'length of a throughput measurement', integer(1, 600), 2)
    .option('--subjects <names>', `comma-separated, of: ${names.join(', ')}`, subjects, SUBJECTS)
    .option('--mtu <bytes>', "MTU of the hosts' eth0, 576 to 65535", integer(576, 65_535), 1_500)
    .option('--no-offload', "no segmentation and checksum offload on the hosts' eth0")
    .addHelpText('after', `\nRatios are to ${BASELINE}. About 7 s per subject and round.`);
}

async function compare(
  options: Options,
  machine: Machine,
  print: (text: string) => void,
): Promise<Result> {
  const signal = stopSignal();
  const hosts = [hostPlan(1), hostPlan(2)];
  const underlay = { hosts, mtu: options.mtu, command: FLANNELETTE };
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
  const environment: Environment = {
    ...machine,
    underlayMtu: options.mtu,
    underlayOffload: options.offload,
    rounds: options.rounds,
    seconds: options.seconds,
  };
  const tables = summarise(found);
  const targets = judge(tables);
  return {
    text: renderText(environment, found, tables, targets),
    markdown: renderMarkdown(environment, found, tables, targets),
    data: { environment, targets, tables, rounds: found },
  };
}
