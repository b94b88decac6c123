/**
 * Samples of the native benchmark programs: JSON lines on their standard output, one sample each
 * (bench/frame/harness.h), gathered by group and cell.
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { systemError } from '../../src/errors.js';

export interface Sample {
  /** Title of the table the cell stands in. */
  readonly group: string;
  /** The cell's name, unique in its group. */
  readonly cell: string;
  readonly unit: string;
  readonly value: number;
}

/** All samples of one cell, in the order they were measured. */
export interface CellSamples {
  readonly group: string;
  readonly cell: string;
  readonly unit: string;
  readonly values: readonly number[];
}

/** Throws a system error that quotes the line when it is no sample. */
export function parseSample(line: string): Sample {
  let parsed: unknown;
  try {
    parsed = JSON.parse(line);
  } catch {
    parsed = undefined;
  }
  if (isSample(parsed)) return parsed;
  throw systemError(`not a sample: ${JSON.stringify(line.slice(0, 200))}`);
}

function isSample(value: unknown): value is Sample {
  if (typeof value !== 'object' || value === null) return false;
  const { group, cell, unit, value: number } = value as Record<string, unknown>;
  return (
    typeof group === 'string' &&
    typeof cell === 'string' &&
    typeof unit === 'string' &&
    typeof number === 'number' &&
    Number.isFinite(number)
  );
}

/** Cells in the order of their names, numbers in them by size; groups as they first came. */
export function gather(samples: readonly Sample[]): CellSamples[] {
  const cells = new Map<string, { group: string; cell: string; unit: string; values: number[] }>();
  const groups: string[] = [];
  for (const { group, cell, unit, value } of samples) {
    if (!groups.includes(group)) groups.push(group);
    const key = JSON.stringify([group, cell]);
    const found = cells.get(key);
    if (found === undefined) cells.set(key, { group, cell, unit, values: [value] });
    else found.values.push(value);
  }
  const order = new Intl.Collator('en', { numeric: true });
  return [...cells.values()].sort(
    (a, b) => groups.indexOf(a.group) - groups.indexOf(b.group) || order.compare(a.cell, b.cell),
  );
}

/** Runs a program to its end and gives each line it prints; a system error when it fails. */
export async function runLines(
  argv: readonly string[],
  onLine: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const [file = '', ...args] = argv;
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'], signal });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-2_000);
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
    if (code !== 0) throw systemError(`${argv.join(' ')} ended with code ${code}: ${said.trim()}`);
  } finally {
    child.kill('SIGKILL');
  }
}
