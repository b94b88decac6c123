/**
 * `flannelette bench report`: the HTML report from the JSON files of earlier runs.
 *
 *   node dist/bench/report/main.js OPTIONS     a ReportOptions as JSON; src/cli/bench.ts
 */
import { ExitCode, FlannelletteError, messageOf } from '../../src/errors.js';
import { writeOutput } from '../../src/host/atomic-file.js';
import { renderReport } from './draw.js';
import { readReport, type ReportFiles } from './read.js';

interface ReportOptions extends ReportFiles {
  readonly report: string;
}

process.exitCode = await main(JSON.parse(process.argv[2] ?? '') as ReportOptions);

async function main({ report, ...files }: ReportOptions): Promise<ExitCode> {
  try {
    await writeOutput(report, renderReport(readReport(files)));
    process.stdout.write(`wrote ${report}\n`);
    return ExitCode.ok;
  } catch (error) {
    process.stderr.write(`flannelette bench report: ${messageOf(error)}\n`);
    return error instanceof FlannelletteError ? error.exitCode : ExitCode.failure;
  }
}
