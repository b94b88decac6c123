/** `flannelette lab` as the command line calls it: the parent isolates itself, the isolated process works. */
import type { DaemonMode } from '../../daemon/options.js';
import type { LabBackend } from '../backends/backend.js';
import { ExitCode } from '../../errors.js';
import { LEASE_FILE } from '../../testbed/daemon-process.js';
import { ETCD_PREFIX } from './etcd-check.js';
import { ownCommand, runIsolatedPart, type Output } from '../../testbed/isolated.js';
import {
  checkIsolation,
  runIsolated,
  stopSignal,
  type IsolatedMessage,
} from '../../testbed/isolate.js';
import { inLab, runScenario, type LabScenario } from './lab.js';
import { checksOf, renderReport, toJson } from './report.js';
import { STORE_PROGRAMS, type StoreKind } from './lab-store.js';
import { GATEWAY, hostPlan } from '../../testbed/topology.js';
import { runLive } from '../live/isolated-lab.js';
import { runWithPage } from '../live/parent.js';

export interface LabOptions {
  readonly backend: LabBackend;
  /** Of host 1, host 2 and so on, and again from the first; at least one. */
  readonly modes: readonly [DaemonMode, ...DaemonMode[]];
  /** Where the daemons keep their leases. */
  readonly store: StoreKind;
  /** Length of each throughput measurement. */
  readonly seconds: number;
  /** Print one JSON object as the last line; all else goes to standard error. */
  readonly json: boolean;
  /** Leave the lab up until asked to stop. */
  readonly keep: boolean;
  /** TCP port of the live page on 127.0.0.1, 0 for a free one; undefined for the scenario of measurements. */
  readonly web: number | undefined;
  /** This process is the isolated one. */
  readonly isolated: boolean;
}

/** `argv` is what followed `lab` on the command line. */
export async function labCommand(options: LabOptions, argv: readonly string[]): Promise<ExitCode> {
  const { backend, modes, store, json } = options;
  if (options.isolated) {
    const about = { backend: backend.type, modes, store: { kind: store } };
    return runIsolatedPart(json, about, (output) => scenario(options, output));
  }
  await checkIsolation(STORE_PROGRAMS[store]);
  const again = [...ownCommand(), 'lab', ...argv, '--isolated'];
  if (options.web !== undefined) {
    const print = (text: string): void => void process.stdout.write(text);
    const { web: port } = options;
    return runWithPage(again, { port, backend, mode: modes[0], print });
  }
  return runIsolated<IsolatedMessage>(again, {
    hear: (_message, findPid) => {
      void findPid().then((pid) => process.stderr.write(explainKept(pid, store)));
    },
  });
}

async function scenario(options: LabOptions, output: Output): Promise<ExitCode> {
  const signal = stopSignal();
  const { backend, modes, store, seconds } = options;
  const { print, progress } = output;
  const command = ownCommand();
  const plan: LabScenario = { backend, modes, store, seconds, command, signal, progress };
  if (options.web !== undefined) {
    await runLive(plan);
    print('The lab has ended; nothing of it is left behind.\n');
    return ExitCode.ok;
  }
  const result = await inLab(plan, async (lab) => {
    const found = await runScenario(lab, plan);
    print(`\n${renderReport(found)}\n`);
    if (options.keep) await keep(signal);
    return found;
  });
  const ok = checksOf(result).every((check) => check.ok);
  print(`\n${ok ? 'The lab passed' : 'The lab FAILED'}; nothing of it is left behind.\n`);
  output.json(toJson(result));
  return ok ? ExitCode.ok : ExitCode.failure;
}

/** Tells the parent that the lab stands, and waits until asked to stop. */
async function keep(signal: AbortSignal): Promise<void> {
  process.send?.({ type: 'kept' });
  if (signal.aborted) return;
  await new Promise((resolve) => {
    signal.addEventListener('abort', resolve);
  });
}

/** How to enter a lab that is kept; PIDs are those of the outer namespace. */
export function explainKept(pid: number, store: StoreKind): string {
  // One nsenter for everything: without root its capabilities end with the first program it runs.
  const user = process.getuid?.() === 0 ? '' : ' --user --preserve-credentials';
  const enter = (namespace: string): string =>
    `  nsenter --target ${pid}${user} --mount --pid --net=/proc/${pid}/root/run/netns/${namespace} bash`;
  const plans = [1, 2, 3].map(hostPlan);
  const hosts = plans.map(
    ({ number, host, address, container, containerAddress }) =>
      `  ${host} ${address}, ${container} ${containerAddress}${number === 3 ? '  (it joined, left and came back)' : ''}`,
  );
  const leases = {
    file: `  cat ${LEASE_FILE}`,
    etcd: `  etcdctl --endpoints=http://${GATEWAY}:2379 get --prefix ${ETCD_PREFIX}   # Debian: etcd-client`,
  };
  return [
    '',
    'The lab stays up until Ctrl-C, with three hosts:',
    ...hosts,
    'To enter it from another terminal:',
    ...plans.flatMap(({ host, container }) => [enter(host), enter(container)]),
    'The leases, once inside:',
    leases[store],
    '',
  ].join('\n');
}
