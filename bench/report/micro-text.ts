/** The micro benchmarks' results for a terminal and as Markdown. */
import { estimate } from '../lab/stats.js';
import type { Machine } from '../command.js';
import type { CellSamples } from '../micro/samples.js';
import {
  fixed,
  machineFacts,
  markdownFacts,
  markdownHead,
  markdownTable,
  textFacts,
  textTable,
  type Fact,
  type ReportTable,
} from './table.js';

export interface MicroEnvironment extends Machine {
  readonly node: string;
  readonly rounds: number;
}

export function renderMicroText(
  environment: MicroEnvironment,
  cells: readonly CellSamples[],
): string {
  return [...textFacts(describe(environment)), '', ...tablesOf(cells).map(textTable), ''].join(
    '\n',
  );
}

export function renderMicroMarkdown(
  environment: MicroEnvironment,
  cells: readonly CellSamples[],
): string {
  return [
    ...markdownHead('Micro benchmarks'),
    ...markdownFacts(describe(environment)),
    ...tablesOf(cells).flatMap((table) => ['', ...markdownTable(table)]),
    '',
  ].join('\n');
}

function tablesOf(cells: readonly CellSamples[]): ReportTable[] {
  return [...new Set(cells.map(({ group }) => group))].map((group) => ({
    title: `${group.charAt(0).toUpperCase()}${group.slice(1)}`,
    columns: ['', 'median', '95 % interval'],
    rows: cells.filter((cell) => cell.group === group).map(rowOf),
  }));
}

function rowOf({ cell, unit, values }: CellSamples): string[] {
  const { median, low, high } = estimate(values);
  return [cell, `${significant(median)} ${unit}`, `${significant(low)} to ${significant(high)}`];
}

function describe(environment: MicroEnvironment): Fact[] {
  return [
    ...machineFacts(environment),
    ['Node', environment.node],
    ['Rounds', `${environment.rounds}, interleaved`],
  ];
}

/** Three significant digits, and all digits before the point. */
function significant(value: number): string {
  const before = Math.max(1, Math.floor(Math.log10(Math.abs(value) || 1)) + 1);
  return fixed(value, Math.max(0, 3 - before));
}
