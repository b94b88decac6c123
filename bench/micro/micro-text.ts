/** The micro benchmarks' results for a terminal and as Markdown. */
import { estimate } from '../frame/stats.js';
import type { Machine } from '../frame/machine.js';
import type { CellSamples } from './samples.js';
import { SPREAD_METHOD, spreadOf } from '../frame/spread.js';
import {
  fixed,
  machineFacts,
  markdownFacts,
  markdownHead,
  markdownTable,
  textFacts,
  textTable,
  wrap,
  type Fact,
  type ReportTable,
} from '../frame/table.js';

interface MicroEnvironment extends Machine {
  readonly rounds: number;
}

const METHOD = [
  'Loops over the native core and over operations of the control plane, without a kernel in them. Each native program measures every cell once a round, in a new random order each round, pinned to a CPU, by the monotonic clock, after a round that does not count. The operations of the control plane are measured in one process, round by round, each time the median of some samples.',
  SPREAD_METHOD,
  '*Latency* chains lookups so that nothing overlaps; *throughput* lets the processor overlap them. A cell measured again shows the noise. The reader during changes looks batches of 64 random destinations up without a pause on one CPU, while another publishes each change on its own; its longest batch includes whatever else interrupted it, as the line without changes shows.',
] as const;

export function renderMicroText(
  environment: MicroEnvironment,
  cells: readonly CellSamples[],
): string {
  return [
    ...textFacts(describe(environment)),
    '',
    wrap(SPREAD_METHOD),
    '',
    ...tablesOf(cells).map(textTable),
    '',
  ].join('\n');
}

export function renderMicroMarkdown(
  environment: MicroEnvironment,
  cells: readonly CellSamples[],
): string {
  return [
    ...markdownHead('Micro benchmarks'),
    ...METHOD.flatMap((paragraph) => [paragraph, '']),
    ...markdownFacts(describe(environment)),
    ...tablesOf(cells).flatMap((table) => ['', ...markdownTable(table)]),
    '',
  ].join('\n');
}

function tablesOf(cells: readonly CellSamples[]): ReportTable[] {
  return [...new Set(cells.map(({ group }) => group))].map((group) => ({
    title: `${group.charAt(0).toUpperCase()}${group.slice(1)}`,
    ...tableOf(cells.filter((cell) => cell.group === group)),
  }));
}

function tableOf(cells: readonly CellSamples[]): Pick<ReportTable, 'columns' | 'rows'> {
  const found = cells.map(({ cell, unit, values }) => ({ cell, unit, of: estimate(values) }));
  const bounds = spreadOf(found.map(({ of }) => of));
  return {
    columns: ['', 'median', bounds.title],
    rows: found.map(({ cell, unit, of }) => [
      cell,
      `${significant(of.median)} ${unit}`,
      bounds.text(of, significant),
    ]),
  };
}

function describe(environment: MicroEnvironment): Fact[] {
  return [...machineFacts(environment), ['Rounds', `${environment.rounds}, interleaved`]];
}

/** Three significant digits, and all digits before the point. */
function significant(value: number): string {
  const before = Math.max(1, Math.floor(Math.log10(Math.abs(value) || 1)) + 1);
  return fixed(value, Math.max(0, 3 - before));
}
