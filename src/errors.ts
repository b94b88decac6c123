/**
 * What went wrong, in a form a person can act on and a program can test.
 *
 * Every error that bad input or the machine can cause is a FlannelletteError: one line that names
 * the field, the value and what was expected. Anything else that reaches the top is a bug.
 */

/** How the process ends; documented in docs/operations.md. */
export const ExitCode = {
  /** Asked to stop (SIGINT, SIGTERM), or the command did its work. */
  ok: 0,
  /** The machine refused: no privilege, no device, port taken, store unreadable, a check failed. */
  failure: 1,
  /** The caller's input is wrong: unknown flag, bad value, bad network configuration. */
  usage: 2,
  /** `run` left port and routes to another flannel (`step-aside`), and is not to be started again. */
  steppedAside: 3,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

export type ErrorKind = 'input' | 'system';

export interface ErrorDetail {
  /** The flag, JSON field or system call the error is about, e.g. `--mode`, `SubnetLen`, `bind`. */
  readonly field?: string;
  /** The offending value as the user wrote it. */
  readonly value?: unknown;
  /** errno name (`EADDRINUSE`) when the kernel refused. */
  readonly code?: string;
  readonly cause?: unknown;
}

/**
 * An error of bad input (exit code 2) or of the machine (exit code 1), told in one line; `field` names the
 * option, key or system call, `code` the errno where there is one.
 *
 * @example
 * ```ts
 * if (error instanceof FlannelletteError && error.kind === 'input') console.error(error.field);
 * ```
 */
export class FlannelletteError extends Error {
  override readonly name = 'FlannelletteError';
  readonly kind: ErrorKind;
  readonly field: string | undefined;
  readonly value: unknown;
  readonly code: string | undefined;

  constructor(kind: ErrorKind, message: string, detail: ErrorDetail = {}) {
    super(message, detail.cause === undefined ? undefined : { cause: detail.cause });
    this.kind = kind;
    this.field = detail.field;
    this.value = detail.value;
    this.code = detail.code;
  }

  get exitCode(): ExitCode {
    return this.kind === 'input' ? ExitCode.usage : ExitCode.failure;
  }
}

/** `FIELD: VALUE is not valid: expected EXPECTED` as one line. */
export function inputError(field: string, value: unknown, expected: string): FlannelletteError {
  return new FlannelletteError(
    'input',
    `${field}: ${show(value)} is not valid: expected ${expected}`,
    { field, value },
  );
}

/** The machine or the store refused; `message` says what, why and what to do about it. */
export function systemError(message: string, detail: ErrorDetail = {}): FlannelletteError {
  return new FlannelletteError('system', message, detail);
}

/** A file that `field` names, or is for, cannot be read. */
export function cannotRead(field: string, path: string, error: unknown): FlannelletteError {
  const code = errnoOf(error);
  return systemError(`${field}: cannot read ${path}: ${messageOf(error)}`, {
    field,
    value: path,
    cause: error,
    ...(code === undefined ? {} : { code }),
  });
}

/** The message of anything thrown, as one line without control characters. */
export function messageOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return escapeControls(text.replaceAll(/\s*\n\s*/g, '; '));
}

/** A value from elsewhere must not break the line, nor speak to the terminal. */
export function escapeControls(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, (control) => {
    const short = JSON.stringify(control).slice(1, -1);
    // JSON leaves DEL and the second set of control characters as they are.
    return short === control ? `\\u${control.charCodeAt(0).toString(16).padStart(4, '0')}` : short;
  });
}

/** The errno name of a Node or addon error (`ENOENT`), if it has one. */
export function errnoOf(error: unknown): string | undefined {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') {
    return error.code;
  }
  return undefined;
}

/** Longest value shown whole: it may be somebody else's, and of any length. */
const MAX_SHOWN = 300;

function show(value: unknown): string {
  const text = escapeControls(textOf(value));
  return text.length <= MAX_SHOWN ? text : `${text.slice(0, MAX_SHOWN)}...`;
}

function textOf(value: unknown): string {
  if (value === undefined) return '(missing)';
  // Whatever JSON can say, and the type of what it cannot (functions, symbols, cycles, great depth).
  try {
    return JSON.stringify(value) ?? typeof value;
  } catch {
    return typeof value;
  }
}
