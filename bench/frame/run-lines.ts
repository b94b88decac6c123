/** Native benchmark programs: they print a line of JSON for each sample (harness.h). */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { z } from 'zod';
import { systemError } from '../../src/errors.js';

/** Reads a line. Throws a system error that quotes it when it is not `what`. */
export function readLine<Schema extends z.ZodType>(
  schema: Schema,
  what: string,
  line: string,
): z.infer<Schema> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    value = undefined;
  }
  const read = schema.safeParse(value);
  if (read.success) return read.data;
  throw systemError(`not ${what}: ${JSON.stringify(line.slice(0, 200))}`);
}

/** Runs a program to its end and gives each line it prints; a system error when it fails. */
export async function runLines(
  argv: readonly string[],
  onLine: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const [file = '', ...args] = argv;
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'], signal });
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors = (errors + text).slice(-2_000);
  });
  const ended = new Promise<number>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
      resolve(code ?? 1);
    });
  });
  const lines = (async () => {
    for await (const line of createInterface({ input: child.stdout })) onLine(line);
  })();
  try {
    const [code] = await Promise.all([ended, lines]);
    signal.throwIfAborted();
    if (code !== 0)
      throw systemError(`${argv.join(' ')} ended with code ${code}: ${errors.trim()}`);
  } finally {
    child.kill('SIGKILL');
  }
}
