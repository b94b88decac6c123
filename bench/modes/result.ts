/** The result of `flannelette bench modes`, as `--json` prints it. */
import type { Machine } from '../frame/command.js';
import type { Estimate } from '../frame/stats.js';

/** What is compared, in the order of the tables. `vxlan-again` is `vxlan` a second time: the noise. */
export const MODE_NAMES = [
  'js',
  'basic',
  'batch',
  'offload',
  'vxlan',
  'vxlan-again',
  'host-gw',
] as const;
export type ModeName = (typeof MODE_NAMES)[number];

/** `tcp`: one stream. `udp`: datagrams of 64 bytes of payload, as fast as one sender can. */
export const LOADS = ['tcp', 'udp'] as const;
export type LoadName = (typeof LOADS)[number];

/** What a load yields. Per packet is per delivered packet: a datagram, or a full TCP segment. */
export const LOAD_METRICS = [
  /** Gbit/s of payload that reached the receiving container. */
  'throughput',
  /** Packets delivered a second: to the receiving container. */
  'packets',
  /** Packets its program read a second; what it was too slow for its socket dropped. UDP only. */
  'read',
  /** System calls of both ends a packet; 0 where the kernel alone carries the packets. */
  'calls',
  /** Those of them that are sched_yield; only where perf counts. */
  'yields',
  /** Context switches of both ends' threads a packet; 0 where there are none. */
  'switches',
  /** Context switches of the whole machine a packet. */
  'machineSwitches',
  /** Bytes copied across the user/kernel border for a byte of payload, by containers and ends. */
  'copied',
  /** CPU nanoseconds of the whole machine a packet, where they went; they add up to all CPUs' time. */
  'user',
  'system',
  /** Software interrupts, and the few hard ones. */
  'softirq',
  /** Taken by the hypervisor. */
  'steal',
  'idle',
  /** user + system + softirq + steal. */
  'busy',
  /** Throughput while perf counts system calls, by that without: the counting's own cost. */
  'counting',
] as const;
export type LoadMetricName = (typeof LOAD_METRICS)[number];

/** Round trips of pings in ms, median and 99th percentile, with nothing else to carry. */
export const PING_METRICS = ['rtt', 'rttP99'] as const;

export type ModeMetricKey = `${LoadName}.${LoadMetricName}` | (typeof PING_METRICS)[number];

export interface ModeMetric {
  readonly key: ModeMetricKey;
  readonly title: string;
  /** `Gbit/s`, `packets/s`, `ns`, `ms`; empty of a plain number. */
  readonly unit: string;
  /** Digits behind the point that mean something. */
  readonly digits: number;
  readonly better: 'more' | 'less';
}

export interface ModeValue {
  /** Median of the rounds with its bounds. */
  readonly value: Estimate;
  /** To `vxlan` of the same rounds; null where vxlan has 0 or did not run. */
  readonly ratio: Estimate | null;
  /** One value a round. */
  readonly samples: readonly number[];
}

export interface ModeResult {
  readonly mode: ModeName;
  /** What it is, for people. */
  readonly what: string;
  /** Of the overlay, in bytes. */
  readonly mtu: number;
  /** The kernel alone carries the packets. */
  readonly kernelOnly: boolean;
  /** A metric that could not be measured is left out; `missing` of the result says why. */
  readonly values: Readonly<Partial<Record<ModeMetricKey, ModeValue>>>;
}

export interface ModesEnvironment extends Machine {
  readonly node: string;
  readonly rounds: number;
  /** Length of a measurement. */
  readonly seconds: number;
  /** MTU of the hosts' eth0 in bytes. */
  readonly underlayMtu: number;
  /** TCP's, of the containers. */
  readonly congestion: string;
  /** Share of the machine's CPU time that others used in the second before, 0 to 1. */
  readonly busyBefore: number;
  readonly quick: boolean;
  /** Rounds of a mode that failed and were measured again, with the reason. */
  readonly repeated: readonly string[];
}

export interface ModesResult {
  readonly kind: 'modes';
  /** 2: estimates have a count, by which their bounds are an interval or minimum and maximum. */
  readonly version: 2;
  readonly environment: ModesEnvironment;
  /** Who counted the system calls: the kernel (perf), or the ends themselves, without sched_yield. */
  readonly countedBy: 'perf' | 'ends';
  /** The metrics that at least one mode has, in the order of the tables. */
  readonly metrics: readonly ModeMetric[];
  readonly modes: readonly ModeResult[];
  /** What this machine cannot measure, and why. */
  readonly missing: readonly { readonly what: string; readonly reason: string }[];
  /** Of throughput, packets, round trip and busy: vxlan-again by vxlan, farthest from 1. */
  readonly noise: { readonly metric: ModeMetricKey; readonly ratio: Estimate } | null;
}
