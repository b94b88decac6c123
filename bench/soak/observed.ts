/** What a soak sees. */
import type { TcpResult } from '../../src/testbed/traffic.js';

/** One daemon at one moment. */
export interface Sample {
  /** Seconds since the beginning. */
  readonly at: number;
  readonly host: string;
  readonly pid: number;
  readonly uptimeSeconds: number;
  readonly mode: string;
  readonly ready: boolean;
  /** Bytes. */
  readonly rss: number;
  readonly descriptors: number;
  readonly threads: number;
  /** Sent so far, by the daemon and by the kernel in its place. */
  readonly packets: number;
  readonly drops: number;
  readonly dataPlaneRestarts: number;
}

/** A fault that was caused, and what was seen. */
export interface Trial {
  readonly fault: string;
  readonly at: number;
  readonly silenceSeconds: number;
  /** What did not come back, or what could not be done. */
  readonly problem: string | undefined;
}

/** What the load says of itself, and what was left when all had ended. */
export interface Ending {
  /** Undefined when a connection broke. */
  readonly tcp: (TcpResult & { readonly connections: number }) | undefined;
  readonly udp: { readonly sent: number; readonly arrived: number } | undefined;
  readonly pings: { readonly sent: number; readonly received: number };
  /** Loads that broke, with their words. */
  readonly broken: readonly string[];
  /** How often host-2 got another daemon. */
  readonly replaced: number;
  /** Exit codes of the last daemons. */
  readonly codes: readonly number[];
  /** Devices, routes, programs, files. */
  readonly left: readonly string[];
}
