/**
 * The firewall's programs: iptables(8), iptables-save(8), iptables-restore(8), nft(8).
 *
 * Always an argument list, never a shell, and rules go in on standard input. LC_ALL=C, because what
 * they print is compared; /usr/sbin and /sbin are searched too, which a service's PATH may lack.
 */
import { execFile } from 'node:child_process';
import { errnoOf, messageOf, systemError } from '../errors.js';

/** Milliseconds; a program that takes longer is killed. */
const LIMIT_MS = 10_000;
/** Bytes of output. The nat table of a node with 50,000 services prints tens of MiB. */
const MAX_OUTPUT = 256 * 1024 * 1024;
/** Characters of standard error that go into a message. */
const KEPT = 600;
/** What env(1), nsenter(8) and the like end with when the program they should start is missing. */
const NOT_FOUND = 127;

export interface ProgramOptions {
  /** Put before the command line, e.g. nsenter(8) and its arguments. */
  readonly prefix?: readonly string[];
  /** For its standard input; default empty. */
  readonly input?: string;
  /** Ends the program when it aborts. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Runs a program to its end and returns its standard output. Throws a system error that names the
 * command, how it ended and what it said last; `code` is ENOENT when the program is not installed.
 */
export async function runProgram(
  program: string,
  args: readonly string[],
  { prefix = [], input = '', signal }: ProgramOptions = {},
): Promise<string> {
  const [file = program, ...rest] = [...prefix, program, ...args];
  // Node leaves its listener on the signal of a program that could not be started: not on the caller's.
  const own = new AbortController();
  const abort = (): void => {
    own.abort(signal?.reason);
  };
  if (signal?.aborted === true) abort();
  signal?.addEventListener('abort', abort);
  return new Promise<string>((resolve, reject) => {
    const options = {
      env: programEnvironment(),
      maxBuffer: MAX_OUTPUT,
      timeout: LIMIT_MS,
      killSignal: 'SIGKILL' as const,
      signal: own.signal,
    };
    const child = execFile(file, rest, options, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(failure([file, ...rest].join(' '), program, prefix.length > 0, error, stderr));
    });
    // A program that ends without reading has its say in its exit code.
    child.stdin?.on('error', () => undefined).end(input);
  }).finally(() => signal?.removeEventListener('abort', abort));
}

export function programEnvironment(): NodeJS.ProcessEnv {
  return { ...process.env, LC_ALL: 'C', PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` };
}

/** True for the error of a program that is not there. */
export function isMissing(error: unknown): boolean {
  return errnoOf(error) === 'ENOENT';
}

interface Failure extends Error {
  readonly code?: number | string | null | undefined;
  readonly killed?: boolean | undefined;
  readonly signal?: NodeJS.Signals | null | undefined;
}

function failure(
  command: string,
  program: string,
  prefixed: boolean,
  error: Failure,
  stderr: string,
): Error {
  if (error.code === (prefixed ? NOT_FOUND : 'ENOENT')) {
    const name = program === 'nft' ? 'nftables' : 'iptables';
    return systemError(`${program} is not installed: install the Debian package ${name}`, {
      field: program,
      code: 'ENOENT',
      cause: error,
    });
  }
  const said = messageOf(stderr.trim().slice(-KEPT));
  const text = `${command}: ${ending(error)}${said === '' ? '' : `: ${said}`}`;
  return systemError(text, { field: program, cause: error });
}

function ending({ code, killed, signal, message }: Failure): string {
  if (typeof code === 'number') return `ended with code ${code}`;
  if (code !== undefined && code !== null) return `cannot be run: ${message}`;
  if (killed === true) return `did not end within ${LIMIT_MS / 1000} s`;
  return `was ended by ${signal ?? 'a signal'}`;
}
