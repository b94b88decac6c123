/** An overlay under test: what it is, how it is set up between two hosts and taken down. */
import { systemCalls } from '../../src/dataplane/counters.js';
import type { Program } from '../../src/testbed/programs.js';
import type { DaemonProcess } from '../../src/testbed/daemon-process.js';
import type { Programs } from '../../src/testbed/isolate.js';
import type { HostPlan } from '../../src/testbed/topology.js';

/** Two hosts without containers. */
export interface Underlay {
  readonly near: HostPlan;
  readonly far: HostPlan;
  readonly mtu: number;
}

export interface EndCounters {
  readonly systemCalls: number;
  /** Read from and written to the TUN and the socket. */
  readonly copiedBytes: number;
}

/** A subject that is set up. */
export interface RunningOverlay {
  /** The user-space ends; none when the kernel carries the packets. */
  readonly programs: readonly Program[];
  /** Counters of both ends' packet loops so far, where the ends count. */
  readonly counters?: () => Promise<EndCounters>;
  tearDown(): Promise<void>;
}

export interface Subject {
  readonly name: string;
  /** What it is, for the report. */
  readonly what: string;
  /** Measured unless others are asked for. */
  readonly main: boolean;
  /** The kernel alone carries the packets: there are no user-space ends. */
  readonly kernelOnly?: boolean;
  /** What must be installed, besides what every lab needs. */
  readonly needs?: Programs;
  /** Why this machine cannot have it; it is left out then, and that is said. */
  readonly absent?: string | undefined;
  /** MTU of the overlay in bytes: what its own documents give, or the greatest that fits. */
  readonly mtu: (underlayMtu: number) => number;
  /** Its hosts, where its subnets are not the documents'. */
  readonly hosts?: Pick<Underlay, 'near' | 'far'>;
  /** Addresses that all lead to the far container, in CIDR form. */
  readonly scatter?: string;
  setUp(underlay: Underlay): Promise<RunningOverlay>;
}

/** The daemons of both hosts as ends of a subject. */
export function daemonOverlay(daemons: readonly DaemonProcess[]): RunningOverlay {
  return {
    programs: daemons.map(({ program }) => program),
    counters: async () => {
      const states = await Promise.all(daemons.map((daemon) => daemon.status()));
      const threads = states.flatMap(({ dataPlane }) => dataPlane?.threads ?? []);
      const counters = { systemCalls: 0, copiedBytes: 0 };
      for (const thread of threads) {
        counters.systemCalls += systemCalls(thread);
        counters.copiedBytes += thread.receivedBytes + thread.sentBytes;
      }
      return counters;
    },
    tearDown: async () => {
      await Promise.all(daemons.map((one) => one.stop()));
    },
  };
}
