import { isJournal, PRIORITY } from '../journal.js';

/** What a command touches of its process, so that tests can look on. */
export interface CliIo {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Writes text as it is: the caller ends its lines. */
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
}

export function processIo(): CliIo {
  const priority = isJournal(process.env, process.stderr.fd) ? `<${PRIORITY.error}>` : '';
  return {
    env: process.env,
    out: (text) => {
      process.stdout.write(text);
    },
    err: (text) => {
      process.stderr.write(priority + text);
    },
  };
}
