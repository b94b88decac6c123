/** What the isolated processes of `flannelette lab` and `flannelette trace` have in common. */
import { messageOf, type ExitCode } from '../errors.js';

/** The command that is this flannelette. */
export function ownCommand(): string[] {
  return [process.execPath, ...process.execArgv, process.argv[1] ?? ''];
}

/** Tells the parent process; resolves when it is sent, or at once when there is no parent. */
export function tellParent(message: object): Promise<void> {
  return new Promise((resolve, reject) => {
    if (process.send === undefined) resolve();
    else
      process.send(message, (error: Error | null) => {
        if (error === null) resolve();
        else reject(error);
      });
  });
}

export interface Output {
  /** For people: to standard output, or to standard error beside JSON. */
  readonly print: (text: string) => void;
  /** A line with the seconds since the start. */
  readonly progress: (line: string) => void;
  /** The result as the last line of standard output, when it was asked for. */
  readonly json: (result: object) => void;
}

/**
 * Runs the work of an isolated process; `about` is in the JSON of a failure. What is for people goes
 * to standard error when standard output is for a program.
 */
export async function runIsolatedPart(
  json: boolean,
  about: object,
  work: (output: Output) => Promise<ExitCode>,
  forProgram = json,
): Promise<ExitCode> {
  const started = Date.now();
  const print = (text: string): void => {
    (forProgram ? process.stderr : process.stdout).write(text);
  };
  const output: Output = {
    print,
    progress: (line) => {
      print(`[${((Date.now() - started) / 1000).toFixed(1).padStart(5)} s] ${line}\n`);
    },
    json: (result) => {
      if (json) process.stdout.write(`${JSON.stringify(result)}\n`);
    },
  };
  try {
    return await work(output);
  } catch (error) {
    // What began ends with its line, also when it has no result.
    output.json({ ok: false, ...about, error: messageOf(error) });
    throw error;
  } finally {
    // The channel to the outside would keep this process alive.
    if (process.connected) process.disconnect();
  }
}
