/**
 * `npm run bench:micro`: the native core's loops and the control plane's operations, without a
 * kernel in the timed part. Isolates itself like the lab, because one part opens a data plane.
 */
import { join } from 'node:path';
import { Command } from 'commander';
import { integer, runnable, type Context, type Result } from '../frame/frame.js';
import { PROJECT } from '../frame/machine.js';
import { runLines } from '../frame/run-lines.js';
import { renderMicroMarkdown, renderMicroText } from './micro-text.js';
import { measureJavaScript } from './javascript.js';
import { gather, parseSample, type Sample } from './samples.js';

/** Built by `make -C bench/micro`. */
const PROGRAMS = ['forwarding_table', 'checksum', 'segment'];

interface Options {
  readonly rounds: number;
}

export const micro = runnable<Options>({
  id: 'micro',
  script: { name: 'bench:micro', program: describeCommand },
  measure,
});

function describeCommand(): Command {
  return new Command('npm run bench:micro --')
    .description("Measures the native core's loops and the control plane's operations.")
    .option('--rounds <n>', 'rounds, 2 to 1000', integer(2, 1_000), 21)
    .addHelpText('after', '\nAbout 3 s a round.');
}

async function measure(options: Options, { machine, print, signal }: Context): Promise<Result> {
  const samples: Sample[] = [];
  for (const name of PROGRAMS) {
    print(`${name}:`);
    const before = samples.length;
    let printedAt = performance.now();
    const program = join(PROJECT, 'bench', 'micro', 'build', name);
    await runLines(
      [program, String(options.rounds)],
      (line) => {
        samples.push(parseSample(line));
        if (performance.now() - printedAt < 2_000) return;
        printedAt = performance.now();
        print(` ${samples.length - before} samples ...`);
      },
      signal,
    );
    print(` ${samples.length - before} samples\n`);
  }
  print('operations of the control plane ...');
  samples.push(...measureJavaScript(options.rounds));
  print(' done\n');

  const cells = gather(samples);
  const environment = { ...machine, rounds: options.rounds };
  return {
    text: renderMicroText(environment, cells),
    markdown: renderMicroMarkdown(environment, cells),
    data: { environment, cells },
  };
}
