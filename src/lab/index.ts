/** `flannelette lab` as the command line calls it: outside it isolates itself, inside it works. */
import type { DaemonMode } from '../daemon/options.js';
import { ExitCode } from '../errors.js';
import { checkIsolation, runIsolated, stopSignal } from './isolate.js';
import { lowerLab, raiseLab, runCourse, type LabCourse } from './lab.js';
import { checksOf, renderReport, toJson, type LabResult } from './report.js';

export interface LabOptions {
  readonly mode: DaemonMode;
  /** Length of each throughput measurement. */
  readonly seconds: number;
  /** Print one JSON object as the last line; all else goes to standard error. */
  readonly json: boolean;
  /** Leave the lab up until asked to stop. */
  readonly keep: boolean;
  /** This process is the isolated one. */
  readonly inside: boolean;
}

/** `argv` is what followed `lab` on the command line. */
export async function labCommand(options: LabOptions, argv: readonly string[]): Promise<ExitCode> {
  const self = [process.execPath, ...process.execArgv, process.argv[1] ?? ''];
  if (options.inside) return inside(options, self);
  await checkIsolation();
  return runIsolated([...self, 'lab', ...argv, '--inside'], explainKept);
}

async function inside(options: LabOptions, self: readonly string[]): Promise<ExitCode> {
  try {
    return await course(options, self);
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
    seconds: options.seconds,
    command: self,
    signal,
    progress: (line) => {
      print(`[${((Date.now() - started) / 1000).toFixed(1).padStart(5)} s] ${line}\n`);
    },
  };
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
  if (options.json) process.stdout.write(`${JSON.stringify(toJson(result))}\n`);
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
function explainKept(pid: number): void {
  const enter = (namespace: string): string =>
    `  nsenter --target ${pid} --net --mount --pid nsenter --net=/run/netns/${namespace} bash\n`;
  const user =
    process.getuid?.() === 0
      ? ''
      : '  (add --user --preserve-credentials to the first nsenter, which then needs no root)\n';
  process.stderr.write(
    `\nThe lab stays up until Ctrl-C. To enter it from another terminal:\n${['host-1', 'container-1', 'host-2', 'container-2'].map(enter).join('')}${user}`,
  );
}
