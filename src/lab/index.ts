/** `flannelette lab` as the command line calls it: outside it isolates itself, inside it works. */
import type { DaemonMode } from '../daemon/options.js';
import { ExitCode, messageOf } from '../errors.js';
import { LEASE_FILE } from './daemon-process.js';
import { ETCD_PREFIX } from './etcd-check.js';
import { checkIsolation, runIsolated, stopSignal } from './isolate.js';
import { lowerLab, raiseLab, runCourse, type LabCourse } from './lab.js';
import { checksOf, renderReport, toJson, type LabResult } from './report.js';
import { STORE_PROGRAMS, type StoreKind } from './store.js';
import { GATEWAY, hostPlan } from './topology.js';
import { runInside } from './web/inside.js';
import { runWithPage } from './web/outside.js';

export interface LabOptions {
  readonly mode: DaemonMode;
  /** Where the daemons keep their leases. */
  readonly store: StoreKind;
  /** Length of each throughput measurement. */
  readonly seconds: number;
  /** Print one JSON object as the last line; all else goes to standard error. */
  readonly json: boolean;
  /** Leave the lab up until asked to stop. */
  readonly keep: boolean;
  /** TCP port of the live page on 127.0.0.1, 0 for a free one; undefined for the course of measurements. */
  readonly web: number | undefined;
  /** This process is the isolated one. */
  readonly inside: boolean;
}

/** `argv` is what followed `lab` on the command line. */
export async function labCommand(options: LabOptions, argv: readonly string[]): Promise<ExitCode> {
  const self = [process.execPath, ...process.execArgv, process.argv[1] ?? ''];
  if (options.inside) return inside(options, self);
  await checkIsolation(STORE_PROGRAMS[options.store]);
  const again = [...self, 'lab', ...argv, '--inside'];
  if (options.web !== undefined) {
    const print = (text: string): void => void process.stdout.write(text);
    return runWithPage(again, { port: options.web, mode: options.mode, print });
  }
  return runIsolated(again, (pid) => {
    process.stderr.write(explainKept(pid, options.store));
  });
}

function printJson(result: object): void {
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

async function inside(options: LabOptions, self: readonly string[]): Promise<ExitCode> {
  try {
    return await course(options, self);
  } catch (error) {
    // A lab that began ends with its line, also when it has no result.
    const { mode, store } = options;
    if (options.json)
      printJson({ ok: false, mode, store: { kind: store }, error: messageOf(error) });
    throw error;
  } finally {
    // The channel to the outside would keep this process alive.
    if (process.connected) process.disconnect();
  }
}

async function course(options: LabOptions, self: readonly string[]): Promise<ExitCode> {
  const print = (text: string): void => {
    (options.json ? process.stderr : process.stdout).write(text);
  };
  const started = Date.now();
  const signal = stopSignal();
  const plan: LabCourse = {
    mode: options.mode,
    store: options.store,
    seconds: options.seconds,
    command: self,
    signal,
    progress: (line) => {
      print(`[${((Date.now() - started) / 1000).toFixed(1).padStart(5)} s] ${line}\n`);
    },
  };
  if (options.web !== undefined) {
    await runInside(plan);
    print('The lab has ended; nothing of it is left behind.\n');
    return ExitCode.ok;
  }
  const lab = await raiseLab(plan);
  let result: LabResult;
  try {
    result = await runCourse(lab, plan);
    print(`\n${renderReport(result)}\n`);
    if (options.keep) await keep(signal);
  } catch (error) {
    // What failed first is the news; how the daemons end now is not.
    await lowerLab(lab).catch(() => undefined);
    throw error;
  }
  await lowerLab(lab);
  const ok = checksOf(result).every((check) => check.ok);
  print(`\n${ok ? 'The lab passed' : 'The lab FAILED'}; nothing of it is left behind.\n`);
  if (options.json) printJson(toJson(result));
  return ok ? ExitCode.ok : ExitCode.failure;
}

/** Tells the outside that the lab stands, and waits until asked to stop. */
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
