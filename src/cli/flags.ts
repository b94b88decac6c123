/**
 * Flags as flanneld takes them, which are Go's: one dash or two, `--flag=value` or `--flag value`,
 * booleans alone or as `--flag=false`. Each flag of `run` is also read from FLANNELD_NAME; the
 * command line wins over the environment, that over the default.
 *
 * A command line is first brought into its one form (`--flag=value`), which is where unknown flags are
 * found; the values are parsed after.
 */
import { FlannelletteError, inputError } from '../errors.js';
import { nearest } from '../nearest.js';

export interface Flag<T> {
  readonly name: string;
  /** One letter that means the same, as getopts(1) takes it: `-c -i` or `-ci`. */
  readonly short?: string;
  /** `<path>`; for a boolean, which needs no value, undefined. */
  readonly placeholder: string | undefined;
  /** Every value there is, where they are few. */
  readonly choices?: readonly string[];
  readonly help: string;
  /** What holds when the flag is not given. */
  readonly fallback: T;
  /** The default as the help shows it; undefined shows none. */
  readonly shownDefault: string | undefined;
  /** The value that the flag alone stands for; its value, if any, is the next word without a dash. */
  readonly alone?: string;
  /** Not listed in the help: between processes of ours only. */
  readonly hidden?: boolean;
  /** Not read from the environment. */
  readonly argumentOnly?: boolean;
  /** Why it does nothing here; it is taken all the same. */
  readonly ignored?: string;
  /** `values` has at least one element, in the order of the command line. */
  readonly parse: (field: string, values: readonly [string, ...string[]]) => T;
}

export type Flags = Readonly<Record<string, Flag<unknown>>>;
export type FlagValues<F extends Flags> = {
  readonly [K in keyof F]: F[K] extends Flag<infer T> ? T : never;
};

/** Raw values by flag name, as they stood on the command line. */
export type GivenFlags = ReadonlyMap<string, readonly [string, ...string[]]>;

interface Common {
  readonly short?: string;
  readonly placeholder?: string;
  /** An empty value counts as the flag not given; without this it is refused. */
  readonly emptyIsUnset?: boolean;
  /** An empty value is a value. */
  readonly emptyIsValue?: boolean;
  readonly hidden?: boolean;
  readonly argumentOnly?: boolean;
}

export function textFlag(name: string, help: string, more?: Common): Flag<string | undefined>;
export function textFlag(
  name: string,
  help: string,
  more: Common & { fallback: string },
): Flag<string>;
export function textFlag(
  name: string,
  help: string,
  more: Common & { fallback?: string } = {},
): Flag<string | undefined> {
  return {
    ...more,
    name,
    help,
    placeholder: more.placeholder ?? 'text',
    fallback: more.fallback,
    shownDefault: more.fallback,
    parse: (field, values) => {
      const value = last(values);
      if (value !== '' || more.emptyIsValue === true) return value;
      if (more.emptyIsUnset === true) return more.fallback;
      throw inputError(field, value, 'a value that is not empty');
    },
  };
}

export function listFlag(name: string, help: string, more: Common = {}): Flag<readonly string[]> {
  return {
    ...more,
    name,
    help,
    placeholder: more.placeholder ?? 'text',
    fallback: [],
    shownDefault: undefined,
    parse: (field, values) => {
      if (more.emptyIsUnset === true) return values.filter((value) => value !== '');
      if (values.includes('')) throw inputError(field, '', 'a value that is not empty');
      return values;
    },
  };
}

export function choiceFlag<const T extends string>(
  name: string,
  help: string,
  choices: readonly T[],
  fallback: T,
): Flag<T> {
  return {
    name,
    help,
    placeholder: choices.join('|'),
    choices,
    fallback,
    shownDefault: fallback,
    parse: (field, values) => {
      const found = choices.find((choice) => choice === last(values));
      if (found === undefined) throw inputError(field, last(values), choices.join(' or '));
      return found;
    },
  };
}

