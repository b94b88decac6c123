/** The way of the traced packet with all that is known of each step, and what must hold of it. */
import type { LabBackend } from '../backends/backend.js';
import type { TransportHeader } from '../../testbed/wire/packet.js';
import { ETHERNET_BYTES } from '../../testbed/wire/pcap.js';
import type { Carriages } from './carriage/carriage.js';
import type { Decisions } from './decisions.js';
import type { Sighting } from './follow.js';
import type { TracePlan } from './plan.js';
import type { Decision } from './look-up.js';
import type { Crossing, Step, StepName, TtlTaker } from './step.js';
import { wayOf } from './way.js';

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
   * when it had the packet, wake-up and both calls included. Undefined for the two ends, and where it is
   * not known (Step.keepsStamp).
   */
  readonly time: { readonly fromNs: number; readonly toNs: number } | undefined;
  /** The border crossed to get here. */
  readonly crossing: HopCrossing | undefined;
  /** What decided the next step. */
  readonly decisions: readonly Decision[];
}

export interface Trace {
  readonly plan: TracePlan;
  readonly backend: Pick<LabBackend, 'type' | 'directRouting' | 'hasModes' | 'device'>;
  readonly carriages: Carriages;
  /** Of the overlay, in bytes. */
  readonly mtu: number;
  /** Of both daemons; without meaning where the kernel alone forwards. */
  readonly mode: string;
  readonly kernel: string;
  readonly hops: readonly Hop[];
}

/** Joins a way that was seen as a whole with what decided its steps. */
export function joinHops(
  plan: TracePlan,
  carriages: Carriages,
  sightings: readonly Sighting[],
  decisions: Decisions,
): readonly Hop[] {
  const way = wayOf(plan, carriages);
  const start = sightings[0]?.timeNs ?? 0n;
  const seen = way.map(({ name }) => sightings.find(({ tap }) => tap.name === name));
  const timed = seen.map((sighting) => (sighting?.tap.keepsStamp === true ? undefined : sighting));
  const offset = (sighting: Sighting): number => Number(sighting.timeNs - start);
  return way.map((step, index) => {
    const sighting = seen[index];
    // A process holds the packet from when it was seen before to when it is seen after.
    const [before, after] =
      sighting === undefined ? [timed[index - 1], timed[index + 1]] : [timed[index], timed[index]];
    return {
      number: index + 1,
      step,
      sighting,
      time:
        before === undefined || after === undefined
          ? undefined
          : { fromNs: offset(before), toNs: offset(after) },
      crossing:
        step.crossing === undefined
          ? undefined
          : withBytes(step.crossing, step.name, plan, sightings),
      decisions: decisions.get(step.name) ?? [],
    };
  });
}

function withBytes(
  crossing: Crossing,
  at: StepName,
  { proto, size }: TracePlan,
  sightings: readonly Sighting[],
): HopCrossing {
  const [first] = sightings;
  const packet = first?.packet.bytes.length ?? 0;
  // ping writes the ICMP header itself; UDP and TCP write theirs in the kernel.
  const own = proto === 'icmp' ? size + (first?.packet.transport.headerBytes ?? 0) : size;
  const atEnd = at === 'container out' || at === 'receiver';
  return { ...crossing, bytes: atEnd ? own : packet };
}

export interface TraceCheck {
  readonly name: string;
  readonly ok: boolean;
  readonly detail: string;
}

const BETWEEN_HOSTS: readonly StepName[] = ['eth0 out', 'switch in', 'switch out', 'eth0 in'];

/** What must hold of any packet that crosses from host to host. */
export function checkHops({
  hops,
  carriages,
}: Pick<Trace, 'hops' | 'carriages'>): readonly TraceCheck[] {
  const sightings = sightingsOf(hops);
  return [
    checkTimes(sightings),
    checkTtl(sightings, ttlTakers(hops)),
    checkSums(sightings),
    checkEnvelope(sightings, carriages),
  ];
}

export function sightingsOf(hops: readonly Hop[]): readonly Sighting[] {
  return hops.flatMap(({ sighting }) => sighting ?? []);
}

/** Who takes one from the TTL, in the order of the way. */
export function ttlTakers(hops: readonly Hop[]): readonly TtlTaker[] {
  return hops.flatMap(({ step }) => step.ttlTakenBy ?? []);
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
  const middle = hops.findIndex(({ step }) => step.name === 'switch in');
  const sending = hops.slice(0, middle).filter(({ crossing }) => crossing !== undefined).length;
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

function checkTtl(sightings: readonly Sighting[], takers: readonly TtlTaker[]): TraceCheck {
  let expected = sightings[0]?.packet.ipv4.ttl ?? 0;
  const wrong = sightings.find(({ tap, packet }) => {
    expected -= tap.ttlTakenBy?.length ?? 0;
    return packet.ipv4.ttl !== expected;
  });
  const each = [...new Set(takers)].map((taker) => `each ${taker}`);
  const name = `${each.join(' and ')} takes one from the TTL`;
  return check(name, wrong, ({ packet }) => `TTL ${packet.ipv4.ttl}, expected ${expected}`);
}

function checkSums(sightings: readonly Sighting[]): TraceCheck {
  const wrong = sightings.find(({ packet, envelope }) =>
    [packet, ...(envelope === undefined ? [] : [envelope.outer])].some(
      ({ ipv4, transport }) =>
        ipv4.checksumState !== 'right' || transport.checksumState === 'wrong',
    ),
  );
  return check('every checksum is right, or left to a device', wrong, () => 'a wrong checksum');
}

function checkEnvelope(sightings: readonly Sighting[], { sending }: Carriages): TraceCheck {
  const wrong = sightings.find(({ tap, envelope }) => {
    const expected = BETWEEN_HOSTS.includes(tap.name) ? sending.envelope : undefined;
    return envelope?.kind !== expected || envelope?.exact === false;
  });
  const found = ({ envelope }: Sighting): string => {
    if (envelope === undefined) return 'no datagram';
    return envelope.kind === 'vxlan' ? 'a VXLAN frame' : 'a datagram';
  };
  return check(sending.statement, wrong, (sighting) =>
    sighting.envelope?.exact === false ? `not exactly ${found(sighting)}` : found(sighting),
  );
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
export function regionsOf({ frame, envelope, packet }: Sighting): readonly Region[] {
  const whole = envelope?.outer ?? packet;
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
  if (envelope !== undefined) addHeaders('outer ', envelope.outer);
  if (envelope?.vxlan !== undefined) {
    add('VXLAN', envelope.vxlan.header.length);
    add(INNER_ETHERNET, ETHERNET_BYTES);
  }
  addHeaders(envelope === undefined ? '' : 'inner ', packet);
  add('payload', packet.payload.length);
  return regions;
}

/** The frame behind a VXLAN header. */
export const INNER_ETHERNET = 'inner Ether';

export function protocolName(transport: TransportHeader): string {
  return transport.protocol.toUpperCase();
}
