/** Samples of the native benchmark programs, gathered by group and cell. */
import { z } from 'zod';
import { readLine } from '../frame/run-lines.js';

const sample = z.object({
  /** Title of the table the cell stands in. */
  group: z.string(),
  /** The cell's name, unique in its group. */
  cell: z.string(),
  unit: z.string(),
  value: z.number(),
});
export type Sample = Readonly<z.infer<typeof sample>>;

/** All samples of one cell, in the order they were measured. */
export interface CellSamples {
  readonly group: string;
  readonly cell: string;
  readonly unit: string;
  readonly values: readonly number[];
}

/** Throws a system error that quotes the line when it is no sample. */
export function parseSample(line: string): Sample {
  return readLine(sample, 'a sample', line);
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
