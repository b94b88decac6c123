/** The result of `npm run bench` and `flannelette bench modes`, as `--json` writes it. */
import { z } from 'zod';
import { machineSchema } from '../frame/machine.js';
import type { DeepReadonly } from '../frame/result-file.js';
import { estimateSchema } from '../frame/stats.js';
import { METRICS } from './metrics.js';

export const UNDERLAYS = ['offload', 'plain'] as const;
export type UnderlayName = (typeof UNDERLAYS)[number];

const metricKey = z.enum(METRICS.map(({ key }) => key));

const metric = z.object({
  key: metricKey,
  title: z.string(),
  unit: z.string(),
  digits: z.int().min(0).max(9),
  better: z.enum(['more', 'less']),
  /** Title of its column in the table of ratios. */
  column: z.string().optional(),
  /** Has a table of its own on a terminal, too. */
  main: z.boolean(),
});

const value = z.object({
  /** Median of the rounds with its bounds. */
  value: estimateSchema,
  /** To the base of the same rounds; null where the base has 0 or did not run. */
  ratio: estimateSchema.nullable(),
  /** One value a round. */
  samples: z.array(z.number()),
});
export type Value = DeepReadonly<z.infer<typeof value>>;

const subject = z.object({
  name: z.string(),
  /** What it is, for people. */
  what: z.string(),
  /** MTU of the overlay in bytes. */
  mtu: z.number(),
  /** The kernel alone carries the packets. */
  kernelOnly: z.boolean(),
  /** A metric that could not be measured is left out; `missing` of the result says why. */
  values: z.partialRecord(metricKey, value),
});
export type SubjectResult = DeepReadonly<z.infer<typeof subject>>;

const underlay = z.object({
  underlay: z.enum(UNDERLAYS),
  subjects: z.array(subject).min(1),
});
export type UnderlayResult = DeepReadonly<z.infer<typeof underlay>>;

const environment = machineSchema.extend({
  /** Title of the page. */
  title: z.string(),
  rounds: z.number(),
  /** Length of a measurement. */
  seconds: z.number(),
  /** MTU of the hosts' eth0 in bytes. */
  underlayMtu: z.number(),
  /** TCP's, of the containers. */
  congestion: z.string(),
  /** Debian packages of the programs that took part, with versions. */
  packages: z.string(),
  quick: z.boolean(),
  /** Rounds of a subject that failed and were measured again, with the reason. */
  repeated: z.array(z.string()),
});
export type OverlaysEnvironment = DeepReadonly<z.infer<typeof environment>>;

export const overlaysSchema = z.object({
  kind: z.literal('overlays'),
  /** 3: of every way in; 2 was of `flannelette bench modes` alone. */
  version: z.literal(3),
  environment,
  /** Who counted the system calls: the kernel (perf), or the ends themselves, without sched_yield. */
  countedBy: z.enum(['perf', 'ends']),
  /** The metrics that at least one subject has, in the order of the tables. */
  metrics: z.array(metric),
  underlays: z.array(underlay).min(1),
  /** What this machine cannot measure, and why. */
  missing: z.array(z.object({ what: z.string(), reason: z.string() })),
});
export type OverlaysResult = DeepReadonly<z.infer<typeof overlaysSchema>>;
