/** Results of benchmarks from their JSON files, checked field by field. */
import { readFileSync } from 'node:fs';
import { inputError, messageOf } from '../../src/errors.js';
import type { Estimate } from '../frame/stats.js';
import {
  CHECKSUMS,
  CROSSINGS,
  REFERENCES,
  type Cell,
  type CopiesEnvironment,
  type CopiesResult,
  type CrossingResult,
  type Fit,
  type ReferenceResult,
} from '../copies/copies-result.js';
import {
  LOAD_METRICS,
  LOADS,
  MODE_NAMES,
  PING_METRICS,
  type ModeMetric,
  type ModeMetricKey,
  type ModeResult,
  type ModesEnvironment,
  type ModesResult,
  type ModeValue,
} from '../modes/result.js';
import type { ReportParts } from './draw.js';
import {
  flag,
  listOf,
  number,
  objectOf,
  oneOf,
  orElse,
  recordOf,
  text,
  wholeNumber,
  type Reader,
} from './schema.js';

/** Files of a report: what `bench copies --json` and `bench modes --json` wrote. */
export interface ReportFiles {
  readonly copies?: string | undefined;
  readonly modes?: string | undefined;
}

/** Throws an input error that names file and field, also when the results are of two machines. */
export function readReport(files: ReportFiles): ReportParts {
  const copies = files.copies === undefined ? undefined : readResult(files.copies, copiesResult);
  const modes = files.modes === undefined ? undefined : readResult(files.modes, modesResult);
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

function readResult<T>(file: string, reader: Reader<T>): T {
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
  return reader(value, `${file}: $`);
}

const estimate = objectOf<Estimate>({
  median: number,
  low: number,
  high: number,
  count: wholeNumber(1, Number.MAX_SAFE_INTEGER),
});

const missing = listOf(objectOf({ what: text, reason: text }));

const cell = objectOf<Cell>({
  bytes: number,
  ns: estimate,
  again: estimate,
  samples: listOf(number),
  packets: number,
  batches: number,
  lossy: number,
  interrupted: number,
});

const fit = objectOf<Fit>({ a: estimate, b: estimate, worstDeviation: number });

/** Where and how both results came to be. */
const machine = {
  date: text,
  commit: text,
  command: text,
  kernel: text,
  node: text,
  cpu: text,
  cpus: number,
};

const copiesResult = objectOf<CopiesResult>({
  kind: oneOf(['copies']),
  version: oneOf([2]),
  environment: objectOf<CopiesEnvironment>({
    ...machine,
    mtu: number,
    busyBefore: number,
    rounds: number,
    batches: number,
    quick: flag,
  }),
  crossings: listOf(
    objectOf<CrossingResult>({
      crossing: oneOf(CROSSINGS),
      checksum: oneOf(CHECKSUMS),
      segmented: flag,
      cells: listOf(cell, 1),
      fit,
    }),
    1,
  ),
  references: listOf(
    objectOf<ReferenceResult>({
      reference: oneOf(REFERENCES),
      cells: listOf(cell, 1),
      fit: orElse(fit, undefined),
    }),
  ),
  missing,
  noise: objectOf({ median: number, p95: number }),
});

const MODE_KEYS: readonly ModeMetricKey[] = [
  ...LOADS.flatMap((load) => LOAD_METRICS.map((name) => `${load}.${name}` as const)),
  ...PING_METRICS,
];

const modeKey = oneOf(MODE_KEYS);

const modesResult = objectOf<ModesResult>({
  kind: oneOf(['modes']),
  version: oneOf([2]),
  environment: objectOf<ModesEnvironment>({
    ...machine,
    rounds: number,
    seconds: number,
    underlayMtu: number,
    congestion: text,
    busyBefore: number,
    quick: flag,
    repeated: listOf(text),
  }),
  countedBy: oneOf(['perf', 'ends']),
  metrics: listOf(
    objectOf<ModeMetric>({
      key: modeKey,
      title: text,
      unit: text,
      digits: wholeNumber(0, 9),
      better: oneOf(['more', 'less']),
    }),
  ),
  modes: listOf(
    objectOf<ModeResult>({
      mode: oneOf(MODE_NAMES),
      what: text,
      mtu: number,
      kernelOnly: flag,
      values: recordOf(
        modeKey,
        objectOf<ModeValue>({
          value: estimate,
          ratio: orElse(estimate, null),
          samples: listOf(number),
        }),
      ),
    }),
  ),
  missing,
  noise: orElse(objectOf({ metric: modeKey, ratio: estimate }), null),
});
