/**
 * `npm run soak`: an hour of load between two hosts while everything around them fails in turn, and
 * what that does to the daemons' memory, descriptors and threads. Isolates itself like the lab; touches
 * nothing of the machine.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Command } from 'commander';
import { integer, runnable, type Context, type Result } from '../frame/frame.js';
import { FAULTS } from './faults.js';
import type { Sample, Trial } from './observed.js';
import { judge } from './verdict.js';
import { renderSoakMarkdown, renderSoakText, type SoakResult } from './soak-text.js';
import { Stage } from './stage.js';

interface Options {
  readonly minutes: number;
  readonly tcp: number;
  readonly udp: number;
}

export const soak = runnable<Options>({
  id: 'soak',
  script: { name: 'soak', program: describeCommand },
  needs: () => ({ etcd: 'etcd-server', etcdctl: 'etcd-client', tc: 'iproute2' }),
  measure,
});

function describeCommand(): Command {
  return new Command('npm run soak --')
    .description(
      'Loads two hosts while modes, daemons, links, leases and etcd change and fail, and watches their daemons.',
    )
    .option('--minutes <n>', 'length, 2 to 1440', integer(2, 1_440), 60)
    .option(
      '--tcp <n>',
      'Mbit/s of TCP, over four connections, 4 to 100000',
      integer(4, 100_000),
      200,
    )
    .option(
      '--udp <n>',
      'datagrams of 200 bytes a second, 10 to 1000000',
      integer(10, 1_000_000),
      5_000,
    );
}

/** Between two samples. */
const SAMPLE_MS = 10_000;
/** After a fault: whatever it broke shows itself, and the next one finds a whole network. */
const PAUSE_MS = 3_000;

async function measure(options: Options, { machine, print, signal }: Context): Promise<Result> {
  const stage = await Stage.setUp(options);
  const trials: Trial[] = [];
  const samples: Sample[] = [];
  const begun = performance.now();
  const elapsed = (): number => (performance.now() - begun) / 1_000;

  const sampling = setInterval(() => {
    void stage.sample(elapsed()).then((taken) => samples.push(...taken));
  }, SAMPLE_MS);
  try {
    for (let turn = 0; elapsed() < options.minutes * 60; turn += 1) {
      signal.throwIfAborted();
      const fault = FAULTS[turn % FAULTS.length];
      if (fault === undefined) break;
      const at = elapsed();
      const { silenceSeconds, problem } = await stage.tryFault(fault.cause);
      trials.push({ fault: fault.id, at, silenceSeconds, problem });
      const said = problem ?? `${silenceSeconds.toFixed(2)} s of silence`;
      print(`${at.toFixed(0).padStart(6)} s  ${fault.id}: ${said}\n`);
      await delay(PAUSE_MS);
    }
  } finally {
    clearInterval(sampling);
  }
  const seconds = elapsed();
  const end = await stage.tearDown();
  const result: SoakResult = { machine, ...options, seconds, samples, trials, end };
  const findings = judge(result);
  return {
    text: renderSoakText(result, findings),
    markdown: renderSoakMarkdown(result, findings),
    data: { ...result, findings },
    failed: findings.some(({ met }) => !met),
  };
}
