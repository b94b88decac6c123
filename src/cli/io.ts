import { text } from 'node:stream/consumers';
import { isJournal, PRIORITY } from '../journal.js';
import type { ProcessSignals } from './signals.js';

/** What a command touches of its process, so that tests can look on. */
export interface CliIo {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Writes text as it is: the caller ends its lines. */
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  /** All of standard input; empty on a terminal. */
  readonly input?: () => Promise<string>;
  /** Signals of a process that is the command's alone. */
  readonly signals?: ProcessSignals | undefined;
  /** Why the process still has the privileges that it was to give up. */
  readonly privilegesKept?: string | undefined;
}

export function processIo(signals?: ProcessSignals, privilegesKept?: string): CliIo {
  const priority = isJournal(process.env, process.stderr.fd) ? `<${PRIORITY.error}>` : '';
  return {
    env: process.env,
    signals,
    privilegesKept,
    input: async () => (process.stdin.isTTY ? '' : text(process.stdin)),
    out: (words) => {
      process.stdout.write(words);
    },
    err: (words) => {
      process.stderr.write(priority + words);
    },
  };
}
