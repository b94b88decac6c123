/** What carries packets on a host between docker0 and the wire. Each kind is a file of its own. */
import type { DaemonStatus } from '../../../daemon/status.js';
import type { HostPlan } from '../../../testbed/topology.js';
import type { Envelope } from '../envelope.js';
import type { Decision } from '../look-up.js';
import type { TracePlan } from '../plan.js';
import type { Draft, StepName } from '../step.js';

export interface Carriage {
  /** What the packet is in between the hosts; undefined: it goes as it is. */
  readonly envelope: Envelope['kind'] | undefined;
  /** What must hold between the hosts, in words. */
  readonly statement: string;
  /** Behind docker0 on the sending host, `eth0 out` included. */
  sending(host: HostPlan): readonly Draft[];
  /** Before docker0 on the receiving host, `eth0 in` included. */
  receiving(host: HostPlan): readonly Draft[];
  /** What decided there, besides docker0's route. */
  decideSending(place: Place): readonly DecidedStep[];
  decideReceiving(place: Place): readonly DecidedStep[];
}

/** A way may have one kind on the sending host and another on the receiving. */
export interface Carriages {
  readonly sending: Carriage;
  readonly receiving: Carriage;
}

/** A host of the way, and what is known of the packet. */
export interface Place {
  readonly plan: TracePlan;
  readonly host: HostPlan;
  readonly status: DaemonStatus;
  /** Addresses of the hosts. */
  readonly wire: { readonly from: string; readonly to: string };
  /** Destination MAC address of the packet's frame where it was captured. */
  readonly macOf: (step: StepName) => string;
}

export type DecidedStep = readonly [StepName, ...(Decision | Promise<Decision>)[]];
