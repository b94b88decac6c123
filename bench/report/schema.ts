/** Reads JSON into a known shape. What does not fit is an input error that names the field. */
import { inputError, type FlannelletteError } from '../../src/errors.js';

/** `field` is the value's path as JSONPath writes it, e.g. `copies.json: $.crossings[2].fit.a`. */
export type Reader<T> = (value: unknown, field: string) => T;

export const text: Reader<string> = (value, field) => {
  if (typeof value !== 'string') throw wrong(field, value, 'a text');
  return value;
};

export const number: Reader<number> = (value, field) => {
  if (typeof value !== 'number' || !Number.isFinite(value)) {
    throw wrong(field, value, 'a number');
  }
  return value;
};

export function wholeNumber(min: number, max: number): Reader<number> {
  return (value, field) => {
    const given = number(value, field);
    if (!Number.isInteger(given) || given < min || given > max) {
      throw wrong(field, value, `a whole number from ${min} to ${max}`);
    }
    return given;
  };
}

export const flag: Reader<boolean> = (value, field) => {
  if (typeof value !== 'boolean') throw wrong(field, value, 'true or false');
  return value;
};

export function oneOf<const T extends string | number>(choices: readonly T[]): Reader<T> {
  return (value, field) => {
    const found = choices.find((choice) => choice === value);
    if (found === undefined) {
      throw wrong(field, value, choices.map((choice) => JSON.stringify(choice)).join(' or '));
    }
    return found;
  };
}

export function listOf<T>(reader: Reader<T>, atLeast = 0): Reader<readonly T[]> {
  return (value, field) => {
    if (!Array.isArray(value) || value.length < atLeast) {
      throw wrong(field, value, atLeast === 0 ? 'a list' : `a list of ${atLeast} or more`);
    }
    return value.map((item: unknown, index) => reader(item, `${field}[${index}]`));
  };
}

/** `absent` is what stands in JSON for none: null, or undefined for a field left out. */
export function orElse<T, A extends null | undefined>(reader: Reader<T>, absent: A): Reader<T | A> {
  return (value, field) => (value === absent ? absent : reader(value, field));
}

/** Fields in the order given; others are left out. */
export function objectOf<T extends object>(readers: {
  readonly [K in keyof T]-?: Reader<T[K]>;
}): Reader<T> {
  return (value, field) => {
    const fields = asObject(value, field);
    return Object.fromEntries(
      Object.entries<Reader<unknown>>(readers).map(([name, reader]) => [
        name,
        reader(fields[name], `${field}.${name}`),
      ]),
    ) as T;
  };
}

/** An object whose fields are any of the names that `key` reads. */
export function recordOf<K extends string, T>(
  key: Reader<K>,
  reader: Reader<T>,
): Reader<Readonly<Partial<Record<K, T>>>> {
  return (value, field) =>
    Object.fromEntries(
      Object.entries(asObject(value, field)).map(([name, item]) => [
        key(name, field),
        reader(item, `${field}.${name}`),
      ]),
    ) as Partial<Record<K, T>>;
}

function asObject(value: unknown, field: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw wrong(field, value, 'an object');
  }
  return value as Record<string, unknown>;
}

/** A long value is quoted by its beginning. */
function wrong(field: string, value: unknown, expected: string): FlannelletteError {
  const said = JSON.stringify(value) ?? '';
  return inputError(field, said.length <= 60 ? value : `${said.slice(0, 57)}...`, expected);
}
