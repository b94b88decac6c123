/** The way of the traced packet with all that is known of each step, and what must hold of it. */
import type { TransportHeader } from '../../testbed/wire/packet.js';
import type { Decision, Decisions } from './decisions.js';
import type { Sighting } from './follow.js';
import type { TracePlan } from './plan.js';
import { wayOf, type Crossing, type Step, type StepName } from './way.js';

export interface HopCrossing extends Crossing {
  /** Copied across the border: of the packet, or of what a process sends or gets. */
  readonly bytes: number;
}

export interface Hop {
  /** From 1, in the order of the way. */
  readonly number: number;
  readonly step: Step;
  /** The capture; undefined for a process. */
  readonly sighting: Sighting | undefined;
  /**
   * Nanoseconds since the packet was first seen: when it was captured, or for a daemon from when to
   * when it had the packet, wake-up and both calls included. Undefined for the two ends.
   */
  readonly time: { readonly fromNs: number; readonly toNs: number } | undefined;
  /** The border crossed to get here. */
  readonly crossing: HopCrossing | undefined;
  /** What decided the next step. */
  readonly decisions: readonly Decision[];
}

export interface Trace {
  readonly plan: TracePlan;
  /** flannel0's MTU in bytes. */
  readonly mtu: number;
  readonly mode: string;
  readonly kernel: string;
  readonly hops: readonly Hop[];
}

/** Joins a way that was seen as a whole with what decided its steps. */
export function joinHops(
  plan: TracePlan,
  sightings: readonly Sighting[],
  decisions: Decisions,
): readonly Hop[] {
  const way = wayOf(plan);
  const start = sightings[0]?.timeNs ?? 0n;
  const seen = way.map(({ name }) => sightings.find(({ tap }) => tap.name === name));
  const offset = (sighting: Sighting): number => Number(sighting.timeNs - start);
  return way.map((step, index) => {
    const sighting = seen[index];
    // A process holds the packet from when it was seen before to when it is seen after.
    const [before, after] =
      sighting === undefined ? [seen[index - 1], seen[index + 1]] : [sighting, sighting];
    return {
      number: index + 1,
      step,
      sighting,
      time:
        before === undefined || after === undefined
          ? undefined
          : { fromNs: offset(before), toNs: offset(after) },
      crossing: step.crossing === undefined ? undefined : withBytes(step.crossing, plan, sightings),
      decisions: decisions.get(step.name) ?? [],
    };
  });
}

function withBytes(
  crossing: Crossing,
  { proto, size }: TracePlan,
  sightings: readonly Sighting[],
): HopCrossing {
  const [first] = sightings;
  const packet = first?.packet.bytes.length ?? 0;
  // ping writes the ICMP header itself; UDP and TCP write theirs in the kernel.
  const own = proto === 'icmp' ? size + (first?.packet.transport.headerBytes ?? 0) : size;
  const atEnd = crossing.number === 1 || crossing.number === 6;
  return { ...crossing, bytes: atEnd ? own : packet };
}

export interface TraceCheck {
  readonly name: string;
  readonly ok: boolean;
  readonly detail: string;
}

/** TTL taken before each tap: by the forwarding hosts and by the two daemons. */
const TTL_TAKEN_BEFORE: readonly StepName[] = [
  'flannel0 out',
  'eth0 out',
  'flannel0 in',
  'docker0 out',
];
const BETWEEN_DAEMONS: readonly StepName[] = ['eth0 out', 'switch in', 'switch out', 'eth0 in'];

/** What must hold of any packet that crosses the tunnel. */
export function checkHops(hops: readonly Hop[]): readonly TraceCheck[] {
  const sightings = sightingsOf(hops);
  return [
    checkTimes(sightings),
    checkTtl(sightings),
    checkSums(sightings),
    checkPayload(sightings),
  ];
}

export function sightingsOf(hops: readonly Hop[]): readonly Sighting[] {
  return hops.flatMap(({ sighting }) => sighting ?? []);
}

