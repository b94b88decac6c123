/** The result of `flannelette bench copies`, as `--json` prints it. Times are nanoseconds. */
import { z } from 'zod';
import { machineSchema } from '../frame/machine.js';
import type { DeepReadonly } from '../frame/result-file.js';
import { estimateSchema } from '../frame/stats.js';

/** The crossings of the user/kernel border, in the order a packet makes them. */
export const CROSSINGS = [
  'container-send',
  'tun-read',
  'udp-send',
  'udp-send-device',
  'udp-receive',
  'tun-write',
  'container-receive',
] as const;
export type CrossingName = (typeof CROSSINGS)[number];

/**
 * Who takes care of the inner packet's UDP checksum, or the outer one's for udp-send and udp-receive:
 * `software` the kernel sums and verifies; `none` there is none in the datagram; `offload` it is left
 * to the device, as a veth and a TUN with a virtio header allow.
 */
export const CHECKSUMS = ['software', 'none', 'offload'] as const;
export type ChecksumWay = (typeof CHECKSUMS)[number];

export const REFERENCES = [
  'null-syscall',
  'memcpy-hot',
  'memcpy-cold',
  'wake-same-cpu',
  'wake-other-cpu',
] as const;
export type ReferenceName = (typeof REFERENCES)[number];

/** One size of one crossing or reference. */
const cell = z.object({
  /** Bytes of inner packets that one call carries, headers included; 0 where none are moved. */
  bytes: z.number(),
  /** Nanoseconds of one call; the samples are the rounds, both measurements of a round averaged. */
  ns: estimateSchema,
  /** The second measurement of a round by the first: how far from 1 it is is the noise. */
  again: estimateSchema,
  /** One value a round. */
  samples: z.array(z.number()),
  /** Calls that carried their packet or train, in all batches; what one side sent the other received. */
  packets: z.number(),
  /** Batches that count. */
  batches: z.number(),
  /** Batches that do not count because a packet was missing or late. */
  lossy: z.number(),
  /** Batches that do not count because the thread lost its CPU meanwhile. */
  interrupted: z.number(),
});
export type Cell = DeepReadonly<z.infer<typeof cell>>;

/** t = a + b x bytes: medians of the lines of the rounds. */
const fit = z.object({
  /** Nanoseconds of a call that carries nothing: the price of crossing. */
  a: estimateSchema,
  /** Nanoseconds a byte: the price of the copy. */
  b: estimateSchema,
  /** Greatest distance of a size's median from the line, as a part of the median. */
  worstDeviation: z.number(),
});
export type Fit = DeepReadonly<z.infer<typeof fit>>;

/** One crossing with one way with checksums, over its sizes. */
const crossingResult = z.object({
  crossing: z.enum(CROSSINGS),
  checksum: z.enum(CHECKSUMS),
  /** One call carries several datagrams: UDP_SEGMENT, UDP_GRO, USO on the TUN. */
  segmented: z.boolean(),
  /** Ascending by bytes. */
  cells: z.array(cell).min(1),
  fit,
});
export type CrossingResult = DeepReadonly<z.infer<typeof crossingResult>>;

const referenceResult = z.object({
  reference: z.enum(REFERENCES),
  cells: z.array(cell).min(1),
  /** Where bytes are moved. */
  fit: fit.optional(),
});
export type ReferenceResult = DeepReadonly<z.infer<typeof referenceResult>>;

const environment = machineSchema.extend({
  /** MTU of the overlay's devices in bytes. */
  mtu: z.number(),
  rounds: z.number(),
  batches: z.number(),
  quick: z.boolean(),
});
export type CopiesEnvironment = DeepReadonly<z.infer<typeof environment>>;

export const copiesSchema = z.object({
  kind: z.literal('copies'),
  /** 2: estimates have a count, by which their bounds are an interval or minimum and maximum. */
  version: z.literal(2),
  environment,
  crossings: z.array(crossingResult).min(1),
  references: z.array(referenceResult),
  /** What this kernel refuses, and why. */
  missing: z.array(z.object({ what: z.string(), reason: z.string() })),
  /** Over all cells: |again - 1| of the median cell, and of the cell at the 95th percentile. */
  noise: z.object({ median: z.number(), p95: z.number() }),
});
export type CopiesResult = DeepReadonly<z.infer<typeof copiesSchema>>;
