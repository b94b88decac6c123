/**
 * One logger for the daemon: structured lines on standard error, so that standard output stays for
 * what a command prints. A terminal gets readable text, anything else (journald, a file) JSON.
 */
import { pino, type Logger } from 'pino';
import pretty from 'pino-pretty';

export type { Logger } from 'pino';

export interface LogOptions {
  /** flanneld's `-v`: 0 is info, 1 debug, 2 or more trace. */
  readonly verbosity?: number;
}

export function createLogger(options: LogOptions = {}): Logger {
  const verbosity = options.verbosity ?? 0;
  const level = verbosity >= 2 ? 'trace' : verbosity === 1 ? 'debug' : 'info';
  const destination = process.stderr.isTTY
    ? pretty({ destination: 2, sync: true, ignore: 'pid,hostname', translateTime: 'HH:MM:ss.l' })
    : pino.destination({ fd: 2, sync: true });
  return pino({ level, base: null }, destination);
}

/** For embedders and tests that want no output. */
export function silentLogger(): Logger {
  return pino({ level: 'silent' });
}