export interface TraceSummary {
  /** Crossings of the border on each side, and what they copied together. */
  readonly sending: number;
  readonly receiving: number;
  readonly copiedBytes: number;
  /** At each capture. */
  readonly ttls: readonly number[];
  /** From the first capture to the last. */
  readonly nanoseconds: number;
}

export function summaryOf(hops: readonly Hop[]): TraceSummary {
  const crossings = hops.flatMap(({ crossing }) => crossing ?? []);
  const sending = crossings.filter(({ number }) => number <= 3).length;
  return {
    sending,
    receiving: crossings.length - sending,
    copiedBytes: crossings.reduce((sum, { bytes }) => sum + bytes, 0),
    ttls: sightingsOf(hops).map(({ packet }) => packet.ipv4.ttl),
    nanoseconds: hops.findLast(({ time }) => time !== undefined)?.time?.toNs ?? 0,
  };
}

function checkTimes(sightings: readonly Sighting[]): TraceCheck {
  const back = sightings.find(({ timeNs }, index) => timeNs < (sightings[index - 1]?.timeNs ?? 0n));
  return check('times never go back', back, () => 'earlier than the step before');
}

function checkTtl(sightings: readonly Sighting[]): TraceCheck {
  let expected = sightings[0]?.packet.ipv4.ttl ?? 0;
  const wrong = sightings.find(({ tap, packet }) => {
    if (TTL_TAKEN_BEFORE.includes(tap.name)) expected -= 1;
    return packet.ipv4.ttl !== expected;
  });
  const name = 'each host and each daemon takes one from the TTL';
  return check(name, wrong, ({ packet }) => `TTL ${packet.ipv4.ttl}, expected ${expected}`);
}

function checkSums(sightings: readonly Sighting[]): TraceCheck {
  const wrong = sightings.find(({ packet, outer }) =>
    [packet, ...(outer === undefined ? [] : [outer])].some(
      ({ ipv4, transport }) =>
        ipv4.checksumState !== 'right' || transport.checksumState === 'wrong',
    ),
  );
  return check('every checksum is right, or left to a device', wrong, () => 'a wrong checksum');
}

function checkPayload(sightings: readonly Sighting[]): TraceCheck {
  const wrong = sightings.find(({ tap, outer, packet }) => {
    const inside = outer?.payload.equals(packet.bytes) ?? false;
    return inside !== BETWEEN_DAEMONS.includes(tap.name);
  });
  const name = 'between the daemons, and only there, it is the payload of a datagram';
  return check(name, wrong, ({ outer }) => (outer === undefined ? 'no datagram' : 'a datagram'));
}

function check(
  name: string,
  wrong: Sighting | undefined,
  describe: (wrong: Sighting) => string,
): TraceCheck {
  if (wrong === undefined) return { name, ok: true, detail: 'at every hop' };
  const { where, device } = wrong.tap;
  return { name, ok: false, detail: `${where} ${device}: ${describe(wrong)}` };
}

/** Bytes of a frame with the name of what they are. */
export interface Region {
  readonly name: string;
  /** From the frame's start. */
  readonly offset: number;
  readonly bytes: Buffer;
}

/** A frame in its parts, in order; padding behind the packet is left out. */
export function regionsOf({ frame, outer, packet }: Sighting): readonly Region[] {
  const whole = outer ?? packet;
  const regions: Region[] = [];
  let offset = 0;
  const add = (name: string, bytes: number): void => {
    if (bytes > 0) regions.push({ name, offset, bytes: frame.subarray(offset, offset + bytes) });
    offset += bytes;
  };
  const addHeaders = (prefix: string, { ipv4, transport }: typeof packet): void => {
    add(`${prefix}IPv4`, ipv4.headerBytes);
    add(protocolName(transport), transport.headerBytes);
  };
  // The frame may be padded behind, never in front: what is left in front is Ethernet's.
  add('Ethernet', whole.bytes.byteOffset - frame.byteOffset);
  if (outer !== undefined) addHeaders('outer ', outer);
  addHeaders(outer === undefined ? '' : 'inner ', packet);
  add('payload', packet.payload.length);
  return regions;
}

export function protocolName(transport: TransportHeader): string {
  return transport.protocol.toUpperCase();
}
