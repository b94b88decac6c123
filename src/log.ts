/**
 * One logger for the daemon: one line an event on standard error, so that standard output stays for
 * what a command prints. By default a terminal gets text, anything else JSON. Where standard error
 * is systemd's journal each line begins with its priority.
 */
import { pino, type Logger } from 'pino';
import { isJournal, PRIORITY, type Priority } from './journal.js';
import type { LogFormat } from './log-format.js';
import { formatEvent } from './log-text.js';

export type { Logger } from 'pino';

export interface LogOptions {
  /** flanneld's `-v`: 0 is info, 1 debug, 2 or more trace. */
  readonly verbosity?: number;
  /** Default text on a terminal, else JSON. */
  readonly format?: LogFormat | undefined;
}

const STDERR = 2;

/**
 * A logger on standard error, one line an event. Verbosity as flanneld's -v: 0 info, 1 debug, 2 and more
 * trace.
 *
 * @example
 * ```ts
 * const log = createLogger({ verbosity: 1, format: 'json' });
 * ```
 */
export function createLogger(options: LogOptions = {}): Logger {
  const verbosity = options.verbosity ?? 0;
  const level = verbosity >= 2 ? 'trace' : verbosity === 1 ? 'debug' : 'info';
  const sink = pino.destination({ fd: STDERR, sync: true });
  const render = renderer(options.format ?? (process.stderr.isTTY ? 'text' : 'json'));
  if (render === undefined) return pino({ level, base: null }, sink);
  return pino({ level, base: null }, { write: (line: string) => sink.write(render(line)) });
}

/**
 * For embedders and tests that want no output.
 *
 * @example
 * ```ts
 * new Daemon({ store: { kind: 'file', path: '/srv/leases.json' } }, silentLogger());
 * ```
 */
export function silentLogger(): Logger {
  return pino({ level: 'silent' });
}

/** What becomes of pino's line; undefined for nothing. */
function renderer(format: LogFormat): ((line: string) => string) | undefined {
  const journal = isJournal(process.env, STDERR);
  const colour = process.stderr.isTTY && !process.env['NO_COLOR'] && process.env['TERM'] !== 'dumb';
  const style = { time: !journal, colour };
  const show = format === 'text' ? (line: string) => formatEvent(line, style) : undefined;
  if (!journal) return show;
  return (line) => `<${priorityOf(line)}>${show?.(line) ?? line}`;
}

/** pino writes the level first. */
function priorityOf(line: string): Priority {
  const level = Number(/^\{"level":(\d+)/.exec(line)?.[1]);
  if (level >= 60) return PRIORITY.critical;
  if (level >= 50) return PRIORITY.error;
  if (level >= 40) return PRIORITY.warning;
  return level >= 30 ? PRIORITY.info : PRIORITY.debug;
}
