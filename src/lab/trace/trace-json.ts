/** The object of `flannelette trace --json`; field names are a contract. */
import { macAt, type Packet } from '../../testbed/wire/packet.js';
import { ETHERNET_BYTES, LINKTYPE_ETHERNET } from '../../testbed/wire/pcap.js';
import type { VxlanFrame } from '../../testbed/wire/vxlan.js';
import type { Sighting } from './follow.js';
import { checkHops, regionsOf, summaryOf, type Hop, type Trace } from './trace-hops.js';

export function toJson(trace: Trace): object {
  const { plan, backend, mode, mtu, kernel, hops } = trace;
  const { from, to, proto, size } = plan;
  const checks = checkHops(trace);
  const { sending, receiving, copiedBytes, ttls, nanoseconds } = summaryOf(hops);
  return {
    ok: checks.every(({ ok }) => ok),
    from: from.containerAddress,
    to: to.containerAddress,
    proto,
    size,
    backend: backend.type,
    directRouting: backend.directRouting,
    device: backend.device ?? null,
    // Null where no daemon carries packets.
    mode: backend.hasModes ? mode : null,
    mtu,
    kernel,
    hops: hops.map(hopToJson),
    summary: {
      crossings: { sending, receiving, copiedBytes },
      ttl: { first: ttls[0] ?? null, last: ttls.at(-1) ?? null },
      microseconds: microseconds(nanoseconds),
    },
    checks,
  };
}

function hopToJson({ number, step, sighting, time, crossing, decisions }: Hop): object {
  const { where, device, side, direction = null } = step;
  return {
    number,
    where,
    device,
    direction,
    side,
    fromMicroseconds: time === undefined ? null : microseconds(time.fromNs),
    toMicroseconds: time === undefined ? null : microseconds(time.toNs),
    crossing: crossing ?? null,
    decisions,
    packet: sighting === undefined ? null : packetToJson(sighting.packet),
    outer: sighting?.envelope === undefined ? null : packetToJson(sighting.envelope.outer),
    vxlan: sighting?.envelope?.vxlan === undefined ? null : vxlanToJson(sighting.envelope.vxlan),
    frame: sighting === undefined ? null : frameToJson(sighting),
  };
}

function packetToJson({ bytes, ipv4, transport, payload }: Packet): object {
  return { ipv4, transport, payloadBytes: payload.length, hex: bytes.toString('hex') };
}

function vxlanToJson({ flags, vni, source, destination, header }: VxlanFrame): object {
  return { flags, vni, ethernet: { source, destination }, hex: header.toString('hex') };
}

function frameToJson(sighting: Sighting): object {
  const { frame, linkType, timeNs } = sighting;
  const ethernet = linkType === LINKTYPE_ETHERNET && frame.length >= ETHERNET_BYTES;
  return {
    // Nanoseconds since 1970 are more than a JSON number holds.
    time: timeNs.toString(),
    bytes: frame.length,
    ethernet: ethernet ? { source: macAt(frame, 6), destination: macAt(frame, 0) } : null,
    regions: regionsOf(sighting).map(({ name, offset, bytes }) => ({
      name,
      offset,
      hex: bytes.toString('hex'),
    })),
  };
}

function microseconds(nanoseconds: number): number {
  return nanoseconds / 1_000;
}
