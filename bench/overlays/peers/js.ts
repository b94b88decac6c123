/** The teaching tunnel as a subject of the benchmark: a process for each host. */
import { UDP_OVERHEAD_BYTES } from '../../../src/forward/udp/udp-settings.js';
import { join } from 'node:path';
import { inNamespace, Program, waitFor } from '../../../src/testbed/programs.js';
import { LEASE_FILE } from '../../../src/testbed/daemon-process.js';
import type { HostPlan } from '../../../src/testbed/topology.js';
import { tunnelCounters, type TunnelCounters } from '../../js-tunnel/counters.js';
import { PROJECT } from '../../frame/machine.js';
import { readLine } from '../../frame/run-lines.js';
import { runPrograms, untilReady } from './ends.js';
import type { Subject } from '../subject.js';

const JS_TUNNEL = [process.execPath, join(PROJECT, 'dist', 'bench', 'js-tunnel', 'js-tunnel.js')];
const START_LIMIT_MS = 10_000;
const ANSWER_LIMIT_MS = 5_000;

export const js: Subject = {
  name: 'js',
  what: 'one read and one send per packet, from JavaScript through FFI (koffi): for teaching',
  main: true,
  mtu: (mtu) => mtu - UDP_OVERHEAD_BYTES,
  setUp: async ({ near, far, mtu }) => {
    const overlay = await runPrograms(async (programs) => {
      for (const plan of [near, far]) await startJsTunnel(plan, js.mtu(mtu), programs);
    });
    const counters = async (): Promise<{ systemCalls: number; copiedBytes: number }> => {
      const [a, b] = await Promise.all(overlay.programs.map(readCounters));
      const sum = (key: keyof TunnelCounters): number => (a?.[key] ?? NaN) + (b?.[key] ?? NaN);
      return { systemCalls: sum('systemCalls'), copiedBytes: sum('copiedBytes') };
    };
    return { ...overlay, counters };
  },
};

/** Starts a host's end, puts it into `programs` and waits until it forwards. */
export async function startJsTunnel(
  plan: HostPlan,
  mtu: number,
  programs: Program[],
  command: readonly string[] = JS_TUNNEL,
): Promise<void> {
  const flags = [`--lease-file=${LEASE_FILE}`, `--public-ip=${plan.address}`, `--mtu=${mtu}`];
  const program = new Program(inNamespace(plan.host, [...command, ...flags]));
  programs.push(program);
  await untilReady(programs, START_LIMIT_MS, () =>
    Promise.resolve(program.stdout.includes('forwarding\n')),
  );
}

/** Asks an end for its counters. */
export async function readCounters(program: Program): Promise<TunnelCounters> {
  const before = countersIn(program).length;
  program.kill('SIGUSR2');
  const answer = await waitFor('counters of the js tunnel', ANSWER_LIMIT_MS, () =>
    countersIn(program).slice(before).at(-1),
  );
  return readLine(tunnelCounters, 'counters of the js tunnel', answer);
}

function countersIn({ stdout }: Program): string[] {
  return stdout.split('\n').filter((line) => line.startsWith('{') && line.endsWith('}'));
}
