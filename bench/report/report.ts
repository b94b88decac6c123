/** `flannelette bench report`: the HTML report from the JSON files of earlier runs. */
import { ExitCode, inputError } from '../../src/errors.js';
import { writeOutput } from '../../src/host/atomic-file.js';
import { copiesSchema } from '../copies/copies-result.js';
import { readResult } from '../frame/result-file.js';
import { overlaysSchema } from '../overlays/overlays-result.js';
import { drawReport, type ReportParts } from './draw.js';

/** What `bench copies --json` and `bench modes --json` wrote. */
export interface ReportFiles {
  readonly copies?: string | undefined;
  readonly modes?: string | undefined;
}

export async function writeReport(files: ReportFiles, page: string): Promise<ExitCode> {
  await writeOutput(page, drawReport(readReport(files)));
  process.stdout.write(`wrote ${page}\n`);
  return ExitCode.ok;
}

/** Throws an input error that names file and field, also when the results are of two machines. */
export function readReport(files: ReportFiles): ReportParts {
  const copies = files.copies === undefined ? undefined : readResult(files.copies, copiesSchema);
  const modes = files.modes === undefined ? undefined : readResult(files.modes, overlaysSchema);
  if (copies === undefined && modes === undefined) {
    throw inputError('--copies, --modes', undefined, 'a result in one of them at least');
  }
  if (copies !== undefined && modes !== undefined) {
    for (const name of ['kernel', 'cpu', 'cpus'] as const) {
      const [first, second] = [copies.environment[name], modes.environment[name]];
      if (first === second) continue;
      const expected = `${JSON.stringify(first)}, that of ${files.copies}: a report is of one machine`;
      throw inputError(`${files.modes}: $.environment.${name}`, second, expected);
    }
  }
  return { copies, modes };
}
