/**
 * Tells when the kernel's rules change, so that what another program flushed or put in front of ours
 * is found at once and not at the next resync.
 *
 * xtables-monitor(8) of iptables prints a line for every change of nf_tables, by any program, and
 * needs 2 MiB; nft monitor would hold the whole rule set. Legacy iptables has no notification: there,
 * and where the program is missing, the resync is all there is.
 */
import { spawn } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { systemError } from '../errors.js';
import { programEnvironment } from './run-program.js';

/** The program ends when the kernel told faster than it read, so its end is a change as well. */
const RESTART_MS = 1_000;
/** One that ends sooner, this often in a row, does not work here. */
const WORKED_MS = 500;
const FAILURES = 3;

/** Into a pipe it would print only when 4 KiB are full. */
const MONITOR = ['stdbuf', '-oL', 'xtables-monitor', '--event', '-4'];
/** Ends the monitor with us, however we end (prctl(2), PR_SET_PDEATHSIG). */
const WITH_PARENT = ['setpriv', '--pdeathsig', 'KILL', '--'];

/**
 * Calls back after each change until the signal aborts, then resolves; rejects when this machine
 * does not tell. `prefix` goes before the command line.
 */
export async function watchRules(
  changed: () => void,
  signal: AbortSignal,
  prefix: readonly string[] = [],
): Promise<void> {
  let failures = 0;
  while (!signal.aborted) {
    const started = performance.now();
    const why = await monitor([...prefix, ...WITH_PARENT, ...MONITOR], changed, signal);
    failures = performance.now() - started < WORKED_MS ? failures + 1 : 0;
    if (signal.aborted) return;
    if (failures === FAILURES) throw systemError(`xtables-monitor: ${why}`);
    changed();
    await delay(RESTART_MS, undefined, { signal }).catch(() => undefined);
  }
}

/** Resolves with the reason when the program ended; it has by then, also when aborted. */
async function monitor(
  [file = '', ...args]: readonly string[],
  changed: () => void,
  signal: AbortSignal,
): Promise<string> {
  return new Promise((resolve) => {
    const child = spawn(file, args, {
      env: programEnvironment(),
      stdio: ['ignore', 'pipe', 'pipe'],
      signal,
      killSignal: 'SIGKILL',
    });
    let said = '';
    let failure: string | undefined;
    child.on('error', (error) => {
      failure = error.message;
      if (child.pid === undefined) resolve(failure);
    });
    // Without a descriptor left there are not even streams.
    if (child.pid === undefined) return;
    child.stdout.on('data', changed);
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-200);
    });
    child.on('close', (code) => {
      resolve(failure ?? `ended with code ${code ?? 'none'}: ${said.trim()}`);
    });
  });
}
