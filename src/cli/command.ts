/** What a command is to the program: its flags, its help, its work. */
import type { ExitCode } from '../errors.js';
import type { GivenFlags, Grammar } from './flags.js';
import type { CliIo } from './io.js';

export interface Command extends Grammar {
  /** One line for the list of commands. */
  readonly summary: string;
  readonly description: string;
  /** Examples, environment, exit codes: printed after the flags. */
  readonly footer: string;
  /** `argv` is what stood after the command's name. */
  readonly run: (given: GivenFlags, io: CliIo, argv: readonly string[]) => Promise<ExitCode>;
  /** Tells of what was thrown, or throws it on for the program to tell: one line on standard error. */
  readonly fail?: (error: unknown, argv: readonly string[], io: CliIo) => ExitCode;
}

/** Commands under a common name: `flannelette bench copies`. Their own names are whole: `bench copies`. */
export interface CommandGroup {
  readonly name: string;
  /** What its commands are, for errors. */
  readonly noun: string;
  readonly summary: string;
  readonly description: string;
  readonly commands: readonly Command[];
}

/** The whole program, as its help lists it. */
export interface Program {
  readonly description: string;
  readonly commands: readonly Command[];
  readonly groups: readonly CommandGroup[];
  /** Examples, exit codes: printed last. */
  readonly footer: string;
}
