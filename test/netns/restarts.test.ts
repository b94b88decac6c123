/**
 * What each way to the next daemon costs: packets lost of 10,000 numbered ones a second each way, and
 * the longest time without one. One round each; `npm test -- --stage restarts` makes 20 and prints
 * the table of docs/operations.md. FLANNELETTE_RESTARTS asks for other numbers, FLANNELETTE_QUEUES=default
 * for queues of the default length.
 *
 *   container1 -- docker0 -- flannel0 -- host1 ~~~~ host2 -- flannel0 -- docker0 -- container2
 *                            ^ daemon, and the next one
 */
import { afterEach, describe, expect, it } from 'vitest';
import { DaemonProcess } from '../../src/testbed/daemon-process.js';
import { waitFor } from '../../src/testbed/programs.js';
import { canKernel } from '../support/can-kernel.js';
import { NumberedStream, type StreamResult } from '../support/numbered-stream.js';
import { managed, restart } from '../support/store-manager.js';
import { COMMAND, TestLab } from '../support/test-lab.js';

const ROUNDS = Number(process.env['FLANNELETTE_RESTARTS'] ?? 1);
const RATE = 10_000;
/** For six seconds at that rate. */
const QUEUES =
  process.env['FLANNELETTE_QUEUES'] === 'default'
    ? []
    : ['--tun-queue=65536', '--socket-buffer=268435456'];
/** Packets that a daemon at this rate has in its hands at most: killed, it takes them with it. */
const IN_FLIGHT = 256;
const LIMIT_MS = 60_000 + ROUNDS * 20_000;

type Mode = 'offload' | 'kernel';
/** Ends the daemon, and resolves with the one in its place. */
type Way = (daemon: DaemonProcess, mode: Mode) => Promise<DaemonProcess>;

let lab: TestLab | undefined;
afterEach(async () => {
  await lab?.tearDown();
  lab = undefined;
});

async function next(daemon: DaemonProcess, mode: Mode, flags: string[] = []) {
  const settings = { command: COMMAND, mode, flags: [...QUEUES, ...flags] };
  const successor = new DaemonProcess(daemon.plan, settings);
  lab?.daemons.push(successor);
  await waitFor('the next daemon', 30_000, async () => {
    if (!successor.program.running) throw await successor.ended();
    const status = await successor.status().catch(() => undefined);
    return (status?.pid === successor.program.pid && status?.ready) || undefined;
  });
  return successor;
}

const WAYS: Readonly<Record<string, Way>> = {
  takeover: (daemon, mode) => next(daemon, mode, ['--takeover']),
  'restart, store': async (daemon) => {
    await restart(daemon, 'SIGTERM');
    return daemon;
  },
  'kill -9, store': async (daemon) => {
    await restart(daemon, 'SIGKILL');
    return daemon;
  },
  restart: async (daemon, mode) => {
    await daemon.program.stop();
    return next(daemon, mode);
  },
  'kill -9': async (daemon, mode) => {
    daemon.program.kill('SIGKILL');
    await daemon.program.ended;
    return next(daemon, mode);
  },
};

/** Both directions together. */
interface Cost {
  readonly lost: number;
  readonly late: number;
  readonly silenceMs: number;
}

function costOf([a, b]: readonly [StreamResult, StreamResult]): Cost {
  return {
    lost: a.lost + b.lost,
    late: a.late + b.late,
    silenceMs: Math.max(a.longestSilenceMs, b.longestSilenceMs),
  };
}

async function measure(name: string, mode: Mode): Promise<Cost[]> {
  const settings = { mode, flags: QUEUES };
  const first = name.includes('store') ? managed('usable', settings) : settings;
  lab = await TestLab.pair(first, settings);
  const { near, far } = lab;
  const way = WAYS[name];
  let daemon = lab.nearDaemon;
  const costs: Cost[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const out = await NumberedStream.start(near, far, RATE);
    const back = await NumberedStream.start(far, near, RATE);
    await Promise.all([out.flows(), back.flows()]);
    daemon = (await way?.(daemon, mode)) ?? daemon;
    costs.push(costOf([await out.end(), await back.end()]));
  }
  return costs;
}

function tell(name: string, mode: Mode, costs: readonly Cost[]): void {
  const spread = (of: (cost: Cost) => number): string => {
    const sorted = costs.map(of).sort((a, b) => a - b);
    const at = (part: number): number => sorted[Math.round((sorted.length - 1) * part)] ?? 0;
    return [0, 0.5, 1].map((part) => Math.round(at(part))).join(' / ');
  };
  const spreads = [(c: Cost) => c.lost, (c: Cost) => c.late, (c: Cost) => c.silenceMs].map(spread);
  const cells = [name, mode, costs.length, ...spreads];
  process.stdout.write(`| ${cells.join(' | ')} |\n`);
}

describe('packets lost, out of order, longest silence (ms), each min / median / max', () => {
  const modes = canKernel ? (['offload', 'kernel'] as const) : (['offload'] as const);
  const cases = modes.flatMap((mode) => Object.keys(WAYS).map((name) => [name, mode] as const));
  it.each(cases)(
    'by %s in mode %s',
    async (name, mode) => {
      const costs = await measure(name, mode);
      tell(name, mode, costs);
      const most = Math.max(...costs.map(({ lost }) => lost));
      // What the kernel carries by itself overtakes what waited; with the store it carries all the time.
      if (mode !== 'kernel' || name.includes('store'))
        expect(costs.reduce((sum, { late }) => sum + late, 0)).toBe(0);
      if (QUEUES.length === 0 || !/takeover|store/.test(name)) return;
      expect(most).toBeLessThanOrEqual(name.startsWith('kill') ? IN_FLIGHT : 0);
    },
    LIMIT_MS,
  );
});
