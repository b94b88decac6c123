/** What a packet is in between two hosts: a datagram of the udp backend, or a VXLAN frame. */
import { TUNNEL_PORT } from '../../testbed/daemon-process.js';
import { decodePacket, withTransportChecksum, type Packet } from '../../testbed/wire/packet.js';
import { ETHERNET_BYTES, ipv4Of } from '../../testbed/wire/pcap.js';
import { decodeVxlan, VXLAN_PORT, VXLAN_VNI, type VxlanFrame } from '../../testbed/wire/vxlan.js';

export interface Envelope {
  readonly kind: 'udp' | 'vxlan';
  /** The datagram. */
  readonly outer: Packet;
  /** Behind its UDP header, of kind vxlan. */
  readonly vxlan?: VxlanFrame;
  readonly packet: Packet;
  /** It is as the backend has it, with the packet and nothing behind it. */
  readonly exact: boolean;
}

/** Undefined when the packet is no datagram of a tunnel. */
export function openEnvelope(outer: Packet): Envelope | undefined {
  const { transport, payload } = outer;
  if (transport.protocol !== 'udp') return undefined;
  switch (transport.destinationPort) {
    case TUNNEL_PORT: {
      const packet = decodePacket(payload);
      return packet && { kind: 'udp', outer, packet, exact: payload.equals(packet.bytes) };
    }
    case VXLAN_PORT:
      return openVxlan(outer);
    default:
      return undefined;
  }
}

/** Flags of a header that has a VNI and no extension (RFC 7348). */
const HAS_VNI = 0x08;

function openVxlan(outer: Packet): Envelope | undefined {
  const vxlan = decodeVxlan(outer.payload);
  const bytes = vxlan && ipv4Of(vxlan.frame);
  const packet = bytes && decodePacket(bytes);
  if (packet === undefined || vxlan === undefined) return undefined;
  const exact =
    vxlan.flags === HAS_VNI &&
    vxlan.vni === VXLAN_VNI &&
    vxlan.frame.length === ETHERNET_BYTES + packet.bytes.length;
  return { kind: 'vxlan', outer: withInnerComplete(outer, packet), vxlan, packet, exact };
}

/** The datagram with the state of its checksum as it is once a device has completed the packet's. */
function withInnerComplete(outer: Packet, packet: Packet): Packet {
  const { transport, bytes } = outer;
  const open = packet.transport.checksumState === 'left to the device';
  if (!open || transport.checksumState !== 'wrong') return outer;
  const start = packet.bytes.byteOffset - bytes.byteOffset;
  const complete = Buffer.from(bytes);
  withTransportChecksum(packet).copy(complete, start);
  if (decodePacket(complete)?.transport.checksumState !== 'right') return outer;
  return { ...outer, transport: { ...transport, checksumState: 'right once the inner is' } };
}
