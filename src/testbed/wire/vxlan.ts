/** VXLAN (RFC 7348) in captures: eight bytes of header, then an Ethernet frame. */
import { openDatagram, type WireFormat } from './format.js';
import { macAt } from './packet.js';
import { ETHERNET_BYTES, ipv4Of } from './pcap.js';

/** flannel's: the kernel's own port, and the first VNI. */
export const VXLAN_PORT = 8472;
export const VXLAN_VNI = 1;

export const VXLAN_BYTES = 8;
/** The bit that says that there is a VNI. */
const FLAG_VNI = 0x08;

export interface VxlanFrame {
  /** The header's first byte; 0x08 (I) of a frame that has a VNI and no extension. */
  readonly flags: number;
  readonly vni: number;
  /** MAC addresses of the frame inside. */
  readonly source: string;
  readonly destination: string;
  /** The header's bytes. */
  readonly header: Buffer;
  /** The frame inside, its Ethernet header included. */
  readonly frame: Buffer;
}

/** Reads a datagram's payload; undefined when it is too short to hold a frame. */
export function decodeVxlan(payload: Buffer): VxlanFrame | undefined {
  if (payload.length < VXLAN_BYTES + ETHERNET_BYTES) return undefined;
  const frame = payload.subarray(VXLAN_BYTES);
  return {
    flags: payload.readUInt8(0),
    vni: payload.readUIntBE(4, 3),
    source: macAt(frame, 6),
    destination: macAt(frame, 0),
    header: payload.subarray(0, VXLAN_BYTES),
    frame,
  };
}

/** flannel's vxlan: the packet in an Ethernet frame of the two VTEPs. */
export const VXLAN_FORMAT: WireFormat = {
  noun: 'frame',
  statement: `frames on UDP ${VXLAN_PORT} are exactly the inner packets, with VNI ${VXLAN_VNI}`,
  filter: `udp port ${VXLAN_PORT}`,
  open: (frame, hosts) => {
    const datagram = openDatagram(frame, hosts);
    if (typeof datagram === 'string') return datagram;
    // The source port is the sender's choice: a hash of the flow, for equal-cost paths.
    const { destinationPort, payload, sender } = datagram;
    if (destinationPort !== VXLAN_PORT) {
      return `to UDP port ${destinationPort}, expected ${VXLAN_PORT}`;
    }
    const vxlan = decodeVxlan(payload);
    if (vxlan === undefined) return `payload of ${payload.length} bytes is no VXLAN frame`;
    if (vxlan.flags !== FLAG_VNI || vxlan.vni !== VXLAN_VNI) {
      return `VXLAN flags ${vxlan.flags}, VNI ${vxlan.vni}, expected ${FLAG_VNI} and ${VXLAN_VNI}`;
    }
    const packet = ipv4Of(vxlan.frame);
    return packet === undefined ? 'the frame inside is not IPv4' : { packet, sender };
  },
};
