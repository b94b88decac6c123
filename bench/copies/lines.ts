/** What the native program prints (main.cc): a JSON line for each sample. */
import { systemError } from '../../src/errors.js';
import {
  CHECKSUMS,
  CROSSINGS,
  REFERENCES,
  type ChecksumWay,
  type CrossingName,
  type ReferenceName,
} from './copies-result.js';

interface Measurement {
  readonly bytes: number;
  readonly round: number;
  /** The second measurement of the round. */
  readonly again: boolean;
  /** Nanoseconds a call; -1 when no batch counts. */
  readonly ns: number;
  readonly batches: number;
  readonly interrupted: number;
}

export interface CrossingLine extends Measurement {
  readonly type: 'crossing';
  readonly crossing: CrossingName;
  readonly checksum: ChecksumWay;
  readonly segmented: boolean;
  readonly packets: number;
  readonly lossy: number;
}

export interface ReferenceLine extends Measurement {
  readonly type: 'reference';
  readonly reference: ReferenceName;
}

export interface MissingLine {
  readonly type: 'missing';
  readonly what: string;
  readonly reason: string;
}

export type CopiesLine = CrossingLine | ReferenceLine | MissingLine;

/** Throws a system error that quotes the line when it is none of these. */
export function parseLine(text: string): CopiesLine {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return refuse(text);
  }
  if (typeof parsed !== 'object' || parsed === null) return refuse(text);
  const fields = parsed as Record<string, unknown>;
  const number = (name: string): number => {
    const value = fields[name];
    return typeof value === 'number' && Number.isFinite(value) ? value : refuse(text);
  };
  const flag = (name: string): boolean => {
    const value = fields[name];
    return typeof value === 'boolean' ? value : refuse(text);
  };
  const word = (name: string): string => {
    const value = fields[name];
    return typeof value === 'string' ? value : refuse(text);
  };
  const oneOf = <T extends string>(name: string, known: readonly T[]): T =>
    known.find((candidate) => candidate === fields[name]) ?? refuse(text);
  if ('missing' in fields) {
    return { type: 'missing', what: word('missing'), reason: word('reason') };
  }
  const measurement = {
    bytes: number('bytes'),
    round: number('round'),
    again: flag('again'),
    ns: number('ns'),
    batches: number('batches'),
    interrupted: number('interrupted'),
  };
  if ('reference' in fields) {
    return { type: 'reference', reference: oneOf('reference', REFERENCES), ...measurement };
  }
  return {
    type: 'crossing',
    crossing: oneOf('crossing', CROSSINGS),
    checksum: oneOf('checksum', CHECKSUMS),
    segmented: flag('segmented'),
    packets: number('packets'),
    lossy: number('lossy'),
    ...measurement,
  };
}

function refuse(text: string): never {
  throw systemError(`not a line of flannelette-copies: ${JSON.stringify(text.slice(0, 200))}`);
}
