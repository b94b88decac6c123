/**
 * `npm run bench:lease`: daemons that follow 65,536 leases, in etcd and in the lease file. Isolates
 * itself like the lab; touches nothing of the machine.
 */
import { join } from 'node:path';
import { Command } from 'commander';
import { addHost, buildSwitch } from '../../src/testbed/topology.js';
import { integer, listOf, runnable, type Context, type Result } from '../frame/frame.js';
import { FLANNELETTE } from '../frame/machine.js';
import { xorshift32 } from '../frame/stats.js';
import { judgeLeases, summariseStore, type LeaseEnvironment } from './lease-summary.js';
import { renderLeaseMarkdown, renderLeaseText } from './lease-text.js';
import { measureStore, type StoreResult } from './measure-store.js';
import { FAR, GATEWAY, NEAR } from './network.js';
import { openEtcd, openFile, type BenchStore } from './stores.js';

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
}

export const lease = runnable<Options>({
  id: 'lease',
  script: { name: 'bench:lease', program: describeCommand },
  needs: ({ stores }) => (stores.includes('etcd') ? { etcd: 'etcd-server' } : {}),
  measure,
});

function describeCommand(): Command {
  return new Command('npm run bench:lease --')
    .description(
      'Measures daemons that follow 65,536 leases: start, memory, 1,000 changes a second.',
    )
    .option(
      '--stores <names>',
      `comma-separated, of: ${STORE_NAMES.join(', ')}`,
      listOf('--stores', STORE_NAMES),
      STORE_NAMES,
    )
    .option('--starts <n>', 'starts of each kind, 1 to 100', integer(1, 100), 5)
    .option('--rounds <n>', 'rounds, 1 to 1000', integer(1, 1_000), 8)
    .option('--seconds <n>', 'length of a phase, 1 to 60', integer(1, 60), 10)
    .option('--changes <n>', 'lease changes a second, 10 to 100000', integer(10, 100_000), 1_000)
    .addHelpText('after', '\nA round is four phases: about 45 s a round and store.');
}

async function measure(
  options: Options,
  { machine, print: progress, signal }: Context,
): Promise<Result> {
  await buildSwitch(GATEWAY);
  for (const plan of [NEAR, FAR]) await addHost(plan, { gateway: GATEWAY });

  const results: StoreResult[] = [];
  for (const name of options.stores) {
    const store = await STORES[name]();
    try {
      const random = xorshift32(Date.now());
      results.push(
        await measureStore(store, {
          starts: options.starts,
          rounds: options.rounds,
          seconds: options.seconds,
          changesPerSecond: options.changes,
          command: FLANNELETTE,
          writer: WRITER,
          random,
          progress,
          signal,
        }),
      );
    } finally {
      await store.close();
    }
  }

  const environment: LeaseEnvironment = {
    ...machine,
    starts: options.starts,
    rounds: options.rounds,
    seconds: options.seconds,
    changesPerSecond: options.changes,
  };
  const summaries = results.map((result) => summariseStore(result));
  const targets = summaries.flatMap((summary) => judgeLeases(summary));
  return {
    text: renderLeaseText(environment, summaries, targets),
    markdown: renderLeaseMarkdown(environment, summaries, targets),
    data: { environment, targets, summaries, results },
  };
}