/** Several values of a few, separated by commas; the default is undefined. */
export function choicesFlag<const T extends string>(
  name: string,
  help: string,
  choices: readonly T[],
  most: number,
): Flag<readonly [T, ...T[]] | undefined> {
  return {
    name,
    help,
    placeholder: 'list',
    choices,
    fallback: undefined,
    shownDefault: undefined,
    parse: (field, values) => {
      const text = last(values);
      const found = text.split(',').map((word) => {
        const choice = choices.find((one) => one === word);
        if (choice === undefined) throw inputError(field, word, choices.join(' or '));
        return choice;
      });
      const [first, ...more] = found;
      if (first === undefined || found.length > most) {
        throw inputError(field, text, `at most ${most} separated by commas`);
      }
      return [first, ...more];
    },
  };
}

export function integerFlag(
  name: string,
  help: string,
  range: { readonly min: number; readonly max: number; readonly fallback: number },
  more: Common = {},
): Flag<number> {
  const { min, max, fallback } = range;
  return {
    ...more,
    name,
    help,
    placeholder: more.placeholder ?? 'number',
    fallback,
    shownDefault: String(fallback),
    parse: (field, values) => {
      const text = last(values);
      const value = parseInteger(text);
      if (!(value >= min && value <= max)) {
        throw inputError(field, text, `a whole number from ${min} to ${max}`);
      }
      return value;
    },
  };
}

/** What Go's strconv.ParseInt takes with base 0: `0x1f`, `0b1`, `0o17` and `017`, `1_000`, `+5`. */
function parseInteger(text: string): number {
  const match =
    /^([+-]?)(?:0(?:([xX])|([bB])|[oO]?)(_?[\da-fA-F]+(?:_[\da-fA-F]+)*)|([1-9]\d*(?:_\d+)*)|0)$/.exec(
      text,
    );
  if (match === null || text.length > 24) return Number.NaN;
  const [, sign, hex, binary, digits, decimal = '0'] = match;
  const radix = hex !== undefined ? '0x' : binary !== undefined ? '0b' : '0o';
  const value = Number((digits === undefined ? decimal : radix + digits).replaceAll('_', ''));
  return sign === '-' ? -value : value;
}

/** A TCP port that need not be given; undefined without the flag, `alone` for the flag alone. */
export function optionalPortFlag(
  name: string,
  help: string,
  alone: number,
): Flag<number | undefined> {
  return {
    name,
    help,
    placeholder: 'port',
    fallback: undefined,
    shownDefault: undefined,
    alone: String(alone),
    parse: (field, values) => {
      const text = last(values);
      const value = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
      if (!(value <= 65_535)) {
        throw inputError(field, text, 'a TCP port from 1 to 65535, or 0 for any that is free');
      }
      return value;
    },
  };
}

export function booleanFlag(
  name: string,
  help: string,
  fallback = false,
  more: Common = {},
): Flag<boolean> {
  return {
    ...more,
    name,
    help,
    placeholder: undefined,
    fallback,
    shownDefault: String(fallback),
    parse: (field, values) => {
      const text = last(values);
      // What Go's strconv.ParseBool takes.
      if (/^(1|t|T|true|TRUE|True)$/.test(text)) return true;
      if (/^(0|f|F|false|FALSE|False)$/.test(text)) return false;
      throw inputError(field, text, 'true or false');
    },
  };
}

/** As people write it: `--iface`, but `-v`. */
export function flagText(name: string): string {
  return name.length === 1 ? `-${name}` : `--${name}`;
}

/** `FLANNELD_SUBNET_FILE` for `subnet-file`. */
export function environmentName(flag: string): string {
  return `FLANNELD_${flag.replaceAll('-', '_').toUpperCase()}`;
}

/** True when the flag is on the command line or its variable says something. */
export function isGiven(
  flag: Flag<unknown>,
  given: GivenFlags,
  env: Readonly<Record<string, string | undefined>>,
): boolean {
  const values = given.get(flag.name);
  if (values !== undefined) return values.some((value) => value !== '');
  // flanneld takes an empty variable for one that is not set.
  return flag.argumentOnly !== true && (env[environmentName(flag.name)] ?? '') !== '';
}

export interface Grammar {
  /** The command's name, e.g. `run`. */
  readonly name: string;
  readonly flags: Flags;
}

