/**
 * Programs the lab runs: always an argument list, never a shell; always bounded in time; a failure
 * names the command and says what it printed.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { systemError } from '../errors.js';

export interface RunOptions {
  /** Milliseconds until the program is killed; default 10,000. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** Exit codes that are no failure; default 0. */
  readonly accept?: readonly number[];
  readonly input?: string;
}

export interface RunResult {
  readonly stdout: string;
  readonly stderr: string;
  readonly code: number;
}

/** The command line that runs `argv` in a named network namespace, or in our own. */
export function inNamespace(namespace: string | undefined, argv: readonly string[]): string[] {
  if (namespace === undefined) return [...argv];
  return ['nsenter', `--net=/run/netns/${namespace}`, '--', ...argv];
}

/** Runs a program to its end. */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const program = new Program(argv, options.input);
  const timeoutMs = options.timeoutMs ?? 10_000;
  const stop = (): void => {
    program.kill('SIGKILL');
  };
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    stop();
  }, timeoutMs);
  options.signal?.addEventListener('abort', stop);
  try {
    const code = await program.ended;
    options.signal?.throwIfAborted();
    if (timedOut) throw failure(argv, `did not end within ${timeoutMs / 1000} s`, program);
    if (!(options.accept ?? [0]).includes(code)) {
      throw failure(argv, `ended with code ${code}`, program);
    }
    return { stdout: program.stdout, stderr: program.stderr, code };
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener('abort', stop);
  }
}

function failure(argv: readonly string[], what: string, program: Program): Error {
  const said = (program.stderr.trim() || program.stdout.trim()).slice(-600);
  return systemError(`${argv.join(' ')}: ${what}${said === '' ? '' : `: ${said}`}`);
}

/** A program that runs beside the lab; what it prints is kept (the last 256 KiB of each stream). */
export class Program {
  readonly argv: readonly string[];
  readonly pid: number | undefined;
  /** The exit code; 128 + n when signal n ended it, 127 when it could not start. */
  readonly ended: Promise<number>;
  stdout = '';
  stderr = '';
  readonly #child: ChildProcess;
  #running = true;

  constructor(argv: readonly string[], input?: string) {
    this.argv = argv;
    const [file = '', ...args] = argv;
    this.#child = spawn(file, args, {
      // In a session of its own: Ctrl-C is for the lab, which ends its programs in order.
      detached: true,
      stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    });
    this.pid = this.#child.pid;
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout = (this.stdout + text).slice(-KEPT);
    });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr = (this.stderr + text).slice(-KEPT);
    });
    if (input !== undefined) this.#child.stdin?.on('error', () => undefined).end(input);
    this.ended = new Promise((resolve) => {
      this.#child.on('error', (error) => {
        this.stderr += error.message;
        this.#running = false;
        resolve(127);
      });
      this.#child.on('close', (code, signal) => {
        this.#running = false;
        resolve(code ?? (signal === null ? 1 : 128 + (SIGNALS[signal] ?? 0)));
      });
    });
  }

  get running(): boolean {
    return this.#running;
  }

  kill(signal: NodeJS.Signals): void {
    if (this.#running) this.#child.kill(signal);
  }

  /** Asks it to end, waits, and kills it when it does not; resolves with the exit code. */
  async stop(graceMs = 3_000): Promise<number> {
    this.kill('SIGTERM');
    const timer = setTimeout(() => {
      this.kill('SIGKILL');
    }, graceMs);
    const code = await this.ended;
    clearTimeout(timer);
    return code;
  }
}

const KEPT = 256 * 1024;
const SIGNALS: Partial<Record<NodeJS.Signals, number>> = { SIGINT: 2, SIGKILL: 9, SIGTERM: 15 };

/** Asks again every 20 ms until the answer is defined; a system error after `deadlineMs`. */
export async function waitFor<T>(
  what: string,
  deadlineMs: number,
  probe: () => Promise<T | undefined> | T | undefined,
): Promise<T> {
  const deadline = Date.now() + deadlineMs;
  for (;;) {
    const answer = await probe();
    if (answer !== undefined) return answer;
    if (Date.now() > deadline) throw systemError(`${what}: not within ${deadlineMs / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
