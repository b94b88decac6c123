/**
 * The command line's one way to the benchmarks (`flannelette bench NAME`). src/cli imports it when such a
 * command runs: the installed package has no benchmarks.
 */
import type { ExitCode } from '../src/errors.js';
import type { CopiesOptions } from './copies/copies.js';
import type { Outputs, Typed } from './frame/frame.js';
import type { ModesOptions } from './overlays/overlays.js';
import type { ReportFiles } from './report/report.js';

export async function benchCopies(
  options: CopiesOptions & Outputs,
  typed: Typed,
): Promise<ExitCode> {
  const { copies } = await import('./copies/copies.js');
  return copies.run(options, typed);
}

export async function benchModes(options: ModesOptions & Outputs, typed: Typed): Promise<ExitCode> {
  const { overlays, modesRun } = await import('./overlays/overlays.js');
  const { json, csv, write, report } = options;
  return overlays.run({ ...modesRun(options), json, csv, write, report }, typed);
}

/** Draws the results of earlier runs. */
export async function benchReport(files: ReportFiles, page: string): Promise<ExitCode> {
  const { writeReport } = await import('./report/report.js');
  return writeReport(files, page);
}