/** Reads a command's arguments. Throws an input error that names the flag. */
export function readArguments(argv: readonly string[], grammar: Grammar): GivenFlags {
  const given = new Map<string, [string, ...string[]]>();
  const byName = new Map<string, Flag<unknown>>();
  for (const flag of Object.values(grammar.flags)) {
    byName.set(flag.name, flag);
    if (flag.short !== undefined) byName.set(flag.short, flag);
  }
  const words = argv.flatMap((argument) => splitLetters(argument, byName));
  for (let index = 0; index < words.length; index += 1) {
    const argument = words[index] ?? '';
    const match = /^--?([^-=][^=]*)(?:=(.*))?$/s.exec(argument);
    if (match?.[1] === undefined) {
      throw usageError(
        `unexpected argument ${JSON.stringify(argument)}: flannelette ${grammar.name} takes flags only; see flannelette ${grammar.name} --help`,
        argument,
      );
    }
    const flag = byName.get(match[1]);
    if (flag === undefined) throw unknownFlag(match[1], grammar);
    const text = flagText(flag.name);
    let value = match[2];
    if (value === undefined && flag.placeholder === undefined) value = 'true';
    if (value === undefined && flag.alone !== undefined) {
      const next = words[index + 1];
      const given = next !== undefined && !next.startsWith('-');
      value = given ? next : flag.alone;
      if (given) index += 1;
    }
    if (value === undefined) {
      index += 1;
      value = words[index];
      if (value === undefined || value.startsWith('--')) {
        throw inputError(text, undefined, `a value: ${text}=<${flag.placeholder}>`);
      }
    }
    const values = given.get(flag.name);
    if (values === undefined) given.set(flag.name, [value]);
    else values.push(value);
  }
  return given;
}

/**
 * `-ick KEY`, `-ickKEY` as getopts(1) takes them, where the command has one-letter flags: all but the
 * last boolean, and what follows a letter that needs a value is its value. What is nearly the name of a
 * flag is left as it is, to be told as a mistake.
 */
function splitLetters(argument: string, byName: ReadonlyMap<string, Flag<unknown>>): string[] {
  const text = /^-([^-=].*)$/s.exec(argument)?.[1];
  const name = text?.split('=', 1)[0] ?? '';
  if (text === undefined || name.length < 2 || byName.has(name)) return [argument];
  const names = [...byName.keys()].filter((known) => known.length > 1);
  if (nearest(name, names) !== undefined) return [argument];
  const words: string[] = [];
  for (let at = 0; at < text.length; at += 1) {
    const letter = text.charAt(at);
    const flag = byName.get(letter);
    if (flag?.short !== letter) return [argument];
    words.push(`-${letter}`);
    if (flag.placeholder === undefined) continue;
    const value = text.slice(at + 1);
    return value === '' ? words : [...words.slice(0, -1), `-${letter}=${value.replace(/^=/, '')}`];
  }
  return words;
}

/** Values of every flag: command line, else environment, else default. */
export function resolveFlags<F extends Flags>(
  flags: F,
  given: GivenFlags,
  env: Readonly<Record<string, string | undefined>>,
): FlagValues<F> {
  const entries = Object.entries(flags).map(([key, flag]): [string, unknown] => {
    const values = given.get(flag.name);
    if (values !== undefined) return [key, flag.parse(flagText(flag.name), values)];
    const name = environmentName(flag.name);
    const text = flag.argumentOnly === true ? undefined : env[name];
    // flanneld takes an empty variable for one that is not set.
    if (text === undefined || text === '') return [key, flag.fallback];
    return [key, flag.parse(`${name} (${flagText(flag.name)})`, [text])];
  });
  return Object.fromEntries(entries) as FlagValues<F>;
}

function unknownFlag(name: string, grammar: Grammar): FlannelletteError {
  const see = `see flannelette ${grammar.name} --help`;
  const names = Object.values(grammar.flags)
    .filter((flag) => flag.hidden !== true)
    .map((flag) => flag.name);
  const near = nearest(name, [...names, 'help']);
  // A hint says enough; a list of forty flags would hide it.
  if (near !== undefined) {
    const hint = `did you mean ${flagText(near)}?`;
    return usageError(`unknown flag --${name} (${hint}); ${see}`, name);
  }
  const expected = [...names, 'help'].map(flagText).join(', ');
  return usageError(`unknown flag --${name}: expected one of ${expected}; ${see}`, name);
}

export function usageError(message: string, value: unknown): FlannelletteError {
  return new FlannelletteError('input', message, { value });
}

function last(values: readonly [string, ...string[]]): string {
  return values[values.length - 1] ?? values[0];
}
