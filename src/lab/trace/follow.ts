/** Finds one packet in the captures of its way. */
import { systemError } from '../../errors.js';
import { decodePacket, identityOf, PROTOCOLS, type Packet } from '../../testbed/wire/packet.js';
import { ipv4Of, type PcapFile } from '../../testbed/wire/pcap.js';
import { openEnvelope, type Envelope } from './envelope.js';
import type { TracePlan } from './plan.js';
import { TRACE_PORT } from './send.js';
import type { Tap } from './step.js';

/** The packet as one capture has it. */
export interface Sighting {
  readonly tap: Tap;
  /** Nanoseconds since 1970; all namespaces have the kernel's one clock. */
  readonly timeNs: bigint;
  readonly linkType: number;
  readonly frame: Buffer;
  /** What it travels in; undefined outside a tunnel. */
  readonly envelope: Envelope | undefined;
  readonly packet: Packet;
}

export interface TapCapture extends PcapFile {
  readonly tap: Tap;
}

export interface Followed {
  /** In the order of the way. */
  readonly sightings: readonly Sighting[];
  /** Where it was not seen. */
  readonly missing: readonly Tap[];
}

/** The traced packet is the first at the first tap that the plan describes. */
export function follow(captures: readonly TapCapture[], plan: TracePlan): Followed {
  const [first] = captures;
  const origin =
    first === undefined ? undefined : sightings(first).find(({ packet }) => isTraced(packet, plan));
  if (origin === undefined) return { sightings: [], missing: captures.map(({ tap }) => tap) };
  const identity = identityOf(origin.packet);
  const found = captures.map((capture) =>
    sightings(capture).find(({ packet }) => identityOf(packet) === identity),
  );
  return {
    sightings: found.filter((sighting) => sighting !== undefined),
    missing: captures.filter((_, index) => found[index] === undefined).map(({ tap }) => tap),
  };
}

/** A system error that says where the packet was seen last, unless it was seen everywhere. */
export function requireWhole({ sightings: seen, missing }: Followed): readonly Sighting[] {
  const [absent] = missing;
  if (absent === undefined) return seen;
  const last = seen.at(-1)?.tap;
  const where = last === undefined ? 'nowhere' : `last at ${nameOf(last)}`;
  throw systemError(`the packet was seen ${where}, and not at ${nameOf(absent)}`);
}

export function nameOf({ where, device }: Pick<Tap, 'where' | 'device'>): string {
  return `${where} ${device}`;
}

function isTraced(
  { ipv4, transport, payload }: Packet,
  { from, to, proto, size }: TracePlan,
): boolean {
  if (ipv4.protocol !== PROTOCOLS[proto]) return false;
  if (ipv4.source !== from.containerAddress || ipv4.destination !== to.containerAddress)
    return false;
  if (payload.length !== size) return false;
  return transport.protocol === 'icmp'
    ? transport.type === ECHO_REQUEST
    : transport.destinationPort === TRACE_PORT;
}

const ECHO_REQUEST = 8;

function sightings({ tap, linkType, records }: TapCapture): Sighting[] {
  return records.flatMap(({ timeNs, frame }) => {
    const bytes = ipv4Of(frame, linkType);
    const packet = bytes === undefined ? undefined : decodePacket(bytes);
    if (packet === undefined) return [];
    const envelope = openEnvelope(packet);
    return [{ tap, timeNs, linkType, frame, envelope, packet: envelope?.packet ?? packet }];
  });
}
