/** Results of benchmarks in JSON files: read by the schema of the benchmark that wrote them. */
import { readFileSync } from 'node:fs';
import type { z } from 'zod';
import { inputError, messageOf, type FlannelletteError } from '../../src/errors.js';

/** What a schema describes, immutable. */
export type DeepReadonly<T> = T extends string | number | boolean | null | undefined
  ? T
  : { readonly [K in keyof T]: DeepReadonly<T[K]> };

/** Throws an input error that names file and field, the latter as JSONPath writes it. */
export function readResult<Schema extends z.ZodType>(
  file: string,
  schema: Schema,
): z.infer<Schema> {
  let content: string;
  try {
    content = readFileSync(file, 'utf8');
  } catch (error) {
    throw inputError(file, '', `a file that can be read (${messageOf(error)})`);
  }
  let value: unknown;
  try {
    value = JSON.parse(content);
  } catch (error) {
    throw inputError(file, content.slice(0, 60), `JSON (${messageOf(error)})`);
  }
  const read = schema.safeParse(value);
  if (read.success) return read.data;
  throw refuse(file, value, read.error.issues);
}

function refuse(
  file: string,
  value: unknown,
  [issue]: readonly z.core.$ZodIssue[],
): FlannelletteError {
  if (issue === undefined) return inputError(file, value, 'a result');
  const { path } = issue;
  // A name that is not known is the value that is wrong.
  const found = issue.code === 'unrecognized_keys' ? issue.keys[0] : valueAt(value, path);
  const field = path.map((key) => (typeof key === 'number' ? `[${key}]` : `.${String(key)}`));
  const json = JSON.stringify(found) ?? '';
  // A long value is quoted by its beginning.
  const shown = json.length <= 60 ? found : `${json.slice(0, 57)}...`;
  return inputError(`${file}: $${field.join('')}`, shown, expectationOf(issue));
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (inner, key) => (inner as Record<PropertyKey, unknown> | undefined)?.[key],
    value,
  );
}

const TYPES: Readonly<Record<string, string>> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object',
  record: 'an object',
};

function expectationOf(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_type') return TYPES[issue.expected] ?? issue.expected;
  if (issue.code === 'invalid_value') {
    return issue.values.map((value) => JSON.stringify(value)).join(' or ');
  }
  if (issue.code === 'too_small') {
    const what = issue.origin === 'array' ? 'a list of' : 'a number of';
    return `${what} ${issue.minimum} or more`;
  }
  if (issue.code === 'unrecognized_keys') return 'a name that is known here';
  return issue.message;
}
