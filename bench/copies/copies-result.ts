/** The result of `flannelette bench copies`, as `--json` prints it. Times are nanoseconds. */
import type { Machine } from '../frame/command.js';
import type { Estimate } from '../frame/stats.js';

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
export interface Cell {
  /** Bytes of inner packets that one call carries, headers included; 0 where none are moved. */
  readonly bytes: number;
  /** Nanoseconds of one call; the samples are the rounds, both measurements of a round averaged. */
  readonly ns: Estimate;
  /** The second measurement of a round by the first: how far from 1 it is is the noise. */
  readonly again: Estimate;
  /** One value a round. */
  readonly samples: readonly number[];
  /** Calls that carried their packet or train, in all batches; what one side sent the other received. */
  readonly packets: number;
  /** Batches that count. */
  readonly batches: number;
  /** Batches that do not count because a packet was missing or late. */
  readonly lossy: number;
  /** Batches that do not count because the thread lost its CPU meanwhile. */
  readonly interrupted: number;
}

/** t = a + b x bytes: medians of the lines of the rounds. */
export interface Fit {
  /** Nanoseconds of a call that carries nothing: the price of crossing. */
  readonly a: Estimate;
  /** Nanoseconds a byte: the price of the copy. */
  readonly b: Estimate;
  /** Greatest distance of a size's median from the line, as a part of the median. */
  readonly worstDeviation: number;
}

/** One crossing with one way with checksums, over its sizes. */
export interface CrossingResult {
  readonly crossing: CrossingName;
  readonly checksum: ChecksumWay;
  /** One call carries several datagrams: UDP_SEGMENT, UDP_GRO, USO on the TUN. */
  readonly segmented: boolean;
  /** Ascending by bytes. */
  readonly cells: readonly Cell[];
  readonly fit: Fit;
}

export interface ReferenceResult {
  readonly reference: ReferenceName;
  readonly cells: readonly Cell[];
  /** Where bytes are moved. */
  readonly fit: Fit | undefined;
}

export interface CopiesEnvironment extends Machine {
  readonly node: string;
  /** Of the overlay's devices, in bytes. */
  readonly mtu: number;
  /** Share of the machine's CPU time that others used in the second before, 0 to 1. */
  readonly busyBefore: number;
  readonly rounds: number;
  readonly batches: number;
  readonly quick: boolean;
}

export interface CopiesResult {
  readonly kind: 'copies';
  /** 2: estimates have a count, by which their bounds are an interval or minimum and maximum. */
  readonly version: 2;
  readonly environment: CopiesEnvironment;
  readonly crossings: readonly CrossingResult[];
  readonly references: readonly ReferenceResult[];
  /** What this kernel refuses, and why. */
  readonly missing: readonly { readonly what: string; readonly reason: string }[];
  /** Over all cells: |again - 1| of the median cell, and of the cell at the 95th percentile. */
  readonly noise: { readonly median: number; readonly p95: number };
}
