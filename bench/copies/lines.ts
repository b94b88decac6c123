/** What the native program prints (main.cc): a JSON line for each sample. */
import { z } from 'zod';
import { readLine } from '../frame/run-lines.js';
import { CHECKSUMS, CROSSINGS, REFERENCES } from './copies-result.js';

const measurement = z.object({
  bytes: z.number(),
  round: z.number(),
  /** The second measurement of the round. */
  again: z.boolean(),
  /** Nanoseconds a call; -1 when no batch counts. */
  ns: z.number(),
  batches: z.number(),
  interrupted: z.number(),
});

const crossing = measurement.extend({
  crossing: z.enum(CROSSINGS),
  checksum: z.enum(CHECKSUMS),
  segmented: z.boolean(),
  packets: z.number(),
  lossy: z.number(),
});

const reference = measurement.extend({ reference: z.enum(REFERENCES) });

const missing = z.object({ missing: z.string(), reason: z.string() });

export type CrossingLine = Readonly<z.infer<typeof crossing>> & { readonly type: 'crossing' };
export type ReferenceLine = Readonly<z.infer<typeof reference>> & { readonly type: 'reference' };
interface MissingLine {
  readonly type: 'missing';
  readonly what: string;
  readonly reason: string;
}
export type CopiesLine = CrossingLine | ReferenceLine | MissingLine;

const line = z.union([missing, reference, crossing]);

/** Throws a system error that quotes the line when it is none of these. */
export function parseLine(text: string): CopiesLine {
  const read = readLine(line, 'a line of flannelette-copies', text);
  if ('missing' in read) return { type: 'missing', what: read.missing, reason: read.reason };
  return 'reference' in read ? { type: 'reference', ...read } : { type: 'crossing', ...read };
}
