/**
 * What Node itself would print of a daemon's process, in the daemon's log instead: warnings, which
 * are for programmers and not for operators, and the error that was not caught.
 */
import { ExitCode, messageOf } from '../errors.js';
import type { Logger } from '../log.js';

/** Warnings about the program's own code; an operator can do nothing about them. */
const FOR_PROGRAMMERS = ['DeprecationWarning', 'ExperimentalWarning'];

/** Returns what gives Node its own behaviour back. */
export function logProcessEvents(log: Logger): () => void {
  const before = process.listeners('warning');
  const warn = (warning: Error & { readonly code?: string }): void => {
    const level = FOR_PROGRAMMERS.includes(warning.name) ? 'debug' : 'warn';
    const { name, code } = warning;
    log[level]({ warning: name, ...(code === undefined ? {} : { code }) }, messageOf(warning));
  };
  const crash = (error: unknown): void => {
    logUnexpected(log, error);
    process.exit(ExitCode.failure);
  };
  process.removeAllListeners('warning');
  process.on('warning', warn).on('uncaughtException', crash);
  return () => {
    process.off('warning', warn).off('uncaughtException', crash);
    for (const listener of before) process.on('warning', listener);
  };
}

/** An error that is a mistake of this program: with its stack, in one line. */
export function logUnexpected(log: Logger, error: unknown): void {
  const stack = error instanceof Error ? error.stack : undefined;
  log.fatal({ stack }, `unexpected error, please report it: ${messageOf(error)}`);
}
